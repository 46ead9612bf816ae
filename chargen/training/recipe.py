"""Which network, and how it is trained, for a corpus, a budget and a device: everything the person did not choose.

The rule; what was measured is in `benchmarks/LOG.md`:

    cell      mgru: on a CPU the best for its time; gru on a GPU, which has a kernel for it
    hidden    the largest size of which the run reads enough ids for each weight, and that the text can fill
    members   as many as leave each the text often enough: twice the time gives √2 of both; smaller than one alone
    n-grams   of up to six characters beside the layers; the more often the text is read, the more of them are dropped,
              and the shorter they are, or they would be learned by heart; none of a text that is read dozens of times
    lanes     64 of 24 ids; where the text is read often, of 48, and only so many that there are steps enough
    rate      1e-2 with a low β1: early steps point in changing directions, and it forgets a bad one fast; less for
              a model that learns on, the less the text has to teach it
    dropout   grows with the number of times that the text will be read, and so does the weight decay, from ten on

How many ids a run by time will read is worked out from how fast this machine trains, measured (`speed.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig

FLOPS_PER_WEIGHT = 6  #: and id: a product and a sum, each forward, for the input's gradient and for the weight's
HEAD_ROWS = 500  #: of the head of a large vocabulary that an id is learned with, about (`nets/sampled.py`)
READ_PER_WEIGHT = 10.0  #: ids read for each recurrent weight: fewer leave a large network half taught
READ_PER_WEIGHT_ALONE = 4.5  #: the same where no n-grams do a part of the work
LETTERS, HEAD_SHARE = 256, 0.5  #: of a vocabulary larger than that, rows of the head count for half as weights to teach
WEIGHTS_PER_ROOT = 900  #: most recurrent weights for the square root of the ids of text: more learn it by heart
MEMBERS_PER_ROOT = 420  #: the same of a member, when there are several
EPOCHS_OF_ONE = 2  #: members are the square root of the epochs of a single one over this
MAX_MEMBERS = 4
EPOCHS_BY_HEART = 2.5  #: so often a text is read before a network begins to have it by heart
DROPOUT_FOR_TWICE, MAX_DROPOUT = 0.055, 0.3
DECAY_OF_AN_EPOCH, MIN_DECAY, MAX_DECAY = 0.01, 0.1, 0.3
LONG_NGRAMS, EPOCHS_OF_LONG = 6, 7.0  #: up to that n, up to so many readings;
SHORT_NGRAMS, EPOCHS_OF_SHORT = 4, 35.0  #: then up to that, and beyond so many none
NGRAM_DROPOUT_OF_AN_EPOCH, MAX_NGRAM_DROPOUT = 0.1, 0.6
IDS_PER_NGRAM_ROW, MIN_NGRAM_ROWS, MAX_NGRAM_ROWS = 8, 1 << 8, 1 << 16  #: of text, for each row of each n
RATE, MIN_RATE = 1e-2, 3e-4
BETAS = {"beta1": 0.5, "beta2": 0.99}
ALL_NEW = 250_000.0  #: nats that a text has to teach a model, from which on it is taught at the full rate
SIZES = range(32, 2049, 32)
MIN_STEPS = 1_000  #: that a run should have before its steps are made larger


def choose(
    num_train_ids: int,
    vocab_size: int,
    length: Mapping[str, Any],
    device: str,
    model_choices: Mapping[str, Any],
    train_choices: Mapping[str, Any],
    flops: float = 0.0,
    new_nats: float | None = None,
) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a run.

    Args:
        num_train_ids: how much there is to learn from.
        vocab_size: of the tokenizer.
        length: one of {"budget_s": …}, {"steps": …}, {"epochs": …}.
        device: "cpu", "cuda" or "mps".
        model_choices: what the person chose of `ModelConfig`; it stands.
        train_choices: what the person chose of `TrainConfig`; it stands.
        flops: floating-point operations that a run by time can make in its matrix products.
        new_nats: that the text has to teach the model which the run begins from (`novelty.py`), if it begins from one.

    Raises:
        ConfigError: a choice is out of range, or no cell has the chosen name.
    """
    name = str(model_choices.get("cell", default_cell(device)))
    layers = int(model_choices.get("num_layers", 1))

    def weights(hidden: int) -> int:
        return recurrent_weights(name, layers, hidden)

    def reads(hidden: int, members: int) -> float:
        rows = vocab_size if vocab_size <= 2 * HEAD_ROWS else HEAD_ROWS
        products = max(1, members * (weights(hidden) + rows * hidden))  # the head is one too
        return ids_read(num_train_ids, length, train_choices, flops / (FLOPS_PER_WEIGHT * products))

    hidden, members = size(reads, weights, num_train_ids, vocab_size, model_choices)
    epochs = reads(hidden, members) / max(1, num_train_ids)
    model = {
        "vocab_size": vocab_size,
        "cell": name,
        "hidden_size": hidden,
        "embedding_dim": hidden if model_choices.get("tie_weights") else min(64, hidden),
        "ensemble_size": members,
        **ngrams(num_train_ids, epochs),
        "dropout": dropout(epochs),
        "weight_dropout": dropout(epochs),
        **model_choices,
    }
    train = {
        **lanes(reads(hidden, members), epochs, device),
        "learning_rate": rate(new_nats),
        "warmup": 0.05,
        "weight_decay": decay(epochs),
        **BETAS,
        "device": device,
        **length,
        **train_choices,
    }
    return ModelConfig(**model), TrainConfig(**train)


def size(
    reads: Callable[[int, int], float],
    weights: Callable[[int], int],
    num_train_ids: int,
    vocab_size: int,
    choices: Mapping[str, Any],
) -> tuple[int, int]:
    """Return (hidden size, members).

    Args:
        reads: (hidden, members) → how many ids a run reads with them.
        weights: hidden → recurrent weights of a member.
        num_train_ids: how much there is to learn from.
        vocab_size: of the tokenizer.
        choices: what the person chose.
    """

    rows = HEAD_SHARE * max(0, vocab_size - LETTERS)
    needed = READ_PER_WEIGHT if choices.get("ngrams", LONG_NGRAMS) else READ_PER_WEIGHT_ALONE

    def largest(members: int, per_root: int) -> int:
        def fits(hidden: int) -> bool:
            enough = reads(hidden, members) >= needed * (weights(hidden) + rows * hidden)
            return enough and weights(hidden) <= per_root * math.sqrt(num_train_ids)

        return int(choices.get("hidden_size", max(filter(fits, SIZES), default=SIZES[0])))

    epochs = reads(largest(1, MEMBERS_PER_ROOT), 1) / max(1, num_train_ids)
    shared = math.sqrt(max(0.0, epochs / EPOCHS_OF_ONE))
    members = int(choices.get("ensemble_size", round(max(1.0, min(MAX_MEMBERS, shared)))))
    return largest(members, WEIGHTS_PER_ROOT if members == 1 else MEMBERS_PER_ROOT), members


def ids_read(num_train_ids: int, length: Mapping[str, Any], train_choices: Mapping[str, Any], in_time: float) -> float:
    """Return how many ids a run of a length reads, about; `in_time` of them if it is one by time."""
    if length.get("steps"):
        return float(length["steps"] * train_choices.get("batch_size", 64) * train_choices.get("seq_len", 24))
    return float(length["epochs"] * num_train_ids) if length.get("epochs") else in_time


def default_cell(device: str) -> str:
    """Return the cell that learns most in its time on a device."""
    return "gru" if device == "cuda" else "mgru"


def recurrent_weights(cell: str, num_layers: int, hidden: int) -> int:
    """Return how many weights every id is multiplied with; the first layer's input product is a table.

    Raises:
        ConfigError: no cell has this name.
    """
    kind = CELLS.get(cell)
    return (num_layers * kind.num_gates + (num_layers - 1) * kind.num_input_gates) * hidden**2


def lanes(ids_read: float, epochs: float, device: str) -> dict[str, int]:
    """Return how many streams are read side by side, and how far the gradient flows back."""
    if device != "cpu":
        return {"batch_size": 128, "seq_len": 64}
    if epochs < EPOCHS_BY_HEART:
        return {"batch_size": 64, "seq_len": 24}
    most = ids_read / (48 * MIN_STEPS)
    return {"batch_size": max((few for few in (16, 32, 64) if few <= most), default=16), "seq_len": 48}


def ngrams(num_train_ids: int, epochs: float) -> dict[str, float]:
    """Return how long the n-grams are that the head reads, how many rows each length has, and how many are dropped."""
    wanted = 1 << max(0, (num_train_ids // IDS_PER_NGRAM_ROW).bit_length() - 1)
    return {
        "ngrams": LONG_NGRAMS if epochs <= EPOCHS_OF_LONG else SHORT_NGRAMS if epochs <= EPOCHS_OF_SHORT else 0,
        "ngram_rows": min(MAX_NGRAM_ROWS, max(MIN_NGRAM_ROWS, wanted)),
        "ngram_dropout": round(min(MAX_NGRAM_DROPOUT, NGRAM_DROPOUT_OF_AN_EPOCH * epochs), 2),
    }


def rate(new_nats: float | None) -> float:
    """Return the learning rate of a new network, or of one that a text has so much to teach."""
    share = 1.0 if new_nats is None else min(1.0, new_nats / ALL_NEW)
    return max(MIN_RATE, float(f"{RATE * share:.1e}"))


def dropout(epochs: float) -> float:
    """Return the share of units and of weights to drop: none at first, then more each time that the epochs double."""
    return round(min(MAX_DROPOUT, DROPOUT_FOR_TWICE * math.log2(max(1.0, epochs / EPOCHS_BY_HEART))), 2)


def decay(epochs: float) -> float:
    """Return the weight decay: the same for most runs, more for a text that is read dozens of times."""
    return round(min(MAX_DECAY, max(MIN_DECAY, DECAY_OF_AN_EPOCH * epochs)), 2)
