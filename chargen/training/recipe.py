"""Which network, and how it is trained, for a corpus, a budget and a device: everything the person did not choose.

The rule, with the measured reasons (`benchmarks/LOG.md`):

    cell       gru: on a CPU the best for its time
    hidden     what the time can train: the more characters a run will read, the larger
    batch      32 lanes × 32 ids: many steps early on matter more than wide products
    rate       high, with a low β1: it forgets a bad direction fast
    dropout    grows with the number of times that the text will be read
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig

CELL = "gru"
CPU_FLOPS = 60e9  #: a second, that training reaches on two ordinary cores; a guess that sets sizes, not results
GPU_FLOPS = 5e12


def choose(
    num_train_ids: int,
    vocab_size: int,
    length: Mapping[str, Any],
    device: str,
    model_choices: Mapping[str, Any],
    train_choices: Mapping[str, Any],
) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a run.

    Args:
        num_train_ids: how much there is to learn from.
        vocab_size: of the tokenizer.
        length: one of {"budget_s": …}, {"steps": …}, {"epochs": …}.
        device: "cpu", "cuda" or "mps".
        model_choices: what the person chose of `ModelConfig`; it stands.
        train_choices: what the person chose of `TrainConfig`; it stands.

    Raises:
        ConfigError: a choice is out of range, or no cell has the chosen name.
    """
    gates = CELLS.get(str(model_choices.get("cell", CELL))).num_gates
    batch_size = int(train_choices.get("batch_size", 32 if device == "cpu" else 128))
    seq_len = int(train_choices.get("seq_len", 32 if device == "cpu" else 64))
    flops = CPU_FLOPS if device == "cpu" else GPU_FLOPS
    hidden = int(
        model_choices.get("hidden_size", _hidden_size(num_train_ids, length, batch_size * seq_len, gates, flops))
    )
    ids_read = _ids_read(num_train_ids, length, batch_size * seq_len, gates * hidden**2, flops)
    epochs = ids_read / max(1, num_train_ids)
    model = {
        "vocab_size": vocab_size,
        "cell": CELL,
        "hidden_size": hidden,
        "embedding_dim": hidden if model_choices.get("tie_weights") else min(64, hidden),
        "dropout": round(min(0.5, 0.1 * max(0.0, math.log2(epochs / 4))), 2) if epochs > 4 else 0.0,
        **model_choices,
    }
    train = {
        "batch_size": batch_size,
        "seq_len": seq_len,
        "learning_rate": 6e-3,
        "warmup": 0.1,
        "beta1": 0.5,
        "beta2": 0.99,
        "device": device,
        **length,
        **train_choices,
    }
    return ModelConfig(**model), TrainConfig(**train)


def _hidden_size(num_train_ids: int, length: Mapping[str, Any], ids_per_step: int, gates: int, flops: float) -> int:
    """Return the largest size of which the run reads enough, about 3 ids for each weight, and the text has enough."""
    for hidden in (1024, 768, 512, 384, 256, 192, 128, 96, 64):
        weights = gates * hidden**2
        read = _ids_read(num_train_ids, length, ids_per_step, weights, flops)
        if read >= 3.0 * weights and num_train_ids >= 0.5 * weights:
            return hidden
    return 48


def _ids_read(num_train_ids: int, length: Mapping[str, Any], ids_per_step: int, weights: int, flops: float) -> float:
    """Return how many ids a run of this length will read, about, with so many recurrent weights."""
    if length.get("steps"):
        return float(length["steps"]) * ids_per_step
    if length.get("epochs"):
        return float(length["epochs"]) * num_train_ids
    return float(length["budget_s"]) * flops / (6 * weights)
