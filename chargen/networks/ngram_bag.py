"""The n-grams of texts: for each text, rows of a hashed table and how much each row counts.

    "good" ─▶ " good " ─▶ " ", "g", … " g", "go", … " goo", "good ", …     ─▶ hash ─▶ row

The amounts are those of TF-IDF: an n-gram that occurs c times counts (1 + log c) · idf, with idf = 1 + log((1 + N) /
(1 + d)) if d of the N training texts have an n-gram of its row. The amounts of a text have the Euclidean norm 1, so
that a long text has no larger sum than a short one. Letters are compared in lower case, and white space is one space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_features import get_hash_shift, make_hash_parameters
from chargen.text.decoding import code_points

MAX_IDF_TEXTS = 20_000  #: training texts whose n-grams are counted
IDF_BATCH_SIZE = 500  #: texts whose n-grams are counted together
MAX_CHARS = 20_000  #: characters of a text whose n-grams are read


class NgramBag(NamedTuple):
    """The different n-grams of B texts, M together, ordered by text."""

    rows: NDArray[np.int64]  #: row of each n-gram, [M]
    amounts: NDArray[np.float32]  #: how much it counts, [M]
    starts: NDArray[np.int64]  #: number of the first n-gram of each text, [B]


@lru_cache
def _multipliers(max_n: int) -> NDArray[np.int64]:
    return make_hash_parameters(max_n + 1, 1)[0]


def compute_idf(texts: Sequence[str], max_n: int, num_rows: int) -> NDArray[np.float32]:
    """Return the idf of each row, [num_rows], from at most MAX_IDF_TEXTS of the training texts."""
    sample = texts[:: -(-len(texts) // MAX_IDF_TEXTS)]
    num_with = np.zeros(num_rows, dtype=np.int64)
    for start in range(0, len(sample), IDF_BATCH_SIZE):
        num_with += np.bincount(
            find_ngrams(sample[start : start + IDF_BATCH_SIZE], max_n, num_rows).rows, minlength=num_rows
        )
    idf: NDArray[np.float32] = (1.0 + np.log((1 + len(sample)) / (1 + num_with))).astype(np.float32)
    return idf


def find_ngrams(texts: Sequence[str], max_n: int, num_rows: int, idf: NDArray[np.float32] | None = None) -> NgramBag:
    """Return the n-grams of texts.

    Args:
        texts: The texts, B of them.
        max_n: Length of the longest n-gram, in characters.
        num_rows: Rows of the table; a power of two.
        idf: The idf of each row, [num_rows]; None for 1.
    """
    padded = [f" {' '.join(text[:MAX_CHARS].lower().split())} " for text in texts]
    codes = code_points("".join(padded)).astype(np.int64)
    owner = np.repeat(np.arange(len(texts), dtype=np.int64), [len(text) for text in padded])  # each character's text
    shift, multipliers = get_hash_shift(num_rows), _multipliers(max_n)
    keys = []
    for n in range(1, max_n + 1):
        T = len(codes) - n + 1
        if T <= 0:
            break
        hashes = sum(codes[j : j + T] * multipliers[n - 1, j] for j in range(n)) + multipliers[n - 1, n]
        is_whole = owner[:T] == owner[n - 1 :]
        rows = hashes >> shift & (num_rows - 1)
        keys.append((owner[:T] * num_rows + rows)[is_whole])
    different, counts = np.unique(np.concatenate(keys), return_counts=True)
    text_of, rows = np.divmod(different, num_rows)
    amounts = (1.0 + np.log(counts)) * (1.0 if idf is None else idf[rows])
    norms = np.sqrt(np.bincount(text_of, weights=amounts**2, minlength=len(texts)))
    starts = np.searchsorted(text_of, np.arange(len(texts)))
    return NgramBag(rows, (amounts / norms[text_of]).astype(np.float32), starts)
