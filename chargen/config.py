"""The settings of a run as plain, frozen values that are checked when they are made.

They are what a model file carries, so every one of them goes to JSON and back unchanged.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from chargen.errors import ConfigError
from chargen.registry import did_you_mean

C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """What every group of settings can do; the groups below are its only children."""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict that `json` can write."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
        """Make the settings from `to_json`'s dict.

        Raises:
            ConfigError: a key is unknown, missing, or its value out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown setting {key!r} in {cls.__name__}", did_you_mean(key, known))
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be made from {sorted(values)}: {error}") from error


MOST = sys.float_info.max


def check_range(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Check that `value` is a number in [low, high], or in (low, high] with `above`.

    Raises:
        ConfigError: it is not, or it is not finite.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST
    if number and (low < value if above else low <= value) and value <= high:
        return
    bounds = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    raise ConfigError(f"{name} is {value}, but must be a number {bounds}")


def check_count(name: str, value: int, low: int = 1) -> None:
    """Check that `value` is a whole number of at least `low`.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number of at least {low}")


MOST_NGRAMS, MOST_NGRAM_ROWS = 16, 1 << 24


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of a network: embedding → `num_layers` recurrent layers → softmax head.

    With several members, so many stacks of layers stand side by side over one embedding. Each has a head and a loss of
    its own, and the logits that the network gives are their mean.
    """

    vocab_size: int
    cell: str = "gru"
    num_layers: int = 1
    hidden_size: int = 256
    embedding_dim: int = 256
    dropout: float = 0.0  #: of units between layers and before the head, while training
    weight_dropout: float = 0.0  #: of recurrent weights, while training
    members: int = 1  #: stacks of layers side by side
    tie_weights: bool = False  #: the head's matrix is the embedding's; wants embedding_dim == hidden_size
    ngrams: int = 0  #: the head sees hashed n-grams of the last characters too, up to this n; 0: none
    ngram_rows: int = 1 << 15  #: of their table for each n; a power of two
    ngram_dim: int = 16  #: numbers in such a row
    ngram_dropout: float = 0.0  #: of n-grams, place by place, while training

    def __post_init__(self) -> None:
        for name in ("vocab_size", "num_layers", "hidden_size", "embedding_dim", "members", "ngram_rows", "ngram_dim"):
            check_count(name, getattr(self, name))
        check_count("ngrams", self.ngrams, 0)
        if self.ngrams == 1 or self.ngrams > MOST_NGRAMS:
            raise ConfigError(f"ngrams is {self.ngrams}, but must be 0 or from 2 to {MOST_NGRAMS}")
        if self.ngram_rows.bit_count() != 1 or self.ngram_rows > MOST_NGRAM_ROWS:
            raise ConfigError(
                f"ngram_rows is {self.ngram_rows:,}, but must be a power of two, at most {MOST_NGRAM_ROWS:,}"
            )
        check_range("dropout", self.dropout, 0.0, 0.95)
        check_range("weight_dropout", self.weight_dropout, 0.0, 0.95)
        check_range("ngram_dropout", self.ngram_dropout, 0.0, 0.95)
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ConfigError(
                f"tied weights want embedding_dim == hidden_size, not {self.embedding_dim} and {self.hidden_size}",
                "Leave out --embedding, or --tie-weights.",
            )

    @property
    def all_layers(self) -> int:
        """How many recurrent layers the members have together."""
        return self.members * self.num_layers

    def __str__(self) -> str:
        """Return the shape in short: "gru 2×512", "mgru 1×448, 2 members"."""
        members = f", {self.members} members" if self.members > 1 else ""
        ngrams = f", {self.ngrams}-grams" if self.ngrams else ""
        return f"{self.cell} {self.num_layers}×{self.hidden_size}{members}{ngrams}"


NEWLINE_FORMS = ("lf", "keep")
NORMAL_FORMS = ("nfc", "none")


@dataclass(frozen=True)
class DataConfig(Config):
    """How bytes become text, text becomes ids, and which part of it is held out."""

    tokenizer: str = "char"  #: "char", "byte", "sp:SIZE", "sp:FILE.model"
    encoding: str = "utf-8"
    newline: str = "lf"  #: "lf" makes CR and CRLF one LF; "keep" leaves them
    normalize: str = "nfc"  #: "nfc" or "none"
    documents: str = "none"  #: what a document is: "none", "line", "blank", "file", or what separates them
    text_field: str = "text"  #: of a record (JSON lines, Parquet): what is its text
    val_fraction: float = 0.1  #: the last part of the characters, held out for validation

    def __post_init__(self) -> None:
        for name, allowed in (("newline", NEWLINE_FORMS), ("normalize", NORMAL_FORMS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(allowed)}")
        if not self.documents:
            raise ConfigError("documents is empty", "Say none, line, blank, file, or what stands between them.")
        check_range("val_fraction", self.val_fraction, 0.0, 0.5, above=True)


@dataclass(frozen=True)
class TrainConfig(Config):
    """How long and how a network is trained. Exactly one of budget_s, steps and epochs is set."""

    budget_s: float | None = None  #: seconds of wall clock for the whole run, start-up included
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 32  #: lanes
    seq_len: int = 32  #: tokens a window: how far gradients flow back
    learning_rate: float = 4e-3
    final_learning_rate: float = 0.02  #: share of the peak that the decay ends at
    warmup: float = 0.02  #: share of the run over which the rate rises
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0  #: on matrices only
    clip_norm: float = 1.0  #: gradients above this global norm are scaled down to it
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        lengths = [name for name in ("budget_s", "steps", "epochs") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ConfigError(f"give exactly one of budget_s, steps and epochs, not {lengths or 'none'}")
        if self.steps is not None:
            check_count("steps", self.steps)
        for name in ("budget_s", "epochs"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0.0, above=True)
        check_count("batch_size", self.batch_size)
        check_count("seq_len", self.seq_len)
        check_count("seed", self.seed, low=0)
        check_range("learning_rate", self.learning_rate, 0.0, above=True)
        check_range("clip_norm", self.clip_norm, 0.0, above=True)
        check_range("weight_decay", self.weight_decay, 0.0)
        check_range("warmup", self.warmup, 0.0, 1.0)
        check_range("final_learning_rate", self.final_learning_rate, 0.0, 1.0)
        for name in ("beta1", "beta2"):
            check_range(name, getattr(self, name), 0.0, 0.99999)


@dataclass(frozen=True)
class SampleConfig(Config):
    """How a text is drawn from a model, in the order in which it acts (`sampling/rules.py`)."""

    length: int = 1000  #: characters to write at most, the prompt not counted
    seed: int = 0
    until: str = "length"  #: or "newline", or "boundary" (the end of a document): where a text ends that is not cut off
    stop: tuple[str, ...] = ()  #: strings before which a text ends
    regex: str = ""  #: that the whole text matches
    ban: tuple[str, ...] = ()  #: strings that never stand in a text
    max_copy: int = 0  #: characters in a row that may stand in the training text too; 0: as many as come
    dry: float = 0.0  #: nats taken from an id that would repeat a sequence of `dry_allowed` + 1 characters
    dry_base: float = 1.1  #: each further repeated character multiplies that
    dry_allowed: int = 12  #: repeated characters that cost nothing
    temperature: float = 1.0  #: 0 always takes the likeliest character
    top_k: int = 0  #: 0: all
    top_p: float = 1.0
    typical: float = 1.0
    min_p: float = 0.0
    allow_invalid_utf8: bool = False  #: whether a model of bytes may write what is no character (as U+FFFD)

    def __post_init__(self) -> None:
        check_count("length", self.length, low=0)
        check_count("seed", self.seed, low=0)
        if self.until not in UNTIL:
            raise ConfigError(f"until is {self.until!r}, but must be one of {', '.join(UNTIL)}")
        for name, strings in (("stop", self.stop), ("ban", self.ban)):
            object.__setattr__(self, name, tuple(strings))  # of JSON, which knows lists only
            if "" in strings:
                raise ConfigError(f"{name}: an empty string stands everywhere")
        check_count("max_copy", self.max_copy, low=0)
        check_range("dry", self.dry, 0.0)
        check_range("dry_base", self.dry_base, 1.0)
        check_count("dry_allowed", self.dry_allowed)
        check_range("temperature", self.temperature, 0.0)
        check_count("top_k", self.top_k, low=0)
        check_range("top_p", self.top_p, 0.0, 1.0, above=True)
        check_range("typical", self.typical, 0.0, 1.0, above=True)
        check_range("min_p", self.min_p, 0.0, 1.0)

    @property
    def truncates(self) -> bool:
        """Whether less is drawn from than there is."""
        return self.top_k > 0 or self.top_p < 1.0 or self.typical < 1.0 or self.min_p > 0.0


UNTIL = ("length", "newline", "boundary")
