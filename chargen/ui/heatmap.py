"""Heat maps of surprisal: as colours or digits on a terminal, and as an HTML page.

    The method returns an new list.
    62..2111..21.......1..86..1....     whole bits; a point for less than one, and 9 for nine or more

The colours are those of `probe/heat_map.py`: expected characters stay in the background, surprising ones stand out.

The page shows, on hover or focus, the model's best guesses for a character. It is one file that loads nothing (and
tells the browser so) and runs no script. It follows the reader's light or dark setting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Protocol, TypeVar

from rich.console import Console
from rich.style import Style
from rich.text import Text

from chargen.probe.heat_map import DARK, LIGHT, MAX_BITS, shade, terminal_ramp, text_colour
from chargen.probe.surprisal import CharSurprisal
from chargen.schema import format_count, format_number
from chargen.scoring.edits import Suggestion
from chargen.ui.fonts import MONOSPACED
from chargen.ui.terminal_text import clusters, glyph

FULLWIDTH_DIGITS = str.maketrans(".0123456789", "．０１２３４５６７８９")  # noqa: RUF001 - they are meant
DIGITS = (
    "each digit is the surprisal of the character above it in whole bits: 9 is 9 or more, and a point is less than 1. "
    "--tsv prints exact numbers, one character per line"
)
END = "␃"  # shown for the end of a text, where the end is scored


# ── what is shown for a text ──────────────────────────────────────────────────────────────────────────────────────────


class Piece(Protocol):
    """A part of a text: one or more characters, or the end of the text."""

    @property
    def text(self) -> str:
        """The characters; "" for the end."""


P = TypeVar("P", bound=Piece)


def group_by_cluster(pieces: Iterable[P]) -> Iterator[list[P]]:
    """Yield a text's pieces in the smallest groups that are whole clusters: what a reader sees as one character."""
    chars = list(pieces)
    cluster_ends, end = set(), 0
    for cluster in clusters("".join(char.text for char in chars)):
        end += len(cluster)
        cluster_ends.add(end)
    group: list[P] = []
    end = 0
    for char in chars:
        group.append(char)
        end += len(char.text)
        if end in cluster_ends or not char.text:
            yield group
            group = []


def group_glyph(group: Sequence[Piece]) -> tuple[str, int]:
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


def print_heat_map(console: Console, chars: Sequence[CharSurprisal], with_legend: bool) -> bool:
    """Print a heat map: colours on a terminal that shows enough of them, else digits.

    Args:
        console: where to print.
        chars: the characters of the text.
        with_legend: whether a line above colours explains them.

    Returns:
        Whether digits were printed; `DIGITS` explains them.
    """
    has_colours = console.is_terminal and not console.no_color
    ramp = terminal_ramp(console.color_system, os.environ) if has_colours else None
    if ramp:
        console.print(*([legend(ramp)] if with_legend else []), heat_text(chars, ramp), sep="\n")
        return False
    for shown, digits in digit_rows(chars, console.width if console.is_terminal else None, fullwidth=True):
        console.print(shown, digits, sep="\n", soft_wrap=True)
    return True


def heat_text(chars: Iterable[CharSurprisal], ramp: Sequence[str]) -> Text:
    """Return a text with each character on the colour of its surprisal.

    Args:
        chars: the characters of the text.
        ramp: colours of the shades, from `heat_map.terminal_ramp`.
    """
    text = Text()
    for group in group_by_cluster(chars):
        text.append(group_glyph(group)[0], _style(ramp[shade(group_bits(group))]))
    return text


def legend(ramp: Sequence[str]) -> Text:
    """Return a line of 40 cells that explains the colours of a ramp."""
    text = Text("bits: <1")
    for bits in range(1, MAX_BITS + 1):
        text.append(f" {bits}{'+' if bits == MAX_BITS else ''} ", _style(ramp[bits]))
    return text


def digit_lines(chars: Iterable[CharSurprisal]) -> tuple[str, str]:
    """Return a text, and a line below it with the surprisal in whole bits: 9 for more, a point for less than one."""
    return next(digit_rows(chars, None))


def digit_rows(chars: Iterable[CharSurprisal], width: int | None, fullwidth: bool = False) -> Iterator[tuple[str, str]]:
    """Yield a text in rows, each with the line of `digit_lines` below it.

    Args:
        chars: the characters of the text.
        width: cells in a row of the terminal; None for one row of any length.
        fullwidth: whether the digit below a letter of double width is a fullwidth digit, which has the width of the
            letter in every font; otherwise it is a digit and a space.
    """
    shown, digits, used = "", "", 0
    for group in group_by_cluster(chars):
        drawn, cells = group_glyph(group)
        if width is not None and used and used + cells > width:
            yield shown, digits.rstrip()
            shown, digits, used = "", "", 0
        bits = min(9, shade(group_bits(group)))
        shown += drawn
        digit = str(bits) if bits else "."
        is_wide = fullwidth and cells == 2 and len(drawn) == 1
        digits += digit.translate(FULLWIDTH_DIGITS) if is_wide else digit + " " * (cells - 1)
        used += cells
    yield shown, digits.rstrip()


def _style(background: str) -> Style:
    return Style(color=text_colour(background), bgcolor=background)


# ── as a page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #111; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --page: #111111; --text: #eee; --line: #444; } }
body { background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem 16rem; }
.text { font: 1.15rem/1.9 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere;
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
  z-index: 1; white-space: pre; font: 1rem/1.5 var(--mono); background: var(--page); color: var(--text);
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
    yield f"<title>Surprisal by {escape(model)}</title>\n"
    yield f"<style>\n{MONOSPACED}\n{PAGE_STYLE}\n{_shade_rules()}\n</style>\n"
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
        explanation = escape("\n\n".join(_explain(char) for char in group)).replace("\n", "&#10;")
        drawn = escape(group_glyph(group)[0]) + ("<br>" if group[-1].text.endswith("\n") else "")
        yield f'<span tabindex="0" class="b{shade(group_bits(group))}" data-why="{explanation}">{drawn}</span>'
    bits = math.fsum(char.surprisal_bits for char in chars)
    num_chars = sum(len(char.text) for char in chars)
    per_char = f"{format_number(bits / num_chars, 3)} bits/char" if num_chars else "empty"
    yield f"</p>\n<small>{per_char}, {format_number(bits, 2)} bits, {format_count(num_chars, 'character')}</small>\n"


def _explain(char: CharSurprisal) -> str:
    """Return the explanation of a character: its surprisal, and the guesses."""
    unknown = " (unknown to the model)" if char.unknown else ""
    lines = [f"{_visible_name(char.text)}  {format_number(char.surprisal_bits, 2)} bits{unknown}"]
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
        yield f'<tr><td>{format_number(suggestion.gain_bits, 1, sign=True)} bits</td><td dir="auto">{text}</td></tr>\n'
    yield "</table>\n"


def _shade_rules() -> str:
    """Return the CSS rules of the shades b1 to b10; shade b0 is the page."""
    light = [_shade_rule(bits, LIGHT[bits]) for bits in range(1, MAX_BITS + 1)]
    dark = [_shade_rule(bits, DARK[bits]) for bits in range(1, MAX_BITS + 1)]
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"])


def _shade_rule(bits: int, background: str) -> str:
    return f".b{bits} {{ background: {background}; color: {text_colour(background)}; }}"
