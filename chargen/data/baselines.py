"""Compute baselines that need no network: an n-gram model, LZMA compression, and a uniform distribution.

The n-gram model is interpolated as in Witten & Bell (1991):

    p_k(w | c) = (n(c w) + d(c) · p_{k−1}(w | c')) / (n(c) + d(c))

where c' is the context c without its oldest id, n counts occurrences in the training text, d(c) is the number of
different token ids that follow c, and p_0 is uniform over the vocabulary. If a context does not occur in the training
text, the shorter context is used alone.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.data.dataset import encode_lines
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import build_tokenizer

Float = NDArray[np.float64]

ORDER = 5  #: length of the longest n-grams
MIN_TABLE_SIZE = 1 << 20  #: a table of all values up to the highest always has at most this size, or else at most
MAX_TABLE_RATIO = 16  #: this many entries for each value


def lzma_nats_per_char(train: str, test: str) -> float:
    """Return how much an .xz file of `train` grows if `test` is appended, in nats per character of `test`."""
    if not test:
        return 0.0
    before = len(lzma.compress(train.encode("utf-8", "surrogatepass"), preset=6))
    after = len(lzma.compress((train + test).encode("utf-8", "surrogatepass"), preset=6))
    return (after - before) * 8 * LN2 / len(test)


def ngram_nats_per_id(train: NDArray[Any], test: NDArray[Any], vocab_size: int, order: int = ORDER) -> float:
    """Return the mean −log p of `test`, in nats per token; see `ngram_log_probs`."""
    return abs(float(ngram_log_probs(train, test, vocab_size, order).mean()))


def ngram_log_probs(train: NDArray[Any], test: NDArray[Any], vocab_size: int, order: int = ORDER) -> Float:
    """Return log p of each token id of `test` as the continuation of `train`, by an n-gram model of `train` alone.

    Args:
        train: Token ids, [N].
        test: Token ids, [M].
        vocab_size: The number of different token ids there can be.
        order: Length of the longest n-grams; the context is `order` − 1 token ids.

    Returns:
        Log probabilities in nats, [M].
    """
    ids = np.concatenate([train, test]).astype(np.int64)
    N = len(train)
    p = np.full(len(test), 1.0 / vocab_size)
    context = np.zeros(len(ids), dtype=np.int64)  # at each index, the number of the (k−1)-gram that precedes it
    for k in range(1, order + 1):
        grams, gram = _number(context * vocab_size + ids)
        context_of_gram = grams // vocab_size
        num_contexts = context_of_gram[-1] + 1
        # Only the training text is counted. Its first k−1 token ids have no complete context.
        gram_count = np.bincount(gram[k - 1 : N], minlength=len(grams))
        n = np.bincount(context[k - 1 : N], minlength=num_contexts)[context[N:]]
        d = np.bincount(context_of_gram[gram_count > 0], minlength=num_contexts)[context[N:]]
        p = np.where(n > 0, (gram_count[gram[N:]] + d * p) / np.maximum(n + d, 1), p)
        # The context of order k + 1 is the k-gram that ends at the id before.
        context[1:] = gram[:-1] + 1
        context[0] = 0
    return np.asarray(np.log(p))


def _number(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what numpy.unique does with `return_inverse`: the distinct values, sorted, and the number of each value.

    Small values are marked in a table, which is ten times as fast as sorting them.
    """
    size = int(values.max()) + 1
    if size > max(MIN_TABLE_SIZE, MAX_TABLE_RATIO * len(values)):
        distinct, numbers = np.unique(values, return_inverse=True)
        return distinct, numbers
    occurs = np.zeros(size, dtype=np.bool_)
    occurs[values] = True
    distinct = np.flatnonzero(occurs)
    number_of = np.empty(size, dtype=np.int64)
    number_of[distinct] = np.arange(len(distinct))
    return distinct, number_of[values]


def uniform_line_nats(lines: Sequence[str]) -> Float:
    """Return −log p of each line, in nats, [L], if all characters that occur in the text are equally likely."""
    return np.array([len(line) for line in lines]) * math.log(len(set("".join(lines))))


def ngram_line_nats(lines: Sequence[str], train_text: str | None) -> Float:
    """Return −log p of each line, in nats, [L], by a 5-gram model of characters.

    Args:
        lines: The lines of the text, with their newlines.
        train_text: The text whose n-grams are counted. None: each half of the lines is scored by a model of the other.
    """
    if train_text is not None:
        return _ngram_line_nats(train_text, lines)
    half = len(lines) // 2
    first = lines[:half]
    second = lines[half:]
    if not first:
        return uniform_line_nats(lines)  # one line has no other half
    return np.concatenate([_ngram_line_nats("".join(second), first), _ngram_line_nats("".join(first), second)])


def lzma_text_nats(lines: Sequence[str], train_text: str | None) -> float:
    """Return the compressed size of the whole text in nats, appended to `train_text` if there is one."""
    text = "".join(lines)
    return lzma_nats_per_char(train_text or "", text) * len(text)


def _ngram_line_nats(train_text: str, lines: Sequence[str]) -> Float:
    """Return −log p of each line; an unknown character costs as much as in a model (`Tokenizer.unk_log_prob_nats`)."""
    tokenizer = build_tokenizer("char", train_text)
    ids, line_numbers = encode_lines(tokenizer, NONE, lines)
    log_probs = ngram_log_probs(tokenizer.encode(train_text), ids, tokenizer.vocab_size, ORDER)
    nats = -log_probs - tokenizer.unk_log_prob_nats(ids)
    return np.bincount(line_numbers, nats, len(lines)).astype(np.float64)
