"""Find the weight of a model's score with the fewest word or character errors, exactly (Och 2003, section 3).

A hypothesis of an N-best list has a given total, a score v by the model, and a number of errors. Its new total is a
line over the weight w, and the best hypothesis of a list is the one with the highest line:

    total(w) = given + w · v            ╲     ╱
                                         ╲   ╱   the upper envelope has few pieces,
    ────────┬──────┬─────────▶ w          ╲_╱    and one hypothesis is the best on each

The number of errors of a list changes only where two pieces meet. So the sum over all lists is a step function with
known breakpoints, and its minimum is found by adding up the changes: without a grid, and without a start value that a
local search would depend on. Och searches along the directions of many weights; here there is one weight, so a single
search finds the optimum. Of several best intervals the widest is chosen, and its middle is the weight, because it is
farthest from a change.

Errors are edits between a hypothesis and its reference:

    distance = smallest number of substitutions, deletions and insertions (Levenshtein 1966)
    rate     = Σ distances / Σ lengths of the references, over the whole corpus; never a mean of rates

Words are separated by white space. Characters are the code points of the words joined by single spaces. Both are
compared in the composed form (NFC), so that another encoding of the same letters is not an error.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORDS, CHARACTERS = "wer", "cer"
SAME_BREAKPOINT = 1e-9  #: breakpoints that differ by less than this fraction are one: rounding separated them


@dataclass(frozen=True)
class Candidates:
    """The hypotheses of a list as numbers, [N] each, in the order of the list."""

    given: NDArray[np.float64]  #: total of each hypothesis in its list
    value: NDArray[np.float64]  #: score by the model
    errors: NDArray[np.int64]


@dataclass(frozen=True)
class TunedWeight:
    """The best weight, and the errors that it makes."""

    weight: float
    low: float  #: lowest weight that makes this number of errors
    high: float  #: highest weight; all weights between the two make the same number of errors
    errors: int
    errors_before: int  #: errors with the weight 0, which uses the given totals alone
    errors_at_best: int  #: errors of the best hypothesis of each list; no weight makes fewer


def split_units(text: str, error: str) -> list[str]:
    """Return the words or the characters of a text, in which its errors are counted.

    Args:
        text: A hypothesis or a reference.
        error: "wer" for words, "cer" for characters.

    >>> split_units("xin  chào", "wer"), len(split_units("xin  chào", "cer"))
    (['xin', 'chào'], 8)
    """
    words = unicodedata.normalize("NFC", text).split()
    return words if error == WORDS else list(" ".join(words))


def edit_distances(reference: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the edit distance of each hypothesis to one reference, [N].

    A row of the usual table is computed for all hypotheses together. Insertions within a row depend on each other:
    D[j] = min over k ≤ j of (D'[k] + j − k), which is j + the running minimum of D'[k] − k.

    >>> edit_distances("a b c".split(), ["a b c".split(), "a c".split(), []]).tolist()
    [0, 1, 3]
    """
    lengths = [len(hypothesis) for hypothesis in hypotheses]
    ids: dict[str, int] = {}
    table = np.full((len(hypotheses), max(lengths, default=0)), -1)  # [N, L]; −1 equals no unit of the reference
    for n, hypothesis in enumerate(hypotheses):
        table[n, : len(hypothesis)] = [ids.setdefault(unit, len(ids)) for unit in hypothesis]
    steps = np.arange(table.shape[1] + 1)
    row = np.tile(steps, (len(hypotheses), 1))  # [N, L + 1]: distance of the first j units to the empty reference
    for unit in reference:
        next_row = row + 1  # the unit is deleted
        is_different = table != ids.get(unit, -2)
        next_row[:, 1:] = np.minimum(next_row[:, 1:], row[:, :-1] + is_different)  # it is kept or substituted
        row = np.minimum.accumulate(next_row - steps, axis=1) + steps  # units are inserted
    distances: NDArray[np.int64] = row[np.arange(len(hypotheses)), lengths].astype(np.int64)
    return distances


def tune_weight(lists: Sequence[Candidates], low: float = 0.0, high: float = math.inf) -> TunedWeight:
    """Return the weight with the fewest errors in all lists together.

    Args:
        lists: Hypotheses of each list.
        low: Smallest weight to consider. A weight below 0 would prefer what the model finds unlikely.
        high: Largest weight to consider.
    """
    steps = _error_steps(lists, low, high)
    edges = np.concatenate([[low], steps.breakpoints, [high]])
    errors = steps.first_errors + np.concatenate([[0], np.cumsum(steps.changes)])
    start, end = _widest_interval(edges, errors)
    weight = _middle(start, end)
    errors_before, errors_after = count_errors(lists, 0.0), count_errors(lists, weight)
    if errors_before < errors_after and low <= 0.0 <= high:
        # At exactly 0, equal totals are decided by the order of the list, which can make fewer errors.
        weight = start = end = 0.0
        errors_after = errors_before
    return TunedWeight(weight, start, end, errors_after, errors_before, sum(int(c.errors.min()) for c in lists))


def count_errors(lists: Sequence[Candidates], weight: float) -> int:
    """Return the errors of the best hypothesis of each list under a weight; the first one wins a tie."""
    return sum(int(c.errors[int(np.argmax(c.given + weight * c.value))]) for c in lists)


def upper_envelope(given: NDArray[np.float64], value: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Return the pieces of the upper envelope of the lines given + w · value, from left to right.

    Args:
        given: Intercept of each line, [N].
        value: Slope of each line, [N].

    Returns:
        (weight where the piece starts, number of its line); the first piece starts at −∞. Of equal lines the first is
        used.

    >>> upper_envelope(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.5]))
    [(-inf, 0), (1.0, 1)]
    """
    pieces: list[tuple[float, int]] = []
    slope = -math.inf
    for line in np.lexsort((np.arange(len(given)), -given, value)).tolist():  # by slope, the highest line first
        if value[line] == slope:
            continue
        slope, start = value[line], -math.inf
        while pieces:
            last_start, last_line = pieces[-1]
            start = float((given[last_line] - given[line]) / (slope - value[last_line]))
            if start > last_start:
                break
            pieces.pop()
            start = -math.inf
        pieces.append((start, line))
    return pieces


class _ErrorSteps(NamedTuple):
    """The number of errors as a step function of the weight."""

    first_errors: int  #: errors just above the lowest weight
    breakpoints: NDArray[np.float64]  #: weights where the errors change, ascending, [S]
    changes: NDArray[np.int64]  #: how much they change there, [S]


def _error_steps(lists: Sequence[Candidates], low: float, high: float) -> _ErrorSteps:
    first_errors = 0
    breakpoints, changes = [], []
    for candidates in lists:
        pieces = upper_envelope(candidates.given, candidates.value)
        errors = candidates.errors
        num_inside = sum(low < start < high for start, _ in pieces[1:])
        first = sum(start <= low for start, _ in pieces) - 1 if low > -math.inf else 0
        first_errors += int(errors[pieces[first][1]])
        for k in range(first + 1, first + 1 + num_inside):
            breakpoints.append(pieces[k][0])
            changes.append(int(errors[pieces[k][1]] - errors[pieces[k - 1][1]]))
    order = np.argsort(breakpoints, kind="stable")
    all_breakpoints = np.array(breakpoints, dtype=np.float64)[order]
    all_changes = np.array(changes, dtype=np.int64)[order]
    if not len(order):
        return _ErrorSteps(first_errors, all_breakpoints, all_changes)
    is_new = np.concatenate([[True], np.diff(all_breakpoints) > SAME_BREAKPOINT * np.abs(all_breakpoints[1:])])
    return _ErrorSteps(first_errors, all_breakpoints[is_new], np.add.reduceat(all_changes, np.flatnonzero(is_new)))


def _widest_interval(edges: NDArray[np.float64], errors: NDArray[np.int64]) -> tuple[float, float]:
    """Return the widest interval of weights with the fewest errors; an infinite one only if there is no finite one.

    Args:
        edges: Limits of the steps, [S + 1].
        errors: Errors on each step, [S].
    """
    is_lowest = np.concatenate([[False], errors == errors.min(), [False]])
    starts = np.flatnonzero(is_lowest[1:] & ~is_lowest[:-1])
    ends = np.flatnonzero(~is_lowest[1:] & is_lowest[:-1])
    intervals = list(zip(edges[starts].tolist(), edges[ends].tolist(), strict=True))
    finite = [interval for interval in intervals if math.isfinite(interval[1] - interval[0])]
    return max(finite or intervals, key=lambda interval: float(interval[1] - interval[0]))


def _middle(low: float, high: float) -> float:
    """Return the middle of an interval; for an infinite one, a weight that is well inside."""
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    if math.isfinite(low):
        return low + (abs(low) or 1.0)
    return high - (abs(high) or 1.0) if math.isfinite(high) else 0.0
