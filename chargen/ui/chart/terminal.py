"""Line charts as characters of a terminal. Each line has a marker of its own, so no colour is needed.

gradient norm
 10⁰ ┤○●●
     │  ○●●●●         a point of a line is its marker; "·" connects points that are far apart;
10⁻² ┤   ○ ·●●●       where lines meet, the first one is in front
     │    ○○  ·●●
10⁻⁴ ┤      ○○○  ●
     └┬─────────┬────
      0        10
          lag k (tokens)
● lstm  ○ rnn                        a band is shaded: ░
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from chargen.ui.chart.chart import Axis, Chart
from chargen.ui.chart.time_axis import TimeAxis
from chargen.ui.terminal_text import cells, shorten

MARKERS = "●○■□▲△◆◇✚✖+x*#%@"  # all are one cell wide
COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red")
CONNECTION, SHADE = "·", "░"
CELL_ASPECT = 2  # height of a character, as a multiple of its width
TICK_COLUMNS, TIME_TICK_COLUMNS = 9, 14  # columns for a tick of the x axis with its label, and for one of times
MIN_WIDTH = 30  # columns of the narrowest chart
MAX_NAME_CELLS = 30

Cell = tuple[str, int]  # a character, and the number of its series


def chart_text(chart: Chart, width: int = 80, height: int = 16) -> Text:
    """Return a chart in `width` columns, with `height` rows between the axes.

    It has colours, but does not need them: print it with a console of `ui/console.py`.
    """
    width = max(MIN_WIDTH, width)
    x_axis, y_axis = chart.axes()
    y_labels = {round((height - 1) * (1 - y_axis.fraction(t.value))): t.label for t in y_axis.ticks(height // 3)}
    margin = max((cells(label) for label in y_labels.values()), default=0) + 1
    columns = width - margin - 2
    if chart.has_equal_scales:
        share = (x_axis.high - x_axis.low) / (y_axis.high - y_axis.low)
        columns = min(columns, max(MIN_WIDTH - margin - 2, round(CELL_ASPECT * height * min(share, columns))))
    grid = _draw(chart, x_axis, y_axis, columns, height)
    text = Text()
    for line in (chart.title, chart.y_label):
        if line:
            text.append(shorten(line, width) + "\n")
    for row in range(height):
        label = y_labels.get(row, "")
        text.append(" " * (margin - 1 - cells(label)) + label + (" ┤" if row in y_labels else " │"))
        for column in range(max((c for r, c in grid if r == row), default=-1) + 1):
            drawn, number = grid.get((row, column), (" ", 0))
            text.append(drawn, COLOURS[number % len(COLOURS)] if drawn != " " else "")
        text.append("\n")
    for line in _x_axis_lines(x_axis, columns):
        text.append(" " * margin + line + "\n")
    x_label = shorten(chart.x_label_on(x_axis), columns)
    text.append(" " * margin + x_label.center(columns).rstrip() + "\n")
    _add_legend(text, chart, width)
    text.rstrip()
    return text


def _draw(
    chart: Chart, x_axis: Axis | TimeAxis, y_axis: Axis, columns: int, height: int
) -> dict[tuple[int, int], Cell]:
    """Return the characters by (row, column): bands behind connections behind points, later series behind earlier."""
    points: dict[tuple[int, int], Cell] = {}
    connections: dict[tuple[int, int], Cell] = {}
    for number, (_, pieces) in enumerate(chart.lines()):
        for piece in pieces:
            places = [((height - 1) * (1 - y_axis.fraction(y)), (columns - 1) * x_axis.fraction(x)) for x, y in piece]
            for row, column in places:
                points.setdefault((round(row), round(column)), (MARKERS[number % len(MARKERS)], number))
            for place in _between(places):
                connections.setdefault(place, (CONNECTION, number))
    return _shades(chart, x_axis, y_axis, columns, height) | connections | points


def _shades(
    chart: Chart, x_axis: Axis | TimeAxis, y_axis: Axis, columns: int, height: int
) -> dict[tuple[int, int], Cell]:
    """Return the characters of the bands by (row, column)."""
    cells_by_place: dict[tuple[int, int], Cell] = {}
    for band, pieces in chart.areas():
        for piece in pieces:
            lows, highs = (
                [((height - 1) * (1 - y_axis.fraction(p[k])), (columns - 1) * x_axis.fraction(p[0])) for p in piece]
                for k in (1, 2)
            )
            bottom, top = dict(_by_column(lows)), dict(_by_column(highs))
            for column in bottom:
                for row in range(min(bottom[column], top[column]), max(bottom[column], top[column]) + 1):
                    cells_by_place.setdefault((row, column), (SHADE, band.series))
    return cells_by_place


def _by_column(places: Sequence[tuple[float, float]]) -> Iterator[tuple[int, int]]:
    """Yield (column, row) of a line for each column that it crosses, in the order of its points."""
    for (row, column), (next_row, next_column) in zip(places, places[1:], strict=False):
        first, last = sorted((round(column), round(next_column)))
        for each in range(first, last + 1):
            share = (each - column) / (next_column - column) if next_column != column else 0.0
            yield each, round(row + min(max(share, 0.0), 1.0) * (next_row - row))
    if len(places) == 1:
        yield round(places[0][1]), round(places[0][0])


def _between(places: Sequence[tuple[float, float]]) -> Iterator[tuple[int, int]]:
    """Yield the cells of straight lines between neighbouring points."""
    for (row, column), (next_row, next_column) in zip(places, places[1:], strict=False):
        steps = round(max(abs(next_row - row), abs(next_column - column)))
        for step in range(1, steps):
            share = step / steps
            yield round(row + share * (next_row - row)), round(column + share * (next_column - column))


def _x_axis_lines(axis: Axis | TimeAxis, columns: int) -> tuple[str, str]:
    """Return the line of the x axis, and the line of its labels; no label touches the one before."""
    line, labels, free = ["─"] * columns, "", 0
    tick_columns = TIME_TICK_COLUMNS if isinstance(axis, TimeAxis) else TICK_COLUMNS
    for tick in axis.ticks(max(2, columns // tick_columns)):
        column = round((columns - 1) * axis.fraction(tick.value))
        line[column] = "┬"
        start = min(max(0, column - (len(tick.label) - 1) // 2), columns - len(tick.label))
        if start >= free:
            labels = labels.ljust(start + 1) + tick.label
            free = start + len(tick.label) + 1
    return "└" + "".join(line), labels


def _add_legend(text: Text, chart: Chart, width: int) -> None:
    """Append the markers and names of the series and the bands, in as many lines as they need."""
    entries = [(name, MARKERS[number % len(MARKERS)], number) for number, (name, _) in enumerate(chart.lines())]
    entries += [(band.name, SHADE, band.series) for band in chart.bands]
    used = 0
    for name, sign, number in entries:
        if not name:
            continue
        entry = shorten(name, MAX_NAME_CELLS)
        needed = 2 + cells(entry)
        if used and used + 2 + needed > width:
            text.append("\n")
            used = 0
        text.append("  " if used else "")
        text.append(sign, COLOURS[number % len(COLOURS)])
        text.append(" " + entry)
        used += needed + (2 if used else 0)
