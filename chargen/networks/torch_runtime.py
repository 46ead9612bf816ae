"""The torch runtime: the device, the number of CPU threads, and the memory of a training run.

Threads. Two threads that share a product wait for each other after each of them. On an idle machine that costs nothing.
If another process uses a core, both wait for the slower one, and one thread alone can be twice as fast (measured, see
benchmarks/LOG.md). So a training run with a time budget compares the two: before it measures the speed of the machine,
and whenever its speed has changed. A run with a fixed number of steps keeps its threads: another number adds in another
order, and such a run must give the same bits. Validation, scoring and evaluation need no comparison: each thread reads
rows of its own (`TorchEngine.read`). No other module sets torch's number of threads.

Memory. A training step allocates and frees the same tens of megabytes each time. glibc returns such large blocks to the
system at once, and the next step pays for each of their pages again: 6 to 8 % of the training time on two cores.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from chargen.cells.weights import FLOAT32_BYTES, count_parameters, get_cells
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import DeviceError
from chargen.text.limits import check_memory


def list_devices() -> list[str]:
    """Return the names of the devices of this machine that torch can use: the CPU, and GPUs."""
    is_available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, is_found in is_available.items() if is_found]


def resolve_device(name: str, preferred: str = "auto") -> str:
    """Return the name of the device to use; "auto" is a CUDA GPU if there is one, else the CPU.

    "auto" by itself never chooses MPS, because its speed has not been measured.

    Args:
        name: "auto", "cpu", "cuda" or "mps".
        preferred: What "auto" is if this machine has it: the device on which a run that is resumed was trained.

    Raises:
        DeviceError: If this machine or this build of torch has no such device.
    """
    devices = list_devices()
    if name == "auto" and preferred in devices:
        return preferred
    if name == "auto":
        return "cuda" if "cuda" in devices else "cpu"
    if name not in devices:
        raise DeviceError(
            f"this machine has no device {name!r} that torch {torch.__version__} can use", "Use --device auto."
        )
    return name


RETRY_BELOW = 0.7  # share of the best speed so far below which the number of threads is tried again
MIN_GAIN = 1.1  # another number of threads is kept if it is this many times as fast
MIN_PATIENCE, MAX_PATIENCE = 4, 32  # reports between two trials; doubled after each trial that changed nothing

PROBE_ROWS, PROBE_UNITS = 64, 512  # size of the products of a probe: those of a step of a large network
PROBE_PRODUCTS = 40  # the products of a probe take as long as this many on one thread, on which a product takes 0.4 ms
NUM_SERIAL_PRODUCTS = 4  # products on one thread of a probe; the fastest counts
MIN_PROBE_GAIN = 1.1  # the threads are free if a product on all of them is this many times as fast as on one


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


def has_free_cores(num_threads: int) -> bool:
    """Measure whether products on this many threads are faster than on one thread at this moment.

    On two idle cores it takes 17 ms. Beside a process that uses one of them, a product takes 10 to 50 ms instead of
    0.2 ms, so that the first slow one decides. A shorter probe could fall between two turns of the other process.
    """
    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, PROBE_ROWS, PROBE_UNITS, generator=generator)
    weight = torch.rand(2, PROBE_UNITS, PROBE_UNITS // 2, generator=generator)
    out = torch.empty(2, PROBE_ROWS, PROBE_UNITS // 2)
    try:
        torch.set_num_threads(1)
        serial_s = min(_time_product(x, weight, out) for _ in range(NUM_SERIAL_PRODUCTS))
        torch.set_num_threads(num_threads)
        _time_product(x, weight, out)  # starts the threads
        shared_s: list[float] = []
        while sum(shared_s) < PROBE_PRODUCTS * serial_s:
            shared_s.append(_time_product(x, weight, out))
    finally:
        torch.set_num_threads(before)
    return MIN_PROBE_GAIN * sum(shared_s) < serial_s * len(shared_s)


def _time_product(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> float:
    """Return how many seconds a product takes."""
    start = time.perf_counter()
    torch.bmm(x, weight, out=out)
    return time.perf_counter() - start


class ThreadTuner:
    """Compares one thread with all threads while a `with` block runs, and uses the faster number.

    The block starts with all threads if `has_free_cores` says that they are faster, and else with one. A change to all
    threads is tried on real steps only after this measurement: beside a busy process, one step on all threads can take
    as long as ten on one.

    Args:
        adapt: False keeps the number of threads.
    """

    def __init__(self, adapt: bool) -> None:
        self.max_threads = torch.get_num_threads()
        self.num_threads = self.max_threads
        self._adapt = adapt and self.max_threads > 1
        self._speed_before_trial = 0.0  # 0 if no trial is running
        self._best_speed = 0.0  # by the current number of threads
        self._has_tried = False
        self._patience = MIN_PATIENCE
        self._reports_since_trial = 0

    def observe(self, ids_per_s: float) -> None:
        """Record the speed since the last call, and change the number of threads if that helps or may help."""
        if not self._adapt or not ids_per_s:  # a report without tokens says nothing about the speed
            return
        self._reports_since_trial += 1
        if self._speed_before_trial:
            self._end_trial(ids_per_s)
            return
        is_slow = ids_per_s < RETRY_BELOW * self._best_speed
        self._best_speed = max(self._best_speed, ids_per_s)
        if self.num_threads > 1 and is_slow and not has_free_cores(self.max_threads):
            self._use(1)
        elif self._reports_since_trial >= self._patience and (not self._has_tried or is_slow or self.num_threads == 1):
            self._start_trial(ids_per_s)

    def _start_trial(self, ids_per_s: float) -> None:
        """Use the other number of threads until the next report, unless that is known to be slower."""
        self._reports_since_trial = 0
        if self.num_threads == 1 and not has_free_cores(self.max_threads):
            self._patience = min(MAX_PATIENCE, 2 * self._patience)
            return
        self._has_tried = True
        self._speed_before_trial = ids_per_s
        torch.set_num_threads(self._other_number())

    def _end_trial(self, ids_per_s: float) -> None:
        """Keep the number of threads of the trial if it is faster."""
        if ids_per_s >= MIN_GAIN * self._speed_before_trial:
            self._use(self._other_number())
            self._best_speed = ids_per_s
        else:
            torch.set_num_threads(self.num_threads)
            self._patience = min(MAX_PATIENCE, 2 * self._patience)
        self._speed_before_trial = 0.0

    def _other_number(self) -> int:
        return 1 if self.num_threads > 1 else self.max_threads

    def _use(self, num_threads: int) -> None:
        """Change the number of threads; its speeds are not known yet."""
        self.num_threads = num_threads
        self._best_speed, self._patience, self._reports_since_trial = 0.0, MIN_PATIENCE, 0
        torch.set_num_threads(num_threads)

    def __enter__(self) -> ThreadTuner:
        if self._adapt and not has_free_cores(self.max_threads):
            self._use(1)
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the number of threads."""
        torch.set_num_threads(self.max_threads)


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
        gates = sum(cell.num_input_gates + 1 for cell in get_cells(model))
        per_id = model.ensemble_size * gates * model.hidden_size + min(model.vocab_size, MIN_SAMPLED_LOGITS)
        hint = "Give a smaller --batch or --seq-len, or a smaller network."
        check_memory(needed + ids * per_id * FLOAT32_BYTES, f"{what} that reads {ids:,} token ids in a step", hint)


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory. Return whether its allocator supports that."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(
        mallopt(parameter, KEPT_BYTES) for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD)
    )
