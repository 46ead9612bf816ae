"""Passages that stand in a text twice, found by hashes of every stretch of WIDTH characters.

    h(i) = Σ_j c(i + j) Bʲ  mod 2⁶⁴,  j = 0 … WIDTH − 1

(Karp & Rabin 1987, with B odd, so that a difference of two prefix sums can be divided by Bⁱ.) Of a long text only those
stretches are kept whose hash falls into a small part of all: the same passage gives the same ones wherever it stands
(Manber 1994), so memory is bounded, and only shorter passages of a very long text are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.text.longtext import Span
from chargen.text.survey import code_points

WIDTH = 100  #: characters of a stretch
MOST_KEPT = 1 << 20  #: hashes
BASE = 0x9E3779B97F4A7C15  #: odd
INVERSE = pow(BASE, -1, 1 << 64)


@dataclass(frozen=True)
class Shared:
    """Passages that stand both in a text and in what is held out of it."""

    share: float  #: of the held-out characters
    example: str


def hashes(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hash of the WIDTH characters from every place on, [N − WIDTH + 1]."""
    N = len(codes)
    if N < WIDTH:
        return np.zeros(0, dtype=np.uint64)
    sums = np.zeros(N + 1, dtype=np.uint64)
    np.cumsum(codes * _powers(BASE, N), out=sums[1:])
    windows: NDArray[np.uint64] = (sums[WIDTH:] - sums[:-WIDTH]) * _powers(INVERSE, N - WIDTH + 1)
    mixed: NDArray[np.uint64] = windows ^ (windows >> np.uint64(29))  # the low bits alone say little
    return mixed


def repeated_share(text: Span) -> float:
    """Return the share of a text's stretches of WIDTH characters that stand in it more than once, about."""
    keep = max(1, text.num_chars // MOST_KEPT)
    kept = [found[found % np.uint64(keep) == 0] for _, found in _hashed(text)]
    every = np.concatenate(kept) if kept else np.zeros(0, dtype=np.uint64)
    if not len(every):
        return 0.0
    _, counts = np.unique(every, return_counts=True)
    return float(counts[counts > 1].sum() / len(every))


def shared(text: Span, held_out: Span) -> Shared:
    """Return how much of what is held out stands in the text too, looked at in blocks of WIDTH characters.

    A shared passage of twice that length holds a whole block, wherever it begins.
    """
    own = held_out.read()
    blocks = np.arange(0, len(own) - WIDTH + 1, WIDTH)
    if not len(blocks):
        return Shared(0.0, "")
    wanted = hashes(_codes(own))[blocks]
    found = np.zeros(len(blocks), dtype=bool)
    order = np.argsort(wanted)
    for place, some in _hashed(text):
        near = np.minimum(np.searchsorted(wanted, some, sorter=order), len(wanted) - 1)
        hits = np.flatnonzero(wanted[order[near]] == some)
        for block, hit in zip(*np.unique(order[near[hits]], return_index=True), strict=True):
            begin, there = blocks[block], place + int(hits[hit])
            if not found[block] and text.read(there, there + WIDTH) == own[begin : begin + WIDTH]:
                found |= wanted == wanted[block]
    example = own[blocks[found][0] :][:WIDTH] if found.any() else ""
    return Shared(float(found.mean()), example)


def _hashed(text: Span) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (place, the hashes of the stretches that begin from there on), piece by piece."""
    place, rest = 0, ""
    for piece in text.pieces():
        whole = rest + piece
        found = hashes(_codes(whole))
        yield place, found
        place += len(found)
        rest = whole[len(found) :]


def _codes(text: str) -> NDArray[np.uint64]:
    return code_points(text).astype(np.uint64)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """Return 1, base, base², … mod 2⁶⁴."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    return powers
