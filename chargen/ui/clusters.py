"""What a reader takes for one character, and how many cells of a terminal it fills.

A letter and its combining marks are one, as are the parts of an emoji and the two halves of a flag. (A part of
Unicode's rules for grapheme clusters, UAX #29: what joins is what has no width of its own, what follows a joiner, and a
flag's second half.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from rich.cells import cell_len

from chargen.ui.visible import MAX_KEPT, visible

JOINER = "\u200d"
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
SKIN_TONES = range(0x1F3FB, 0x1F400)


def clusters(text: str) -> Iterator[str]:
    """Yield a text's characters as a reader counts them; joined they are the text.

    >>> [len(cluster) for cluster in clusters("e\\u0302!")]
    [2, 1]
    """
    if text.isascii():
        yield from text
        return
    cluster = ""
    for char in text:
        if cluster and _joins(cluster, char):
            cluster += char
        else:
            if cluster:
                yield cluster
            cluster = char
    if cluster:
        yield cluster


def glyph(cluster: str) -> tuple[str, int]:
    """Return what is drawn for a cluster, and how many cells it fills: 0, 1 or 2."""
    if cluster.isascii() and cluster.isprintable():
        return cluster, 1
    drawn = visible(cluster)
    return drawn, min(2, cell_len(drawn))


def is_ideograph(cluster: str) -> bool:
    """Tell whether a cluster is of a script that puts no spaces between words and fills two cells."""
    return not "\uac00" <= cluster[0] <= "\ud7a3" and unicodedata.east_asian_width(cluster[0]) in "WF"


def _joins(cluster: str, char: str) -> bool:
    if char.isascii() or unicodedata.category(cluster[-1]) == "Cc":
        return False
    if cluster.endswith(JOINER):
        return unicodedata.category(char) == "So"
    if ord(char) in FLAG_LETTERS:
        return len(cluster) == 1 and ord(cluster) in FLAG_LETTERS
    if ord(char) in SKIN_TONES:
        return unicodedata.category(cluster[0]) == "So"
    return (
        cell_len(char) == 0 and visible(cluster[-MAX_KEPT:] + char)[-1] == char
    )  # what is shown as a symbol stands alone
