"""Measure what the recipe needs to know before it chooses the settings: machine speed and excess loss.

The speed is measured on a few steps of a temporary network. A step of a tiny one loads the compiled loops before that,
when the run has to wait anyway. Importing this module loads torch.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from chargen.config import FLOAT32, ModelConfig, TrainConfig, list_cells
from chargen.data.batches import TextBatches
from chargen.data.dataset import Dataset, Part
from chargen.engines.torch_engine import TorchEngine
from chargen.networks.kernels import use_numba
from chargen.networks.network import Network
from chargen.networks.precision import choose_precision
from chargen.networks.torch_runtime import single_thread
from chargen.storage.stored_weights import Tensors
from chargen.training.recipe import (
    FLOPS_PER_WEIGHT,
    LONG_NGRAMS,
    MAX_MEMBERS,
    NGRAM_WORDS,
    batch_size,
    recurrent_weights,
    seq_len,
)
from chargen.training.trainer import Trainer
from chargen.training.validation import loss_nats_per_char, read_alone

HIDDEN_SIZE, EMBEDDING_DIM, VOCAB_SIZE = 384, 64, 64  #: shape of the temporary network
NGRAM_ROWS = 1 << 12  #: rows of its n-gram table
TINY_HIDDEN_SIZE = 16  #: hidden size of the network whose step loads the compiled loops
MIN_SECONDS = 0.1  #: minimum total duration of the timed steps; in 0.2 s, the result varies nearly as much
MIN_RUNS = 3  #: minimum number of timed steps
MAX_SECONDS = 3.0  #: duration of the timed steps after which fewer are enough: a slow machine, or a busy one
RECORDED_STEPS = 20  #: steps on a GPU that are timed together; the first of them are not recorded
WARM_UP_STEPS = 1  #: steps that are not timed; they load loops and start threads
TRAINING_SHARE = 0.85  #: share of a run that steps take; the rest is the start, validation and files
MAX_EXCESS_LOSS_IDS = 20_000  #: validation tokens on which the excess loss is measured


def measure_flops_per_s(cell: str, device: str, precision: str = FLOAT32) -> float:
    """Return the speed of training on this machine: floating-point operations of the matrix products, per second.

    Args:
        cell: Name of the recurrent cell of all layers, or a name for each layer.
        device: "cpu", "cuda" or "mps".
        precision: Precision of the products.
    """
    time_steps = _time_recorded_steps if device == "cuda" else _time_steps
    seconds, num_members, num_ids = time_steps(cell, device, precision)
    flops_per_id = FLOPS_PER_WEIGHT * (recurrent_weights(cell, 1, HIDDEN_SIZE) + VOCAB_SIZE * HIDDEN_SIZE)
    return TRAINING_SHARE * flops_per_id * num_members * num_ids / seconds


def load_kernels(cell: str, device: str, precision: str | None, has_ngrams: bool) -> None:
    """Load the compiled loops that the training of a network on a CPU uses, by a step of a tiny network on one thread.

    Args:
        cell: Name of the recurrent cell of all layers, or a name for each layer.
        device: "cpu", "cuda" or "mps".
        precision: Precision of the products; None for the fastest one.
        has_ngrams: Whether the network has n-gram features.

    Raises:
        ConfigError: If there is no such cell, or it cannot be trained with the precision.
    """
    if device == "cpu" and use_numba():
        precision = choose_precision(precision, list_cells(cell, 1), device)
        with single_thread():
            trainer, _ = _make_trainer(cell, device, precision, 1, TINY_HIDDEN_SIZE, has_ngrams)
            trainer.train_step(0.5)


def _time_steps(cell: str, device: str, precision: str) -> tuple[float, int, int]:
    """Return (seconds of a training step, ensemble members, token ids of a step)."""
    trainer, num_ids = _make_trainer(cell, device, precision, 1)
    for _ in range(WARM_UP_STEPS):
        trainer.train_step(0.5)
    trainer.recent.pop()  # waits for an asynchronous device
    durations: list[float] = []
    while (sum(durations) < MIN_SECONDS or len(durations) < MIN_RUNS) and sum(durations) < MAX_SECONDS:
        start = time.perf_counter()
        trainer.train_step(0.5)
        trainer.recent.pop()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations), 1, num_ids


def _time_recorded_steps(cell: str, device: str, precision: str) -> tuple[float, int, int]:
    """Return the same for an ensemble on a GPU, which reads the members together."""
    trainer, num_ids = _make_trainer(cell, device, precision, MAX_MEMBERS)
    durations: list[float] = []
    while len(durations) <= MIN_RUNS or sum(durations) * RECORDED_STEPS < MIN_SECONDS:
        start = time.perf_counter()
        for _ in range(RECORDED_STEPS):
            trainer.train_step(0.5)
        trainer.recent.pop()  # waits for the device
        durations.append((time.perf_counter() - start) / RECORDED_STEPS)
    return statistics.median(durations[1:]), MAX_MEMBERS, num_ids


def _make_trainer(
    cell: str,
    device: str,
    precision: str,
    num_members: int,
    hidden_size: int = HIDDEN_SIZE,
    has_ngrams: bool = True,
) -> tuple[Trainer, int]:
    """Return a trainer of a temporary network on random token ids, and how many token ids a step reads."""
    T, B = seq_len(0.0, device), batch_size(0.0, 0.0, device)
    ngrams: dict[str, Any] = {
        "ngrams": LONG_NGRAMS,
        "ngram_rows": NGRAM_ROWS,
        "ngram_words": NGRAM_WORDS,
        "ngram_index": True,
    }
    model = ModelConfig(
        VOCAB_SIZE, cell, hidden_size=hidden_size, embedding_dim=EMBEDDING_DIM, ensemble_size=num_members,
        **({**ngrams, "ngram_dropout": 0.3} if has_ngrams else {}),
    )  # fmt: skip
    config = TrainConfig(steps=1, batch_size=B, seq_len=T, learning_rate=1e-4, precision=precision, device=device)
    generator = torch.Generator().manual_seed(0)  # and not the one that other code of the process uses
    ids = torch.randint(1, VOCAB_SIZE, (4 * T * B,), generator=generator).numpy()
    return Trainer(Network(model, generator).to(device), TextBatches(ids, 0, B, T), config), T * B


def excess_loss_nats(data: Dataset, config: ModelConfig, weights: Tensors, device: str, own_loss: float) -> float:
    """Return how much more a new text costs an initial model than its own text did, in nats over the training text.

        excess loss = max(0, loss on the new text − loss on the model's own text) · characters of training text

    The excess loss determines the learning rate. If it is small, a high rate would overfit the little that is new and
    forget the rest. For a text in another language it is large, and the full rate is needed.

    Args:
        data: The new text. The loss is measured on its validation text.
        config: Shape of the initial model.
        weights: Weights of the initial model.
        device: The device to measure on.
        own_loss: Validation loss of the initial model on its own text, in nats per character.
    """
    selection = data.val[0]
    ids = selection.ids[:MAX_EXCESS_LOSS_IDS]
    part = Part(ids, max(1, selection.num_chars * len(ids) // max(1, len(selection.ids))))
    loss = loss_nats_per_char(read_alone(TorchEngine.from_weights(config, weights, device), data), data, part)
    return max(0.0, loss - own_loss) * data.train.num_chars
