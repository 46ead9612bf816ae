"""Entropy coding of bytes: range asymmetric numeral systems with one table of frequencies (rANS; Duda 2013,
arXiv:1311.2540).

A byte with probability p takes −log₂ p bits. The coder is a number x from 2²³ to 2³¹ − 1:

    encode s   x' = ⌊x / f⌋ · 2¹² + (x mod f) + c        f: frequency of s of 2¹²; c: the frequencies of all before it
    decode     s: the byte in whose interval [c, c + f) x' mod 2¹² is;   x = f · ⌊x' / 2¹²⌋ + x' mod 2¹² − c

Before x would grow too large, its lowest 8 bits are written; the decoder reads them when x has become too small. The
decoder undoes the last step first, so the encoder starts at the last byte.

The bytes are divided into chunks of equal length, which are encoded side by side, as one array operation for all of
them. The coded chunks are joined: each decoded chunk ends where the next one starts. `assets/engine.js` decodes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRECISION_BITS = 12  #: frequencies add up to 2 to the power of this
TOTAL = 1 << PRECISION_BITS
MIN_STATE_BITS = 23  #: x is at least 2 to the power of this, and below 256 times as much
MAX_CHUNK_BYTES = 1 << 13  #: smaller chunks are encoded faster, but each of them takes 4 bytes

Bytes = NDArray[np.uint8]


def find_frequencies(values: Bytes) -> NDArray[np.int64]:
    """Return the frequency of each byte, [256], in parts of TOTAL; at least 1 for a byte that occurs.

    Args:
        values: The bytes, at least one.
    """
    counts = np.bincount(values, minlength=256)
    frequencies: NDArray[np.int64] = np.maximum(np.floor(counts * (TOTAL / counts.sum())).astype(np.int64), counts > 0)
    while (missing := TOTAL - int(frequencies.sum())) != 0:  # a change by 1 matters least to the largest ones
        change = np.sign(missing)
        largest = np.argsort(-frequencies, kind="stable")[: abs(missing)]
        frequencies[largest] += np.where(frequencies[largest] > 1, change, max(0, change))
    return frequencies


def split(count: int) -> tuple[int, int]:
    """Return (the number of chunks, the number of bytes of each) for some bytes; the last chunk is padded."""
    num_chunks = -(-count // MAX_CHUNK_BYTES)
    return num_chunks, -(-count // num_chunks)


def encode(values: Bytes, frequencies: NDArray[np.int64]) -> bytes:
    """Return bytes in coded form.

    Args:
        values: The bytes, [N], at least one.
        frequencies: The result of `find_frequencies` for them.
    """
    num_chunks, size = split(len(values))
    padding = np.full(num_chunks * size - len(values), frequencies.argmax(), dtype=np.uint8)
    chunks = np.concatenate([values, padding]).reshape(num_chunks, size)
    starts = np.cumsum(frequencies) - frequencies
    written = np.zeros((num_chunks, 2 * size + 4), dtype=np.uint8)  # bytes of each chunk, the last one first
    num_written = np.zeros(num_chunks, dtype=np.int64)
    x = np.full(num_chunks, 1 << MIN_STATE_BITS, dtype=np.int64)
    for step in range(size - 1, -1, -1):
        symbols = chunks[:, step]
        f = frequencies[symbols]
        limit = f << (MIN_STATE_BITS - PRECISION_BITS + 8)
        for _ in range(2):
            full = np.flatnonzero(x >= limit)
            written[full, num_written[full]] = x[full] & 255
            num_written[full] += 1
            x[full] >>= 8
        quotient, remainder = np.divmod(x, f)
        x = (quotient << PRECISION_BITS) + remainder + starts[symbols]
    return b"".join(
        int(x[chunk]).to_bytes(4, "big") + written[chunk, : num_written[chunk]][::-1].tobytes()
        for chunk in range(num_chunks)
    )
