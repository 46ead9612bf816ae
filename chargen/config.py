"""The settings of models, corpora and training: frozen dataclasses that are checked on construction.

Model files and training states store these settings as JSON, so every class converts to JSON and back without loss.
Each class has a table `FIELDS` that describes the valid values of each field with the types of `schema.py`. Every
number has a maximum, far above any useful value. Thus no product of settings can overflow, and no file can make the
program allocate unbounded memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

from chargen.errors import ConfigError
from chargen.registry import did_you_mean
from chargen.schema import (
    Boolean,
    Integer,
    Nullable,
    Number,
    Spec,
    String,
    format_count,
    format_value,
)

C = TypeVar("C", bound="Config")

LN2 = math.log(2)  #: nats per bit

MAX_VOCAB_SIZE = 1 << 20  #: Unicode has 1,112,064 characters; a corpus rarely has more than 30,000
MAX_LAYER_SIZE = 1 << 16  #: limit of hidden and embedding size; a layer of this size has 13 billion weights
MAX_LAYERS = 256  #: limit of the recurrent layers of all ensemble members together
MAX_NGRAMS = 16  #: length of the longest n-gram, in tokens
MAX_NGRAM_ROWS = 1 << 24  #: rows of the n-gram table for each n
MAX_NGRAM_DIM = 1 << 12  #: size of an n-gram embedding
MAX_BATCH_SIZE = 1 << 20
MAX_SEQ_LEN = 1 << 20  #: tokens
MAX_STEPS = 10**12
DEFAULT_BUDGET_S = 300.0  #: duration of a run for which the user gives no length
MAX_SECONDS = 1e9  #: 32 years
MAX_EPOCHS = 1e9
MAX_LEARNING_RATE = 10.0
MAX_WEIGHT_DECAY = 100.0
MAX_CLIP_NORM = 1e12
MAX_SEED = 2**63 - 1  #: the generators of torch and NumPy accept this seed and the next one


@dataclass(frozen=True)
class Config:
    """Base class of the settings: validation, and conversion to and from JSON."""

    FIELDS: ClassVar[Mapping[str, Spec]]  #: the valid values of each field

    def __post_init__(self) -> None:
        for name in self.FIELDS:
            object.__setattr__(self, name, to_python_number(getattr(self, name)))
        self.check_fields({name: getattr(self, name) for name in self.FIELDS})

    @classmethod
    def check_fields(cls, values: Mapping[str, Any]) -> None:
        """Check some of the settings before the others are known.

        Args:
            values: Values by field name; fields may be missing.

        Raises:
            ConfigError: If a name is unknown, or its value is out of range.
        """
        for key, value in values.items():
            if key not in cls.FIELDS:
                raise ConfigError(
                    f"unknown setting {format_value(key)} in {cls.__name__}", did_you_mean(key, cls.FIELDS)
                )
            cls.FIELDS[key].check(to_python_number(value), key)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
        """Return the settings that a dict from `to_json` contains.

        Raises:
            ConfigError: If a key is unknown or missing, or its value is out of range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__} cannot be made from {format_value(values)}")
        cls.check_fields(values)
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be made from {format_value(sorted(values))}: {error}") from error


def to_python_number(value: Any) -> Any:
    """Return the number in a NumPy scalar or in a tensor without dimensions; return any other value unchanged."""
    is_scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if is_scalar else value


_DURATION = r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"


def parse_duration_s(value: str | float) -> float:
    """Return a duration in seconds.

    Args:
        value: "90s", "5m", "1h30m", or a number of seconds, also as a string.

    Raises:
        ConfigError: If it is not a duration, or is zero or longer than MAX_SECONDS.

    >>> parse_duration_s("1h30m")
    5400.0
    """
    number = to_python_number(value)
    if isinstance(number, str):
        match = re.fullmatch(_DURATION, number.strip())
        parts = match.groups() if match else ()
        number = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    seconds = number if isinstance(number, (int, float)) else math.nan
    if not 0 < seconds <= MAX_SECONDS:
        limits = f"above zero and of at most {MAX_SECONDS:g} seconds"
        raise ConfigError(f"{format_value(value)} is not a duration {limits}", "Examples: 90s, 5m, 1h30m.")
    return float(seconds)


def format_duration_s(seconds: float) -> str:
    """Return a duration with its units, so that seconds are not taken for minutes.

    >>> format_duration_s(5), format_duration_s(90), format_duration_s(5400), format_duration_s(0.25)
    ('5 s', '1 min 30 s', '1 h 30 min', '0.25 s')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def check_count(name: str, value: Any, low: int = 1) -> int:
    """Return an integer of at least `low` as Python's int; NumPy's integers are accepted.

    Args:
        name: Name of the value, for the error message.
        value: The value to check.
        low: The smallest valid value.

    Raises:
        ConfigError: If it is not.
    """
    number: int = to_python_number(value)
    Integer(low).check(number, name)
    return number


FRACTION = Number(0.0, 1.0)
DROPOUT_RATE = Number(0.0, 0.95)


@dataclass(frozen=True)
class ModelConfig(Config):
    """The architecture of a network: embedding → `num_layers` recurrent layers → linear output layer (head) → softmax.

    An ensemble has `ensemble_size` members that share one embedding. Each member has its own layers, its own head and
    its own loss, and the logits of the network are the mean of the members' logits.
    """

    vocab_size: int  #: number of token ids V
    cell: str = "gru"  #: name of the recurrent cell in the registry `cells.CELLS`
    num_layers: int = 1  #: recurrent layers of each ensemble member
    hidden_size: int = 256  #: units of each layer H
    embedding_dim: int = 256  #: size of a token embedding E
    dropout: float = 0.0  #: dropout rate in training, between layers and before the head; 0: no dropout
    weight_dropout: float = 0.0  #: dropout rate in training, for recurrent weights (DropConnect); 0: no dropout
    ensemble_size: int = 1  #: number of networks that are trained together and whose logits are averaged
    tie_weights: bool = False  #: whether the head uses the embedding matrix; requires embedding_dim == hidden_size
    ngrams: int = 0  #: the head also reads hashed n-grams of the last tokens, from n = 2 to this n; 0: none
    ngram_rows: int = 1 << 15  #: rows of the n-gram table for each n; a power of two
    ngram_dim: int = 16  #: size of an n-gram embedding
    ngram_dropout: float = 0.0  #: dropout rate in training, for whole n-grams at each position; 0: no dropout

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Integer(1, MAX_VOCAB_SIZE),
        "cell": String(100),
        "num_layers": Integer(1, MAX_LAYERS),
        "hidden_size": Integer(1, MAX_LAYER_SIZE),
        "embedding_dim": Integer(1, MAX_LAYER_SIZE),
        "dropout": DROPOUT_RATE,
        "weight_dropout": DROPOUT_RATE,
        "ensemble_size": Integer(1, MAX_LAYERS),
        "tie_weights": Boolean(),
        "ngrams": Integer(0, MAX_NGRAMS),
        "ngram_rows": Integer(1, MAX_NGRAM_ROWS),
        "ngram_dim": Integer(1, MAX_NGRAM_DIM),
        "ngram_dropout": DROPOUT_RATE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ngrams == 1:
            raise ConfigError(f"ngrams is 1, but must be 0 or from 2 to {MAX_NGRAMS}")
        if self.ngram_rows.bit_count() != 1:
            raise ConfigError(
                f"ngram_rows is {self.ngram_rows:,}, but must be a power of two, at most {MAX_NGRAM_ROWS:,}"
            )
        if self.total_layers > MAX_LAYERS:
            raise ConfigError(
                f"an ensemble of {format_count(self.ensemble_size, 'member')} with "
                f"{format_count(self.num_layers, 'layer')} each has "
                f"{self.total_layers:,} layers, but at most {MAX_LAYERS:,} are possible",
                "Reduce --ensemble or --layers.",
            )
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ConfigError(
                f"tied weights need embedding_dim == hidden_size, not {self.embedding_dim} and {self.hidden_size}",
                "Leave out --embedding or --tie-weights.",
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the settings that a dict from `to_json` contains.

        Files of earlier versions have the key "members" for `ensemble_size`; it is still read.

        Raises:
            ConfigError: If a key is unknown or missing, or its value is out of range.
        """
        if isinstance(values, Mapping) and "members" in values and "ensemble_size" not in values:
            values = {"ensemble_size" if key == "members" else key: value for key, value in values.items()}
        return super().from_json(values)

    @property
    def total_layers(self) -> int:
        """The number of recurrent layers of all ensemble members together."""
        return self.ensemble_size * self.num_layers

    def __str__(self) -> str:
        """Return a short description: "gru 2×512", "mgru 1×448, ensemble of 2"."""
        ensemble = f", ensemble of {self.ensemble_size}" if self.ensemble_size > 1 else ""
        ngrams = f", {self.ngrams}-grams" if self.ngrams else ""
        return f"{self.cell} {self.num_layers}×{self.hidden_size}{ensemble}{ngrams}"


ERROR_MODES = ("strict", "replace", "skip")
NEWLINE_MODES = ("lf", "keep")
NORMALIZE_MODES = ("nfc", "none")
LAST, RANDOM = VAL_SPLITS = ("last", "random")
FORWARD, BACKWARD = DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class DataConfig(Config):
    """How files are decoded to text, how text is encoded as token ids, and which part of it is held out."""

    tokenizer: str = "char"  #: "char", "byte", "sp:SIZE" or "sp:FILE.model" (sentencepiece)
    encoding: str = "utf-8"  #: text encoding of the input files
    errors: str = "strict"  #: what happens to invalid bytes: "strict", "replace" (by U+FFFD) or "skip" (their line)
    newline: str = "lf"  #: "lf" converts CR and CRLF to LF; "keep" keeps them
    normalize: str = "nfc"  #: Unicode normalization: "nfc" or "none"
    documents: str = "none"  #: how the text is split into documents: "none", "line", "blank", "file", or a separator
    text_field: str = ""  #: field of a record that contains its text; "": "text", and .json, .csv, .tsv are plain text
    val_fraction: float = 0.1  #: fraction of the characters that is held out for validation
    #: which documents are held out: "random" or "last"; a continuous text has only "last". None: random if there are
    #: documents, else last
    val_split: str | None = None
    direction: str = (
        FORWARD  #: "forward", or "backward": the model reads each text reversed, see `tokenizers/direction.py`
    )

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "tokenizer": String(),
        "encoding": String(100),
        "errors": String(choices=ERROR_MODES),
        "newline": String(choices=NEWLINE_MODES),
        "normalize": String(choices=NORMALIZE_MODES),
        "documents": String(),
        "text_field": String(),
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

    @classmethod
    def for_unchanged_text(cls, encoding: str, errors: str, text_field: str | None) -> DataConfig:
        """Return the settings that read a text unchanged, because a model brings it into the form of its own text."""
        return cls(encoding=encoding, errors=errors, newline="keep", normalize="none", text_field=text_field or "")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataConfig:
        """Return the settings that a dict from `to_json` contains.

        Files of earlier versions have no keys "errors", "val_split" and "direction": the end of every text was held
        out, and texts were read forward. Their `text_field` is "text" where none was given.

        Raises:
            ConfigError: If a key is unknown, or its value is out of range.
        """
        if not isinstance(values, Mapping):
            return super().from_json(values)
        if "errors" not in values and values.get("text_field") == "text":
            values = {**values, "text_field": ""}
        return super().from_json({"val_split": LAST, **values})


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a network is trained, and for how long. Exactly one of budget_s, steps and epochs is set.

    The defaults are those of the recipe (`training/recipe.py`), which adapts some of them to the run.
    """

    budget_s: float | None = None  #: wall-clock time of the whole run in seconds, including start-up
    steps: int | None = None  #: number of optimizer steps
    epochs: float | None = None  #: number of passes over the training text
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
    device: str = "cpu"  #: "cpu", "cuda" or "mps"

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "budget_s": Nullable(Number(0.0, MAX_SECONDS, exclusive_low=True)),
        "steps": Nullable(Integer(1, MAX_STEPS)),
        "epochs": Nullable(Number(0.0, MAX_EPOCHS, exclusive_low=True)),
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
        "device": String(100),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = [name for name in ("budget_s", "steps", "epochs") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ConfigError(f"give exactly one of budget_s, steps and epochs, not {lengths or 'none'}")
