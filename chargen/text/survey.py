"""What one reading of a whole text tells: its length, its hash, how often each character stands in it, and where.

blocks of UTF-8 ─▶ counted, on all cores ─▶ summed ─▶ Survey
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.text.parallel import Arrays, in_order

BLOCK = 1 << 16  #: bytes between two places that are known
ERRORS = "surrogatepass"  #: a lone surrogate (the mark between documents, no character) counts as its three bytes


@dataclass(frozen=True)
class Survey:
    """A whole text in figures."""

    num_chars: int
    num_bytes: int  #: in UTF-8
    sha256: str  #: of those
    counts: NDArray[np.int64]  #: [highest code point + 1]: how often each stands in the text
    places: NDArray[np.int64]  #: [blocks + 1]: the characters before each block
    offsets: NDArray[np.int64]  #: [blocks + 1]: the bytes before each block


def counted(text: bytes) -> Arrays:
    """Count a part of a text, which may be done by another process.

    Returns:
        The code points that stand in it, how often each does, and for each block its characters and its bytes.
    """
    counts, chars, sizes = np.zeros(0, dtype=np.int64), [], []
    begin = 0
    while begin < len(text):
        block = text[begin : begin + BLOCK]
        if begin + len(block) < len(text):
            block = block[: last_begin(block)]
        codes = code_points(block.decode("utf-8", ERRORS))
        counts = summed([counts, np.bincount(codes)])
        chars.append(len(codes))
        sizes.append(len(block))
        begin += len(block)
    found = np.flatnonzero(counts)
    return [found, counts[found], np.array(chars, dtype=np.int64), np.array(sizes, dtype=np.int64)]


def surveyed(
    blocks: Iterable[bytes], num_bytes: int, function: Callable[..., Arrays] = counted, *arguments: str
) -> Survey | None:
    """Read a whole text once; None if the function found a block that it does not count.

    Args:
        blocks: its UTF-8, cut between characters.
        num_bytes: of all of them, about.
        function: what is done with each; it returns what `counted` does, or nothing.
        arguments: what else it is told.
    """
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    counts = np.zeros(0, dtype=np.int64)
    chars, sizes = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for found in in_order(function, hashed(), num_bytes, *arguments):
        if not found:
            return None
        codes, often, block_chars, block_sizes = found
        if len(codes) and codes[-1] >= len(counts):
            counts = np.pad(counts, (0, int(codes[-1]) + 1 - len(counts)))
        counts[codes] += often
        chars.append(block_chars)
        sizes.append(block_sizes)
    places, offsets = np.cumsum(np.concatenate(chars)), np.cumsum(np.concatenate(sizes))
    return Survey(int(places[-1]), int(offsets[-1]), digest.hexdigest(), counts, places, offsets)


def summed(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the sum of counts of different lengths."""
    total = np.zeros(0, dtype=np.int64)
    for some in counts:
        if len(some) > len(total):
            total = np.pad(total, (0, len(some) - len(total)))
        total[: len(some)] += some
    return total


def code_points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Return a text's code points, [N]. A lone surrogate passes: it is a code point that no vocabulary holds."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", ERRORS), dtype="<u4")


def last_begin(block: bytes) -> int:
    """Return where the last character of a block of UTF-8 begins, unless it is the only one."""
    place = len(block) - 1
    while place > 0 and block[place] & 0xC0 == 0x80:
        place -= 1
    return place or len(block)
