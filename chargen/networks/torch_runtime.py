"""The device that torch works on, by its name.

How many threads a run by time uses on a CPU: what its own speed says.

Two threads that share a product wait for each other after each of them. On a quiet machine that costs nothing; where
another process takes part of a core, both wait for the slower one, and one thread alone can be twice as fast (measured,
see benchmarks/LOG.md). So the run compares: once at its beginning, and whenever its speed has changed.

Runs by steps keep their threads: another number adds in another order, and their results are to be the same bits.

The memory of a training run: whether it can be enough, and how to keep what a step frees for the next one.

A step takes and frees the same tens of megabytes. glibc gives such large pieces back to the system at once, and the
next step pays for every page of them again: 6 to 8 % of training's time on two cores.
"""

from __future__ import annotations

import ctypes
import sys

import torch

from chargen.cells import CELLS
from chargen.cells.weights import FLOAT32_BYTES, count_parameters
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import DeviceError
from chargen.text.limits import check_memory


def resolve_device(name: str) -> str:
    """Return the device that is meant; "auto" is a CUDA GPU where there is one, else the CPU.

    MPS is never chosen unasked: it has not been measured.

    Raises:
        DeviceError: this machine, or this build of torch, has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if has["cuda"] else "cpu"
    if not has.get(name, False):
        raise DeviceError(
            f"this machine has no device {name!r} that torch {torch.__version__} can use", "Say --device auto."
        )
    return name


def set_num_threads(num_threads: int) -> None:
    """Set the number of CPU threads that torch uses in this process."""
    torch.set_num_threads(num_threads)


SLOWER = 0.7  #: of the best speed so far: something has changed
FASTER = 1.1  #: by so much another number of threads must be faster to be taken
SHORTEST, LONGEST = 4, 32  #: reports between two tries: twice as many after each that changed nothing


class ThreadTuner:
    """Tries one thread against all of them while it is entered, and keeps what is faster.

    Args:
        adapt: False leaves the number as it is.
    """

    def __init__(self, adapt: bool) -> None:
        self._adapt = adapt
        self.all = torch.get_num_threads()
        self.now = self.all
        self._before = 0.0  # the speed before a try; 0 where none is under way
        self._peak = 0.0
        self._tried = False
        self._patience = SHORTEST
        self._since_try = 0

    def observe(self, ids_per_s: float) -> None:
        """Take note of the speed since the last call, and change the number of threads if that helps or may help."""
        if self.all == 1 or not self._adapt:
            return
        self._since_try += 1
        if self._before:
            if ids_per_s < FASTER * self._before:
                self._switch()  # back
                self._patience = min(LONGEST, 2 * self._patience)
            else:
                self._patience = SHORTEST
            self._before, self._peak = 0.0, max(ids_per_s, self._before)
        elif self._since_try >= self._patience and (
            not self._tried or ids_per_s < SLOWER * self._peak or self.now == 1
        ):
            self._before, self._since_try, self._tried = ids_per_s, 0, True
            self._switch()
        else:
            self._peak = max(self._peak, ids_per_s)

    def __enter__(self) -> ThreadTuner:
        return self

    def __exit__(self, *error: object) -> None:
        """Give the process back the threads that it had."""
        if self.now != self.all:
            self._switch()

    def _switch(self) -> None:
        self.now = 1 if self.now != 1 else self.all
        torch.set_num_threads(self.now)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  #: of malloc.h
KEEP_BYTES = 1 << 30
COPIES = 5  #: of each weight: itself, its gradient, two moments, the best so far
COPIES_ON_HOST = 2  #: where a GPU has the others
SAMPLED_LOGITS = 256  #: of a vocabulary, at least, that a step computes (`nets/sampled.py`)


def check_run_fits(model: ModelConfig, train: TrainConfig, num_train_ids: int) -> None:
    """Check that the machine has the least memory that a run can need.

    Args:
        model: the network.
        train: how it is trained.
        num_train_ids: a window of all lanes never has more.

    Raises:
        ConfigError: it has not, or there is no such cell; the message says how much would be needed.
    """
    on_cpu = train.device == "cpu"
    needed = count_parameters(model) * (COPIES if on_cpu else COPIES_ON_HOST) * FLOAT32_BYTES
    what = f"a network of {count_parameters(model):,} parameters"
    hint = "Make it smaller: --hidden, --layers, --ensemble, --embedding, or a smaller vocabulary (--tokenizer)."
    check_memory(needed, what, hint)
    if on_cpu:
        ids = min(train.batch_size * train.seq_len, num_train_ids)
        gates = CELLS.get(model.cell).num_input_gates
        per_id = model.total_layers * (gates + 1) * model.hidden_size + min(model.vocab_size, SAMPLED_LOGITS)
        hint = "Give a smaller --batch or --seq-len, or a smaller network."
        check_memory(needed + ids * per_id * FLOAT32_BYTES, f"{what} that reads {ids:,} ids in a step", hint)


def keep_freed_memory() -> bool:
    """Tell this process to keep up to a gigabyte of freed memory; say whether its allocator can be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(which, KEEP_BYTES) for which in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
