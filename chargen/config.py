"""The settings of a run as plain, frozen values that are checked when they are made.

They are what a model file carries, so every one of them goes to JSON and back unchanged. Each field has a description
of its values (`schema.py`). Every number has a maximum, far above what is of use, so that no product of settings can
overflow and no setting asks for unbounded memory.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from chargen.errors import ConfigError
from chargen.registry import did_you_mean
from chargen.schema import Flag, ListOf, Nullable, Number, Spec, Text, Whole, shown, wrong

C = TypeVar("C", bound="Config")

LN2 = math.log(2)  #: nats in a bit

MAX_VOCAB_SIZE = 1 << 20  #: all of Unicode has 1,112,064 characters; a text rarely more than 30,000
MAX_SIZE = 1 << 16  #: limit of the size of a hidden state or an embedding; a layer of this size has 13 billion weights
MAX_LAYERS = 256  #: recurrent layers of all members together
MAX_NGRAMS, MAX_NGRAM_ROWS, MAX_NGRAM_DIM = 16, 1 << 24, 1 << 12
MAX_BATCH_SIZE = MAX_SEQ_LEN = 1 << 20
MAX_STEPS = 10**12
MAX_SECONDS = 1e9  #: 32 years
MAX_EPOCHS = 1e9
MAX_LEARNING_RATE = 10.0
MAX_WEIGHT_DECAY = 100.0
MAX_CLIP_NORM = 1e12
MAX_SEED = 2**63 - 1  #: torch's and NumPy's generators take it, and the seed after it
MAX_LENGTH = 10**12  #: characters of a sample
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6  #: besides 0; outside of them nothing changes any more
MAX_STRING = 1_000_000  #: characters of one string of a sample's settings
MAX_DRY, MAX_DRY_BASE = 1e6, 8.0  #: 8 to the power of the 300 ids that are counted is a finite number


@dataclass(frozen=True)
class Config:
    """What every group of settings can do; the groups below are its only children."""

    FIELDS: ClassVar[Mapping[str, Spec]]  #: what each field's value must be

    def __post_init__(self) -> None:
        self.check_fields({name: getattr(self, name) for name in self.FIELDS})

    @classmethod
    def check_fields(cls, values: Mapping[str, Any]) -> None:
        """Check some of the settings, before the others are known.

        Raises:
            ConfigError: a name is unknown or its value out of range.
        """
        for key, value in values.items():
            if key not in cls.FIELDS:
                raise ConfigError(f"unknown setting {shown(key)} in {cls.__name__}", did_you_mean(key, cls.FIELDS))
            cls.FIELDS[key].check(value, key)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict that `json` can write."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
        """Make the settings from `to_json`'s dict.

        Raises:
            ConfigError: a key is unknown, missing, or its value out of range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__} cannot be made from {shown(values)}")
        cls.check_fields(values)
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be made from {shown(sorted(values))}: {error}") from error


def check_count(name: str, value: int, low: int = 1) -> None:
    """Check that `value` is a whole number of at least `low`.

    Raises:
        ConfigError: it is not.
    """
    Whole(low).check(value, name)


SHARE = Number(0.0, 1.0)
DROPOUT = Number(0.0, 0.95)


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

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Whole(1, MAX_VOCAB_SIZE),
        "cell": Text(100),
        "num_layers": Whole(1, MAX_LAYERS),
        "hidden_size": Whole(1, MAX_SIZE),
        "embedding_dim": Whole(1, MAX_SIZE),
        "dropout": DROPOUT,
        "weight_dropout": DROPOUT,
        "members": Whole(1, MAX_LAYERS),
        "tie_weights": Flag(),
        "ngrams": Whole(0, MAX_NGRAMS),
        "ngram_rows": Whole(1, MAX_NGRAM_ROWS),
        "ngram_dim": Whole(1, MAX_NGRAM_DIM),
        "ngram_dropout": DROPOUT,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ngrams == 1:
            raise ConfigError(f"ngrams is 1, but must be 0 or from 2 to {MAX_NGRAMS}")
        if self.ngram_rows.bit_count() != 1:
            raise ConfigError(
                f"ngram_rows is {self.ngram_rows:,}, but must be a power of two, at most {MAX_NGRAM_ROWS:,}"
            )
        if self.all_layers > MAX_LAYERS:
            raise ConfigError(
                f"{self.members:,} members of {self.num_layers:,} layers are {self.all_layers:,} layers, but at most "
                f"{MAX_LAYERS:,} are possible",
                "Give fewer --members or --layers.",
            )
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

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "tokenizer": Text(),
        "encoding": Text(100),
        "newline": Text(choices=NEWLINE_FORMS),
        "normalize": Text(choices=NORMAL_FORMS),
        "documents": Text(),
        "text_field": Text(),
        "val_fraction": Number(0.0, 0.5, above=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.documents:
            raise ConfigError("documents is empty", "Say none, line, blank, file, or what stands between them.")


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

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "budget_s": Nullable(Number(0.0, MAX_SECONDS, above=True)),
        "steps": Nullable(Whole(1, MAX_STEPS)),
        "epochs": Nullable(Number(0.0, MAX_EPOCHS, above=True)),
        "batch_size": Whole(1, MAX_BATCH_SIZE),
        "seq_len": Whole(1, MAX_SEQ_LEN),
        "learning_rate": Number(0.0, MAX_LEARNING_RATE, above=True),
        "final_learning_rate": SHARE,
        "warmup": SHARE,
        "beta1": Number(0.0, 0.99999),
        "beta2": Number(0.0, 0.99999),
        "weight_decay": Number(0.0, MAX_WEIGHT_DECAY),
        "clip_norm": Number(0.0, MAX_CLIP_NORM, above=True),
        "seed": Whole(0, MAX_SEED),
        "device": Text(100),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = [name for name in ("budget_s", "steps", "epochs") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ConfigError(f"give exactly one of budget_s, steps and epochs, not {lengths or 'none'}")


class SamplingRule:
    """A rule that removes token ids before one is drawn; it is stated once, as a field of `SampleConfig`.

    Args:
        function: "module:attribute" of the function (logits [V] or [B, V], value) → logits. It is imported when the
            rule is first used, so that the settings do not need NumPy.
        off: The default value, with which the rule does nothing.
        values: The allowed values.
        metavar: Name of the value in the help of the command line.
        help: Help of the command-line option: a full sentence.
    """

    def __init__(self, function: str, off: float, values: Whole | Number, metavar: str, help: str) -> None:
        self.off = off
        self.values = values
        self.metavar = metavar
        self.help = help
        self._function = function

    @cached_property
    def function(self) -> Callable[[Any, Any], Any]:
        """The function (logits, value) → logits."""
        module, _, attribute = self._function.partition(":")
        loaded: Callable[[Any, Any], Any] = getattr(importlib.import_module(module), attribute)
        return loaded

    def as_field(self) -> Any:
        """Return the dataclass field that registers this rule."""
        return field(default=self.off, metadata={"rule": self})


UNTIL = ("length", "newline", "boundary")


@dataclass(frozen=True)
class SampleConfig(Config):
    """How a text is drawn from a model, in the order in which it acts (`sampling/logits_rules.py`)."""

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
    # The rules, in the order in which they act. A new rule is one more field here.
    top_k: int = SamplingRule(
        "chargen.sampling.logits_rules:keep_top_k",
        0,
        Whole(0, 10**9),
        "K",
        "Draw from the K most probable tokens only.",
    ).as_field()
    top_p: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_top_p",
        1.0,
        Number(0.0, 1.0, above=True),
        "P",
        "Draw from the smallest set of most probable tokens with a total probability of P.",
    ).as_field()
    typical: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_typical",
        1.0,
        Number(0.0, 1.0, above=True),
        "P",
        "Draw from the tokens whose surprisal is nearest to the entropy, with a total probability of P.",
    ).as_field()
    min_p: float = SamplingRule(
        "chargen.sampling.logits_rules:keep_min_p",
        0.0,
        SHARE,
        "P",
        "Draw from the tokens that are at least P times as probable as the most probable one.",
    ).as_field()
    allow_invalid_utf8: bool = False  #: whether a model of bytes may write what is no character (as U+FFFD)

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "length": Whole(0, MAX_LENGTH),
        "seed": Whole(0, MAX_SEED),
        "until": Text(choices=UNTIL),
        "stop": ListOf(Text(MAX_STRING), high=10_000),
        "regex": Text(MAX_STRING),
        "ban": ListOf(Text(MAX_STRING), high=100_000),
        "max_copy": Whole(0, 10**9),
        "dry": Number(0.0, MAX_DRY),
        "dry_base": Number(1.0, MAX_DRY_BASE),
        "dry_allowed": Whole(1, 10**9),
        "temperature": Number(0.0, MAX_TEMPERATURE),
        "allow_invalid_utf8": Flag(),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, strings in (("stop", self.stop), ("ban", self.ban)):
            object.__setattr__(self, name, tuple(strings))  # of JSON, which knows lists only
            if "" in strings:
                raise ConfigError(f"{name}: an empty string stands everywhere")
        if 0 < self.temperature < MIN_TEMPERATURE:
            wrong("temperature", self.temperature, f"must be 0 or at least {MIN_TEMPERATURE:g}")

    @cached_property
    def active_rules(self) -> tuple[tuple[SamplingRule, Any], ...]:
        """The rules that are not off, each with its value, in the order in which they act."""
        values = ((rule, getattr(self, name)) for name, rule in SAMPLING_RULES.items())
        return tuple((rule, value) for rule, value in values if value != rule.off)


#: Rules by the names of their fields, in the order in which they act.
SAMPLING_RULES: dict[str, SamplingRule] = {
    entry.name: entry.metadata["rule"] for entry in fields(SampleConfig) if "rule" in entry.metadata
}
SampleConfig.FIELDS = {**SampleConfig.FIELDS, **{name: rule.values for name, rule in SAMPLING_RULES.items()}}
