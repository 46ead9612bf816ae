"""Surprisal as one HTML page: a heat-map of each text and, on hover or focus, what the model had thought of instead.

The page is one file. It loads nothing (and tells the browser so), runs no script, and follows the reader's light or
dark setting: a character that surprises stands out from the page in both, so the colours run from light to dark on the
one and from dark to light on the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from chargen.probe.surprisal import Place
from chargen.scoring.suggest import Suggestion
from chargen.ui.heat import MOST_BITS, bits_of, colour, drawn, in_clusters, ink, visible

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
    texts: Sequence[Sequence[Place]], model: str, suggestions: Sequence[Sequence[Suggestion]] = ()
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
    shades = "".join(f' <span class="b{b}">{b}{"+" if b == MOST_BITS else ""}</span>' for b in range(1, MOST_BITS + 1))
    yield f'<p class="legend">bits: under 1{shades}</p>\n'
    for number, places in enumerate(texts):
        yield "<section>\n"
        yield from _text(places)
        if suggestions:
            yield from _table(suggestions[number])
        yield "</section>\n"
    yield "</body>\n</html>\n"


def _text(places: Sequence[Place]) -> Iterator[str]:
    yield '<p class="text" dir="auto">'
    for group in in_clusters(places):
        shade = min(MOST_BITS, int(bits_of(group)))
        why = escape("\n\n".join(_why(place) for place in group)).replace("\n", "&#10;")
        picture = escape(drawn(group)[0]) + ("<br>" if group[-1].text.endswith("\n") else "")
        yield f'<span tabindex="0" class="b{shade}" data-why="{why}">{picture}</span>'
    bits, chars = math.fsum(place.surprisal_bits for place in places), sum(len(place.text) for place in places)
    per_char = f"{bits / chars:.3f} bits/char" if chars else "empty"
    yield f"</p>\n<small>{per_char}, {bits:.2f} bits, {chars:,} characters</small>\n"


def _why(place: Place) -> str:
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
    light = [_rule(b, colour(MOST_BITS + 1 - b)) for b in range(1, MOST_BITS + 1)]
    dark = [_rule(b, colour(b)) for b in range(1, MOST_BITS + 1)]
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"])


def _rule(shade: int, background: tuple[int, int, int]) -> str:
    return f".b{shade} {{ background: #{bytes(background).hex()}; color: {ink(background)}; }}"
