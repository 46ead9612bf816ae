"""Which network, and how it is trained, for a corpus, a budget and a device: everything the person did not choose.

The rule; what was measured is in `benchmarks/LOG.md`:

    cell      gru: on a CPU the best for its time
    hidden    the largest of which the run reads some ids for each weight, and that the text can fill
    lanes     32 of 32 ids, for many steps; 64 of 24 where a step is a wide product anyway
    rate      8e-3 with a low β1: early steps point in changing directions, and it forgets a bad one fast
    dropout   grows with the number of times that the text will be read
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig

CELL = "gru"
USUAL_IDS_PER_STEP = 1024
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
    layers = int(model_choices.get("num_layers", 1))
    matrices = gates * (2 * layers - 1)  # of H × H: the first layer's input product is a table
    flops = CPU_FLOPS if device == "cpu" else GPU_FLOPS
    hidden = int(model_choices.get("hidden_size", _hidden_size(num_train_ids, length, matrices, flops)))
    batch_size, seq_len = (128, 64) if device != "cpu" else (64, 24) if hidden >= 384 else (32, 32)
    ids_read = _ids_read(num_train_ids, length, matrices * hidden**2, flops)
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
        "learning_rate": 8e-3,
        "warmup": 0.05,
        "weight_decay": 0.1,
        "beta1": 0.5,
        "beta2": 0.99,
        "device": device,
        **length,
        **train_choices,
    }
    return ModelConfig(**model), TrainConfig(**train)


def _hidden_size(num_train_ids: int, length: Mapping[str, Any], matrices: int, flops: float) -> int:
    """Return the largest size of which the run reads enough, about 3 ids for each weight, and the text has enough."""
    for hidden in (1024, 768, 512, 384, 256, 192, 128, 96, 64):
        weights = matrices * hidden**2
        read = _ids_read(num_train_ids, length, weights, flops)
        if read >= 3.0 * weights and num_train_ids >= 0.5 * weights:
            return hidden
    return 48


def _ids_read(num_train_ids: int, length: Mapping[str, Any], weights: int, flops: float) -> float:
    """Return how many ids a run of this length will read, about, with so many recurrent weights."""
    if length.get("steps"):
        return float(length["steps"]) * USUAL_IDS_PER_STEP
    if length.get("epochs"):
        return float(length["epochs"]) * num_train_ids
    return float(length["budget_s"]) * flops / (6 * max(1, weights))
