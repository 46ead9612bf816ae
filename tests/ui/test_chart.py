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
from chargen.ui.chart.chart import Axis, Chart
from chargen.ui.chart.files import check_chart_file, write_chart
from chargen.ui.chart.svg import DARK, LIGHT, PAGE, TEXT, chart_svg
from chargen.ui.chart.terminal import MARKERS, MIN_WIDTH, chart_text
from chargen.ui.terminal_text import cells

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, 0.0, 1.0, 5e-324, 1e-299])
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=6)
CHARTS = st.builds(
    lambda lines, log_x, log_y, title: Chart(
        [(f"line {i}", [x for x, _ in points], [y for _, y in points]) for i, points in enumerate(lines)],
        "lag (tokens)", "norm", title, log_x, log_y,
    ),
    st.lists(POINTS, max_size=4), st.booleans(), st.booleans(), st.text(max_size=50) | st.just("a\x00\ufffe\ud800 <&"),
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


def test_texts_of_the_picture_do_not_overlap() -> None:
    chart = Chart(
        [(f"a rather long name of a series, number {i}", range(3), [i, i + 1, i]) for i in range(20)],
        "position (tokens)", "loss (nats per token)", "A title that is longer than the picture is wide " * 4,
    )  # fmt: skip
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
    assert len(boxes) > 30
    for i, a in enumerate(boxes):
        assert a[0] >= 0 and a[2] <= float(root.attrib["width"]) and a[3] <= float(root.attrib["height"])
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_names_are_escaped_and_control_characters_replaced() -> None:
    chart = Chart([("<b>&\x1b[2J", [0, 1], [0, 1])], "x", "y", "a < b")
    texts = [text.text for text in elements(chart, "text")]
    assert "<b>&␛[2J" in texts and "a < b" in texts
    assert "\x1b" not in chart_text(chart).plain


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
