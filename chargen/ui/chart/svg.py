"""Line charts as SVG: one text that loads nothing, with the colours of the reader's light or dark setting.

    title
    y label
    ┌──────────────────────┐
    │                      │  ── rnn       the legend has a column of its own, so it covers no line
    │                      │  ── lstm
    │                      │  ▒▒ 90 % interval
    └──────────────────────┘
            x label

The chart paints its own background, so it is readable on any page. Colours are attributes for the light setting, which
every program draws, and style rules for the dark one. Lines also differ in their dashes and markers, for readers who
see few colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chargen.ui.chart.chart import Axis, Chart
from chargen.ui.chart.svg_parts import GAP, TEXT, start_svg, text_element, text_width, wrap_title, xml_text
from chargen.ui.chart.time_axis import Tick, TimeAxis
from chargen.ui.terminal_text import shorten

PLOT_WIDTH, PLOT_HEIGHT = 560, 320  # pixels of the area between the axes
SQUARE_SIZE, MIN_SIZE = 420, 80  # pixels: the largest height with equal scales, and the smallest height and width
X_TICK_WIDTH, TIME_TICK_WIDTH = 70, 100  # pixels for a tick of the x axis with its label, and for one of times
BAND_OPACITY = 0.25
LEGEND_ROW = 22  # pixels between two names
LEGEND_LINE = 34  # pixels of the line before a name
MAX_NAME_CELLS = 30  # longer names are cut
MAX_MARKED_POINTS = 40  # if a line of a chart has more points, its lines have no markers

LIGHT = ("#0072b2", "#c64600", "#00795a", "#a03d87", "#7a5c00", "#b3202c", "#4b4ba3", "#555555")
DARK = ("#63b8f2", "#ff9455", "#35cf9f", "#eb9fd3", "#f0dc4a", "#ff8080", "#b0aef5", "#d0d0d0")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
GRID = ("#dddddd", "#3a3a3a")  # light, dark


def chart_svg(chart: Chart) -> str:
    """Return a chart as SVG text, with markers at the points of lines that have few."""
    return "".join(_parts(chart))


@dataclass(frozen=True)
class _Plot:
    """The area between the axes; width and height in pixels."""

    x_axis: Axis | TimeAxis
    y_axis: Axis
    width: int
    height: int

    @classmethod
    def of(cls, chart: Chart) -> _Plot:
        """Return the plot of a chart: the largest one with equal scales, if it has these."""
        x_axis, y_axis = chart.axes()
        if not chart.has_equal_scales:
            return cls(x_axis, y_axis, PLOT_WIDTH, PLOT_HEIGHT)
        x_range, y_range = x_axis.high - x_axis.low, y_axis.high - y_axis.low
        scale = min(PLOT_WIDTH / x_range, SQUARE_SIZE / y_range)
        return cls(x_axis, y_axis, max(MIN_SIZE, round(x_range * scale)), max(MIN_SIZE, round(y_range * scale)))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in pixels."""
        return round(self.width * self.x_axis.fraction(x), 1), round(self.height * (1 - self.y_axis.fraction(y)), 1)

    def x_ticks(self) -> list[Tick]:
        """Return as many ticks of the x axis as have space for their labels."""
        tick_width = TIME_TICK_WIDTH if isinstance(self.x_axis, TimeAxis) else X_TICK_WIDTH
        return self.x_axis.ticks(max(2, self.width // tick_width))


def _parts(chart: Chart) -> Iterator[str]:
    plot = _Plot.of(chart)
    lines, areas = list(chart.lines()), list(chart.areas())
    has_markers = max((sum(map(len, pieces)) for _, pieces in lines), default=0) <= MAX_MARKED_POINTS
    names = [shorten(name, MAX_NAME_CELLS) for name in (*(name for name, _ in lines), *(b.name for b, _ in areas))]
    left = GAP + round(max((text_width(tick.label) for tick in plot.y_axis.ticks(7)), default=0)) + 8
    titles = wrap_title(chart.title, plot.width + left)
    top = GAP + (len(titles) + 1) * 20 + GAP
    legend = round(LEGEND_LINE + GAP + max(map(text_width, names), default=0)) if any(names) else 0
    bottom = max(plot.height + 20 + 24, len(names) * LEGEND_ROW)
    width, height = left + plot.width + 2 * GAP + legend + GAP, top + bottom + GAP
    yield _head(chart, width, height)
    for row, line in enumerate(titles):
        yield text_element(GAP, GAP + 14 + 20 * row, line, 'font-weight="bold"')
    yield text_element(GAP, top - GAP - 4, chart.y_label)
    yield f'<g transform="translate({left} {top})">\n'
    yield from _axes(plot, chart.x_label_on(plot.x_axis), 2 - left, width - left - 2)
    for band, pieces in areas:
        yield from _area(plot, band.series, band.name, pieces)
    for number, (name, line_pieces) in enumerate(lines):
        yield from _line(number, name, [[plot.place(x, y) for x, y in piece] for piece in line_pieces], has_markers)
    if legend:
        yield from _legend(names, len(lines), [band.series for band, _ in areas], plot.width + 2 * GAP, has_markers)
    yield "</g>\n</svg>\n"


def _head(chart: Chart, width: int, height: int) -> str:
    about = chart.title or f"{chart.y_label} against {chart.x_label}"
    rules = [f".grid {{ stroke: {GRID[1]}; }}", f".axis {{ stroke: {TEXT[1]}; }}"]
    rules += [f".s{n} {{ stroke: {colour}; }} .m{n} {{ fill: {colour}; }}" for n, colour in enumerate(DARK)]
    return start_svg(about, width, height, rules)


def _axes(plot: _Plot, x_label: str, leftmost: float, rightmost: float) -> Iterator[str]:
    """Yield the grid, the axes with their ticks, and the label of the x axis.

    Args:
        plot: The area between the axes.
        x_label: Label of the x axis.
        leftmost, rightmost: Where labels of ticks must end, in pixels.
    """
    for tick in plot.y_axis.ticks(7):
        y = round(plot.height * (1 - plot.y_axis.fraction(tick.value)), 1)
        yield f'<path class="grid" stroke="{GRID[0]}" d="M0 {y}H{plot.width}"/>\n'
        yield text_element(-8, y + 4, tick.label, 'text-anchor="end"')
    free = leftmost
    for tick in plot.x_ticks():
        x, half = round(plot.width * plot.x_axis.fraction(tick.value), 1), text_width(tick.label) / 2
        yield f'<path class="axis" stroke="{TEXT[0]}" d="M{x} {plot.height}v5"/>\n'
        middle = min(max(x, leftmost + half), rightmost - half)
        if middle - half >= free:
            yield text_element(middle, plot.height + 19, tick.label, 'text-anchor="middle"')
            free = middle + half
    yield f'<path class="axis" stroke="{TEXT[0]}" fill="none" d="M0 0V{plot.height}H{plot.width}"/>\n'
    yield text_element(plot.width / 2, plot.height + 41, x_label, 'text-anchor="middle"')


def _area(plot: _Plot, number: int, name: str, pieces: Sequence[Sequence[tuple[float, float, float]]]) -> Iterator[str]:
    """Yield a band: the area between the lows and the highs of each piece; of a point alone, a line."""
    yield f"<g><title>{xml_text(name)}</title>"
    for piece in pieces:
        low = [plot.place(x, low) for x, low, _ in piece]
        high = [plot.place(x, high) for x, _, high in piece]
        if len(piece) == 1:
            yield f'<path {_stroke(number)} stroke-opacity="{2 * BAND_OPACITY}" d="M{_path(low)}L{_path(high)}"/>'
        else:
            yield f'<path {_shade(number)} d="M{_path(high)}L{_path(low[::-1])}z"/>'
    yield "</g>\n"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:g} {y:g}" for x, y in points)


def _shade(number: int) -> str:
    """Return the attributes of an area in the colour of a series."""
    colour = number % len(LIGHT)
    return f'class="m{colour}" fill="{LIGHT[colour]}" fill-opacity="{BAND_OPACITY}"'


def _line(number: int, name: str, pieces: Sequence[Sequence[tuple[float, float]]], has_markers: bool) -> Iterator[str]:
    """Yield a series: its pieces as a path, and the markers of its points; a point alone always has one."""
    path = "".join(f"M{_path(piece)}" for piece in pieces if len(piece) > 1)
    yield f"<g><title>{xml_text(name)}</title>"
    if path:
        yield f'<path {_stroke(number)} d="{path}"/>'
    for piece in pieces:
        if has_markers or len(piece) == 1:
            yield from (_marker(number, x, y) for x, y in piece)
    yield "</g>\n"


def _legend(
    names: Sequence[str], num_lines: int, band_series: Sequence[int], left: int, has_markers: bool
) -> Iterator[str]:
    """Yield the names of the lines, then those of the bands, each with a piece of it."""
    for row, name in enumerate(names):
        y = 12 + row * LEGEND_ROW
        if row >= num_lines:
            yield f'<path {_shade(band_series[row - num_lines])} d="M{left} {y - 7}h{LEGEND_LINE}v14h-{LEGEND_LINE}z"/>'
        else:
            yield f'<path {_stroke(row)} d="M{left} {y}h{LEGEND_LINE}"/>'
            if has_markers:
                yield _marker(row, left + LEGEND_LINE / 2, y)
        yield text_element(left + LEGEND_LINE + GAP, y + 4, name)


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
