"""Charts: round ticks, no overlapping text, nothing outside the picture, and readable colours in both settings."""

import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chargen.errors import ChargenError, ConfigError
from chargen.ui.chart.chart import Axis, Band, Chart
from chargen.ui.chart.files import check_chart_file, write_chart
from chargen.ui.chart.svg import DARK, LIGHT, chart_svg
from chargen.ui.chart.svg_parts import PAGE, TEXT
from chargen.ui.chart.terminal import MARKERS, MIN_WIDTH, SHADE, chart_text
from chargen.ui.chart.time_axis import TimeAxis
from chargen.ui.terminal_text import cells

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, 0.0, 1.0, 5e-324, 1e-299])
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=6)
CHARTS = st.builds(
    lambda lines, log_x, log_y, title, is_time, is_square: Chart(
        [(f"line {i}", [x for x, _ in points], [y for _, y in points]) for i, points in enumerate(lines)],
        "lag (tokens)", "norm", title, log_x and not is_time, log_y,
        [Band("band", [x for x, _ in line], [y for _, y in line], [y + 1 for _, y in line], 0) for line in lines],
        is_time, is_square,
    ),
    st.lists(POINTS, max_size=4), st.booleans(), st.booleans(), st.text(max_size=50) | st.just("a\x00\ufffe\ud800 <&"),
    st.booleans(), st.booleans(),
)  # fmt: skip


def gradients() -> Chart:
    lags = list(range(9))
    falling = ("rnn", lags, [0.1**k for k in lags])
    return Chart([("lstm", lags, [0.9**k for k in lags]), falling], "lag k (tokens)", "norm", "Norms", log_y=True)


def elements(chart: Chart, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(chart_svg(chart)).iter(SVG + kind))


@example(879609.9999999999, 1e-06, 6)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_linear_ticks_are_few_evenly_spaced_and_within_the_axis(low: float, spread: float, max_ticks: int) -> None:
    axis = Axis(low, low + spread, False)
    ticks = axis.ticks(max_ticks)
    assert 2 <= len(ticks) <= max(7, max_ticks + 1)
    assert len({tick.label for tick in ticks}) == len(ticks)
    rounding = 1e-6 + 4 * np.spacing(abs(low) + spread) / spread  # of the ends of the axis, as a share of it
    assert all(-rounding <= axis.fraction(tick.value) <= 1 + rounding for tick in ticks)


def test_an_axis_has_two_ticks_at_least() -> None:
    assert [tick.label for tick in Axis(1, 400_002, False).ticks(2)] == ["200,000", "400,000"]


def test_markers_belong_to_all_lines_of_a_chart_or_to_none() -> None:
    few, many = ("few", [0, 1], [0, 1]), ("many", range(50), range(50))
    assert 'class="m0"' in chart_svg(Chart([few], "x", "y"))
    assert 'class="m' not in chart_svg(Chart([few, many], "x", "y"))


def test_ticks_are_round_and_labelled_without_noise() -> None:
    assert [tick.label for tick in Axis(1, 50, True).ticks(8)] == ["1", "2", "5", "10", "20", "50"]
    assert [tick.label for tick in Axis(0, 0.3, False).ticks(3)] == ["0.0", "0.1", "0.2", "0.3"]
    assert [tick.label for tick in Axis(0, 20_000, False).ticks(4)] == ["0", "5,000", "10,000", "15,000", "20,000"]
    assert [tick.label for tick in Axis(1e-9, 1, True).ticks(5)] == ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰"]
    assert [tick.label for tick in Axis(1, 100, True).ticks(5)] == ["1", "10", "100"]
    assert [tick.label for tick in Axis(1, 10, True).ticks(5)] == ["1", "2", "5", "10"]


def test_the_y_axis_starts_and_ends_at_a_tick() -> None:
    y_axis = Chart([("", [0, 1], [0.13, 0.94])], "x", "y").axes()[1]
    assert (y_axis.low, y_axis.high) == (0.0, 1.0)
    assert gradients().axes()[1].low == pytest.approx(1e-8)


@given(CHARTS)
def test_any_numbers_make_a_valid_picture_of_visible_points(chart: Chart) -> None:
    root = ElementTree.fromstring(chart_svg(chart))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert 0 < width < 2000 and 0 < height < 2000
    paths = "".join(path.attrib["d"] for path in root.iter(f"{SVG}path"))
    assert not re.search("nan|inf", paths)
    for name, pieces in chart.lines():
        assert name and all(math.isfinite(x) and math.isfinite(y) for piece in pieces for x, y in piece)


@given(CHARTS, st.integers(10, 120))
@example(Chart([("line", [0.0, 0.75], [0.0, 0.0])], "x", "y", x_is_time=True), 10)
def test_a_terminal_chart_fits_its_width(chart: Chart, width: int) -> None:
    lines = chart_text(chart, width, height=8).plain.split("\n")
    assert max(map(cells, lines)) <= max(width, MIN_WIDTH)


def test_a_value_that_cannot_be_shown_leaves_a_gap() -> None:
    chart = Chart([("a", [0, 1, 2, 3], [1.0, 0.0, 2.0, 4.0])], "x", "y", log_y=True)
    assert list(chart.lines()) == [("a", [[(0.0, 1.0)], [(2.0, 2.0), (3.0, 4.0)]])]


def test_a_terminal_chart_needs_no_colour() -> None:
    lines = chart_text(gradients(), 62, height=9).plain.split("\n")
    assert lines[:2] == ["Norms", "norm"] and lines[-1] == "● lstm  ○ rnn"
    assert sum(line.count("●") for line in lines[2:11]) == 9  # the first line is in front
    assert sum(line.count("○") for line in lines[2:11]) == 8
    assert lines[2].startswith(" 10⁰ ┤●") and lines[10].endswith("○")
    assert "lag k (tokens)" in lines[-2]
    assert len(set(MARKERS)) == len(MARKERS) and all(cells(marker) == 1 for marker in MARKERS)


def long_names() -> Chart:
    return Chart(
        [(f"a rather long name of a series, number {i}", range(3), [i, i + 1, i]) for i in range(20)],
        "position (tokens)", "loss (nats per token)", "A title that is longer than the picture is wide " * 4,
    )  # fmt: skip


def forecast(first: str = "2013-12-24T06:00", step_s: float = 3600, num_steps: int = 48) -> Chart:
    """Return a picture of a series that is known, then forecast with an interval."""
    times = (np.datetime64(first, "s").astype(np.int64) + step_s * np.arange(num_steps)).tolist()
    values = [math.sin(k / 4) for k in range(num_steps)]
    half = num_steps // 2
    widths = [0.05 * k for k in range(num_steps - half)]
    lows, highs = ([v + s * w for v, w in zip(values[half:], widths, strict=True)] for s in (-1, 1))
    lines = [("known", times[: half + 1], values[: half + 1]), ("forecast", times[half:], values[half:])]
    band = Band("90 % interval", times[half:], lows, highs, 1)
    return Chart(lines, "time", "temp (°F)", "Forecast", bands=[band], x_is_time=True)


def path() -> Chart:
    xs, ys = [0.1, 0.5, 0.9, 0.8, 0.4], [0.2, 0.5, 0.8, 0.9, 0.4]
    return Chart([("ball", xs, ys)], "x (sides of the box)", "y (sides of the box)", "A path", has_equal_scales=True)


@pytest.mark.parametrize(
    "chart",
    [
        long_names(), path(), forecast(), forecast(step_s=60), forecast(step_s=86_400 * 30.4), forecast(step_s=86_400),
        forecast("2013-01-30", 86_400), forecast(step_s=86_400 * 365.25), forecast(step_s=1),
    ],
)  # fmt: skip
def test_texts_of_the_picture_do_not_overlap(chart: Chart) -> None:
    root = ElementTree.fromstring(chart_svg(chart))
    boxes = []
    group = root.find(f"{SVG}g")
    assert group is not None
    left, top = (float(value) for value in group.attrib["transform"][len("translate(") : -1].split())
    for parent, (x0, y0) in ((root, (0.0, 0.0)), (group, (left, top))):
        for text in parent.findall(f"{SVG}text"):
            x, y = float(text.attrib["x"]) + x0, float(text.attrib["y"]) + y0
            width = 7.5 * len(text.text or "")
            x -= {"middle": width / 2, "end": width}.get(text.attrib.get("text-anchor", ""), 0.0)
            boxes.append((x, y - 11, x + width, y + 3))
    assert len(boxes) >= 10
    for i, a in enumerate(boxes):
        assert a[0] >= 0 and a[2] <= float(root.attrib["width"]) and a[3] <= float(root.attrib["height"])
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_names_are_escaped_and_control_characters_replaced() -> None:
    chart = Chart([("<b>&\x1b[2J", [0, 1], [0, 1])], "x", "y", "a < b")
    texts = [text.text for text in elements(chart, "text")]
    assert "<b>&␛[2J" in texts and "a < b" in texts
    assert "\x1b" not in chart_text(chart).plain


def test_a_band_is_an_area_behind_the_lines_in_the_colour_of_its_line() -> None:
    svg = chart_svg(forecast())
    assert svg.index("fill-opacity") < svg.index('class="s0"')
    area = next(path for path in elements(forecast(), "path") if path.attrib["d"].endswith("z"))
    assert area.attrib["class"] == "m1" and area.attrib["fill"] == LIGHT[1]
    assert "90 % interval" in [text.text for text in elements(forecast(), "text")]
    points = re.findall(r"([\d.]+) ([\d.]+)", area.attrib["d"])
    assert len(points) == 2 * 24 and points[0] == points[-1]  # the highs, and back along the lows


def test_a_band_has_its_share_of_the_y_axis_and_gaps() -> None:
    chart = Chart(
        [("a", [0, 1, 2, 3], [1, 1, 1, 1])],
        "x",
        "y",
        bands=[Band("b", [0, 1, 2, 3], [0, math.nan, -5, 0], [2, 2, 9, 2], 0)],
    )
    assert (chart.axes()[1].low, chart.axes()[1].high) == (-5.0, 10.0)
    assert [pieces for _, pieces in chart.areas()] == [[[(0.0, 0.0, 2.0)], [(2.0, -5.0, 9.0), (3.0, 0.0, 2.0)]]]


def test_a_terminal_shades_a_band() -> None:
    lines = chart_text(forecast(), 70, height=10).plain.split("\n")
    assert lines[-1] == "● known  ○ forecast  ░ 90 % interval"
    shaded = [line.rstrip().rfind(SHADE) for line in lines[2:12] if SHADE in line]
    assert len(shaded) >= 5 and min(line.find(SHADE) for line in lines[2:12] if SHADE in line) > 30
    assert "time (2013)" in lines[-2] and "12-25 00:00" in lines[-3]


@pytest.mark.parametrize("ys", [[0.2, 0.5, 0.8], [0.2, 0.21, 0.2], [0.2, 5.0, -3.0], [2, 2, 2]])
def test_equal_scales_make_a_unit_as_long_on_both_axes(ys: list[float]) -> None:
    chart = Chart([("ball", [0.1, 0.5, 0.9], ys)], "x", "y", has_equal_scales=True)
    (walls,) = [p.attrib["d"] for p in elements(chart, "path") if p.attrib["d"].startswith("M0 0V")]
    height, width = map(float, re.findall(r"[VH]([\d.]+)", walls))
    x_axis, y_axis = chart.axes()
    assert width > 300 and height > 300
    assert width / (x_axis.high - x_axis.low) == pytest.approx(height / (y_axis.high - y_axis.low), rel=0.01)


@given(st.floats(-5e10, 2e11), st.floats(0, 5e10) | st.floats(0, 1e7), st.integers(2, 8))
def test_ticks_of_times_are_few_distinct_and_round(low: float, span: float, max_ticks: int) -> None:
    axis = TimeAxis.around([low, low + span])
    ticks = axis.ticks(max_ticks)
    assert len(ticks) <= max_ticks and len({tick.label for tick in ticks}) == len(ticks)
    assert all(axis.low - 1e-3 <= tick.value <= axis.high + 1e-3 for tick in ticks)
    assert all(tick.value == round(tick.value) for tick in ticks)


@given(st.floats(-5e10, 2e11), st.floats(0, 2))
def test_an_axis_of_times_contains_every_time_it_was_made_for(low: float, span: float) -> None:
    axis = TimeAxis.around([low, low + span])
    assert 0 <= axis.fraction(low) <= axis.fraction(low + span) <= 1


@pytest.mark.parametrize(
    ("first", "last", "labels", "context"),
    [
        ("2013-01-05T00:00", "2013-01-05T23:00", ["00:00", "06:00", "12:00", "18:00"], "2013-01-05"),
        ("2013-01-05T20:00", "2013-01-06T07:00", ["01-05 21:00", "01-06 00:00", "01-06 03:00", "01-06 06:00"], "2013"),
        ("2013-01-05T00:00", "2013-01-09T00:00", ["01-05", "01-06", "01-07", "01-08", "01-09"], "2013"),
        ("2013-12-30", "2014-01-03", ["2013-12-30", "2013-12-31", "2014-01-01", "2014-01-02", "2014-01-03"], ""),
        ("2013-02-20", "2013-11-05", ["2013-03", "2013-05", "2013-07", "2013-09", "2013-11"], "2013"),
        ("1950-02-20", "2013-11-05", ["1960", "1980", "2000"], ""),
    ],
)
def test_times_are_labelled_as_shortly_as_they_can_be(first: str, last: str, labels: list[str], context: str) -> None:
    axis = TimeAxis.around(np.array([first, last], "datetime64[s]").astype(np.float64).tolist())
    assert ([tick.label for tick in axis.ticks(5)], axis.context) == (labels, context)


def test_many_lines_all_look_different() -> None:
    chart = Chart([(str(i), [0, 1], [i, i]) for i in range(32)], "x", "y")
    groups = [group for group in elements(chart, "g") if group.find(f"{SVG}title") is not None]
    seen = []
    for group in groups:
        path = group.find(f"{SVG}path")
        assert path is not None
        seen.append((path.attrib["class"], path.attrib.get("stroke-dasharray")))
    assert len(set(seen)) == 32


@pytest.mark.parametrize(("colours", "setting"), [(LIGHT, 0), (DARK, 1)])
def test_every_colour_is_readable_on_its_page(colours: tuple[str, ...], setting: int) -> None:
    assert all(contrast(colour, PAGE[setting]) >= 4.5 for colour in (*colours, TEXT[setting]))


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_a_svg_is_written_and_loads_nothing(tmp_path: Path) -> None:
    write_chart(tmp_path / "a.svg", gradients())
    written = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert written == chart_svg(gradients())
    assert written.count("http") == 1 and "<script" not in written  # the name of the SVG format itself


def test_a_png_names_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)  # an import of it now fails
    with pytest.raises(ChargenError) as error:
        write_chart(tmp_path / "a.png", gradients())
    assert error.value.hint == "pip install 'chargen[plot]'"
    assert not (tmp_path / "a.png").exists()


def test_a_png_is_drawn_from_the_svg_if_the_package_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    write_chart(tmp_path / "a.png", gradients())
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["chart", "chart.sgv", "chart.pdf", ".svg.txt"])
def test_another_format_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"names no known format") as error:
        check_chart_file(name)
    assert ".svg or .png" in error.value.hint
