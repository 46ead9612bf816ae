"""A confusion matrix as SVG: a row for each right label, a column for each predicted one, and the share as a colour.

                ┌────┬────┐
       positive │ 45 │  5 │      the colour is the share of the texts of the row, 0 to 100 %
       negative │ 12 │ 38 │      the number is their count
                └────┴────┘
                pos…   neg…

Like `svg.py`, it loads nothing and follows the reader's light or dark setting: colours are attributes for the light
one, and style rules for the dark one. Letters have the colour, black or white, that has more contrast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chargen.probe.heat_map import text_colour
from chargen.ui.chart.svg_parts import GAP, start_svg, text_element, text_width, wrap_title, xml_text
from chargen.ui.terminal_text import shorten, visible

MAX_MATRIX_LABELS = 40  #: if there are more labels, those with the most mistakes are drawn
MAX_LABEL_CELLS = 28  #: longer names of labels are shortened
MIN_CELL, MAX_CELL, MATRIX_WIDTH = 26, 72, 480  #: pixels: of a cell, and of the matrix if its cells may be larger
SLOPE = math.radians(40)  #: angle of the labels of the columns, where they do not fit beside each other
#: Colours of a share of 0, 10 %, …, 100 %.
LIGHT = (
    *("#ffffff", "#eaf2fa", "#d5e5f4", "#bcd5ec", "#9fc3e3", "#7eaed8"),
    *("#5c97cb", "#3f80ba", "#2768a5", "#14518c", "#063a6e"),
)
DARK = (
    *("#222222", "#22303d", "#223c52", "#234a68", "#25597f", "#2d6a95"),
    *("#3b7dab", "#5292c0", "#72a9d3", "#98c1e3", "#c5dcf2"),
)
LINE = ("#bbbbbb", "#555555")  # light, dark


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix with its labels."""

    labels: Sequence[str]
    counts: Sequence[Sequence[int]]  #: rows: right label, columns: predicted label
    title: str = ""

    def reduced(self) -> Matrix:
        """Return the matrix of the labels that can be drawn: all, or those with the most mistakes, in their order."""
        if len(self.labels) <= MAX_MATRIX_LABELS:
            return self
        K = len(self.labels)
        wrong = [sum(self.counts[k]) + sum(row[k] for row in self.counts) - 2 * self.counts[k][k] for k in range(K)]
        kept = sorted(sorted(range(K), key=lambda k: -wrong[k])[:MAX_MATRIX_LABELS])
        title = f"{self.title}; the {MAX_MATRIX_LABELS} of {K:,} labels with the most mistakes"
        counts = [[self.counts[i][j] for j in kept] for i in kept]
        return Matrix([self.labels[k] for k in kept], counts, title)


def matrix_svg(matrix: Matrix) -> str:
    """Return a confusion matrix as SVG text."""
    return "".join(_parts(matrix.reduced()))


def _parts(matrix: Matrix) -> Iterator[str]:
    K = len(matrix.labels)
    names = [shorten(visible(label), MAX_LABEL_CELLS) for label in matrix.labels]
    widest = max(map(text_width, names))
    widest_count = max(text_width(f"{count:,}") for row in matrix.counts for count in row)
    cell = round(max(MIN_CELL, min(MAX_CELL, MATRIX_WIDTH / K), widest_count + 6))
    is_sloped = widest > cell - 4
    left = round(GAP + 24 + widest + 8)
    below = round(widest * math.sin(SLOPE) + 16) if is_sloped else 20
    legend_width = 130
    overhang = 0  # sloped labels end under their column, so they stick out to the left, which has the row labels
    title_lines = wrap_title(matrix.title, left + K * cell + legend_width)
    top = GAP + 20 * len(title_lines) + GAP
    width = max(left + K * cell + GAP + legend_width + overhang, 320)
    height = max(top + K * cell + below + 24 + GAP, top + 11 * 16 + 60)
    yield _head(matrix.title, width, height)
    for row, line in enumerate(title_lines):
        yield text_element(GAP, GAP + 14 + 20 * row, line, 'font-weight="bold"')
    middle = top + K * cell / 2
    yield text_element(
        GAP + 12, middle, "right label", f'text-anchor="middle" transform="rotate(-90 {GAP + 12} {middle:g})"'
    )
    yield f'<g transform="translate({left} {top})">\n'
    for i, (name, counts) in enumerate(zip(names, matrix.counts, strict=True)):
        yield text_element(-8, (i + 0.5) * cell + 4, name, 'text-anchor="end"')
        yield from _row(matrix, i, counts, cell)
    for j, name in enumerate(names):
        x, y = (j + 0.5) * cell, K * cell + 16
        sloped = f'text-anchor="end" transform="rotate(-40 {x:g} {y:g})"'
        yield text_element(x, y, name, sloped if is_sloped else 'text-anchor="middle"')
    yield text_element(K * cell / 2, K * cell + below + 16, "predicted label", 'text-anchor="middle"')
    yield from _legend(K * cell + 2 * GAP)
    yield "</g>\n</svg>\n"


def _row(matrix: Matrix, i: int, counts: Sequence[int], cell: int) -> Iterator[str]:
    total = sum(counts)
    for j, count in enumerate(counts):
        share = count / total if total else 0.0
        level = _level(share)
        about = f"{matrix.labels[i]} → {matrix.labels[j]}: {count:,} of {total:,} ({100 * share:.1f} %)"
        yield (
            f'<g><title>{xml_text(about)}</title><rect class="c{level} line" x="{j * cell}" y="{i * cell}" '
            f'width="{cell}" height="{cell}" fill="{LIGHT[level]}" stroke="{LINE[0]}"/>'
        )
        if count:
            x, y = (j + 0.5) * cell, (i + 0.5) * cell + 4.5
            yield (
                f'<text class="t{level}" fill="{text_colour(LIGHT[level])}" x="{x:g}" y="{y:g}" '
                f'text-anchor="middle">{count:,}</text>'
            )
        yield "</g>\n"


def _level(share: float) -> int:
    """Return the number of the colour of a share: only 0 has the first one, so that a single mistake is seen."""
    return 0 if share <= 0 else max(1, min(10, round(10 * share)))


def _legend(left: float) -> Iterator[str]:
    yield text_element(left, 10, "share of the row")
    for level in range(10, -1, -1):
        y = 20 + (10 - level) * 16
        yield (
            f'<rect class="c{level} line" x="{left:g}" y="{y}" width="22" height="16" fill="{LIGHT[level]}" '
            f'stroke="{LINE[0]}"/>'
        )
        if level % 5 == 0:
            yield text_element(left + 28, y + 12, f"{10 * level} %")


def _head(title: str, width: int, height: int) -> str:
    about = title or "confusion matrix"
    rules = [f".line {{ stroke: {LINE[1]}; }}"]
    rules += [f".c{n} {{ fill: {c}; }} .t{n} {{ fill: {text_colour(c)}; }}" for n, c in enumerate(DARK)]
    return start_svg(about, width, height, rules)
