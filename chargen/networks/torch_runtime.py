"""The torch runtime: the device, the number of CPU threads, and the memory of a training run.

Threads. Two threads that share a product wait for each other after each of them. On an idle machine that costs nothing.
If another process uses a core, both wait for the slower one, and one thread alone can be twice as fast (measured, see
benchmarks/LOG.md). So a training run with a time budget compares the two: once at its start, and whenever its speed has
changed. A run with a fixed number of steps keeps its threads: another number adds in another order, and such a run must
give the same bits. No other module sets torch's number of threads.

Memory. A training step allocates and frees the same tens of megabytes each time. glibc returns such large blocks to the
system at once, and the next step pays for each of their pages again: 6 to 8 % of the training time on two cores.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from chargen.cells import CELLS
from chargen.cells.weights import FLOAT32_BYTES, count_parameters
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import DeviceError
from chargen.text.limits import check_memory


def resolve_device(name: str) -> str:
    """Return the name of the device to use; "auto" is a CUDA GPU if there is one, else the CPU.

    "auto" never chooses MPS, because its speed has not been measured.

    Raises:
        DeviceError: If this machine or this build of torch has no such device.
    """
    is_available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if is_available["cuda"] else "cpu"
    if not is_available.get(name, False):
        raise DeviceError(
            f"this machine has no device {name!r} that torch {torch.__version__} can use", "Use --device auto."
        )
    return name


RETRY_BELOW = 0.7  # share of the best speed so far below which the number of threads is tried again
MIN_GAIN = 1.1  # another number of threads is kept if it is this many times as fast
MIN_PATIENCE, MAX_PATIENCE = 4, 32  # reports between two trials; doubled after each trial that changed nothing


def set_num_threads(num_threads: int) -> None:
    """Set the number of CPU threads that torch uses in this process."""
    torch.set_num_threads(num_threads)


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit torch to one thread inside the `with` block, and restore the number of threads afterwards.

    Use it where products are small or where each worker thread computes its own products: threads that share a product
    wait for each other after every one of them, which is expensive when another process uses one of the cores.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class ThreadTuner:
    """Compares one thread with all threads while a `with` block runs, and uses the faster number.

    Args:
        adapt: False keeps the number of threads.
    """

    def __init__(self, adapt: bool) -> None:
        self._adapt = adapt
        self.max_threads = torch.get_num_threads()
        self.num_threads = self.max_threads
        self._speed_before_trial = 0.0  # 0 if no trial is running
        self._best_speed = 0.0
        self._has_tried = False
        self._patience = MIN_PATIENCE
        self._reports_since_trial = 0

    def observe(self, ids_per_s: float) -> None:
        """Record the speed since the last call, and change the number of threads if that helps or may help."""
        if self.max_threads == 1 or not self._adapt:
            return
        self._reports_since_trial += 1
        if self._speed_before_trial:
            if ids_per_s < MIN_GAIN * self._speed_before_trial:
                self._switch()
                self._patience = min(MAX_PATIENCE, 2 * self._patience)
            else:
                self._patience = MIN_PATIENCE
            self._speed_before_trial, self._best_speed = 0.0, max(ids_per_s, self._speed_before_trial)
        elif self._reports_since_trial >= self._patience and (
            not self._has_tried or ids_per_s < RETRY_BELOW * self._best_speed or self.num_threads == 1
        ):
            self._speed_before_trial, self._reports_since_trial, self._has_tried = ids_per_s, 0, True
            self._switch()
        else:
            self._best_speed = max(self._best_speed, ids_per_s)

    def __enter__(self) -> ThreadTuner:
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the number of threads."""
        if self.num_threads != self.max_threads:
            self._switch()

    def _switch(self) -> None:
        self.num_threads = 1 if self.num_threads != 1 else self.max_threads
        torch.set_num_threads(self.num_threads)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h
KEPT_BYTES = 1 << 30
COPIES = 5  # arrays of the size of the weights: the weights, their gradients, two moments, the best weights so far
COPIES_ON_HOST = 2  # number of these arrays in host memory if a GPU is used
MIN_SAMPLED_LOGITS = 256  # logits that a step computes at least for a token (`sampled_softmax.py`)


def check_run_fits(model: ModelConfig, train: TrainConfig, num_train_ids: int) -> None:
    """Check that the machine has the minimum memory for a training run.

    Args:
        model: The network.
        train: How it is trained.
        num_train_ids: Size of the training text in tokens; a window of all batch rows never has more.

    Raises:
        ConfigError: If it has less memory, or there is no such cell. The message says how much is needed.
    """
    on_cpu = train.device == "cpu"
    needed = count_parameters(model) * (COPIES if on_cpu else COPIES_ON_HOST) * FLOAT32_BYTES
    what = f"a network of {count_parameters(model):,} parameters"
    hint = "Make it smaller: --hidden, --layers, --ensemble, --embedding, or a smaller vocabulary (--tokenizer)."
    check_memory(needed, what, hint)
    if on_cpu:
        ids = min(train.batch_size * train.seq_len, num_train_ids)
        gates = CELLS.get(model.cell).num_input_gates
        per_id = model.total_layers * (gates + 1) * model.hidden_size + min(model.vocab_size, MIN_SAMPLED_LOGITS)
        hint = "Give a smaller --batch or --seq-len, or a smaller network."
        check_memory(needed + ids * per_id * FLOAT32_BYTES, f"{what} that reads {ids:,} token ids in a step", hint)


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory. Return whether its allocator supports that."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(
        mallopt(parameter, KEPT_BYTES) for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD)
    )
