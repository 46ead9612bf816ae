"""Log probabilities of token ids with the most likely alternatives, as clients get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import log_softmax
from chargen.sampling.logits_rules import Logits

MIN_LOG_PROB_NATS = -9999.0  #: stands for the logarithm of 0, which JSON cannot represent


class TokenLogProb(NamedTuple):
    """The log probability of a token id, and those of the alternatives."""

    token_id: int
    log_prob_nats: float
    top_ids: tuple[int, ...]  #: the most likely token ids, the most likely first; then the token id itself
    top_log_probs_nats: tuple[float, ...]  #: their log probabilities


class TokenLogProbs:
    """Computes log probabilities by the model's own distribution, before any temperature or rule.

    Args:
        unknown_id: The id of unknown characters; None if the tokenizer has none.
        unknown_nats: What an unknown character adds to the log probability of this id, as in `score`.
    """

    def __init__(self, unknown_id: int | None, unknown_nats: float) -> None:
        self._unknown_id, self._unknown_nats = unknown_id, unknown_nats

    def of_ids(self, logits: Logits, ids: Sequence[int], num_top: Sequence[int]) -> list[TokenLogProb]:
        """Return the log probabilities of a token id for each row.

        Args:
            logits: The logits of the model, [B, V].
            ids: A token id for each row.
            num_top: The number of alternatives for each row, from 0 to V.
        """
        log_probs = log_softmax(logits)
        if self._unknown_id is not None:
            log_probs[:, self._unknown_id] += self._unknown_nats
        log_probs = np.maximum(log_probs, MIN_LOG_PROB_NATS)
        best = _most_likely(log_probs, max(num_top))
        found = []
        for row, (token_id, count) in enumerate(zip(ids, num_top, strict=True)):
            values = log_probs[row]
            top: list[int] = best[row, :count].tolist()
            if token_id not in top:
                top.append(token_id)
            found.append(TokenLogProb(token_id, float(values[token_id]), tuple(top), tuple(values[top].tolist())))
        return found


def _most_likely(log_probs: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the most likely token ids of each row, the most likely first, [B, count]."""
    batch_size, vocab_size = log_probs.shape
    if not count:
        return np.empty((batch_size, 0), dtype=np.intp)
    if count < vocab_size // 4:  # much faster than to sort all
        some = np.argpartition(-log_probs, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(log_probs, some, 1), axis=1, kind="stable")
        best: NDArray[np.intp] = np.take_along_axis(some, order, 1)
        return best
    ids: NDArray[np.intp] = np.argsort(-log_probs, axis=1, kind="stable")
    return ids[:, :count]
