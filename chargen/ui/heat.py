"""Surprisal as colour, and as digits where there is no colour.

    The method returns an new list.
    62..2111..21.......1..86..1....     whole bits, a point below one

The colours are cividis (Nuñez, Anderton & Renslow 2018, 10.1371/journal.pone.0199239), which is read the same with and
without the common kinds of colour blindness, and in grey: its lightness grows evenly. Letters on a colour are black or
white, whichever stands out more, so that the terminal's own background plays no part. What is under one bit, most of a
likely text, is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.style import Style
from rich.text import Text

from chargen.probe.surprisal import Place
from chargen.ui.clusters import clusters, glyph

# Ten colours of the map, at even distances from its beginning to its end.
CIVIDIS = [
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
]
MOST_BITS = 10  #: from here on all is the last colour
END = "␃"  #: the end of a text, where that is scored
ENOUGH_COLOURS = ("256", "truecolor")  #: of a terminal; the sixteen of an old one are not a scale

Colour = tuple[int, int, int]


def colour(bits: float) -> Colour:
    """Return the colour of a surprisal: cividis from 0 to MOST_BITS, straight lines between its ten anchors."""
    place = min(max(bits, 0.0), MOST_BITS) / MOST_BITS * (len(CIVIDIS) - 1)
    index = min(int(place), len(CIVIDIS) - 2)
    low, high = (tuple(bytes.fromhex(anchor[1:])) for anchor in CIVIDIS[index : index + 2])
    red, green, blue = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def ink(background: Colour) -> str:
    """Return black or white, whichever has more contrast on a background; never a terminal's own idea of them."""
    dark, light = contrast(background, (0, 0, 0)), contrast(background, (255, 255, 255))
    return "#000000" if dark > light else "#ffffff"


def contrast(one: Colour, other: Colour) -> float:
    """Return WCAG 2's ratio of contrast, from 1 to 21; 4.5 is what text is to have."""
    low, high = sorted(_luminance(c) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def in_clusters(places: Iterable[Place]) -> Iterator[list[Place]]:
    """Yield a text's places put together so far that each group is whole characters of a reader."""
    places = list(places)
    ends, at = set(), 0
    for cluster in clusters("".join(place.text for place in places)):
        at += len(cluster)
        ends.add(at)
    group: list[Place] = []
    at = 0
    for place in places:
        group.append(place)
        at += len(place.text)
        if at in ends or not place.text:
            yield group
            group = []


def drawn(group: Sequence[Place]) -> tuple[str, int]:
    """Return what is drawn for a group of places, and how many cells it fills, at least one."""
    parts = [_picture(cluster) for cluster in clusters("".join(place.text for place in group))] or [(END, 1)]
    return "".join(part for part, _ in parts), sum(cells for _, cells in parts)


def visible(text: str, space: str = " ") -> str:
    """Return a text in which every character can be seen, control characters as pictures and a space as `space`."""
    return "".join(_picture(cluster)[0] for cluster in clusters(text)).replace(" ", space)


def bits_of(group: Sequence[Place]) -> float:
    """Return the surprisal of a group, in bits."""
    return sum(place.surprisal_bits for place in group)


def heat_text(places: Iterable[Place]) -> Text:
    """Return a text with each character on the colour of its surprisal."""
    text = Text()
    for group in in_clusters(places):
        bits = bits_of(group)
        text.append(drawn(group)[0], _style(bits) if bits >= 1 else None)
    return text


def legend() -> Text:
    """Return what the colours mean, a line."""
    text = Text("bits: <1")
    for bits in range(1, MOST_BITS + 1):
        text.append(" ")
        text.append(f" {bits}{'+' if bits == MOST_BITS else ''} ", _style(bits))
    return text


def digit_lines(places: Iterable[Place]) -> tuple[str, str]:
    """Return a text, and below it its surprisal in whole bits: a digit a character, 9 for more, a point below one."""
    shown, digits = [], []
    for group in in_clusters(places):
        picture, width = drawn(group)
        bits = int(bits_of(group))
        shown.append(picture)
        digits.append((str(min(bits, 9)) if bits else ".") + " " * (width - 1))
    return "".join(shown), "".join(digits).rstrip()


def _picture(cluster: str) -> tuple[str, int]:
    picture, width = glyph(cluster)
    if width:
        return picture, width
    return "◌" + picture, 1  # a mark without a letter


def _style(bits: float) -> Style:
    background = colour(bits)
    return Style(color=ink(background), bgcolor="#{:02x}{:02x}{:02x}".format(*background))


def _luminance(c: Colour) -> float:
    parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in c]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
