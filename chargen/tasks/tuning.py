"""The weight of a model's score that makes the fewest errors on references, found exactly (Och 2003, section 3).

A hypothesis has a total that came with it, a value v by the model, and errors e. Over the weight w its new total is a
line, and the winner of a list the highest of its lines:

    total(w) = given + w · v            ╲     ╱
                                         ╲   ╱   the upper envelope: few pieces,
    ────────┬──────┬─────────▶ w          ╲_╱    on each of which one hypothesis wins

Where one piece ends and the next begins the errors change, and nowhere else. So the sum over all lists is a step
function whose breakpoints are known, and its lowest step is found by adding up: no grid, no start to be lucky with.

Och searches along all directions of many weights; here there is one weight, and so one search is the whole of it. Of
several lowest steps the widest is taken and its middle, the weight that is farthest from being wrong.

Word and character error rate: how many edits lie between what was said and what should have been.

    distance = fewest substitutions, deletions and insertions (Levenshtein 1966)
    rate     = Σ distances / Σ lengths of the references, over the whole corpus: never a mean of rates

Words are what white space parts. Characters are code points of the words put together by single spaces. Both of the
composed form (NFC): another way to encode the same letters is no error.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME = 1e-9  #: breakpoints nearer than that, as a share of the weight, are one: rounding drew them apart


@dataclass(frozen=True)
class Candidates:
    """One list as numbers, [N] each, in the list's order."""

    given: NDArray[np.float64]
    value: NDArray[np.float64]
    errors: NDArray[np.int64]


@dataclass(frozen=True)
class TunedWeight:
    """The best weight, and the errors that it makes."""

    weight: float
    low: float  #: between these two weights the errors are the fewest
    high: float
    errors: int
    errors_before: int  #: by the given totals alone
    errors_at_best: int  #: of the best hypothesis of each list: no weight can make fewer


def tune_weight(lists: Sequence[Candidates], low: float = 0.0, high: float = math.inf) -> TunedWeight:
    """Return the weight between `low` and `high` with the fewest errors in all.

    Below zero a weight would prefer what the model finds unlikely; it is not looked for unless asked.
    """
    first, breakpoints, changes = _steps(lists, low, high)
    edges = np.concatenate([[low], breakpoints, [high]])
    errors = first + np.concatenate([[0], np.cumsum(changes)])
    begin, end = _widest(edges, errors)
    weight = _middle(begin, end)
    before, after = count_errors(lists, 0.0), count_errors(lists, weight)
    if before < after and low <= 0.0 <= high:  # where given totals are equal the order of the lists decides, at 0 only
        weight, begin, end, after = 0.0, 0.0, 0.0, before
    return TunedWeight(weight, begin, end, after, before, sum(int(c.errors.min()) for c in lists))


def count_errors(lists: Sequence[Candidates], weight: float) -> int:
    """Return the errors of the winners under a weight; of equals the first wins."""
    return sum(int(c.errors[int(np.argmax(c.given + weight * c.value))]) for c in lists)


def upper_envelope(given: NDArray[np.float64], value: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Return the pieces of the upper envelope of the lines given + w · value: (weight where it begins, which line).

    The first begins at −∞. Of equal lines the first is meant.

    >>> upper_envelope(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.5]))
    [(-inf, 0), (1.0, 1)]
    """
    pieces: list[tuple[float, int]] = []
    slope = -math.inf
    for line in np.lexsort((np.arange(len(given)), -given, value)).tolist():  # by value; the highest of a value first
        if value[line] == slope:
            continue
        slope, begin = value[line], -math.inf
        while pieces:
            start, top = pieces[-1]
            begin = float((given[top] - given[line]) / (slope - value[top]))
            if begin > start:
                break
            pieces.pop()
            begin = -math.inf
        pieces.append((begin, line))
    return pieces


def _steps(lists: Sequence[Candidates], low: float, high: float) -> tuple[int, NDArray[np.float64], NDArray[np.int64]]:
    """Return (errors just above `low`, breakpoints up to `high`, by how much the errors change at each)."""
    first, places, changes = 0, [], []
    for candidates in lists:
        pieces = upper_envelope(candidates.given, candidates.value)
        errors = candidates.errors
        inside = [begin for begin, _ in pieces[1:] if low < begin < high]
        now = sum(begin <= low for begin, _ in pieces) - 1 if low > -math.inf else 0
        first += int(errors[pieces[now][1]])
        for step in range(now + 1, now + 1 + len(inside)):
            places.append(pieces[step][0])
            changes.append(int(errors[pieces[step][1]] - errors[pieces[step - 1][1]]))
    order = np.argsort(places, kind="stable")
    at, by = np.array(places, dtype=np.float64)[order], np.array(changes, dtype=np.int64)[order]
    if not len(at):
        return first, at, by
    new = np.concatenate([[True], np.diff(at) > SAME * np.abs(at[1:])])
    return first, at[new], np.add.reduceat(by, np.flatnonzero(new))


def _widest(edges: NDArray[np.float64], errors: NDArray[np.int64]) -> tuple[float, float]:
    """Return the widest stretch of weights with the fewest errors; one without an end only if there is no other."""
    lowest = np.concatenate([[False], errors == errors.min(), [False]])
    begins, ends = np.flatnonzero(lowest[1:] & ~lowest[:-1]), np.flatnonzero(~lowest[1:] & lowest[:-1])
    stretches = list(zip(edges[begins].tolist(), edges[ends].tolist(), strict=True))
    bounded = [stretch for stretch in stretches if math.isfinite(stretch[1] - stretch[0])]
    return max(bounded or stretches, key=lambda stretch: float(stretch[1] - stretch[0]))


def _middle(low: float, high: float) -> float:
    """Return the middle; of a stretch without an end a weight that is well inside."""
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    if math.isfinite(low):
        return low + (abs(low) or 1.0)
    return high - (abs(high) or 1.0) if math.isfinite(high) else 0.0


WORDS, CHARACTERS = "wer", "cer"


def split_units(text: str, error: str) -> list[str]:
    """Return what the edits of a text are counted in.

    >>> split_units("xin  chào", "wer"), len(split_units("xin  chào", "cer"))
    (['xin', 'chào'], 8)
    """
    words = unicodedata.normalize("NFC", text).split()
    return words if error == WORDS else list(" ".join(words))


def edit_distances(reference: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the distance of each hypothesis to one reference, [N].

    A row of the table is done for all hypotheses at once. Within it, insertions go from left to right:
    D[j] = min over k ≤ j of (D'[k] + j − k), which is j + the running minimum of D'[k] − k.

    >>> edit_distances("a b c".split(), ["a b c".split(), "a c".split(), []]).tolist()
    [0, 1, 3]
    """
    lengths = [len(hypothesis) for hypothesis in hypotheses]
    ids: dict[str, int] = {}
    table = np.full((len(hypotheses), max(lengths, default=0)), -1)  # [N, L]; filled up with what no reference has
    for n, hypothesis in enumerate(hypotheses):
        table[n, : len(hypothesis)] = [ids.setdefault(unit, len(ids)) for unit in hypothesis]
    steps = np.arange(table.shape[1] + 1)
    row = np.tile(steps, (len(hypotheses), 1))  # [N, L + 1]: distances of the first j units to none of the reference
    for unit in reference:
        after = row + 1  # deleted
        after[:, 1:] = np.minimum(after[:, 1:], row[:, :-1] + (table != ids.get(unit, -2)))  # kept, or substituted
        row = np.minimum.accumulate(after - steps, axis=1) + steps
    distances: NDArray[np.int64] = row[np.arange(len(hypotheses)), lengths].astype(np.int64)
    return distances
