"""The settings of a training run: how its text is read, encoded and held out, and how a network is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chargen.config.base import FRACTION, MAX_SECONDS, Config
from chargen.errors import ConfigError
from chargen.schema import Boolean, Integer, Nullable, Number, Spec, String

MAX_BATCH_SIZE = 1 << 20
MAX_SEQ_LEN = 1 << 20  #: tokens
MAX_STEPS = 10**12
DEFAULT_BUDGET_S = 300.0  #: duration of a run for which the user gives no length
MAX_EPOCHS = 1e9
MAX_LEARNING_RATE = 10.0
MAX_WEIGHT_DECAY = 100.0
MAX_CLIP_NORM = 1e12
MAX_SEED = 2**63 - 1  #: the generators of torch and NumPy accept this seed and the next one

ERROR_MODES = ("strict", "replace", "skip")
NEWLINE_MODES = ("lf", "keep")
NORMALIZE_MODES = ("nfc", "none")
LAST, RANDOM = VAL_SPLITS = ("last", "random")
MULAW = "mulaw"  #: name of the tokenizer that reads files as series of numbers
FORWARD, BACKWARD = DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class DataConfig(Config):
    """How files are decoded to text, how text is encoded as token ids, and which part of it is held out."""

    tokenizer: str = "char"  #: "char", "byte", "sp:SIZE" or "sp:FILE.model" (sentencepiece); "mulaw:LEVELS" (a series)
    encoding: str = "utf-8"  #: text encoding of the input files
    errors: str = "strict"  #: what happens to invalid bytes: "strict", "replace" (by U+FFFD) or "skip" (their line)
    newline: str = "lf"  #: "lf" converts CR and CRLF to LF; "keep" keeps them
    normalize: str = "nfc"  #: Unicode normalization: "nfc" or "none"
    documents: str = "none"  #: how the text is split into documents: "none", "line", "blank", "file", or a separator
    text_field: str = ""  #: field of a record that contains its text; "": "text", and .json, .csv, .tsv are plain text
    json_lines: bool = False  #: whether the lines of every file are JSON records, with any name
    val_fraction: float = 0.1  #: fraction of the characters that is held out for validation
    #: which documents are held out: "random" or "last"; a continuous text has only "last". None: random if there are
    #: documents, else last
    val_split: str | None = None
    #: "forward", or "backward": the model reads each text reversed, see `tokenizers/direction.py`
    direction: str = FORWARD

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "tokenizer": String(),
        "encoding": String(100),
        "errors": String(choices=ERROR_MODES),
        "newline": String(choices=NEWLINE_MODES),
        "normalize": String(choices=NORMALIZE_MODES),
        "documents": String(),
        "text_field": String(),
        "json_lines": Boolean(),
        "val_fraction": Number(0.0, 0.5, exclusive_low=True),
        "val_split": Nullable(String(choices=VAL_SPLITS)),
        "direction": String(choices=DIRECTIONS),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.documents:
            raise ConfigError("documents is empty", "Use none, line, blank, file, or the separator between documents.")
        if self.val_split is None:
            object.__setattr__(self, "val_split", LAST if self.documents == "none" else RANDOM)
        elif self.val_split == RANDOM and self.documents == "none":
            raise ConfigError(
                "val_split is 'random', but a continuous text has no documents to choose from: a passage from its "
                "middle would stand between two passages that the model is trained on",
                "Give --documents (line, blank, file or a separator), or --val-split last.",
            )

    @property
    def is_backward(self) -> bool:
        """Whether texts are read from their last letter to their first."""
        return self.direction == BACKWARD

    @property
    def is_series(self) -> bool:
        """Whether files are read as series of numbers (`text/series/`), and not as texts."""
        return self.tokenizer.partition(":")[0] == MULAW

    @classmethod
    def for_unchanged_text(
        cls, encoding: str, errors: str, text_field: str | None, json_lines: bool = False
    ) -> DataConfig:
        """Return the settings that read a text unchanged, because a model brings it into the form of its own text."""
        return cls(
            encoding=encoding, errors=errors, newline="keep", normalize="none", text_field=text_field or "",
            json_lines=json_lines,
        )  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataConfig:
        """Return the settings that a dict from `to_json` contains.

        Files of earlier versions have no keys "errors", "val_split", "direction" and "json_lines": the end of every
        text was held out, and texts were read forward. Their `text_field` is "text" where none was given.

        Raises:
            ConfigError: If a key is unknown, or its value is out of range.
        """
        if not isinstance(values, Mapping):
            return super().from_json(values)
        if "errors" not in values and values.get("text_field") == "text":
            values = {**values, "text_field": ""}
        return super().from_json({"val_split": LAST, **values})


INT8, FLOAT16, FLOAT32 = WEIGHT_STORAGES = ("int8", "float16", "float32")  #: how files store weights
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
