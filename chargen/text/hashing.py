"""Rolling hashes: a hash of every window of W characters of a text, for any W; and texts without repeated passages.

    h(c₀ … c₍W₋₁₎) = Σ_j c_j B^(W−1−j)  mod p,   p = 2⁶¹ − 1      (Karp & Rabin 1987; c_j are code points)

p is prime, so the difference of the hashes of two windows is a polynomial in B with at most W − 1 roots. A random B
therefore gives two different windows the same hash with a probability of at most W/2⁶¹, for all contents. Modulo 2⁶⁴
this does not hold: the Thue–Morse sequence and its complement collide for every B. B was drawn at random once,
independently of any text.

The hash of a window of any width is combined from the hashes of widths that are powers of two, for all positions at
once:

    h_{a+b}(i) = h_a(i) Bᵇ + h_b(i + a)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chargen.text.decoding import code_points

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart

PRIME = (1 << 61) - 1
BASE = 0x1C7D4B5A93E6F20B  #: below PRIME
MIN_PAIR_CHARS = 30  #: two lines with fewer characters together may be repeated
PASSAGE_CHARS = 100  #: a passage of this length may occur once
BLOCK_CHARS = 1 << 14  #: characters per block: all levels stay in the cache, so it is twice as fast as 2¹⁶

Hashes = NDArray[np.uint64]

_P = np.uint64(PRIME)
_LOW_31, _LOW_30 = np.uint64((1 << 31) - 1), np.uint64((1 << 30) - 1)
_30, _31, _61 = np.uint64(30), np.uint64(31), np.uint64(61)


def hash_text(text: str) -> int:
    """Return the hash of a text as one window.

    >>> hash_text("b") - hash_text("a")
    1
    """
    value = 0
    for char in text:
        value = (value * BASE + ord(char)) % PRIME
    return value


def hash_windows(codes: Hashes, widths: Sequence[int]) -> list[Hashes]:
    """Return the hash of every window of each width.

    Args:
        codes: Code points, uint64 [N].
        widths: Window widths in characters, each at least 1.

    Returns:
        For each width the hashes of the windows by their first character, uint64 [N − width + 1], empty if the width is
        more than N. Values are below PRIME.
    """
    N, levels = len(codes), [codes]  # levels[k]: the hashes of the windows of width 2ᵏ
    while 2 << (len(levels) - 1) <= min(N, max(widths, default=0)):
        half = 1 << (len(levels) - 1)
        last = levels[-1]
        levels.append(_multiply_add(last[:-half], pow(BASE, half, PRIME), last[half:]))
    return [_reduce(_combine_levels(levels, width)) if width <= N else np.zeros(0, np.uint64) for width in widths]


def repeated_windows(text: str, width: int) -> NDArray[np.intp]:
    """Return the positions of the windows of a text that also begin at an earlier position, in no order.

    Args:
        text: The text; each of its characters takes 30 bytes of memory meanwhile.
        width: Width of a window in characters, at least 1.
    """
    blocks = (text[begin : begin + BLOCK_CHARS + width - 1] for begin in range(0, len(text), BLOCK_CHARS))
    hashes = np.concatenate([np.zeros(0, np.uint64)] + [hash_windows(to_uint64_codes(b), [width])[0] for b in blocks])
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    repeats: NDArray[np.intp] = order[1:][hashes[1:] == hashes[:-1]]
    return repeats


def read_overlapping(text: TextPart, overlap: Callable[[], int]) -> Iterator[tuple[int, str]]:
    """Yield a text in pieces, each of which begins with the last characters of the piece before it.

    Args:
        text: The text.
        overlap: Called before each piece; returns how many characters it shares with the piece before. While this
            number does not change, every window that is one character longer lies in exactly one piece.

    Yields:
        (the position in the text where the piece begins, the piece).
    """
    position, piece, unread = 0, "", ""
    for block in _blocks(text):
        unread += block
        if len(unread) >= 2 * overlap():  # else a long overlap would be read again and again
            cut = max(0, len(piece) - overlap())
            position += cut
            piece = piece[cut:] + unread
            unread = ""
            yield position, piece
    if unread:
        cut = max(0, len(piece) - overlap())
        yield position + cut, piece[cut:] + unread


def _blocks(text: TextPart) -> Iterator[str]:
    for piece in text.pieces():
        for begin in range(0, len(piece), BLOCK_CHARS):
            yield piece[begin : begin + BLOCK_CHARS]


def to_uint64_codes(text: str) -> Hashes:
    """Return the code points of a text in the type that `hash_windows` computes with, uint64 [N]."""
    return code_points(text).astype(np.uint64)


def _combine_levels(levels: list[Hashes], width: int) -> Hashes:
    """Return the hashes of a width from those of the powers of two in it, the largest first."""
    done, total = 0, levels[0]
    for k in range(width.bit_length() - 1, -1, -1):
        if width >> k & 1:
            part = levels[k]
            count = len(levels[0]) - done - (1 << k) + 1
            total = _multiply_add(total[:count], pow(BASE, 1 << k, PRIME), part[done : done + count]) if done else part
            done += 1 << k
    return total


def _multiply_add(a: Hashes, factor: int, b: Hashes) -> Hashes:
    """Return a · factor + b modulo p as values of at most p + 7.

    With a = x 2³¹ + y and factor = u 2³¹ + v, as 2⁶¹ ≡ 1:  a · factor ≡ 2xu + (xv + yu) 2³¹ + yv.
    No sum reaches 2⁶⁴ if a and b are at most p + 7.
    """
    u, v = np.uint64(factor >> 31), np.uint64(factor & ((1 << 31) - 1))
    x, y = a >> _31, a & _LOW_31
    middle = x * v
    middle += y * u
    x *= u + u
    y *= v
    x += y
    x += b
    np.right_shift(middle, _30, out=y)
    x += y
    middle &= _LOW_30
    middle <<= _31
    x += middle
    np.right_shift(x, _61, out=y)
    return np.asarray((x & _P) + y)


def _reduce(values: Hashes) -> Hashes:
    """Return values of at most p + 7 modulo p."""
    reduced: Hashes = np.minimum(values, values - _P)  # below p, the difference wraps around to a large number
    return reduced


# ── texts without what they repeat ────────────────────────────────────────────────────────────────────────────────────


def without_copies(texts: list[str]) -> Iterator[str]:
    """Yield texts without the paragraphs that are largely copies: licences, headers, functions with the same lines.

    Two lines that follow each other are known if they followed each other before, in any of the texts. A paragraph is
    a copy if at least a third of its pairs of lines are known; pairs shorter than MIN_PAIR_CHARS do not count, so that
    "import sys" may be repeated.
    """
    known: set[tuple[str, str]] = set()
    for text in texts:
        kept: list[str] = []
        for space, paragraph in _paragraphs(text.strip("\n")):
            lines = [" ".join(line.split()) for line in paragraph.split("\n")]
            pairs = [pair for pair in pairwise(lines) if len("".join(pair)) >= MIN_PAIR_CHARS]
            num_known = sum(pair in known for pair in pairs)
            known.update(pairs)
            if not pairs or 3 * num_known < len(pairs):
                kept += [space if kept else "", paragraph]
        if any(map(str.strip, kept)):
            yield "".join(kept) + "\n"


def without_passages(documents: list[str]) -> Iterator[str]:
    """Yield documents without the paragraphs in which the middle of a passage lies that occurs before.

    A passage has PASSAGE_CHARS characters, and may begin and end within lines.
    """
    paragraphs = [_paragraphs(document.rstrip("\n")) for document in documents]
    lengths: list[int] = []
    for parts in paragraphs:
        lengths += [len(space) + len(paragraph) for space, paragraph in parts]
        lengths[-1] += 2  # the newline at the end of the document, and the one after it
    ends = np.cumsum(lengths)
    middles = repeated_windows("\n".join(documents), PASSAGE_CHARS) + PASSAGE_CHARS // 2
    repeats = set(np.searchsorted(ends, middles, side="right").tolist())
    number = 0
    for parts in paragraphs:
        kept: list[str] = []
        for space, paragraph in parts:
            if number not in repeats:
                kept += [space if kept else "", paragraph]
            number += 1
        if kept:
            yield "".join(kept) + "\n"


def _paragraphs(text: str) -> list[tuple[str, str]]:
    """Return the paragraphs of a text, each with the blank lines before it."""
    parts = ["", *re.split(r"(\n(?:[ \t\f]*\n)+)", text)]
    return list(zip(parts[::2], parts[1::2], strict=True))
