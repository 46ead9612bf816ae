"""Effect maps: which characters of a text moved the decision of a classifier, on a terminal and as an HTML page.

    a dull film with a good end
    +                  444        each digit is the strength of the evidence for the label, from 1 to 4
    −  333                        and here of the evidence against it

The scale has two sides: blue for characters that speak for the predicted label, orange for those against it. The two
differ in hue for readers with a colour deficiency, too, and all letters have a contrast of 4.5 to 1 at least. The page
also has a table in words, which screen readers read; it loads nothing, runs no script, and follows the reader's light
or dark setting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Console
from rich.style import Style
from rich.text import Text

from chargen.probe.heat_map import LIGHT_ANSI_COLOURS, text_colour
from chargen.schema import format_number
from chargen.tasks.classification.explain import CharEffect, Explanation, strongest_runs
from chargen.ui.fonts import MONOSPACED
from chargen.ui.heatmap import PAGE_STYLE, group_by_cluster, group_glyph, visible

BOUNDS = (0.1, 0.3, 1.0, 3.0)  #: effects in nats from which the shades 1, 2, 3 and 4 begin
MAX_RUNS = 12  #: rows of the table of a text
#: Colours of the shades 1 to 4, for the label and against it.
LIGHT_FOR, LIGHT_AGAINST = ("#dcebf7", "#a9d0ec", "#559fd0", "#0b5394"), ("#fce6d6", "#f8c199", "#e58a3c", "#9c3d00")
DARK_FOR, DARK_AGAINST = ("#16324a", "#1f5580", "#3f93cf", "#b3dcf8"), ("#452813", "#7a430f", "#d98324", "#ffd3a0")
LIGHT_256_FOR, LIGHT_256_AGAINST = (
    ("#d7d7ff", "#afd7ff", "#5fafd7", "#005f87"),
    ("#ffd7d7", "#ffd7af", "#ff8700", "#af5f00"),
)
DARK_256_FOR, DARK_256_AGAINST = (
    ("#00005f", "#005f87", "#5fafd7", "#afd7ff"),
    ("#5f0000", "#875f00", "#ff8700", "#ffd7af"),
)
RAMPS = {
    ("truecolor", True): (LIGHT_FOR, LIGHT_AGAINST),
    ("truecolor", False): (DARK_FOR, DARK_AGAINST),
    ("256", True): (LIGHT_256_FOR, LIGHT_256_AGAINST),
    ("256", False): (DARK_256_FOR, DARK_256_AGAINST),
}
DIGITS = (
    "the digits below a text are the strength of the evidence of each character for the label (+) and against it (−): "
    "1, 2, 3 and 4 are 0.1, 0.3, 1 and 3 nats of the log odds or more"
)


def effect_shade(effect_nats: float) -> int:
    """Return the shade of an effect: 0 for almost none, 1 to 4 for the label, and −1 to −4 against it.

    >>> [effect_shade(nats) for nats in (0.05, 0.1, -0.4, 5.0)]
    [0, 1, -2, 4]
    """
    strength = sum(abs(effect_nats) >= bound for bound in BOUNDS)
    return strength if effect_nats > 0 else -strength


def _group_effect(group: Sequence[CharEffect]) -> float:
    """Return the effect of what a reader sees as one character: the mean of its parts."""
    return sum(char.effect_nats for char in group) / len(group)


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def print_effects(console: Console, explanation: Explanation, with_legend: bool) -> bool:
    """Print the decision and the text: with colours on a terminal that shows enough of them, else with digits.

    Args:
        console: Where to print.
        explanation: The decision and the effects.
        with_legend: Whether a line above colours explains them.

    Returns:
        Whether digits were printed; `DIGITS` explains them.
    """
    has_colours = console.is_terminal and not console.no_color
    is_light = os.environ.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_ANSI_COLOURS
    ramp = RAMPS.get((console.color_system or "", is_light)) if has_colours else None
    if ramp and with_legend:
        console.print(_legend(*ramp))
    console.print(Text(f"{visible(explanation.label)}  p {format_number(explanation.probability, 3)}", "bold"))
    if ramp:
        text = Text()
        for group in group_by_cluster(explanation.chars):
            text.append(group_glyph(group)[0], _style(effect_shade(_group_effect(group)), *ramp))
        console.print(text)
        return False
    for row in effect_rows(explanation.chars, console.width if console.is_terminal else None):
        console.print(Text("\n".join(row)), soft_wrap=True)
    return True


def effect_rows(chars: Sequence[CharEffect], width: int | None) -> Iterator[tuple[str, str, str]]:
    """Yield a text in rows, each with a line of digits for the label and one against it.

    Args:
        chars: The characters of the text.
        width: Cells in a row of the terminal; None for one row of any length.
    """
    start = ("  ", "+ ", "− ")
    lines, used = list(start), 2
    for group in group_by_cluster(chars):
        drawn, cells = group_glyph(group)
        if width is not None and used > 2 and used + cells > width:
            yield lines[0], lines[1].rstrip(), lines[2].rstrip()
            lines, used = list(start), 2
        shade = effect_shade(_group_effect(group))
        lines[0] += drawn
        lines[1] += (str(shade) if shade > 0 else " ").ljust(cells)
        lines[2] += (str(-shade) if shade < 0 else " ").ljust(cells)
        used += cells
    yield lines[0], lines[1].rstrip(), lines[2].rstrip()


def _legend(colours_for: Sequence[str], against: Sequence[str]) -> Text:
    text = Text("nats of the log odds, against the label")
    for shade in range(len(BOUNDS), 0, -1):
        text.append(f" −{BOUNDS[shade - 1]:g} ", _style(-shade, colours_for, against))
    text.append("  for it")
    for shade in range(1, len(BOUNDS) + 1):
        text.append(f" +{BOUNDS[shade - 1]:g} ", _style(shade, colours_for, against))
    return text


def _style(shade: int, colours_for: Sequence[str], against: Sequence[str]) -> Style:
    if not shade:
        return Style()
    background = colours_for[shade - 1] if shade > 0 else against[-shade - 1]
    return Style(color=text_colour(background), bgcolor=background)


# ── as a page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TABLE_STYLE = """
table { border-collapse: collapse; margin: .5rem 0; }
th { text-align: left; font-weight: 600; padding-right: 1.5rem; }
td:first-child, th:first-child { text-align: right; }
""".strip()


def effect_page(explanations: Sequence[Explanation], model: str) -> Iterator[str]:
    """Yield an HTML page with an effect map of each text, piece by piece.

    Args:
        explanations: The decisions and the effects.
        model: Name of the classifier.
    """
    model = escape(visible(model))
    title = f"What moved the decisions of {model}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{title}</title>\n<style>\n{MONOSPACED}\n{PAGE_STYLE}\n{TABLE_STYLE}\n{_shade_rules()}\n</style>\n"
    yield f"</head>\n<body>\n<h1>{title}</h1>\n"
    yield "<p>Each character has the colour of its effect: by how much the log odds of the predicted label fall, in "
    yield "nats, if it is left out together with its neighbours. Blue characters speak for the label, orange ones "
    yield "against it.</p>\n"
    yield f'<p class="legend">against the label {_legend_spans(-1)} &nbsp; for the label {_legend_spans(1)}</p>\n'
    for explanation in explanations:
        yield from _section(explanation)
    yield "</body>\n</html>\n"


def _legend_spans(sign: int) -> str:
    shades = range(1, len(BOUNDS) + 1) if sign > 0 else range(len(BOUNDS), 0, -1)
    mark = "+" if sign > 0 else "−"
    return " ".join(f'<span class="{_class_name(sign * s)}">{mark}{BOUNDS[s - 1]:g}</span>' for s in shades)


def _section(explanation: Explanation) -> Iterator[str]:
    label = escape(visible(explanation.label))
    yield f"<section>\n<h2>{label}, p = {format_number(explanation.probability, 3)}</h2>\n"
    yield '<p class="text" dir="auto">'
    for group in group_by_cluster(explanation.chars):
        effect = _group_effect(group)
        shade = effect_shade(effect)
        drawn = escape(group_glyph(group)[0]) + ("<br>" if group[-1].text.endswith("\n") else "")
        title = f"{format_number(effect, 2, sign=True)} nats"
        yield f'<span class="{_class_name(shade)}" title="{title}">{drawn}</span>' if shade else drawn
    yield "</p>\n"
    runs = strongest_runs(explanation.chars, BOUNDS[0], MAX_RUNS)
    if not runs:
        yield f"<small>No passage of this text changes the log odds by {BOUNDS[0]:g} nats or more.</small>\n"
    else:
        yield "<table>\n<caption>The passages with the largest effects</caption>\n"
        yield '<tr><th scope="col">nats</th><th scope="col">direction</th><th scope="col">passage</th></tr>\n'
        for run in runs:
            direction = f"for {label}" if run.effect_nats > 0 else f"against {label}"
            nats = format_number(run.effect_nats, 2, sign=True)
            yield f'<tr><td>{nats}</td><td>{direction}</td><td dir="auto">{escape(visible(run.text))}</td></tr>\n'
        yield "</table>\n"
    yield "</section>\n"


def _class_name(shade: int) -> str:
    return f"f{shade}" if shade > 0 else f"a{-shade}"


def _shade_rules() -> str:
    """Return the CSS rules of the shades: f1 to f4 for the label, a1 to a4 against it."""
    light, dark = (
        [f".{letter}{shade} {{ background: {colour}; color: {text_colour(colour)}; }}"
         for letter, colours in (("f", colours_for), ("a", against)) for shade, colour in enumerate(colours, start=1)]
        for colours_for, against in ((LIGHT_FOR, LIGHT_AGAINST), (DARK_FOR, DARK_AGAINST))
    )  # fmt: skip
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"])
