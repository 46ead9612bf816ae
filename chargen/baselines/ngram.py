"""An interpolated n-gram model (Witten & Bell 1991), as a yardstick for networks.

    p_k(w | c) = (n(c w) + d(c) · p_{k−1}(w | c')) / (n(c) + d(c))

where c' is the context c less its oldest id, n counts occurrences in the training text, d(c) is the number of different
ids seen after c, and p_0 is uniform over the vocabulary. A context never seen passes its turn to the shorter one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ngram_nats(train: NDArray[Any], test: NDArray[Any], vocab_size: int, order: int = 5) -> float:
    """Return the mean −log p, in nats per id, of `test`; see `ngram_log_probs`."""
    return abs(float(ngram_log_probs(train, test, vocab_size, order).mean()))


def ngram_log_probs(train: NDArray[Any], test: NDArray[Any], vocab_size: int, order: int = 5) -> NDArray[np.float64]:
    """Return log p, in nats, of each id of `test` [M] as it follows `train` [N], by a model of `train` alone.

    Args:
        order: of the longest n-grams: `order` − 1 ids of context.
    """
    ids = np.concatenate([train, test]).astype(np.int64)
    N = len(train)
    p = np.full(len(ids), 1.0 / vocab_size)
    context = np.zeros(len(ids), dtype=np.int64)  # the number of the k−1 ids before each place, among all such
    for k in range(1, order + 1):
        grams, gram = np.unique(context * vocab_size + ids, return_inverse=True)
        context_of_gram = grams // vocab_size
        # Only the training text counts; its first k−1 places have no whole context.
        gram_count = np.bincount(gram[k - 1 : N], minlength=len(grams))
        n = np.bincount(context[k - 1 : N], minlength=context_of_gram[-1] + 1)[context]
        d = np.bincount(context_of_gram[gram_count > 0], minlength=context_of_gram[-1] + 1)[context]
        seen = n > 0
        p[seen] = ((gram_count[gram] + d * p) / np.maximum(n + d, 1))[seen]
        context[1:], context[0] = gram[:-1] + 1, 0  # at a place of order k + 1: the k-gram that ends just before it
    return np.asarray(np.log(p[N:]))
