"""Hashes of every stretch of W characters of a text, W at will, that no text confuses.

    h(c₀ … c₍W₋₁₎) = Σ_j c_j B^(W−1−j)  mod p,   p = 2⁶¹ − 1      (Karp & Rabin 1987; c_j code points)

p is prime: the difference of two stretches is a polynomial in B that has W − 1 roots at most, so of all B no more than
W/2⁶¹ confuse them, whatever they say. Modulo 2⁶⁴, as in `passages.py`, the Thue–Morse sequence and its complement
collide for every B. B was drawn at random once, before it saw a text.

A hash of W = 2ᵏ + … is put together of those of the powers of two in it, all places at a time:

    h_{a+b}(i) = h_a(i) Bᵇ + h_b(i + a)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.text.long_text import Span, code_points

PRIME = (1 << 61) - 1
BASE = 0x1C7D4B5A93E6F20B  #: below PRIME
BLOCK = 1 << 14  #: characters at a time: few enough for all levels to stay in the cache, twice as fast as 2¹⁶

Hashes = NDArray[np.uint64]

_P = np.uint64(PRIME)
_LOW_31, _LOW_30 = np.uint64((1 << 31) - 1), np.uint64((1 << 30) - 1)
_30, _31, _61 = np.uint64(30), np.uint64(31), np.uint64(61)


def hash_text(text: str) -> int:
    """Return the hash of one stretch.

    >>> hash_text("b") - hash_text("a")
    1
    """
    value = 0
    for char in text:
        value = (value * BASE + ord(char)) % PRIME
    return value


def hash_windows(codes: Hashes, widths: Sequence[int]) -> list[Hashes]:
    """Return, for each width, the hash of the stretch from every place on.

    Args:
        codes: code points, [N].
        widths: characters, each at least 1.

    Returns:
        For each width an array [N − width + 1], empty where that is not above 0; values below PRIME.
    """
    N, levels = len(codes), [codes]
    while 2 << (len(levels) - 1) <= min(N, max(widths, default=0)):
        half = 1 << (len(levels) - 1)
        last = levels[-1]
        levels.append(_times_plus(last[:-half], pow(BASE, half, PRIME), last[half:]))
    return [_canonical(_of_width(levels, width)) if width <= N else np.zeros(0, np.uint64) for width in widths]


def read_overlapping(text: Span, overlap: Callable[[], int]) -> Iterator[tuple[int, str]]:
    """Yield a text in pieces that begin with the last characters of what was read before them.

    Args:
        text: what to read.
        overlap: says before each piece how many those are. Every stretch of one more stands in exactly one piece, as
            long as that stays what it is.

    Yields:
        (the place where the piece begins, the piece).
    """
    place, whole, fresh = 0, "", ""
    for block in _blocks(text):
        fresh += block
        if len(fresh) >= 2 * overlap():  # so that a long overlap is not read over and over
            cut = max(0, len(whole) - overlap())
            place, whole, fresh = place + cut, whole[cut:] + fresh, ""
            yield place, whole
    if fresh:
        cut = max(0, len(whole) - overlap())
        yield place + cut, whole[cut:] + fresh


def _blocks(text: Span) -> Iterator[str]:
    for piece in text.pieces():
        for begin in range(0, len(piece), BLOCK):
            yield piece[begin : begin + BLOCK]


def to_uint64_codes(text: str) -> Hashes:
    """Return a text's code points as numbers that `hash_windows` reckons with, [N]."""
    return code_points(text).astype(np.uint64)


def _of_width(levels: list[Hashes], width: int) -> Hashes:
    """Put the hash of a width together of those of the powers of two in it, the largest first."""
    done, total = 0, levels[0]
    for k in range(width.bit_length() - 1, -1, -1):
        if width >> k & 1:
            part = levels[k]
            count = len(levels[0]) - done - (1 << k) + 1
            total = _times_plus(total[:count], pow(BASE, 1 << k, PRIME), part[done : done + count]) if done else part
            done += 1 << k
    return total


def _times_plus(a: Hashes, factor: int, b: Hashes) -> Hashes:
    """Return what is a · factor + b modulo p, and p + 7 at most.

    With a = x 2³¹ + y and factor = u 2³¹ + v, as 2⁶¹ ≡ 1:  a · factor ≡ 2xu + (xv + yu) 2³¹ + yv.
    No sum here reaches 2⁶⁴ for a and b of p + 7 at most.
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


def _canonical(values: Hashes) -> Hashes:
    """Return values of p + 7 at most modulo p."""
    reduced: Hashes = np.minimum(values, values - _P)  # below p, the difference wraps round to a large number
    return reduced
