"""What a network is trained for: examples in random order, a loss on a batch of them, and a validation loss.

A task of `tasks/` implements `Objective`. The loop (`loop.py`) knows nothing else of it, so every task has the same
budget, learning rate schedule, best weights, resume and reports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.networks.task_network import TaskNetwork
from chargen.training.optimizers import NGRAM_DAMPING, NGRAM_RATE_FACTOR

Indices = NDArray[np.int64]


class NgramRule(NamedTuple):
    """How the table of n-grams of a network is trained, if it has one: see `training.optimizers.SparseAdagrad`."""

    rate_factor: float = NGRAM_RATE_FACTOR
    damping: float = NGRAM_DAMPING


class Objective(ABC):
    """Examples and the network that is trained on them.

    Attributes:
        network: The network. The loop changes its weights in place.
        ngram_rule: How its table of n-grams is trained.
        num_examples: Number of training examples.
        num_validated: Number of examples that `validation_loss` reads.
        num_final: Number of further examples that are evaluated after the last validation, for the time budget.
    """

    network: TaskNetwork
    num_examples: int
    num_validated: int
    num_final = 0
    ngram_rule = NgramRule()

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Indices]:
        """Return the indices of the examples of each batch of an epoch.

        A resumed run calls it again, so the result must depend on nothing but the epoch, the data and the seed. Every
        epoch has the same number of batches.
        """

    @abstractmethod
    def loss(self, batch: Indices, generator: torch.Generator) -> Tensor:
        """Return the mean loss of a batch as a scalar with a gradient.

        Args:
            batch: The indices of the examples.
            generator: The random generator of the dropout masks.
        """

    @abstractmethod
    def validation_loss(self) -> float:
        """Return the mean loss on the examples that choose the best weights, without dropout."""


def shuffled_batches(num_examples: int, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """Return the batches of an epoch: all examples once, in random order; the last batch may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    return [order[i : i + batch_size] for i in range(0, num_examples, batch_size)]
