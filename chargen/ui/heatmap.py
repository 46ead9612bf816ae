"""Surprisal as colour, and as digits where there is no colour.

    The method returns an new list.
    62..2111..21.......1..86..1....     whole bits, a point below one

The colours are cividis (Nuñez, Anderton & Renslow 2018, 10.1371/journal.pone.0199239), which is read the same with and
without the common kinds of colour blindness, and in grey: its lightness grows evenly. Letters on a colour are black or
white, whichever stands out more, so that the terminal's own background plays no part. What is under one bit, most of a
likely text, is left as it is.

Surprisal as one HTML page: a heat-map of each text and, on hover or focus, what the model had thought of instead.

The page is one file. It loads nothing (and tells the browser so), runs no script, and follows the reader's light or
dark setting: a character that surprises stands out from the page in both, so the colours run from light to dark on the
one and from dark to light on the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rich.style import Style
from rich.text import Text

from chargen.probe.surprisal import CharSurprisal
from chargen.scoring.edits import Suggestion
from chargen.ui.terminal_text import clusters, glyph

# Ten colours of the map, at even distances from its beginning to its end.
CIVIDIS = [
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
]
MAX_BITS = 10  #: from here on all is the last colour
END = "␃"  #: the end of a text, where that is scored
ENOUGH_COLOURS = ("256", "truecolor")  #: of a terminal; the sixteen of an old one are not a scale

Colour = tuple[int, int, int]


def colour(bits: float) -> Colour:
    """Return the colour of a surprisal: cividis from 0 to MOST_BITS, straight lines between its ten anchors."""
    place = min(max(bits, 0.0), MAX_BITS) / MAX_BITS * (len(CIVIDIS) - 1)
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


def in_clusters(places: Iterable[CharSurprisal]) -> Iterator[list[CharSurprisal]]:
    """Yield a text's places put together so far that each group is whole characters of a reader."""
    places = list(places)
    ends, at = set(), 0
    for cluster in clusters("".join(place.text for place in places)):
        at += len(cluster)
        ends.add(at)
    group: list[CharSurprisal] = []
    at = 0
    for place in places:
        group.append(place)
        at += len(place.text)
        if at in ends or not place.text:
            yield group
            group = []


def drawn(group: Sequence[CharSurprisal]) -> tuple[str, int]:
    """Return what is drawn for a group of places, and how many cells it fills, at least one."""
    parts = [_picture(cluster) for cluster in clusters("".join(place.text for place in group))] or [(END, 1)]
    return "".join(part for part, _ in parts), sum(cells for _, cells in parts)


def visible(text: str, space: str = " ") -> str:
    """Return a text in which every character can be seen, control characters as pictures and a space as `space`."""
    return "".join(_picture(cluster)[0] for cluster in clusters(text)).replace(" ", space)


def bits_of(group: Sequence[CharSurprisal]) -> float:
    """Return the surprisal of a group, in bits."""
    return sum(place.surprisal_bits for place in group)


def heat_text(places: Iterable[CharSurprisal]) -> Text:
    """Return a text with each character on the colour of its surprisal."""
    text = Text()
    for group in in_clusters(places):
        bits = bits_of(group)
        text.append(drawn(group)[0], _style(bits) if bits >= 1 else None)
    return text


def legend() -> Text:
    """Return what the colours mean, a line."""
    text = Text("bits: <1")
    for bits in range(1, MAX_BITS + 1):
        text.append(" ")
        text.append(f" {bits}{'+' if bits == MAX_BITS else ''} ", _style(bits))
    return text


def digit_lines(places: Iterable[CharSurprisal]) -> tuple[str, str]:
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


STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #111; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --page: #111; --text: #eee; --line: #444; } }
body { background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem 16rem; }
.text { font: 1.15rem/1.9 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: plaintext; margin: .5rem 0; }
.text span, .legend span { border-radius: .15em; }
.legend span { padding: .1em .5em; }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
small, td { font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: small; white-space: nowrap; }
td { padding-right: 1.5rem; vertical-align: top; white-space: nowrap; }
td + td { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
[data-why]:hover, [data-why]:focus { outline: 2px solid var(--text); }
[data-why]:hover::after, [data-why]:focus::after { content: attr(data-why); position: fixed; left: 1rem; bottom: 1rem;
  z-index: 1; white-space: pre; font: 1rem/1.5 ui-monospace, monospace; background: var(--page); color: var(--text);
  border: 1px solid var(--text); border-radius: .4rem; padding: .6rem 1rem; unicode-bidi: plaintext; direction: ltr; }
""".strip()


def heat_page(
    texts: Sequence[Sequence[CharSurprisal]], model: str, suggestions: Sequence[Sequence[Suggestion]] = ()
) -> Iterator[str]:
    """Yield the page, piece by piece.

    Args:
        texts: each as its places, with guesses.
        model: what to call the model.
        suggestions: for each text, or none at all.
    """
    model = visible(model)
    yield '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>Surprisal by {escape(model)}</title>\n<style>\n{STYLE}\n{_colours()}\n</style>\n</head>\n<body>\n"
    yield f"<h1>Surprisal by {escape(model)}</h1>\n<p>How many bits each character costs, given all before it. "
    yield "Point at one, or step to it with Tab, for the model’s best guesses in its place.</p>\n"
    shades = "".join(f' <span class="b{b}">{b}{"+" if b == MAX_BITS else ""}</span>' for b in range(1, MAX_BITS + 1))
    yield f'<p class="legend">bits: under 1{shades}</p>\n'
    for number, places in enumerate(texts):
        yield "<section>\n"
        yield from _text(places)
        if suggestions:
            yield from _table(suggestions[number])
        yield "</section>\n"
    yield "</body>\n</html>\n"


def _text(places: Sequence[CharSurprisal]) -> Iterator[str]:
    yield '<p class="text" dir="auto">'
    for group in in_clusters(places):
        shade = min(MAX_BITS, int(bits_of(group)))
        why = escape("\n\n".join(_why(place) for place in group)).replace("\n", "&#10;")
        picture = escape(drawn(group)[0]) + ("<br>" if group[-1].text.endswith("\n") else "")
        yield f'<span tabindex="0" class="b{shade}" data-why="{why}">{picture}</span>'
    bits, chars = math.fsum(place.surprisal_bits for place in places), sum(len(place.text) for place in places)
    per_char = f"{bits / chars:.3f} bits/char" if chars else "empty"
    yield f"</p>\n<small>{per_char}, {bits:.2f} bits, {chars:,} characters</small>\n"


def _why(place: CharSurprisal) -> str:
    """Return what is said of one character: its surprisal, and the guesses."""
    known = " (unknown to the model)" if place.unknown else ""
    lines = [f"{_name(place.text)}  {place.surprisal_bits:.2f} bits{known}"]
    lines += [f"{100 * guess.prob:5.1f} %  {_name(guess.text)}" for guess in place.guesses]
    return "\n".join(lines)


def _name(text: str) -> str:
    """Return a character as it can be seen: a space as ␣, a newline as ␊."""
    return visible(text, "␣") or "the end"


def _table(suggestions: Sequence[Suggestion]) -> Iterator[str]:
    if not suggestions:
        yield "<br><small>No single edit makes it likelier.</small>\n"
        return
    yield "<table>\n<caption>Single edits that make it likelier, the end counted:</caption>\n"
    for s in suggestions:
        yield f'<tr><td>+{s.gain_bits:.1f} bits</td><td dir="auto">{escape(visible(s.text))}</td></tr>\n'
    yield "</table>\n"


def _colours() -> str:
    """Return the rules of the shades: b0 the page's own, b1 to b10 from near the page's lightness away from it."""
    light = [_rule(b, colour(MAX_BITS + 1 - b)) for b in range(1, MAX_BITS + 1)]
    dark = [_rule(b, colour(b)) for b in range(1, MAX_BITS + 1)]
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"])


def _rule(shade: int, background: tuple[int, int, int]) -> str:
    return f".b{shade} {{ background: #{bytes(background).hex()}; color: {ink(background)}; }}"
