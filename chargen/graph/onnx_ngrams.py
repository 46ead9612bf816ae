"""The n-gram features of a network as a part of an ONNX graph: from token ids to the sum of some rows of a table.

A hash is a number modulo 2⁶⁴ (`cells/ngram_features.py`), and no format says what an int64 product does when it
overflows. So numbers of 64 bits are pairs (high, low) of halves, each an int64 tensor with values from 0 to 2³² − 1:

    Σ w · id     high = (Σ w_high · id + ⌊Σ w_low · id / 2³²⌋) mod 2³²            low = (Σ w_low · id) mod 2³²

    g · m        with m = Σ m_i 2^16i, the parts p_0 = g_low m_0                  low = p_0 + (p_1 mod 2¹⁶) 2¹⁶
                 p_1 = g_low m_1   p_2 = g_low m_2 + g_high m_0                  high = p_2 + ⌊p_1 / 2¹⁶⌋
                                   p_3 = g_low m_3 + g_high m_1                         + (p_3 mod 2¹⁶) 2¹⁶
                 and then as above: (high + ⌊low / 2³²⌋) mod 2³², low mod 2³²

A token id has at most 20 bits and an n-gram at most 16 token ids, so the sums stay below 2⁵⁷; those of the product stay
below 2⁵¹. The state has a hash as one int64, from −2⁶³ to 2⁶³ − 1. A row number, a bucket and a tag are bits of
high · 2¹⁶ + ⌊low / 2¹⁶⌋, which are the highest 48 bits of the hash.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_features import make_word_hashing
from chargen.cells.ngram_index import BUCKET_ROWS, TAG_BITS, NgramIndex
from chargen.config.model import NO_WORD, WORD, WORD_START
from chargen.graph.ngram_reader import NGramTable

HALF_BITS, LIMB_BITS = 32, 16  #: bits in half a number, bits in a part of a multiplier
HIGHEST_BITS = 48  #: bits that `_highest_bits` returns
HALF, LIMB = 1 << HALF_BITS, 1 << LIMB_BITS
INT32_TYPE, FLOAT_TYPE = 6, 1  #: numbers of the types in `onnx.TensorProto`


class Writer(Protocol):
    """What `OnnxNgrams` needs of the writer of the graph (`onnx_backend.py`)."""

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant."""

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 vector."""

    def slice(self, vectors: str, start: int, end: int, output: str = "") -> str:
        """Add the columns from `start` to before `end`."""


class Halves(NamedTuple):
    """The names of the two halves of numbers of 64 bits."""

    high: str
    low: str


class OnnxNgrams:
    """Adds the nodes of the n-gram features to a graph.

    Args:
        writer: The writer of the graph.
        ngrams: The table of the n-gram features.
    """

    def __init__(self, writer: Writer, ngrams: NGramTable) -> None:
        self._writer, self._ngrams = writer, ngrams
        self._half, self._limb = (writer.constant(size, np.int64) for size in (HALF, LIMB))

    def add_features(self, ids: str, history: str, next_history: str) -> str:
        """Add the features, [B, D], and the history after a token id.

        Args:
            ids: The name of the token ids, int64 [B].
            history: The name of the history before them, int64 [B, N − 1 + W].
            next_history: The name of the history after them.

        Returns:
            The name of the features.
        """
        add, index = self._writer.add, self._ngrams.index
        num_ids, num_words = self._ngrams.config.ngrams - 1, self._ngrams.config.ngram_words
        last_ids = self._writer.slice(history, 0, num_ids) if num_words else history
        text = add("Concat", last_ids, add("Unsqueeze", ids, self._writer.integers(1)), axis=1)  # [B, N]
        bits = self._highest_bits(self._hash_ngrams(text))
        if index is None:
            self._writer.slice(text, 1, num_ids + 1, output=next_history)
            return self._read_rows(bits)
        if not num_words:
            self._writer.slice(text, 1, num_ids + 1, output=next_history)
            return self._read_indexed_rows(bits, index)
        hashes, after = self._hash_words(ids, text, self._writer.slice(history, num_ids, num_ids + num_words), index)
        add("Concat", self._writer.slice(text, 1, num_ids + 1), after, output=next_history, axis=1)
        return self._read_indexed_rows(add("Concat", bits, self._highest_bits(hashes), axis=1), index)

    def _hash_ngrams(self, text: str) -> Halves:
        """Add the hashes of the n-grams of fixed lengths, [B, N − 1]."""
        add, constant = self._writer.add, self._writer.constant
        high, low = _split(self._ngrams.hashing[0].T[::-1])  # [N, N − 1], for the oldest token id first
        low_sum = add("MatMul", text, constant(low, np.int64))
        high_sum = add("MatMul", text, constant(high, np.int64))
        return self._carry(high_sum, low_sum)

    def _hash_words(self, ids: str, text: str, before: str, index: NgramIndex) -> tuple[Halves, str]:
        """Add the hashes of the n-grams that start with a word.

        Args:
            ids: The name of the token ids, [B].
            text: The name of the last token ids, [B, N]; the newest last.
            before: The name of the hashes g before the token ids, [B, W].
            index: The index.

        Returns:
            (the hashes [B, W], the name of the hashes g after the token ids, [B, W]).
        """
        add, constant, integers = self._writer.add, self._writer.constant, self._writer.integers
        num_ids, num_words = self._ngrams.config.ngrams - 1, self._ngrams.config.ngram_words
        constants = make_word_hashing(num_words)
        kind = add("Gather", constant(index.words.reshape(-1, 1), np.int64), ids, axis=0)  # [B, 1]
        earlier = add("Gather", constant(index.words, np.int64), self._writer.slice(text, num_ids - 1, num_ids), axis=0)
        is_first = add(
            "And", add("Equal", kind, integers(WORD)), add("Equal", earlier, integers(NO_WORD))
        )  # the token before is outside of words
        is_start = add("Or", add("Equal", kind, integers(WORD_START)), is_first)  # [B, 1]
        shorter = add("Mul", self._writer.slice(before, 0, 1), integers(0))  # g_0 = 0
        if num_words > 1:
            shorter = add("Concat", shorter, self._writer.slice(before, 0, num_words - 1), axis=1)
        g = self._halves(add("Where", is_start, shorter, before))
        with np.errstate(over="ignore"):
            values = np.arange(len(index.words)) * np.int64(constants.a) + np.int64(constants.b)
        added = (add("Gather", constant(half[:, None], np.int64), ids, axis=0) for half in _split(values))  # [B, 1]
        g = self._multiply(g, np.array([constants.m]), Halves(*added))
        return self._multiply(g, np.array(constants.final)), self._join(g)

    def _multiply(self, g: Halves, multipliers: NDArray[np.int64], added: Halves | None = None) -> Halves:
        """Add the products of numbers and constants, and a sum with other numbers."""
        add = self._writer.add
        limbs = [
            self._writer.constant(multipliers.view(np.uint64) >> np.uint64(shift) & np.uint64(LIMB - 1), np.int64)
            for shift in range(0, 2 * HALF_BITS, LIMB_BITS)
        ]
        p0, p1, p2, p3 = (add("Mul", g.low, limb) for limb in limbs)
        p2, p3 = add("Add", p2, add("Mul", g.high, limbs[0])), add("Add", p3, add("Mul", g.high, limbs[1]))
        low = add("Add", p0, self._shift_limb(p1))
        high = add("Add", add("Add", p2, add("Div", p1, self._limb)), self._shift_limb(p3))
        if added is not None:
            low, high = add("Add", low, added.low), add("Add", high, added.high)
        return self._carry(high, low)

    def _shift_limb(self, number: str) -> str:
        """Add (number mod 2¹⁶) · 2¹⁶."""
        return self._writer.add("Mul", self._writer.add("Mod", number, self._limb), self._limb)

    def _carry(self, high: str, low: str) -> Halves:
        """Add the halves of high · 2³² + low modulo 2⁶⁴, for numbers from 0 to 2⁶² − 1."""
        add = self._writer.add
        carried = add("Add", high, add("Div", low, self._half))
        return Halves(add("Mod", carried, self._half), add("Mod", low, self._half))

    def _halves(self, numbers: str) -> Halves:
        """Add the halves of int64 numbers of any sign. The remainder of `Mod` has the sign of the divisor."""
        add = self._writer.add
        low = add("Mod", numbers, self._half)
        return Halves(add("Mod", add("Div", add("Sub", numbers, low), self._half), self._half), low)

    def _join(self, halves: Halves) -> str:
        """Add the int64 numbers with these halves."""
        add, constant = self._writer.add, self._writer.constant
        is_negative = add("Less", constant(HALF // 2 - 1, np.int64), halves.high)
        signed = add("Where", is_negative, add("Sub", halves.high, self._half), halves.high)
        return add("Add", add("Mul", signed, self._half), halves.low)

    def _highest_bits(self, hashes: Halves) -> str:
        """Add the highest 48 bits of hashes, as a number from 0 on."""
        add = self._writer.add
        return add("Add", add("Mul", hashes.high, self._limb), add("Div", hashes.low, self._limb))

    def _read_rows(self, bits: str) -> str:
        """Add the sum of the rows of n-grams, [B, D], for a table without an index."""
        add, constant = self._writer.add, self._writer.constant
        below = (1 << HIGHEST_BITS) // self._ngrams.num_rows  # a row number is what the bits are divided by
        row = add("Div", bits, constant(below, np.int64))
        rows = add("Add", row, constant(self._ngrams.hashing[1], np.int64))
        embeddings = add("Gather", constant(self._ngrams.table), rows, axis=0)  # [B, N − 1, D]
        return add("ReduceSum", embeddings, self._writer.integers(1), keepdims=0)

    def _read_indexed_rows(self, bits: str, index: NgramIndex) -> str:
        """Add the sum of the rows of n-grams, [B, D], for a table with an index."""
        add, constant, integers = self._writer.add, self._writer.constant, self._writer.integers
        below = (1 << HIGHEST_BITS) // len(index.tags)
        bucket = add("Div", bits, constant(below, np.int64))  # [B, K]
        tag = add("Mod", add("Div", bits, constant(below >> TAG_BITS, np.int64)), constant(1 << TAG_BITS, np.int64))
        tag = add("Cast", add("Max", tag, integers(1)), to=INT32_TYPE)
        tags = add("Cast", add("Gather", constant(index.tags, np.uint16), bucket, axis=0), to=INT32_TYPE)
        is_match = add("Equal", tags, add("Unsqueeze", tag, integers(2)))  # [B, K, 8]
        matches = add("Cast", is_match, to=FLOAT_TYPE)
        place = add("ArgMax", matches, axis=2, keepdims=0)
        rows = add("Add", add("Mul", bucket, constant(BUCKET_ROWS, np.int64)), place)
        embeddings = add("Gather", constant(self._ngrams.table), rows, axis=0)  # [B, K, D]
        found = add("Mul", embeddings, add("ReduceMax", matches, axes=[2], keepdims=1))
        return add("ReduceSum", found, integers(1), keepdims=0)


def _split(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the halves of numbers modulo 2⁶⁴, (high, low)."""
    unsigned = np.ascontiguousarray(numbers).view(np.uint64)
    return (unsigned >> np.uint64(HALF_BITS)).astype(np.int64), (unsigned & np.uint64(HALF - 1)).astype(np.int64)
