"""How far back a cell can carry information: its accuracy in a task of `memory_tasks.py` against the lag.

One network per cell is trained on the first lag, then on the next one, and so on. It continues from the weights of the
lag before: from short lags it learns what to remember, and longer lags then only ask to keep it for longer. Trained on
a lag of 100 alone, even an LSTM finds nothing to learn from at first.

    accuracy
       1 ┤●●●●●●●●●●●●●●●●  lstm
         │○○○○○
         │     ○○○
    1/8 ┤        ○○○○○○○○  rnn: as good as chance
         └┬──────┬────────
          1     10     lag
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import NO_TARGET
from chargen.errors import ConfigError
from chargen.networks.network import Network
from chargen.networks.torch_runtime import single_thread
from chargen.probe.memory_tasks import MAX_LAG, MemoryTask, TaskBatches
from chargen.probe.small_networks import build_network, train_network

EMBEDDING_DIM = 32
BATCH_SIZE = 64
WARMUP = 0.1  #: with half of it and fewer steps, an LSTM forgot at the start of a new lag what it had learned before
NUM_TEST_ROWS = 1_000  #: sequences whose accuracy is measured; none of them is in a training batch
NUM_CHECK_ROWS = 200  #: sequences that decide whether a lag is learned
TEST_SEED = 1 << 32  #: added to the seed; training batches have other random numbers
CHUNK = 128  #: steps that are computed at once
GOOD_ACCURACY = 0.9  #: below it, a lag counts as too long for a cell


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """What is measured, and how each network is trained; either `steps` or `budget_s` is set.

    Raises:
        ConfigError: If there are no lags, or one is out of range.
    """

    task: MemoryTask
    lags: Sequence[int]  #: in tokens, ascending
    hidden_size: int = 64
    num_layers: int = 1
    steps: int | None = None  #: maximum number of training steps at each lag
    budget_s: float | None = None  #: training time at each lag
    learning_rate: float = 1e-2
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lags or list(self.lags) != sorted(set(self.lags)):
            raise ConfigError(f"the lags {list(self.lags)} are not ascending", "Example: --lags 5,10,20.")
        for lag in self.lags:
            if not self.task.min_lag <= lag <= MAX_LAG:
                raise ConfigError(
                    f"a lag of {lag:,} is not possible in the task {self.task.name}",
                    f"Use lags from {self.task.min_lag} to {MAX_LAG:,}.",
                )

    def model(self, cell: str) -> ModelConfig:
        """Return the shape of the network of a cell."""
        return ModelConfig(
            vocab_size=self.task.vocab_size, cell=cell, num_layers=self.num_layers, hidden_size=self.hidden_size,
            embedding_dim=EMBEDDING_DIM,
        )  # fmt: skip

    def training(self) -> TrainConfig:
        """Return the settings of the training at one lag."""
        return TrainConfig(
            steps=self.steps, budget_s=self.budget_s, batch_size=BATCH_SIZE, learning_rate=self.learning_rate,
            clip_norm=self.clip_norm, warmup=WARMUP, beta1=0.9, weight_decay=0.0, seed=self.seed,
        )  # fmt: skip


@dataclass(frozen=True)
class MemoryPoint:
    """The accuracy of a cell at one lag."""

    lag: int  #: in tokens
    accuracy: float  #: share of correct answers
    steps: int  #: training steps at this lag; fewer than allowed if all answers were correct before
    elapsed_s: float
    has_diverged: bool  #: whether the training ended because its loss or gradient was not finite


def measure_memory(
    cell: str, settings: MemorySettings, report: Callable[[int, float], None] | None = None
) -> Iterator[MemoryPoint]:
    """Train a network on growing lags, and yield its accuracy at each of them.

    Args:
        cell: Name of the cell.
        settings: What is measured.
        report: Function that gets the lag and the completed share of its training.

    Raises:
        ConfigError: If there is no cell of this name, or a setting is out of range.
    """
    network = build_network(settings.model(cell), settings.seed)
    for lag in settings.lags:
        record = train_network(
            network,
            TaskBatches(settings.task, lag, BATCH_SIZE, settings.seed),
            settings.training(),
            None if report is None else partial(report, lag),
            partial(_is_learned, network, settings, lag),
        )
        accuracy = measure_accuracy(network, settings.task, lag, NUM_TEST_ROWS, settings.seed + TEST_SEED)
        yield MemoryPoint(lag, accuracy, record.steps, record.elapsed_s, record.has_diverged)


def find_limit(points: Sequence[MemoryPoint]) -> int | None:
    """Return the first lag at which the accuracy is below `GOOD_ACCURACY`; None if there is none."""
    return next((point.lag for point in points if point.accuracy < GOOD_ACCURACY), None)


def _is_learned(network: Network, settings: MemorySettings, lag: int) -> bool:
    return measure_accuracy(network, settings.task, lag, NUM_CHECK_ROWS, settings.seed + TEST_SEED + 1) == 1.0


@torch.no_grad()
@single_thread()
def measure_accuracy(network: Network, task: MemoryTask, lag: int, num_rows: int, seed: int) -> float:
    """Return the share of the answers to random sequences that are correct.

    Args:
        network: The network.
        task: The task.
        lag: The lag in tokens.
        num_rows: The number of sequences.
        seed: Seed of the sequences.
    """
    inputs, _, answers = task.sample(np.random.default_rng([seed, lag]), lag, num_rows)
    state = network.initial_state(num_rows)
    num_correct = 0
    for start in range(0, len(inputs), CHUNK):
        outputs, state = network.run_layers(torch.from_numpy(inputs[start : start + CHUNK]), state)
        expected = answers[start : start + CHUNK]
        is_scored = (expected != NO_TARGET).any(axis=1)
        if is_scored.any():
            steps = torch.from_numpy(is_scored)
            guesses = network.head([output[steps] for output in outputs]).argmax(dim=-1).numpy()
            num_correct += int((guesses == expected[is_scored]).sum())
    return num_correct / int((answers != NO_TARGET).sum())
