"""Heat maps of surprisal: as colours or digits on a terminal, and as an HTML page.

    The method returns an new list.
    62..2111..21.......1..86..1....     whole bits; a point for less than one

The colours are cividis (Nuñez, Anderton & Renslow 2018, 10.1371/journal.pone.0199239): its lightness grows evenly, so
that it reads the same with the common kinds of colour blindness, and in grey. Letters on a colour are black or white,
whichever has more contrast, so that the background of the terminal does not matter. Characters of less than one bit,
most of a likely text, have no colour.

The page shows, on hover or focus, the model's best guesses for a character. It is one file that loads nothing (and
tells the browser so) and runs no script. It follows the reader's light or dark setting. A surprising
character has a high contrast to the page in both, because the colours run from light to dark on the light page and
from dark to light on the dark one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rich.style import Style
from rich.text import Text

from chargen.probe.surprisal import CharSurprisal
from chargen.schema import format_count
from chargen.scoring.edits import Suggestion
from chargen.ui.terminal_text import clusters, glyph

# Ten colours of the map, at equal distances from its start to its end.
CIVIDIS = [
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
]
MAX_BITS = 10  # surprisals from here on have the last colour
END = "␃"  # shown for the end of a text, where the end is scored
HEAT_MAP_COLOR_SYSTEMS = ("256", "truecolor")  # rich's names; the sixteen colours of an old terminal are not a scale

Colour = tuple[int, int, int]  #: red, green, blue, each from 0 to 255


# ── colours ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def colour(bits: float) -> Colour:
    """Return the colour of a surprisal: cividis from 0 to MAX_BITS, interpolated linearly between its ten anchors."""
    position = min(max(bits, 0.0), MAX_BITS) / MAX_BITS * (len(CIVIDIS) - 1)
    index = min(int(position), len(CIVIDIS) - 2)
    low, high = (tuple(bytes.fromhex(anchor[1:])) for anchor in CIVIDIS[index : index + 2])
    red, green, blue = (round(a + (b - a) * (position - index)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def text_colour(background: Colour) -> str:
    """Return black or white, whichever has more contrast on a background, as a number that no terminal redefines."""
    dark, light = contrast(background, (0, 0, 0)), contrast(background, (255, 255, 255))
    return "#000000" if dark > light else "#ffffff"


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of WCAG 2, from 1 to 21; text needs at least 4.5."""
    low, high = sorted(_luminance(c) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


# ── what is shown for a text ──────────────────────────────────────────────────────────────────────────────────────────


def group_by_cluster(chars: Iterable[CharSurprisal]) -> Iterator[list[CharSurprisal]]:
    """Yield a text's tokens in the smallest groups that are whole clusters: what a reader sees as one character."""
    chars = list(chars)
    cluster_ends, end = set(), 0
    for cluster in clusters("".join(char.text for char in chars)):
        end += len(cluster)
        cluster_ends.add(end)
    group: list[CharSurprisal] = []
    end = 0
    for char in chars:
        group.append(char)
        end += len(char.text)
        if end in cluster_ends or not char.text:
            yield group
            group = []


def group_glyph(group: Sequence[CharSurprisal]) -> tuple[str, int]:
    """Return what is drawn for a group, and its width in cells of a terminal, at least one."""
    parts = [_cluster_glyph(cluster) for cluster in clusters("".join(char.text for char in group))] or [(END, 1)]
    return "".join(part for part, _ in parts), sum(width for _, width in parts)


def group_bits(group: Sequence[CharSurprisal]) -> float:
    """Return the surprisal of a group in bits."""
    return sum(char.surprisal_bits for char in group)


def visible(text: str, space: str = " ") -> str:
    """Return a text in which every character can be seen: control characters as symbols, spaces as `space`."""
    return "".join(_cluster_glyph(cluster)[0] for cluster in clusters(text)).replace(" ", space)


def _cluster_glyph(cluster: str) -> tuple[str, int]:
    drawn, width = glyph(cluster)
    if width:
        return drawn, width
    return "◌" + drawn, 1  # a combining mark without a letter


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def heat_text(chars: Iterable[CharSurprisal]) -> Text:
    """Return a text with each character on the colour of its surprisal."""
    text = Text()
    for group in group_by_cluster(chars):
        bits = group_bits(group)
        text.append(group_glyph(group)[0], _style(bits) if bits >= 1 else None)
    return text


def legend() -> Text:
    """Return a line that explains the colours."""
    text = Text("bits: <1")
    for bits in range(1, MAX_BITS + 1):
        text.append(" ")
        text.append(f" {bits}{'+' if bits == MAX_BITS else ''} ", _style(bits))
    return text


def digit_lines(chars: Iterable[CharSurprisal]) -> tuple[str, str]:
    """Return a text, and a line below it with the surprisal in whole bits: 9 for more, a point for less than one."""
    shown, digits = [], []
    for group in group_by_cluster(chars):
        drawn, width = group_glyph(group)
        bits = int(group_bits(group))
        shown.append(drawn)
        digits.append((str(min(bits, 9)) if bits else ".") + " " * (width - 1))
    return "".join(shown), "".join(digits).rstrip()


def _style(bits: float) -> Style:
    background = colour(bits)
    return Style(color=text_colour(background), bgcolor="#{:02x}{:02x}{:02x}".format(*background))


# ── as a page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE_STYLE = """
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
    """Yield an HTML page with a heat map of each text, piece by piece.

    Args:
        texts: The characters of each text, with guesses.
        model: Name of the model in the title.
        suggestions: The suggested edits of each text; empty for a page without suggestions.
    """
    model = visible(model)
    yield '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>Surprisal by {escape(model)}</title>\n<style>\n{PAGE_STYLE}\n{_shade_rules()}\n</style>\n"
    yield f"</head>\n<body>\n<h1>Surprisal by {escape(model)}</h1>\n"
    yield "<p>The surprisal of each character, given all before it, in bits. "
    yield "Point at a character, or move to it with Tab, to see the model’s best guesses.</p>\n"
    shades = "".join(f' <span class="b{b}">{b}{"+" if b == MAX_BITS else ""}</span>' for b in range(1, MAX_BITS + 1))
    yield f'<p class="legend">bits: under 1{shades}</p>\n'
    for index, chars in enumerate(texts):
        yield "<section>\n"
        yield from _page_text(chars)
        if suggestions:
            yield from _page_suggestions(suggestions[index])
        yield "</section>\n"
    yield "</body>\n</html>\n"


def _page_text(chars: Sequence[CharSurprisal]) -> Iterator[str]:
    yield '<p class="text" dir="auto">'
    for group in group_by_cluster(chars):
        shade = min(MAX_BITS, int(group_bits(group)))
        explanation = escape("\n\n".join(_explain(char) for char in group)).replace("\n", "&#10;")
        drawn = escape(group_glyph(group)[0]) + ("<br>" if group[-1].text.endswith("\n") else "")
        yield f'<span tabindex="0" class="b{shade}" data-why="{explanation}">{drawn}</span>'
    bits = math.fsum(char.surprisal_bits for char in chars)
    num_chars = sum(len(char.text) for char in chars)
    per_char = f"{bits / num_chars:.3f} bits/char" if num_chars else "empty"
    yield f"</p>\n<small>{per_char}, {bits:.2f} bits, {format_count(num_chars, 'character')}</small>\n"


def _explain(char: CharSurprisal) -> str:
    """Return the explanation of a character: its surprisal, and the guesses."""
    unknown = " (unknown to the model)" if char.unknown else ""
    lines = [f"{_visible_name(char.text)}  {char.surprisal_bits:.2f} bits{unknown}"]
    lines += [f"{100 * guess.prob:5.1f} %  {_visible_name(guess.text)}" for guess in char.guesses]
    return "\n".join(lines)


def _visible_name(text: str) -> str:
    """Return a character in a form that can be seen: a space as ␣, a newline as ␊."""
    return visible(text, "␣") or "the end"


def _page_suggestions(suggestions: Sequence[Suggestion]) -> Iterator[str]:
    if not suggestions:
        yield "<br><small>No single edit makes it more likely.</small>\n"
        return
    yield "<table>\n<caption>Single edits that make it more likely; its end is included:</caption>\n"
    for suggestion in suggestions:
        text = escape(visible(suggestion.text))
        yield f'<tr><td>+{suggestion.gain_bits:.1f} bits</td><td dir="auto">{text}</td></tr>\n'
    yield "</table>\n"


def _shade_rules() -> str:
    """Return the CSS rules of the shades b1 to b10, from near the lightness of the page to far from it; b0 has none."""
    light = [_shade_rule(b, colour(MAX_BITS + 1 - b)) for b in range(1, MAX_BITS + 1)]
    dark = [_shade_rule(b, colour(b)) for b in range(1, MAX_BITS + 1)]
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"])


def _shade_rule(shade: int, background: Colour) -> str:
    return f".b{shade} {{ background: #{bytes(background).hex()}; color: {text_colour(background)}; }}"
