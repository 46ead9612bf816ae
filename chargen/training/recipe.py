"""Which network, and how it is trained, for a corpus, a budget and a device: everything the person did not choose.

The rule; what was measured is in `benchmarks/LOG.md`:

    cell      mgru: on a CPU the best for its time; gru on a GPU, which has a kernel for it
    hidden    the largest size of which the run reads enough ids for each weight, and that the text can fill
    lanes     64 of 24 to 32 ids; of a small network, whose steps are quick, 32 of 32, for more steps
    rate      1e-2 with a low β1: early steps point in changing directions, and it forgets a bad one fast
    dropout   grows with the number of times that the text will be read

How many ids a run by time will read is worked out from how fast this machine trains, measured (`speed.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig

FLOPS_PER_WEIGHT = 6  #: and id: a product and a sum, each forward, for the input's gradient and for the weight's
READ_PER_WEIGHT = 3.5  #: ids read for each recurrent weight: fewer leave a large network half taught
WEIGHTS_PER_ROOT = 900  #: most recurrent weights for the square root of the ids of text: more learn it by heart
EPOCHS_WITHOUT_DROPOUT = 2.5  #: so often a text is read before a network has it by heart
SIZES = range(64, 2049, 64)
LONG_RUN = 3_000_000  #: ids read, from which on longer windows than 24 ids pay


def choose(
    num_train_ids: int,
    vocab_size: int,
    length: Mapping[str, Any],
    device: str,
    model_choices: Mapping[str, Any],
    train_choices: Mapping[str, Any],
    flops: float = 0.0,
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

    Raises:
        ConfigError: a choice is out of range, or no cell has the chosen name.
    """
    name = str(model_choices.get("cell", default_cell(device)))
    layers = int(model_choices.get("num_layers", 1))

    def reads(hidden: int) -> float:
        products = recurrent_weights(name, layers, hidden) + vocab_size * hidden  # the head is one too
        return ids_read(num_train_ids, length, train_choices, flops / (FLOPS_PER_WEIGHT * max(1, products)))

    def fits(hidden: int) -> bool:
        weights = recurrent_weights(name, layers, hidden)
        return reads(hidden) >= READ_PER_WEIGHT * weights and weights <= WEIGHTS_PER_ROOT * math.sqrt(num_train_ids)

    hidden = int(model_choices.get("hidden_size", max(filter(fits, SIZES), default=48)))
    epochs = reads(hidden) / max(1, num_train_ids)
    model = {
        "vocab_size": vocab_size,
        "cell": name,
        "hidden_size": hidden,
        "embedding_dim": hidden if model_choices.get("tie_weights") else min(64, hidden),
        "dropout": dropout(epochs, 0.15, most=0.5),
        "weight_dropout": dropout(epochs, 0.10, most=0.35),
        **model_choices,
    }
    train = {
        **lanes(hidden, reads(hidden), device),
        "learning_rate": 1e-2,
        "warmup": 0.05,
        "weight_decay": 0.1,
        "beta1": 0.5,
        "beta2": 0.99,
        "device": device,
        **length,
        **train_choices,
    }
    return ModelConfig(**model), TrainConfig(**train)


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


def lanes(hidden: int, ids_read: float, device: str) -> dict[str, int]:
    """Return how many streams are read side by side, and how far the gradient flows back."""
    if device != "cpu":
        return {"batch_size": 128, "seq_len": 64}
    if hidden < 320:
        return {"batch_size": 32, "seq_len": 32}
    return {"batch_size": 64, "seq_len": 24 if ids_read < LONG_RUN else 32}


def dropout(epochs: float, for_twice: float, most: float) -> float:
    """Return the share to drop when a text is read so often: none at first, then so much each time that doubles."""
    return round(min(most, for_twice * math.log2(max(1.0, epochs / EPOCHS_WITHOUT_DROPOUT))), 2)
