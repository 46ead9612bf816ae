"""The order of scored texts: the likeliest per character (or byte, or altogether) first.

key     −log p over characters, bytes, or nothing: the smaller the likelier; without a value, last: so an empty text,
        but in total where its end was scored
ties    in the order in which they came
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from chargen.scoring.scorer import Score

BY = ("per-char", "per-byte", "total")


def sort_key(score: Score, by: str = "per-char") -> float:
    """Return what scores are sorted by, in nats per character, per byte, or of the whole text."""
    if by == "total":
        return math.inf if not score.chars and score.end_log_prob_nats is None else -score.log_prob_nats
    number = score.chars if by == "per-char" else score.bytes
    return -score.log_prob_nats / number if number else math.inf


def rank(scores: Sequence[Score], by: str = "per-char") -> list[Score]:
    """Return scores from the likeliest to the least likely; equals in their order, those without a value last."""
    return sorted(scores, key=lambda score: sort_key(score, by))


class Top:
    """The best N of any number of scores, of which no more than N are kept: exact, ties in the order they came in.

    Args:
        size: N.
        by: one of BY.
    """

    def __init__(self, size: int, by: str = "per-char") -> None:
        self._size, self._by = size, by
        self._worst_first: list[tuple[float, int, Score]] = []  # a heap of (−key, −place, score)

    def add(self, place: int, score: Score) -> None:
        """Take note of a score; places are all different, and grow with the input."""
        entry = (-sort_key(score, self._by), -place, score)
        if len(self._worst_first) < self._size:
            heapq.heappush(self._worst_first, entry)
        elif entry[:2] > self._worst_first[0][:2]:
            heapq.heapreplace(self._worst_first, entry)

    def best(self) -> list[tuple[int, Score]]:
        """Return (place, score) of the best so far, the likeliest first."""
        return [(-place, score) for _, place, score in sorted(self._worst_first, key=lambda e: e[:2], reverse=True)]
