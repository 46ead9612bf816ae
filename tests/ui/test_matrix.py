"""The picture of a confusion matrix: valid SVG, all counts, readable numbers, and labels of any script."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.probe.heat_map import contrast, text_colour
from chargen.ui.chart.matrix import DARK, LIGHT, MAX_MATRIX_LABELS, Matrix, _level, matrix_svg

SVG = "{http://www.w3.org/2000/svg}"


def elements(matrix: Matrix, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(matrix_svg(matrix)).iter(SVG + name))


@given(st.lists(st.text(max_size=40), min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_every_count_is_in_the_picture(labels: list[str], seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(2, (len(labels), len(labels))).tolist()
    matrix = Matrix(labels, counts, "a title")
    assert len(elements(matrix, "title")) == 1 + len(labels) ** 2
    numbers = [element.text for element in elements(matrix, "text") if (element.get("class") or "").startswith("t")]
    numbers = [text for text in numbers if text and text.replace(",", "").isdigit()]
    for count in (count for row in counts for count in row if count):
        assert str(count) in numbers


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_numbers_are_readable_and_shares_are_ordered(colours: tuple[str, ...]) -> None:
    assert all(contrast(text_colour(colour), colour) >= 4.5 for colour in colours)
    from_page = [contrast(colours[0], colour) for colour in colours]
    assert all(low < high for low, high in pairwise(from_page))
    assert _level(0.0) == 0 < _level(0.001) == 1
    assert _level(1.0) == 10


def test_everything_is_inside_the_picture() -> None:
    labels = ["a", "a very long name of a label that is shortened", "日本語", "x" * 100]
    root = ElementTree.fromstring(matrix_svg(Matrix(labels, [[1_000_000] * 4] * 4, "title " * 50)))
    width, height = float(root.get("width") or 0), float(root.get("height") or 0)
    offset_x, offset_y = 0.0, 0.0
    for group in root.iter(SVG + "g"):
        if group.get("transform"):
            offset_x, offset_y = (float(x) for x in group.get("transform", "")[10:-1].split())
    for rect in list(root.iter(SVG + "rect"))[1:]:
        assert offset_x + float(rect.get("x") or 0) + float(rect.get("width") or 0) <= width
        assert offset_y + float(rect.get("y") or 0) + float(rect.get("height") or 0) <= height


def test_of_many_labels_those_with_the_most_mistakes_are_drawn() -> None:
    K = MAX_MATRIX_LABELS + 5
    counts = (np.eye(K, dtype=int) * 9).tolist()
    counts[K - 1][0] = counts[3][4] = 7
    reduced = Matrix([f"label {k}" for k in range(K)], counts, "texts").reduced()
    assert len(reduced.labels) == MAX_MATRIX_LABELS
    assert {f"label {k}" for k in (0, 3, 4, K - 1)} <= set(reduced.labels)
    assert reduced.title == f"texts; the {MAX_MATRIX_LABELS} of {K} labels with the most mistakes"
    assert reduced.counts[-1][0] == 7
