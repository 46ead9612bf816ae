"""A draft as rows of cells: what is typed, then what the model would write, wrapped at words, the cursor between them.

    width ├──────────────────┤
          The king of France       typed │ written
          and Burgundy, to thy
          noble ▮mother's grave

The page shows the cursor's row and, where the text is long, leaves a third of the height to what comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from chargen.ui.terminal_text import clusters, glyph, is_ideograph

TAB = 8


class Cell(NamedTuple):
    """One cluster at its place."""

    drawn: str
    width: int
    chars: int  #: of the text that it stands for
    typed: bool
    breaks: bool  #: whether a row may end after it
    ends: bool = False  #: whether a row must


class Page(NamedTuple):
    """What fits on the screen."""

    rows: list[tuple[str, str]]  #: what is typed and what is written in each
    cursor: tuple[int, int]  #: row and column, from 0
    shown_chars: int  #: of the continuation
    full: bool  #: whether there is no room for more


def lay_out(text: str, continuation: str, width: int, height: int) -> Page:
    """Lay a text and its continuation out on width × height cells, each at least 1."""
    rows = list(wrapped(_cells(_end(text, width, height), continuation, width), width))
    row, column = _cursor(rows, width)
    if row == len(rows):
        rows.append([])
    top = max(0, row + 1 - (height - height // 3))
    seen = rows[top : top + height]
    shown = sum(cell.chars for cells in rows[: top + height] for cell in cells if not cell.typed)
    lines = [
        ("".join(c.drawn for c in cells if c.typed), "".join(c.drawn for c in cells if not c.typed)) for cells in seen
    ]
    full = shown < len(continuation) or (len(seen) == height and _used(seen[-1]) >= width)
    return Page(lines, (row - top, column), shown, full)


def wrapped(cells: Iterable[Cell], width: int) -> Iterator[list[Cell]]:
    """Yield rows of at most `width` cells, ended after a white space or an ideograph where there is one."""
    row: list[Cell] = []
    used = end = 0  # end: how much of the row may stand alone
    for cell in cells:
        space = cell.breaks and cell.drawn.isspace()
        if space and used + cell.width > width:  # what does not fit of white space hangs over the edge, unseen
            cell = cell._replace(drawn=" " * (width - used), width=width - used)
        while row and used + cell.width > width:
            yield row[: end or len(row)]
            row, end = row[end or len(row) :], 0
            used = _used(row)
        row.append(cell)
        used += cell.width
        if cell.ends:
            yield row
            row, used, end = [], 0, 0
        elif cell.breaks:
            end = len(row)
    yield row


def _end(text: str, width: int, height: int) -> str:
    """Return the end of a text that no more than fills the screen, cut at a newline, or else at a place that lasts."""
    room = 2 * width * height
    begin = max(0, len(text) // room - 1) * room
    newline = len(text)
    for _ in range(height):
        newline = text.rfind("\n", begin, newline)
        if newline < 0:
            return text[begin:]
    return text[newline + 1 :]


def _cells(text: str, continuation: str, width: int) -> Iterator[Cell]:
    column = 0  # since the newline: tabs are set as if the line were not wrapped
    for part, typed in ((text, True), (continuation, False)):
        for cluster in clusters(part):
            if cluster == "\t":
                tab = TAB - column % TAB
                cell = Cell(" " * tab, tab, 1, typed, True)
            else:
                cell = _cell(cluster, typed, width)
            yield cell
            column = 0 if cell.ends else column + cell.width


@lru_cache(4096)
def _cell(cluster: str, typed: bool, width: int) -> Cell:
    if cluster == "\n":
        return Cell("", 0, 1, typed, False, True)
    drawn, cells = glyph(cluster)
    if cells > width:  # a double width on a screen of one column
        drawn, cells = "·", 1
    return Cell(drawn, cells, len(cluster), typed, cluster in (" ", "-") or is_ideograph(cluster))


def _cursor(rows: list[list[Cell]], width: int) -> tuple[int, int]:
    """Return where the next typed character goes; a row that is full has its cursor at the next one's begin."""
    place = (0, 0)
    for row, cells in enumerate(rows):
        if cells and not cells[0].typed:
            break
        column = 0
        for cell in cells:
            if not cell.typed:
                break
            column += cell.width
            place = (row + 1, 0) if cell.ends or column >= width else (row, column)
    return place


def _used(cells: list[Cell]) -> int:
    return sum(cell.width for cell in cells)
