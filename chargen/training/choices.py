"""What the user chose for a run: its length, and settings of the network and of the training.

A field that is None is left open; the recipe (`recipe.py`) chooses it. The fields have the names, the meanings and the
valid values of those in `chargen/config/`, and are checked on construction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from chargen.config import STACK_FIELDS, Config, ModelConfig, TrainConfig, check_stack, to_python_number
from chargen.errors import ConfigError
from chargen.schema import format_significant

MIN_OVERHEADS = 3  #: a shorter budget trains for this many times the overhead; else the run is shortened in steps


@dataclass(frozen=True)
class Choices:
    """Base class of the choices.

    Raises:
        ConfigError: If a value is out of range.
    """

    CONFIG: ClassVar[type[Config]]  #: the settings that the fields belong to

    def __post_init__(self) -> None:
        for name, value in self.chosen().items():
            object.__setattr__(self, name, to_python_number(value))
        self.CONFIG.check_fields(self.chosen())

    def chosen(self) -> dict[str, Any]:
        """Return the fields that are not left open, by their names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RunLength(Choices):
    """The length of a run, in one unit. Without any, it is DEFAULT_BUDGET_S, or that of the run to resume.

    Raises:
        ConfigError: If a value is out of range, or more than one unit is given.
    """

    CONFIG = TrainConfig

    budget_s: float | None = None  #: wall-clock time of the whole run in seconds, including start-up
    steps: int | None = None  #: number of optimizer steps
    epochs: float | None = None  #: number of passes over the training text

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.chosen()) > 1:
            given = " and ".join(name.removesuffix("_s") for name in self.chosen())
            raise ConfigError(f"give only one of budget, steps and epochs, not {given}")


@dataclass(frozen=True, kw_only=True)
class ModelChoices(Choices):
    """Settings of `ModelConfig` that the user chose.

    Raises:
        ConfigError: If a value is out of range, or if two of them contradict each other.
    """

    CONFIG = ModelConfig

    cell: str | None = None  #: a cell for all layers, or a cell for each layer: "lstm,gru"
    num_layers: int | None = None  #: recurrent layers of each ensemble member; if left open, as many as `cell` names
    hidden_size: int | None = None  #: units of each layer H
    embedding_dim: int | None = None  #: size of a token embedding E
    dropout: float | None = None  #: dropout rate between layers and before the head
    weight_dropout: float | None = None  #: dropout rate for recurrent weights (DropConnect)
    ensemble_size: int | None = None  #: number of networks that are trained together and whose logits are averaged
    tie_weights: bool | None = None  #: whether the head uses the embedding matrix; false if left open
    ngrams: int | None = None  #: length of the longest hashed n-grams that the head reads; 0: none
    ngram_rows: int | None = None  #: rows of the n-gram table, with an index in all, else for each n; a power of two
    ngram_dim: int | None = None  #: size of an n-gram embedding
    ngram_dropout: float | None = None  #: dropout rate for whole n-grams at each position
    ngram_words: int | None = None  #: number of n-grams that start with a word
    ngram_index: bool | None = None  #: whether only the n-grams of an index have rows; true if left open
    residual: bool | None = None  #: whether a layer's output is added to that of the layer below; false if left open
    skip: bool | None = None  #: whether the head reads the outputs of all layers; false if left open
    layer_norm: bool | None = None  #: whether the output of each layer is normalized; false if left open

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_layers is None and self.cell is not None and "," in self.cell:
            object.__setattr__(self, "num_layers", self.cell.count(",") + 1)
        check_stack(**{name: getattr(self, name) for name in STACK_FIELDS})


@dataclass(frozen=True, kw_only=True)
class TrainChoices(Choices):
    """Settings of `TrainConfig` that the user chose, besides the length of the run and the device."""

    CONFIG = TrainConfig

    batch_size: int | None = None  #: number of batch rows B
    seq_len: int | None = None  #: length T of a BPTT window, in tokens
    learning_rate: float | None = None  #: peak learning rate
    final_learning_rate: float | None = None  #: learning rate at the end of the decay, as a fraction of the peak
    warmup: float | None = None  #: fraction of the run in which the learning rate rises to its peak
    beta1: float | None = None  #: decay rate of Adam's first moment
    beta2: float | None = None  #: decay rate of Adam's second moment
    weight_decay: float | None = None  #: decoupled weight decay, for matrices only
    clip_norm: float | None = None  #: maximum global norm of the gradients
    patience: float | None = None  #: share of the run without a better validation loss after which it stops; 1: never
    seed: int | None = None  #: seed of all random numbers; 0 if left open
    precision: str | None = None  #: precision of products: "float32", "bf16", or on a GPU "tf32"
    weight_storage: str | None = None  #: how the model file stores the weights; "float16" if left open


def length_option(train: TrainConfig, factor: float, steps: int, overhead_s: float) -> str:
    """Return the option for a run with `factor` times as much training as one that has ended.

    Args:
        train: The settings of the run that has ended.
        factor: The length of the new run, as a multiple.
        steps: Number of steps that the run made.
        overhead_s: Seconds before its first step and after its last one.
    """
    if train.budget_s is not None and factor >= 1.0:
        return f"--budget {format_duration_option(factor * train.budget_s)}"
    if train.budget_s is not None:
        overhead_s = min(overhead_s, train.budget_s)
        training_s = factor * (train.budget_s - overhead_s)
        if training_s >= MIN_OVERHEADS * overhead_s:
            return f"--budget {format_duration_option(overhead_s + training_s)}"
        # The start takes longer on some days than on others, which would decide how many steps are left.
        return f"--steps {max(1, round(factor * steps))}"
    if train.epochs is not None:
        return f"--epochs {format_significant(factor * train.epochs, separator='')}"
    return f"--steps {max(1, round(factor * (train.steps or 1)))}"


def format_duration_option(seconds: float) -> str:
    """Return a duration as an option has it, in whole seconds: 90s, 10m."""
    whole = max(1, round(seconds))
    return f"{whole // 60}m" if whole >= 120 and whole % 60 == 0 else f"{whole}s"
