"""Models against each other on one text: is the difference more than this text's luck?

Each model's bits for each line are what it costs when the whole text is read, with carried state. The paired bootstrap
(Efron & Tibshirani 1993; Koehn 2004, W04-3250) draws as many lines as there are, with replacement, the same for all
models, and takes the difference in bits per byte on them; again and again. The middle 95 % of those differences is the
interval (percentile method).

It answers for other lines like these, not for another training run or another kind of text. Lines of a text are not
independent of each other, which makes the interval somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2

MAX_UNITS = 10_000  #: of more lines, runs of lines are drawn (Künsch 1989): so many
MAX_DRAWN = 1 << 17  #: lines that are drawn at a time: their counts fit in a cache

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How a model differs from the first: above zero, it costs more bits."""

    bits_per_byte: float
    low: float  #: of the interval
    high: float
    first_better: float  #: share of resamples in which the first model costs less; ties count half

    def to_json(self) -> dict[str, Any]:
        return {
            "difference_bits_per_byte": self.bits_per_byte,
            "interval_low": self.low,
            "interval_high": self.high,
            "first_better_share": self.first_better,
        }


def bits_per_byte(nats: Float, sizes: Float) -> float:
    """Return what lines cost together, for each byte of theirs."""
    return float(nats.sum() / sizes.sum() / LN2)


def paired_bootstrap(
    nats: Float, sizes: Float, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> list[Difference]:
    """Compare models with the first of them.

    Args:
        nats: −log p of each line by each model, [M, L].
        sizes: bytes of each line, [L].
        resamples: how many are drawn.
        seed: of the random numbers.
        confidence: share of the resamples that lie within the interval, 0 to 1.

    Returns:
        A difference for each model but the first, [M − 1].
    """
    table = _in_runs(np.concatenate([nats[1:] - nats[0], sizes[None]]))  # [M, L]: differences, and the sizes
    sums = np.concatenate(list(_resampled(table, resamples, np.random.default_rng(seed))), axis=1)  # [M, R]
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    found = []
    for own, drawn in zip(table[:-1], sums[:-1] / sums[-1] / LN2, strict=True):
        low, high = np.percentile(drawn, tails)
        better = float(np.mean((drawn > 0) + 0.5 * (drawn == 0)))
        found.append(Difference(bits_per_byte(own, table[-1]), float(low), float(high), better))
    return found


def differ_most(one: Float, other: Float, count: int) -> list[int]:
    """Return the lines, from 0, that two models' costs differ most on, in bits; the most first."""
    return [int(line) for line in np.argsort(-np.abs(one - other), kind="stable")[:count]]


def _in_runs(table: Float) -> Float:
    """Return the table with runs of neighbouring columns added up, if it has more than MOST_UNITS."""
    L = table.shape[1]
    if L <= MAX_UNITS:
        return table
    return np.add.reduceat(table, np.arange(MAX_UNITS) * L // MAX_UNITS, axis=1)


def _resampled(table: Float, resamples: int, rng: np.random.Generator) -> Iterator[Float]:
    """Yield each row's sums over columns drawn with replacement, [M, R] in all."""
    L = table.shape[1]
    step = max(1, MAX_DRAWN // L)
    for begin in range(0, resamples, step):
        count = min(step, resamples - begin)
        drawn = rng.integers(L, size=(count, L), dtype=np.int64) + L * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * L).reshape(count, L)  # how often each line was drawn
        yield table @ times.T.astype(np.float64)
