"""Line charts as SVG: one text that loads nothing, with the colours of the reader's light or dark setting.

    title
    y label
    ┌──────────────────────┐
    │                      │  ── rnn       the legend has a column of its own, so it covers no line
    │                      │  ── lstm
    └──────────────────────┘
            x label

The chart paints its own background, so it is readable on any page. Colours are attributes for the light setting, which
every program draws, and style rules for the dark one. Lines also differ in their dashes and markers, for readers who
see few colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from chargen.ui.chart.chart import Axis, Chart
from chargen.ui.terminal_text import cells, shorten, visible

PLOT_WIDTH, PLOT_HEIGHT = 560, 320  # pixels of the area between the axes
FONT_SIZE = 13  # pixels
CELL_WIDTH = 0.62 * FONT_SIZE  # more than most letters of a sans-serif font need
LEGEND_ROW = 22  # pixels between two names
LEGEND_LINE = 34  # pixels of the line before a name
MAX_NAME_CELLS = 30  # longer names are cut
MAX_MARKED_POINTS = 40  # if a line of a chart has more points, its lines have no markers
GAP = 10  # pixels between parts

LIGHT = ("#0072b2", "#c64600", "#00795a", "#a03d87", "#7a5c00", "#b3202c", "#4b4ba3", "#555555")
DARK = ("#63b8f2", "#ff9455", "#35cf9f", "#eb9fd3", "#f0dc4a", "#ff8080", "#b0aef5", "#d0d0d0")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
PAGE, TEXT, GRID = ("#ffffff", "#111111"), ("#222222", "#eeeeee"), ("#dddddd", "#3a3a3a")  # light, dark


def chart_svg(chart: Chart) -> str:
    """Return a chart as SVG text, with markers at the points of lines that have few."""
    return "".join(_parts(chart))


def _parts(chart: Chart) -> Iterator[str]:
    x_axis, y_axis = chart.axes()
    lines = list(chart.lines())
    has_markers = max((sum(map(len, pieces)) for _, pieces in lines), default=0) <= MAX_MARKED_POINTS
    names = [shorten(name, MAX_NAME_CELLS) for name, _ in lines]
    y_ticks = y_axis.ticks(7)
    left = GAP + round(max((_width(tick.label) for tick in y_ticks), default=0)) + 8
    title_width = PLOT_WIDTH + left
    titles = _wrap(chart.title, title_width)
    top = GAP + (len(titles) + 1) * 20 + GAP
    plot_height = max(PLOT_HEIGHT, len(names) * LEGEND_ROW)
    legend = round(LEGEND_LINE + GAP + max(map(_width, names), default=0)) if any(names) else 0
    width, height = left + PLOT_WIDTH + 2 * GAP + legend + GAP, top + plot_height + 20 + 24 + GAP
    yield _head(chart, width, height)
    for row, line in enumerate(titles):
        yield _text(GAP, GAP + 14 + 20 * row, line, 'font-weight="bold"')
    yield _text(GAP, top - GAP - 4, chart.y_label)
    yield f'<g transform="translate({left} {top})">\n'
    yield from _axes(x_axis, y_axis, chart.x_label, plot_height)
    for number, (name, pieces) in enumerate(lines):
        yield from _line(number, name, [_place(piece, x_axis, y_axis, plot_height) for piece in pieces], has_markers)
    if legend:
        yield from _legend(names, has_markers)
    yield "</g>\n</svg>\n"


def _head(chart: Chart, width: int, height: int) -> str:
    about = _xml(chart.title or f"{chart.y_label} against {chart.x_label}")
    pairs = [("page", "fill", PAGE[1]), ("text", "fill", TEXT[1]), ("grid", "stroke", GRID[1])]
    rules = [f".{name} {{ {kind}: {colour}; }}" for name, kind, colour in [*pairs, ("axis", "stroke", TEXT[1])]]
    rules += [f".s{n} {{ stroke: {colour}; }} .m{n} {{ fill: {colour}; }}" for n, colour in enumerate(DARK)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{about}" font-family="system-ui, \'DejaVu Sans\', Arial, sans-serif" '
        f'font-size="{FONT_SIZE}">\n<title>{about}</title>\n'
        f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>\n"
        f'<rect class="page" width="{width}" height="{height}" fill="{PAGE[0]}"/>\n'
    )


def _axes(x_axis: Axis, y_axis: Axis, x_label: str, height: int) -> Iterator[str]:
    """Yield the grid, the axes with their ticks, and the label of the x axis."""
    for tick in y_axis.ticks(7):
        y = round(height * (1 - y_axis.fraction(tick.value)), 1)
        yield f'<path class="grid" stroke="{GRID[0]}" d="M0 {y}H{PLOT_WIDTH}"/>\n'
        yield _text(-8, y + 4, tick.label, 'text-anchor="end"')
    for tick in x_axis.ticks(8):
        x = round(PLOT_WIDTH * x_axis.fraction(tick.value), 1)
        yield f'<path class="axis" stroke="{TEXT[0]}" d="M{x} {height}v5"/>\n'
        yield _text(x, height + 19, tick.label, 'text-anchor="middle"')
    yield f'<path class="axis" stroke="{TEXT[0]}" fill="none" d="M0 0V{height}H{PLOT_WIDTH}"/>\n'
    yield _text(PLOT_WIDTH / 2, height + 41, x_label, 'text-anchor="middle"')


def _line(number: int, name: str, pieces: Sequence[Sequence[tuple[float, float]]], has_markers: bool) -> Iterator[str]:
    """Yield a series: its pieces as a path, and the markers of its points; a point alone always has one."""
    path = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in piece) for piece in pieces if len(piece) > 1)
    yield f"<g><title>{_xml(name)}</title>"
    if path:
        yield f'<path {_stroke(number)} d="{path}"/>'
    for piece in pieces:
        if has_markers or len(piece) == 1:
            yield from (_marker(number, x, y) for x, y in piece)
    yield "</g>\n"


def _legend(names: Sequence[str], has_markers: bool) -> Iterator[str]:
    left = PLOT_WIDTH + 2 * GAP
    for number, name in enumerate(names):
        y = 12 + number * LEGEND_ROW
        yield f'<path {_stroke(number)} d="M{left} {y}h{LEGEND_LINE}"/>'
        if has_markers:
            yield _marker(number, left + LEGEND_LINE / 2, y)
        yield _text(left + LEGEND_LINE + GAP, y + 4, name)


def _stroke(number: int) -> str:
    """Return the attributes of the line of a series: among 32 series, no two have the same colour and dashes."""
    colour, dashes = number % len(LIGHT), DASHES[_shape(number)]
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'class="s{colour}" stroke="{LIGHT[colour]}" stroke-width="2" stroke-linejoin="round" fill="none"{dash}'


def _marker(number: int, x: float, y: float) -> str:
    """Return the marker of a series: a disc, a square, a triangle or a diamond."""
    shapes = ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "m-3.5 -3.5h7v7h-7z", "m0 -5l4.5 8h-9z", "m0 -5l5 5l-5 5l-5 -5z")
    colour = number % len(LIGHT)
    return f'<path class="m{colour}" fill="{LIGHT[colour]}" d="M{x:g} {y:g}{shapes[_shape(number)]}"/>'


def _shape(number: int) -> int:
    return (number + number // len(LIGHT)) % len(DASHES)


def _place(piece: Sequence[tuple[float, float]], x_axis: Axis, y_axis: Axis, height: int) -> list[tuple[float, float]]:
    """Return points in pixels."""
    return [(round(PLOT_WIDTH * x_axis.fraction(x), 1), round(height * (1 - y_axis.fraction(y)), 1)) for x, y in piece]


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text class="text" fill="{TEXT[0]}" x="{x:g}" y="{y:g}" {attributes}>{_xml(text)}</text>\n'


def _xml(text: str) -> str:
    """Return a text for XML, which forbids control characters and two others."""
    return escape(visible(text).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))


def _width(text: str) -> float:
    """Return the width of a text in pixels, estimated from above."""
    return cells(text) * CELL_WIDTH


def _wrap(text: str, width: float) -> list[str]:
    """Return a title in lines that fit a width in pixels; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and _width(f"{lines[-1]} {word}") <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
