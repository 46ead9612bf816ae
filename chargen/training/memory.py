"""The memory of a training run: whether it can be enough, and how to keep what a step frees for the next one.

A step takes and frees the same tens of megabytes. glibc gives such large pieces back to the system at once, and the
next step pays for every page of them again: 6 to 8 % of training's time on two cores.
"""

from __future__ import annotations

import ctypes
import sys

from chargen.cells import CELLS
from chargen.cells.weights import FLOAT32_BYTES, count_parameters
from chargen.config import ModelConfig, TrainConfig
from chargen.memory import check_memory

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
    hint = "Make it smaller: --hidden, --layers, --members, --embedding, or a smaller vocabulary (--tokenizer)."
    check_memory(needed, what, hint)
    if on_cpu:
        ids = min(train.batch_size * train.seq_len, num_train_ids)
        gates = CELLS.get(model.cell).num_input_gates
        per_id = model.all_layers * (gates + 1) * model.hidden_size + min(model.vocab_size, SAMPLED_LOGITS)
        hint = "Give a smaller --batch or --seq-len, or a smaller network."
        check_memory(needed + ids * per_id * FLOAT32_BYTES, f"{what} that reads {ids:,} ids in a step", hint)


def keep_freed_memory() -> bool:
    """Tell this process to keep up to a gigabyte of freed memory; say whether its allocator can be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(which, KEEP_BYTES) for which in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
