"""What a general compressor makes of a text: LZMA, as in .xz files.

An interpolated n-gram model (Witten & Bell 1991), as a yardstick for networks.

    p_k(w | c) = (n(c w) + d(c) · p_{k−1}(w | c')) / (n(c) + d(c))

where c' is the context c less its oldest id, n counts occurrences in the training text, d(c) is the number of different
ids seen after c, and p_0 is uniform over the vocabulary. A context never seen passes its turn to the shorter one.

What needs no network, on the lines of a text: an n-gram model, LZMA, and knowing nothing but the alphabet.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.data.dataset import line_ids
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import build_tokenizer


def lzma_nats(train: str, test: str) -> float:
    """Return what `test` costs after `train`, in nats per character: the growth of the compressed size."""
    if not test:
        return 0.0
    before = len(lzma.compress(train.encode("utf-8", "surrogatepass"), preset=6))
    after = len(lzma.compress((train + test).encode("utf-8", "surrogatepass"), preset=6))
    return (after - before) * 8 * LN2 / len(test)


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


ORDER = 5

Float = NDArray[np.float64]


def uniform_line_nats(lines: Sequence[str]) -> Float:
    """Return what each line costs if every character that the text has is equally likely, [L]."""
    return np.array([len(line) for line in lines]) * math.log(len(set("".join(lines))))


def ngram_line_nats(lines: Sequence[str], learned: str | None) -> Float:
    """Return what each line costs by an interpolated 5-gram of characters, [L].

    Args:
        lines: of the text, newlines included.
        learned: what the counts are of. None: of the text's other half, for each of its halves.
    """
    if learned is not None:
        return _ngram(learned, lines)
    half = len(lines) // 2
    first, second = lines[:half], lines[half:]
    if not first:
        return uniform_line_nats(lines)  # there is no other half
    return np.concatenate([_ngram("".join(second), first), _ngram("".join(first), second)])


def lzma_text_nats(lines: Sequence[str], learned: str | None) -> float:
    """Return what the whole text costs as LZMA compresses it, behind `learned` if there is such a text."""
    text = "".join(lines)
    return lzma_nats(learned or "", text) * len(text)


def _ngram(learned: str, lines: Sequence[str]) -> Float:
    """An unknown character costs what it costs a model: the unknown id's share (`Tokenizer.unk_log_prob_nats`)."""
    tokenizer = build_tokenizer("char", learned)
    ids, numbers = line_ids(tokenizer, NONE, lines)
    log_probs = ngram_log_probs(tokenizer.encode(learned), ids, tokenizer.vocab_size, ORDER)
    return np.bincount(numbers, -log_probs - tokenizer.unk_log_prob_nats(ids), len(lines)).astype(np.float64)
