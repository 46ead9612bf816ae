"""What a line chart shows: series of points, shaded bands, the labels of its axes, and the ticks of its axes.

    chart = Chart([("rnn", lags, norms)], x_label="lag k (tokens)", y_label="gradient norm", log_y=True, title="…")
    chart_svg(chart)       → SVG text        (`svg.py`)
    chart_text(chart, 80)  → rich text       (`terminal.py`)
    write_chart(path, chart)                 (`files.py`): .svg or .png

    band = Band("90 % interval", times, lows, highs, series=1)      the area between two lines, in the colour of line 1
    Chart([("known", …), ("forecast", …)], …, bands=[band], x_is_time=True)

A value that an axis cannot show is left out: NaN, an infinite number, and on a logarithmic axis zero and less. The line
has a gap there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chargen.ui.chart.time_axis import Tick, TimeAxis

MAX_VALUE = 1e300  #: larger values, and on a logarithmic axis those below its inverse, count as infinite or zero
MIN_DECADES = 1.5  #: a logarithmic axis of fewer decades also has ticks at 2 and 5 times a power of ten
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Series(NamedTuple):
    """A line of a chart; with a single point, a marker."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


class Band(NamedTuple):
    """A shaded area between two lines."""

    name: str
    xs: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    series: int  #: number of the line whose colour it has


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Args:
        series: The lines: (name, xs, ys) each, with as many xs as ys.
        x_label: What the x axis shows, with its unit in brackets.
        y_label: What the y axis shows, with its unit in brackets.
        title: The heading; "" for none.
        log_x: Whether the x axis is logarithmic.
        log_y: Whether the y axis is logarithmic.
        bands: Shaded areas behind the lines.
        x_is_time: Whether the xs are seconds since 1970, which are shown as times in UTC.
        has_equal_scales: Whether a unit has the same length on both axes, as on a map.
    """

    series: Sequence[Series | tuple[str, Sequence[float], Sequence[float]]]
    x_label: str
    y_label: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    bands: Sequence[Band] = ()
    x_is_time: bool = False
    has_equal_scales: bool = False

    def lines(self) -> Iterator[tuple[str, list[list[tuple[float, float]]]]]:
        """Yield the name of each series, and its points (x, y) that can be shown, in pieces without gaps."""
        for name, xs, ys in self.series:
            pieces: list[list[tuple[float, float]]] = [[]]
            for x, y in zip(xs, ys, strict=True):
                if _is_shown(x, self.log_x) and _is_shown(y, self.log_y):
                    pieces[-1].append((float(x), float(y)))
                elif pieces[-1]:
                    pieces.append([])
            yield name, [piece for piece in pieces if piece]

    def areas(self) -> Iterator[tuple[Band, list[list[tuple[float, float, float]]]]]:
        """Yield each band, and its points (x, low, high) that can be shown, in pieces without gaps."""
        for band in self.bands:
            pieces: list[list[tuple[float, float, float]]] = [[]]
            for x, low, high in zip(band.xs, band.lows, band.highs, strict=True):
                if _is_shown(x, self.log_x) and _is_shown(low, self.log_y) and _is_shown(high, self.log_y):
                    pieces[-1].append((float(x), float(low), float(high)))
                elif pieces[-1]:
                    pieces.append([])
            yield band, [piece for piece in pieces if piece]

    def axes(self) -> tuple[Axis | TimeAxis, Axis]:
        """Return the x axis, from the first point to the last, and the y axis, which is rounded to whole ticks.

        With equal scales both axes have about the same range, so that the picture of a narrow path is a square, too.
        """
        points = [point for _, pieces in self.lines() for piece in pieces for point in piece]
        edges = [point for _, pieces in self.areas() for piece in pieces for point in piece]
        points += [(x, y) for x, low, high in edges for y in (low, high)]
        y_axis = Axis.around((y for _, y in points), self.log_y)
        if self.x_is_time:
            return TimeAxis.around(x for x, _ in points), y_axis.rounded()
        x_axis = Axis.around((x for x, _ in points), self.log_x)
        if self.has_equal_scales:
            spread = max(x_axis.high - x_axis.low, y_axis.high - y_axis.low)
            return x_axis.widened(spread).rounded(), y_axis.widened(spread).rounded()
        return x_axis, y_axis.rounded()

    def x_label_on(self, x_axis: Axis | TimeAxis) -> str:
        """Return the label of an x axis, with the year or the day that its ticks leave out."""
        context = x_axis.context if isinstance(x_axis, TimeAxis) else ""
        return f"{self.x_label} ({context})" if context else self.x_label


@dataclass(frozen=True)
class Axis:
    """A range of values with ticks."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def around(cls, values: Iterable[float], is_log: bool) -> Axis:
        """Return the axis from the smallest to the largest value. It is widened if they are equal, or if none exist."""
        values = list(values) or [1.0]
        low, high = min(values), max(values)
        if is_log and math.log10(high) - math.log10(low) < 1e-9:
            low, high = low / 2, high * 2
        largest = max(abs(low), abs(high))
        if not is_log and high - low <= max(1e-12 * largest, 1 / MAX_VALUE):
            spread = largest / 2 if largest > 1 / MAX_VALUE else 1.0
            low, high = low - spread, high + spread
        return cls(low, high, is_log)

    def widened(self, spread: float) -> Axis:
        """Return a linear axis with a range of at least `spread`, around the same middle."""
        more = 0.0 if self.is_log else max(0.0, spread - (self.high - self.low)) / 2
        return Axis(self.low - more, self.high + more, self.is_log)

    def rounded(self) -> Axis:
        """Return an axis that starts and ends at a tick."""
        if self.is_log:
            low, high = math.log10(self.low), math.log10(self.high)
            if high - low >= MIN_DECADES:
                return Axis(10.0 ** math.floor(low + 1e-9), 10.0 ** math.ceil(high - 1e-9), True)
            return self
        step = _linear_step(self.high - self.low, 5)
        return Axis(math.floor(self.low / step + 1e-9) * step, math.ceil(self.high / step - 1e-9) * step, False)

    def fraction(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        if self.is_log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, max_ticks: int) -> list[Tick]:
        """Return about `max_ticks` ticks or fewer, at round values."""
        return self._log_ticks(max_ticks) if self.is_log else self._linear_ticks(max_ticks)

    def _linear_ticks(self, max_ticks: int) -> list[Tick]:
        step = _linear_step(self.high - self.low, max_ticks)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        if first >= last and max_ticks < 64:
            return self._linear_ticks(2 * max_ticks)  # an axis has two ticks at least
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        largest = max(abs(self.low), abs(self.high))
        is_plain = decimals <= 6 and largest < 1e9
        digits = max(6, math.ceil(math.log10(largest / step)) + 1)  # as many as tell neighbouring ticks apart
        values = [number * step for number in range(first, last + 1)]
        return [Tick(value, f"{value:,.{decimals}f}" if is_plain else f"{value:.{digits}g}") for value in values]

    def _log_ticks(self, max_ticks: int) -> list[Tick]:
        low, high = math.log10(self.low), math.log10(self.high)
        factors = (1, 2, 5) if high - low > 0.3 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
        exponents = range(math.floor(low), math.ceil(high) + 1)
        values = [m * 10.0**e for e in exponents for m in factors]
        values = [v for v in values if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]
        if high - low < MIN_DECADES or len(values) <= max_ticks:
            return [Tick(v, f"{v:,g}") for v in values]
        every = max(1, math.ceil((high - low) / max(1, max_ticks)))
        exponents = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
        is_plain = low >= -3 and high <= 5
        return [Tick(10.0**e, f"{10.0**e:,g}" if is_plain else power_of_ten(e)) for e in exponents if e % every == 0]


def power_of_ten(exponent: int) -> str:
    """Return a power of ten as it is written on an axis.

    >>> power_of_ten(-3)
    '10⁻³'
    """
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def _linear_step(spread: float, max_ticks: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that cuts a range into at most `max_ticks` parts."""
    rough = spread / max(1, max_ticks)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _is_shown(value: float, is_log: bool) -> bool:
    return (1.0 / MAX_VALUE if is_log else -MAX_VALUE) <= value <= MAX_VALUE  # false for NaN
