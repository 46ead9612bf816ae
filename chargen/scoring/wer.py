"""Word and character error rate: how many edits lie between what was said and what should have been.

    distance = fewest substitutions, deletions and insertions (Levenshtein 1966)
    rate     = Σ distances / Σ lengths of the references, over the whole corpus: never a mean of rates

Words are what white space parts. Characters are code points of the words put together by single spaces. Both of the
composed form (NFC): another way to encode the same letters is no error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS, CHARACTERS = "wer", "cer"


def units(text: str, error: str) -> list[str]:
    """Return what the edits of a text are counted in.

    >>> units("xin  chào", "wer"), len(units("xin  chào", "cer"))
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
