"""The HTML page of `chargen probe neurons`: a text coloured by the activation of any unit of a model.

    ┌ list of units ───────────────────────┐ ┌ text ──────────────────────────────┐
    │ show: [any property             ▾]   │ │ layer 0 h[37] · inside quotes …    │
    │ layer 0 h[37]  inside quotes  AUC .98│ │ He said "I know it", and went …    │
    │ layer 0 h[4]   position in …  r −.91 │ │         ▒▒▒▒▒▒▒▒▒▒                  │
    └──────────────────────────────────────┘ └────────────────────────────────────┘

The page is one file. It loads nothing and tells the browser so; the browser runs only the script with the hash that the
page states. A model or a text cannot bring a script of its own: both are escaped, and the script writes them as text.
The activations are in the page as bytes in base64, one byte each: 127 is the largest absolute activation of the unit.
The colours follow the reader's light or dark setting; positive activations are red, and negative ones are blue.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import numpy as np

from chargen.probe.heat_map import text_colour
from chargen.probe.neurons import NeuronReport
from chargen.schema import format_count
from chargen.ui.fonts import MONOSPACED
from chargen.ui.heatmap import group_by_cluster, group_glyph, visible
from chargen.ui.neuron_script import NEURON_SCRIPT

NUM_SHADES = 8  # shades of each sign; those of the smallest activations are the page itself
SHARE_BELOW_STRONGEST = 0.99  # share of the activations of a unit that are below the strongest colour
NEWLINE = "↵"  # shown for a newline
UNITS_PER_BLOCK = 24  # the bytes of a block of units are a multiple of 3, so that blocks of base64 can be joined
PAGES = ("#ffffff", "#111111")  # light, dark
STRONGEST = {"p": ("#c8102e", "#ff6f61"), "n": ("#1552b8", "#6fa8ff")}  # red and blue, light and dark

PAGE_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #111; --soft: #555; --line: #ccc; --here: #e4e4e4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #111111; --text: #eee; --soft: #aaa; --line: #444; --here: #333; } }
* { box-sizing: border-box; }
body { background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 100rem; padding: 0 1rem 1rem; }
h1 { font-size: 1.3rem; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; color: var(--soft); max-width: 60rem; }
main { display: grid; grid-template-columns: minmax(22rem, 32rem) minmax(0, 1fr); gap: 1.5rem; margin-top: .8rem; }
label { display: block; margin-bottom: .4rem; }
select { font: inherit; max-width: 100%; }
#units { border: 1px solid var(--line); border-radius: .3rem; height: calc(100vh - 5rem); min-height: 12rem;
  overflow-y: scroll; margin: 0; padding: 0; list-style: none; font-variant-numeric: tabular-nums; }
#units li { display: grid; grid-template-columns: 9rem 1fr 6.5rem; gap: .5rem; padding: .1rem .5rem; cursor: pointer;
  scroll-margin: 3rem; }
#units li:hover, #units [aria-selected=true] { background: var(--here); }
#units [aria-selected=true] { box-shadow: inset .25rem 0 var(--text); }
#units :last-child { text-align: right; white-space: nowrap; }
#units:focus-visible { outline: 2px solid var(--text); }
.side { position: sticky; top: .5rem; align-self: start; }
.bar { position: sticky; top: 0; background: var(--page); border-bottom: 1px solid var(--line); padding: .4rem 0; }
.bar output { display: block; font-variant-numeric: tabular-nums; min-height: 1.5em; overflow-wrap: anywhere; }
#unit { font-weight: bold; }
.legend i { display: inline-block; width: 1.3em; }
.legend { white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar label { margin: .2rem 0; }
#text { font: 1.05rem/1.9 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: plaintext; margin: .8rem 0; overflow: clip; }
@media (max-width: 55rem) {
  main { grid-template-columns: minmax(0, 1fr); } .side { position: static; } #units { height: 14rem; } }
""".strip()


class _Piece(NamedTuple):
    text: str
    number: int


def neuron_page(report: NeuronReport, model: str, text_name: str) -> Iterator[str]:
    """Yield the page, piece by piece.

    Args:
        report: The units and what they track.
        model: Name of the model.
        text_name: Name of the text.
    """
    title = escape(f"Units of {visible(model)} on {visible(text_name)}")
    script_hash = base64.b64encode(hashlib.sha256(NEURON_SCRIPT.encode()).digest()).decode()
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{script_hash}'\">\n"
    )
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{title}</title>\n<style>\n{MONOSPACED}\n{PAGE_STYLE}\n{_shade_rules()}\n</style>\n</head>\n<body>\n"
    yield f"<h1>{title}</h1>\n"
    yield from _explanation(report)
    yield _controls()
    groups = [
        list(group) for group in group_by_cluster(_Piece(text, n) for n, text in enumerate(report.activations.pieces))
    ]
    yield '<div id="text" dir="auto" lang="" translate="no">'
    for group in groups:
        is_newline = group[-1].text.endswith("\n")
        drawn = group_glyph(group)[0][:-1] + NEWLINE if is_newline else group_glyph(group)[0]
        yield f"<span>{escape(drawn)}</span>" + ("<br>" if is_newline else "")
    yield "</div>\n<noscript>This page needs JavaScript to colour the text.</noscript>\n</div>\n</main>\n"
    last_pieces = np.array([group[-1].number for group in groups])
    yield from _data(report, last_pieces)
    yield f"<script>{NEURON_SCRIPT}</script>\n</body>\n</html>\n"


def _explanation(report: NeuronReport) -> Iterator[str]:
    units, pieces = report.activations.units, report.activations.pieces
    yield (
        f"<p>{format_count(len(units), 'unit')}, {format_count(len(pieces), 'character')}. The units are sorted by how "
        "well their activation tracks a property of the text. AUC is for properties that a character has or has not: "
        "the probability that the activation is larger (↑) or smaller (↓) at a character with the property than at one "
        "without it; 0.5 is chance. r is the correlation with a number. An activation is the value after the "
        "character has been read.</p>\n"
    )
    if report.missing:
        missing = ", ".join(escape(name) for name in report.missing)
        yield f"<p>Not compared, because too few characters of this text have or lack it: {missing}.</p>\n"


def _controls() -> str:
    """Return the list of units, and the bar above the text with the legend."""
    shades = [f"n{n}" for n in range(NUM_SHADES, 0, -1)] + ["z"] + [f"p{n}" for n in range(1, NUM_SHADES + 1)]
    legend = "".join(f'<i class="{shade}">&nbsp;</i>' for shade in shades)
    return (
        '<main>\n<div class="side">\n'
        '<label>Sort by: <select id="property"></select></label>\n'
        '<ol id="units" role="listbox" tabindex="0" aria-label="Units: ↑ and ↓ choose one"></ol>\n</div>\n'
        '<div>\n<div class="bar">\n<output id="unit"></output>\n'
        f'<div class="legend"><span id="low"></span> {legend} <span id="high"></span></div>\n'
        '<label><input type="checkbox" id="centre"> centre the colours on the mean of the unit</label>\n'
        '<output id="point">Point at a character to see its activation. The keys ↑ ↓ Home End choose a unit.</output>\n'
        "</div>\n"
    )


def _data(report: NeuronReport, last_pieces: np.ndarray) -> Iterator[str]:
    """Yield what the script reads: names and figures as JSON, and the activations as bytes in base64."""
    activations = report.activations
    shown = activations.values[:, last_pieces]
    scales = np.abs(shown).max(axis=1)
    values = {
        "units": [str(unit) for unit in activations.units],
        "scales": [float(f"{scale:.4g}") for scale in scales],
        "properties": [{"name": each.name, "binary": each.is_binary} for each in report.properties],
        "figures": [[round(float(figure), 4) for figure in row] for row in report.figures],
        "shades": NUM_SHADES,
        "share": SHARE_BELOW_STRONGEST,
    }
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    yield f'<script type="application/json" id="data">{text}</script>\n'
    yield '<script type="text/plain" id="activations">'
    for first in range(0, len(scales), UNITS_PER_BLOCK):
        block = shown[first : first + UNITS_PER_BLOCK]
        divisors = np.maximum(scales[first : first + UNITS_PER_BLOCK, None], np.finfo(np.float32).tiny)
        yield base64.b64encode(np.rint(127.0 * (block / divisors)).astype(np.int8).tobytes()).decode("ascii")
    yield "</script>\n"


def _shade_rules() -> str:
    """Return the CSS rules of the shades n8 … n1 and p1 … p8, for light and dark."""
    rules = [
        [
            _shade_rule(f"{sign}{number}", _mixed(PAGES[theme], colours[theme], number / NUM_SHADES))
            for sign, colours in STRONGEST.items()
            for number in range(1, NUM_SHADES + 1)
        ]
        for theme in range(len(PAGES))
    ]
    return "\n".join([*rules[0], "@media (prefers-color-scheme: dark) {", *rules[1], "}"])


def _shade_rule(name: str, background: str) -> str:
    return f".{name} {{ background: {background}; color: {text_colour(background)}; }}"


def _mixed(one: str, other: str, share: float) -> str:
    """Return a mixture of two colours, with this share of the second one."""
    pairs = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + bytes(round(a + share * (b - a)) for a, b in pairs).hex()
