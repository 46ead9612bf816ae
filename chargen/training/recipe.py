"""Choose the settings of a run that the user left open, from the corpus, the length of the run and the device.

The rules in short; `benchmarks/LOG.md` has the measurements behind them:

    cell            mgru, the best one for its time
    hidden size     the largest one for which the run reads enough tokens per weight and the text has enough tokens
    ensemble size   twice the reading gives √2 times as many members, each of which reads √2 times as many tokens; a
                    short text gets fewer members that read it more often. A member is smaller than a single network
    n-grams         n-grams of up to six characters next to the layers, up to four for a short text, and those that
                    start with the last word and the word before. The more often the text is read, the higher their
                    dropout rate, since they would overfit, up to a limit that is lower for a short text
    batch           64 rows of 24 tokens; 48 tokens if the text is read often; fewer rows if there would be too few
                    steps. On several processes, a time budget has as many times more rows, if enough steps remain,
                    and a learning rate that is larger by the square root of that
    learning rate   1e-2, with a low β1: the direction of early steps changes quickly, and a low β1 forgets a bad one
                    quickly. Lower for an initial model, the less a new text differs from its own
    weight decay    rises with the number of times that the text is read, and further for a short text or rare token ids
    dropout         rises with that number as well, and is higher for a shorter text
    end             a run with a time budget ends early when it has read the text MAX_USEFUL_EPOCHS times

The number of tokens that a run with a time budget can read follows from the measured speed of the machine
(`calibration.py`). The precision of products does not depend on the length of the run (`networks/precision.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chargen.cells import CELLS
from chargen.cells.weights import get_cells
from chargen.config import MAX_EPOCHS, ModelConfig, TrainConfig, list_cells
from chargen.errors import ConfigError
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.regularization import (
    MAX_USEFUL_EPOCHS,
    dropout,
    max_useful_epochs,
    ngram_dropout,
    weight_decay,
)

FLOPS_PER_WEIGHT = 6  #: per token: multiply and add, in the forward pass, the input gradient and the weight gradient
SAMPLED_HEAD_ROWS = 500  #: approximate rows of a large head that a step computes (`networks/sampled_softmax.py`)

DEFAULT_CELL = "mgru"
#: settings of a finished run that are taken as given when the recipe recommends others
KEPT_FIELDS = ("cell", "num_layers", "ensemble_size", "residual", "skip", "layer_norm")

# Network size
MIN_IDS_PER_WEIGHT = 7.0  #: tokens read per recurrent weight; with fewer, a large network stays undertrained
MIN_IDS_PER_WEIGHT_NO_NGRAMS = 3.0  #: the same for a network without n-grams
SMALL_VOCAB, HEAD_SHARE = 256, 0.5  #: rows of the head beyond this vocabulary size count as this share of their weights
MAX_WEIGHTS_PER_SQRT_ID = 900  #: recurrent weights per square root of the training tokens; a larger network overfits
MAX_MEMBER_WEIGHTS_PER_SQRT_ID = 420  #: the same for one of several ensemble members
#: if a text has fewer tokens than the first number, the maximum of a member is multiplied by (tokens / number) ** power
MEMBER_IDS, SHORT_MEMBER_POWER = 1e6, 0.1
HIDDEN_SIZES = range(32, 2049, 32)
MAX_EMBEDDING_DIM = 64
#: the number of members is √(epochs of a single member / the first number); if a text has fewer than MEMBER_IDS tokens,
#: the first number is multiplied by (MEMBER_IDS / tokens) ** power, and is the last number at most
EPOCHS_PER_SQUARED_MEMBER, SHORT_EPOCHS_POWER, MAX_EPOCHS_PER_SQUARED_MEMBER = 2.0, 0.57, 5.0
MAX_MEMBERS = 8

# N-grams
LONG_NGRAMS, SHORT_NGRAMS, MIN_LONG_NGRAM_IDS = 6, 4, 200_000  #: longest n-grams, of texts from this length on, or less
IDS_PER_NGRAM_ROW = 4  #: training tokens per row of the table, at most
MIN_NGRAM_ROWS, MAX_NGRAM_ROWS = 1 << 8, 1 << 18
NGRAM_WORDS = 2  #: words in the n-grams that start with a word

# Steps
OVERFITTING_EPOCHS = 1.8  #: a text that is read more often than this begins to be memorized
MIN_LEARNING_RATE = 3e-4
FULL_RATE_EXCESS_NATS = 250_000.0  #: an initial model is trained at the full learning rate from this excess loss on
MIN_EPOCHS = 1e-6  #: a run of no whole step counts as this many epochs
MIN_STEPS = 900  #: minimum number of steps of a run; smaller batches are used to reach it
MIN_STEPS_OF_LARGE_BATCH = 650  #: a batch grows with the processes as long as the run has this many steps
MAX_BATCH_GROWTH = 8  #: the largest factor that was measured (benchmarks/LOG.md)
LONG_SEQ_LEN = 48  #: window length for a text that is read often
GPU_BATCH_SIZE, GPU_SEQ_LEN = 128, 64


@dataclass(frozen=True)
class RecipeInputs:
    """What the recipe knows about a run."""

    num_train_ids: int
    vocab_size: int
    length: RunLength  #: with exactly one unit
    device: str  #: "cpu", "cuda" or "mps"
    model: ModelChoices = field(default_factory=ModelChoices)
    train: TrainChoices = field(default_factory=TrainChoices)
    flops: float = 0.0  #: floating-point operations in matrix products that a run with a time budget can make
    excess_loss_nats: float | None = None  #: excess loss of an initial model (`calibration.py`), or None
    has_words: bool = True  #: whether the corpus is text, not a series of numbers
    num_processes: int = 1  #: processes that the batch rows are divided among (`training/ranks/`)

    @property
    def cell(self) -> str:
        """The name of the cell of all layers, or a name for each layer."""
        return DEFAULT_CELL if self.model.cell is None else self.model.cell

    @property
    def num_layers(self) -> int:
        """The number of layers of an ensemble member."""
        return self.model.num_layers or len(list_cells(self.cell, 1))

    def recurrent_weights(self, hidden_size: int) -> int:
        """Return the number of recurrent weights of a single ensemble member."""
        return recurrent_weights(self.cell, self.num_layers, hidden_size)

    def head_columns(self, hidden_size: int) -> int:
        """Return the number of units that the head of an ensemble member reads."""
        return hidden_size * (self.num_layers if self.model.skip else 1)

    def num_ids_read(self, hidden_size: int, num_members: int) -> float:
        """Return the estimated number of tokens that the run reads with a network of this size."""
        if self.length.steps:
            batch_size = self.train.batch_size or TrainConfig.batch_size
            return float(self.length.steps * batch_size * (self.train.seq_len or TrainConfig.seq_len))
        if self.length.epochs:
            return float(self.length.epochs * self.num_train_ids)
        per_member = self.recurrent_weights(hidden_size) + _num_head_rows(self.vocab_size) * self.head_columns(
            hidden_size
        )
        return self.flops / (FLOPS_PER_WEIGHT * max(1, num_members * per_member))


def choose_settings(inputs: RecipeInputs) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a run. The choices of the user are never changed.

    Raises:
        ConfigError: If a choice is out of range or has no effect, or if there is no cell of a chosen name.
    """
    cells = [CELLS.get(name) for name in list_cells(inputs.cell, inputs.num_layers)]
    hidden_size, num_members = network_size(inputs)
    num_ids_read = inputs.num_ids_read(hidden_size, num_members)
    epochs = num_ids_read / max(1, inputs.num_train_ids)
    if inputs.length.budget_s is not None:
        num_ids_read = min(num_ids_read, MAX_USEFUL_EPOCHS * inputs.num_train_ids)
    rows, steps = batch_size(num_ids_read, epochs, inputs.device), seq_len(epochs, inputs.device)
    growth = batch_growth(inputs, num_ids_read / (rows * steps))
    max_epochs = None
    if inputs.length.budget_s is not None:
        num_step_ids = (inputs.train.batch_size or growth * rows) * (inputs.train.seq_len or steps)
        max_epochs = max_useful_epochs(max(1.0, inputs.num_train_ids / num_step_ids))
        epochs = min(epochs, max_epochs)
    dropout_rate = dropout(epochs, inputs.num_train_ids)
    model = {
        "vocab_size": inputs.vocab_size,
        "cell": inputs.cell,
        "hidden_size": hidden_size,
        "embedding_dim": hidden_size if inputs.model.tie_weights else min(MAX_EMBEDDING_DIM, hidden_size),
        "ensemble_size": num_members,
        **ngram_settings(inputs.model, inputs.num_train_ids, inputs.has_words),
        "ngram_dropout": ngram_dropout(epochs, inputs.num_train_ids),
        "dropout": dropout_rate,
        "weight_dropout": dropout_rate if any(cell.recurrent_names for cell in cells) else 0.0,
        **inputs.model.chosen(),
    }
    rate = learning_rate(inputs.excess_loss_nats) * min(cell.learning_rate_factor for cell in cells)
    train = {
        "batch_size": growth * rows,
        "seq_len": steps,
        "learning_rate": float(f"{math.sqrt(growth) * rate:.2g}") if growth > 1 else rate,
        "weight_decay": weight_decay(epochs, inputs.num_train_ids, inputs.vocab_size),
        "device": inputs.device,
        "max_epochs": max_epochs,
        **inputs.length.chosen(),
        **inputs.train.chosen(),
    }
    network = ModelConfig(**model)
    _check_dropout(inputs.model, network)
    return network, TrainConfig(**train)


def _check_dropout(given: ModelChoices, chosen: ModelConfig) -> None:
    """Check that the network has what a dropout rate of the user would drop."""
    if given.ngram_dropout and not chosen.ngrams:
        raise ConfigError(
            "--ngram-dropout (ngram_dropout) has no effect: the network has no n-gram features",
            "Leave it out, or give --ngrams N.",
        )
    if given.weight_dropout and not any(cell.recurrent_names for cell in get_cells(chosen)):
        raise ConfigError(
            f"--weight-dropout (weight_dropout) has no effect: {chosen.cell} has no recurrent matrix",
            "Leave it out, or use --dropout.",
        )


def network_size(inputs: RecipeInputs) -> tuple[int, int]:
    """Return the hidden size and the number of ensemble members."""
    single = largest_hidden_size(inputs, 1, MAX_MEMBER_WEIGHTS_PER_SQRT_ID)
    epochs = inputs.num_ids_read(single, 1) / max(1, inputs.num_train_ids)
    shortness = max(1.0, MEMBER_IDS / max(1, inputs.num_train_ids))
    epochs_per_squared_member = EPOCHS_PER_SQUARED_MEMBER * shortness**SHORT_EPOCHS_POWER
    ideal = math.sqrt(max(0.0, epochs / min(MAX_EPOCHS_PER_SQUARED_MEMBER, epochs_per_squared_member)))
    num_members = inputs.model.ensemble_size or round(max(1.0, min(MAX_MEMBERS, ideal)))
    member_weights = MAX_MEMBER_WEIGHTS_PER_SQRT_ID / shortness**SHORT_MEMBER_POWER
    weights_per_sqrt_id = MAX_WEIGHTS_PER_SQRT_ID if num_members == 1 else member_weights
    return largest_hidden_size(inputs, num_members, weights_per_sqrt_id), num_members


def largest_hidden_size(inputs: RecipeInputs, num_members: int, weights_per_sqrt_id: float) -> int:
    """Return the hidden size that the user chose, or the largest one that is neither undertrained nor overfits.

    Args:
        inputs: What is known about the run.
        num_members: Number of ensemble members.
        weights_per_sqrt_id: Maximum number of recurrent weights per square root of the training tokens.
    """
    if inputs.model.hidden_size is not None:
        return inputs.model.hidden_size
    head_rows = HEAD_SHARE * max(0, inputs.vocab_size - SMALL_VOCAB)
    ids_per_weight = MIN_IDS_PER_WEIGHT_NO_NGRAMS if inputs.model.ngrams == 0 else MIN_IDS_PER_WEIGHT
    largest = HIDDEN_SIZES[0]
    for hidden_size in HIDDEN_SIZES:
        weights = inputs.recurrent_weights(hidden_size)
        needed = ids_per_weight * (weights + head_rows * inputs.head_columns(hidden_size))
        is_trained = inputs.num_ids_read(hidden_size, num_members) >= needed
        if is_trained and weights <= weights_per_sqrt_id * math.sqrt(inputs.num_train_ids):
            largest = hidden_size
    return largest


def recommended_settings(
    model: ModelConfig, train: TrainConfig, num_train_ids: int, epochs: float, share_of_budget: float = 1.0
) -> tuple[ModelConfig, TrainConfig, int]:
    """Return the settings that the recipe would choose for a run that has ended.

    They are for a run of as many epochs. With a time budget, a larger network makes fewer steps. The hidden size is
    then that for a run of as many floating-point operations, which depends little on their number: 16 times as many
    double it. A tiny network makes fewer of them per second, but not that much fewer.

    Args:
        model: The network of the run. Its settings in KEPT_FIELDS are kept.
        train: The training settings of the run.
        num_train_ids: Number of tokens of the training text.
        epochs: How many times the run read the text.
        share_of_budget: Share of the time budget that the run used; less than 1 if `max_epochs` ended it.

    Returns:
        The settings of the network and of the training, and the largest hidden size that the recipe chooses for a text
        of this length, however long the run is.
    """
    choices = ModelChoices(**{name: getattr(model, name) for name in KEPT_FIELDS})
    epochs = max(MIN_EPOCHS, epochs)
    inputs = RecipeInputs(num_train_ids, model.vocab_size, RunLength(epochs=epochs), train.device, choices)
    recommended_model, recommended_train = choose_settings(inputs)
    max_hidden_size = choose_settings(replace(inputs, length=RunLength(epochs=MAX_EPOCHS)))[0].hidden_size
    if train.budget_s is None:
        return recommended_model, recommended_train, max_hidden_size
    timed = replace(
        inputs,
        length=RunLength(budget_s=train.budget_s),
        model=replace(choices, ngrams=None if model.ngrams else 0),
        flops=num_flops(model, epochs * num_train_ids) / share_of_budget,
    )
    hidden_size = choose_settings(timed)[0].hidden_size
    return replace(recommended_model, hidden_size=hidden_size), recommended_train, max_hidden_size


def num_flops(model: ModelConfig, num_ids_read: float) -> float:
    """Return the floating-point operations in matrix products of a run with this network: the `flops` of its inputs."""
    weights = recurrent_weights(model.cell, model.num_layers, model.hidden_size)
    weights += _num_head_rows(model.vocab_size) * model.head_size
    return FLOPS_PER_WEIGHT * model.ensemble_size * weights * num_ids_read


def _num_head_rows(vocab_size: int) -> int:
    """Return how many rows of the head a training step computes, approximately."""
    return vocab_size if vocab_size <= 2 * SAMPLED_HEAD_ROWS else SAMPLED_HEAD_ROWS


def recurrent_weights(cell: str, num_layers: int, hidden_size: int) -> int:
    """Return how many weights each token is multiplied with.

    The input product of the first layer is a table look-up and is not counted, but for a cell without a recurrent
    matrix, which has no other weights.

    Args:
        cell: The name of the cell of all layers, or a name for each layer.
        num_layers: The number of layers of an ensemble member, if `cell` has one name.
        hidden_size: The hidden size.

    Raises:
        ConfigError: If there is no cell with one of these names.
    """
    kinds = [CELLS.get(name) for name in list_cells(cell, num_layers)]
    sizes = [min(MAX_EMBEDDING_DIM, hidden_size), *([hidden_size] * (len(kinds) - 1))]
    weights = [count_matrices(kind.parameter_shapes(E, hidden_size)) for kind, E in zip(kinds, sizes, strict=True)]
    if kinds[0].recurrent_names:
        weights[0].pop("weight_ih", None)
    return sum(sum(matrices.values()) for matrices in weights)


def count_matrices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the number of weights of each matrix of a layer, by name; vectors cost next to nothing."""
    return {name: math.prod(shape) for name, shape in shapes.items() if len(shape) > 1}


def batch_size(num_ids_read: float, epochs: float, device: str) -> int:
    """Return the number of batch rows.

    Args:
        num_ids_read: Number of tokens that the run reads.
        epochs: How many times it reads the text.
        device: "cpu", "cuda" or "mps".
    """
    largest = TrainConfig.batch_size if device == "cpu" else GPU_BATCH_SIZE
    if epochs < OVERFITTING_EPOCHS:
        return largest
    limit = num_ids_read / (seq_len(epochs, device) * MIN_STEPS)
    return max((rows for rows in (16, 32, 64, 128) if rows <= min(limit, largest)), default=16)


def batch_growth(inputs: RecipeInputs, num_steps: float) -> int:
    """Return by which factor the batch of a run with a time budget grows with the number of its processes.

    The learning rate is multiplied by the square root of the factor. A run of a number of steps or epochs keeps its
    batch, so that it gives the same model on any number of processes.

    Args:
        inputs: What is known about the run.
        num_steps: The number of steps with the batch of a single process.
    """
    if inputs.length.budget_s is None or inputs.train.batch_size is not None:
        return 1
    return max(1, min(inputs.num_processes, MAX_BATCH_GROWTH, int(num_steps / MIN_STEPS_OF_LARGE_BATCH)))


def seq_len(epochs: float, device: str) -> int:
    """Return the length of a BPTT window in tokens."""
    if device != "cpu":
        return GPU_SEQ_LEN
    return TrainConfig.seq_len if epochs < OVERFITTING_EPOCHS else LONG_SEQ_LEN


def ngram_settings(chosen: ModelChoices, num_train_ids: int, has_words: bool) -> dict[str, Any]:
    """Return the settings of the n-grams, except for their dropout rate; those that have no effect keep their defaults.

    They depend on the text and the choices of the user alone, so that a run can index the n-grams before it chooses its
    other settings.

    Args:
        chosen: Settings of the network that the user chose.
        num_train_ids: Number of tokens of the training text.
        has_words: Whether the corpus is text, not a series of numbers.
    """
    length = ngram_order(num_train_ids) if chosen.ngrams is None else chosen.ngrams
    has_index = chosen.ngram_index is not False and length > 0
    settings = {
        "ngrams": length,
        "ngram_rows": ngram_rows(num_train_ids),
        "ngram_words": NGRAM_WORDS if has_index and has_words else 0,
        "ngram_index": has_index,
    }
    return {**settings, **{name: value for name, value in chosen.chosen().items() if name in settings}}


def ngram_order(num_train_ids: int) -> int:
    """Return the length of the longest n-grams of a fixed length that the head reads."""
    return LONG_NGRAMS if num_train_ids >= MIN_LONG_NGRAM_IDS else SHORT_NGRAMS


def ngram_rows(num_train_ids: int) -> int:
    """Return the number of rows of the n-gram table: a power of two."""
    wanted = 1 << (num_train_ids // IDS_PER_NGRAM_ROW).bit_length()
    return min(MAX_NGRAM_ROWS, max(MIN_NGRAM_ROWS, wanted))


def learning_rate(excess_loss_nats: float | None) -> float:
    """Return the learning rate: the full one for a new network (None), less for an initial model that fits the text."""
    share = 1.0 if excess_loss_nats is None else min(1.0, excess_loss_nats / FULL_RATE_EXCESS_NATS)
    return max(MIN_LEARNING_RATE, float(f"{TrainConfig.learning_rate * share:.1e}"))
