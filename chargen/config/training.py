"""The settings of a training run: how a network is trained, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from chargen.config.base import FRACTION, MAX_SECONDS, MAX_SEED, MAX_STEPS, Config
from chargen.config.data import FLOAT16, FLOAT32, WEIGHT_STORAGES
from chargen.errors import ConfigError
from chargen.schema import Integer, Nullable, Number, Spec, String

MAX_BATCH_SIZE = 1 << 20
MAX_SEQ_LEN = 1 << 20  #: tokens
DEFAULT_BUDGET_S = 300.0  #: duration of a run for which the user gives no length
MAX_EPOCHS = 1e9
MAX_LEARNING_RATE = 10.0
MAX_WEIGHT_DECAY = 100.0
MAX_CLIP_NORM = 1e12
TF32, BF16 = "tf32", "bf16"
PRECISIONS = (FLOAT32, TF32, BF16)  #: precisions of products in training


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a network is trained, and for how long. Exactly one of budget_s, steps and epochs is set.

    The defaults are those of the recipe (`training/recipe.py`), which adapts some of them to the run.
    """

    budget_s: float | None = None  #: wall-clock time of the whole run in seconds, including start-up
    steps: int | None = None  #: number of optimizer steps
    epochs: float | None = None  #: number of passes over the training text
    max_epochs: float | None = None  #: passes after which a run with a time budget ends before its time; None: no limit
    batch_size: int = 64  #: number of batch rows B; each is a separate stream of text
    seq_len: int = 24  #: length T of a BPTT window, in tokens: gradients flow back at most this far
    learning_rate: float = 1e-2  #: peak learning rate
    final_learning_rate: float = 0.02  #: learning rate at the end of the decay, as a fraction of the peak
    warmup: float = 0.05  #: fraction of the run in which the learning rate rises to its peak
    beta1: float = 0.5  #: decay rate of Adam's first moment
    beta2: float = 0.99  #: decay rate of Adam's second moment
    weight_decay: float = 0.1  #: decoupled weight decay, for matrices only
    clip_norm: float = 1.0  #: maximum global norm of the gradients; larger gradients are scaled down to it
    patience: float = 1.0  #: the run stops after this share of it without a better validation loss; 1: never
    seed: int = 0  #: seed of all random numbers
    #: precision of products in training (`networks/precision.py`): "float32", "bf16", or on a GPU with CUDA "tf32",
    #: which becomes "float32" on another device
    precision: str = TF32
    weight_storage: str = FLOAT16  #: how the model file stores the weights: "int8", "float16" or "float32"
    device: str = "cpu"  #: "cpu", "cuda" or "mps"

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "budget_s": Nullable(Number(0.0, MAX_SECONDS, exclusive_low=True)),
        "steps": Nullable(Integer(1, MAX_STEPS)),
        "epochs": Nullable(Number(0.0, MAX_EPOCHS, exclusive_low=True)),
        "max_epochs": Nullable(Number(0.0, MAX_EPOCHS, exclusive_low=True)),
        "batch_size": Integer(1, MAX_BATCH_SIZE),
        "seq_len": Integer(1, MAX_SEQ_LEN),
        "learning_rate": Number(0.0, MAX_LEARNING_RATE, exclusive_low=True),
        "final_learning_rate": FRACTION,
        "warmup": FRACTION,
        "beta1": Number(0.0, 0.99999),
        "beta2": Number(0.0, 0.99999),
        "weight_decay": Number(0.0, MAX_WEIGHT_DECAY),
        "clip_norm": Number(0.0, MAX_CLIP_NORM, exclusive_low=True),
        "patience": Number(0.0, 1.0, exclusive_low=True),
        "seed": Integer(0, MAX_SEED),
        "precision": String(choices=PRECISIONS),
        "weight_storage": String(choices=WEIGHT_STORAGES),
        "device": String(100),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = [name for name in ("budget_s", "steps", "epochs") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ConfigError(f"give exactly one of budget_s, steps and epochs, not {lengths or 'none'}")
        if self.max_epochs is not None and self.budget_s is None:
            raise ConfigError("max_epochs limits a run with a time budget, and this run has none")
        if self.precision == TF32 and self.device != "cuda":
            object.__setattr__(self, "precision", FLOAT32)
