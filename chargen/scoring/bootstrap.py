"""Compare models on one text, and test whether their difference could be due to the choice of this text.

The loss of each line is its part of the loss of the whole text, read with carried state. The paired bootstrap (Efron &
Tibshirani 1993; Koehn 2004, W04-3250) draws as many lines as the text has, with replacement and the same lines for all
models, and computes the difference in bits per byte on them. This is repeated many times. The interval holds the middle
95 % of these differences (percentile method).

The interval is about other lines of the same kind, not about another training run or another kind of text. It is
somewhat too narrow, because the lines of a text are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2

MAX_UNITS = 10_000  #: a text of more lines is resampled in this many runs of neighbouring lines (Künsch 1989)
MAX_DRAWN_LINES = 1 << 17  #: lines that are drawn at a time, so that their counts fit in the CPU's cache

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The difference between a model and the first one. Above zero, the model needs more bits than the first one."""

    bits_per_byte: float
    low: float  #: lower end of the interval, in bits per byte
    high: float  #: upper end of the interval, in bits per byte
    first_better: float  #: fraction of resamples in which the first model has the lower loss; a tie counts one half

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON values, with units in the keys."""
        return {
            "difference_bits_per_byte": self.bits_per_byte,
            "interval_low": self.low,
            "interval_high": self.high,
            "first_better_share": self.first_better,
        }


def bits_per_byte(nats: Float, sizes: Float) -> float:
    """Return the total loss of lines divided by their total size.

    Args:
        nats: −log p of each line, [L].
        sizes: Bytes of each line, [L].
    """
    return float(nats.sum() / sizes.sum() / LN2)


def paired_bootstrap(
    nats: Float, sizes: Float, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> list[Difference]:
    """Compare each model with the first one.

    Args:
        nats: −log p of each line by each model, [M, L].
        sizes: Bytes of each line, [L].
        resamples: Number of resamples.
        seed: Seed of the random numbers.
        confidence: Fraction of the resamples that the interval holds, 0 to 1.

    Returns:
        The difference of each model but the first, [M − 1].
    """
    table = _merge_lines(np.concatenate([nats[1:] - nats[0], sizes[None]]))  # [M, L]: M − 1 differences, and the sizes
    sums = np.concatenate(list(_resampled_sums(table, resamples, np.random.default_rng(seed))), axis=1)  # [M, R]
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    differences = []
    for line_differences, resampled in zip(table[:-1], sums[:-1] / sums[-1] / LN2, strict=True):
        low, high = np.percentile(resampled, tails)
        first_better = float(np.mean((resampled > 0) + 0.5 * (resampled == 0)))
        differences.append(
            Difference(bits_per_byte(line_differences, table[-1]), float(low), float(high), first_better)
        )
    return differences


def most_different_lines(first: Float, second: Float, count: int) -> list[int]:
    """Return the numbers (from 0) of the lines whose loss differs most between two models, the most different first.

    Args:
        first: −log p of each line by one model, [L].
        second: −log p of each line by the other model, [L].
        count: Maximum number of lines.
    """
    return [int(line) for line in np.argsort(-np.abs(first - second), kind="stable")[:count]]


def _merge_lines(table: Float) -> Float:
    """Return a table [M, L] with neighbouring columns added up, so that it has at most MAX_UNITS columns."""
    L = table.shape[1]
    if L <= MAX_UNITS:
        return table
    return np.add.reduceat(table, np.arange(MAX_UNITS, dtype=np.int64) * L // MAX_UNITS, axis=1)


def _resampled_sums(table: Float, resamples: int, rng: np.random.Generator) -> Iterator[Float]:
    """Yield the sums of each row of a table [M, L] over columns drawn with replacement, [M, resamples] in all."""
    L = table.shape[1]
    batch_size = max(1, MAX_DRAWN_LINES // L)
    for start in range(0, resamples, batch_size):
        count = min(batch_size, resamples - start)
        drawn = rng.integers(L, size=(count, L), dtype=np.int64) + L * np.arange(count)[:, None]
        times_drawn = np.bincount(drawn.ravel(), minlength=count * L).reshape(count, L)
        yield table @ times_drawn.T.astype(np.float64)
