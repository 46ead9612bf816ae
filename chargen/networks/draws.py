"""The random numbers of a training step, which do not depend on how the batch rows are divided.

A run on several processes (`training/ranks/`) divides the rows of each batch. Every process has a generator in the same
state, draws the numbers of all rows, and uses those of its own rows. So a run has the same dropout masks and the same
sampled token ids whether one process makes it or eight, and it can be resumed with another number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The batch rows of a process: `count` of them from `first` on, of `total` rows of the whole batch."""

    first: int
    count: int
    total: int

    @classmethod
    def all(cls, total: int) -> Rows:
        """Return the rows of a process that has the whole batch."""
        return cls(0, total, total)

    @property
    def slice(self) -> slice:
        """The rows as a slice of the batch axis of the whole batch."""
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True)
class Draws:
    """Draws the random numbers of a step.

    Args:
        generator: The random generator.
        rows: The batch rows that the caller computes; None if it computes all.
        all_targets: The targets of the whole batch, [T, B], if the caller computes only some of its rows.
    """

    generator: torch.Generator
    rows: Rows | None = None
    all_targets: Tensor | None = None

    def uniform(self, shape: tuple[int, ...], row_axis: int) -> Tensor:
        """Return numbers from [0, 1) of a shape, on the device of the generator.

        Args:
            shape: The shape for the caller's own rows.
            row_axis: The axis of the batch rows, not negative.
        """
        rows = self.rows
        if rows is None or rows.count == rows.total:
            return torch.rand(shape, generator=self.generator, device=self.generator.device)
        whole = (*shape[:row_axis], rows.total, *shape[row_axis + 1 :])
        drawn = torch.rand(whole, generator=self.generator, device=self.generator.device)
        return drawn.narrow(row_axis, rows.first, rows.count)
