"""How a text and its continuation are laid out in rows of a screen.

The layout wraps the typed text and the continuation at words. The page shows the row of the cursor and, where the text
is long, leaves a third of the height for what comes after it.

    width ├──────────────────┤
          The king of France       typed │ generated
          and Burgundy, to thy
          noble ▮mother's grave
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from chargen.probe.heat_map import shade
from chargen.ui.terminal_text import clusters, glyph, is_ideograph

TAB_WIDTH = 8


class Cell(NamedTuple):
    """One cluster on the screen."""

    drawn: str
    width: int
    num_chars: int  #: length of the cluster in the text
    is_typed: bool
    may_break: bool  #: whether a row may end after it
    must_break: bool = False  #: whether the row ends after it


class Mark(NamedTuple):
    """A part of a row that is drawn in another style."""

    start: int  #: number of drawn characters before it in the typed or the generated part of the row
    end: int
    is_unknown: bool  #: whether the model does not know it
    shade: int | None  #: shade of its surprisal, see `probe/heat_map.py`; None: not coloured
    is_typed: bool = True  #: whether it is in the typed part of the row


@dataclass(frozen=True)
class Marks:
    """What is marked in a text and its continuation."""

    is_unknown: Callable[[str], bool] = lambda cluster: False  #: whether the model does not know a cluster
    #: the surprisal of each character, by which they are coloured: of the text and of its continuation, of a part from
    #: the start of the text, or of nothing
    bits: Sequence[float] = ()


NO_MARKS = Marks()


class Page(NamedTuple):
    """The part of a draft that fits on the screen."""

    rows: list[tuple[str, str]]  #: the typed and the generated part of each row
    cursor: tuple[int, int]  #: row and column, from 0
    shown_chars: int  #: number of characters of the continuation that are shown
    is_full: bool  #: whether no more characters fit
    before_cursor: int  #: number of characters of the typed part of the cursor's row that are before the cursor
    marks: list[list[Mark]]  #: the marks of each row


def lay_out(
    text: str, continuation: str, width: int, height: int, after_cursor: int = 0, marks: Marks = NO_MARKS
) -> Page:
    """Lay a text and its continuation out on a screen of width × height cells, each at least 1.

    Args:
        text: The typed text.
        continuation: What follows it.
        width, height: The size of the screen.
        after_cursor: Number of characters of the text after the cursor.
        marks: What is marked in the text and its continuation.
    """
    cursor = len(text) - after_cursor
    before = _visible_end(text[:cursor], width, height)
    after = text[cursor : cursor + 2 * width * height]
    if len(after) < after_cursor:
        continuation = ""  # it is below the screen
    rows = list(wrap(_cells(before + after, continuation, width), width))
    row, column, before_cursor = _cursor(rows, width, len(before), bool(after))
    if row == len(rows):
        rows.append([])
    top = max(0, row + 1 - (height - height // 3))
    shown_rows = rows[top : top + height]
    shown_chars = sum(cell.num_chars for cells in rows[: top + height] for cell in cells if not cell.is_typed)
    parts = [
        (
            "".join(cell.drawn for cell in cells if cell.is_typed),
            "".join(cell.drawn for cell in cells if not cell.is_typed),
        )
        for cells in shown_rows
    ]
    is_full = shown_chars < len(continuation) or (len(shown_rows) == height and _row_width(shown_rows[-1]) >= width)
    start = cursor - len(before) + sum(cell.num_chars for cells in rows[:top] for cell in cells)
    row_marks = _list_marks(shown_rows, text + continuation, marks, start)
    return Page(parts, (row - top, column), shown_chars, is_full, before_cursor, row_marks)


def _list_marks(rows: list[list[Cell]], content: str, marks: Marks, start: int) -> list[list[Mark]]:
    """Return the marks of each row; adjacent cells with equal marks are one.

    Args:
        rows: The rows.
        content: The text and its continuation.
        marks: What is marked in them.
        start: Number of characters of the content before the first row.
    """
    row_marks: list[list[Mark]] = []
    for cells in rows:
        parts: list[Mark] = []
        drawn_chars = {True: 0, False: 0}  # of the typed and of the generated part of the row
        for cell in cells:
            end = start + cell.num_chars
            is_unknown = cell.is_typed and marks.is_unknown(content[start:end])
            tone = shade(sum(marks.bits[start:end])) if end <= len(marks.bits) else None
            start = end
            mark_start = drawn_chars[cell.is_typed]
            mark_end = drawn_chars[cell.is_typed] = mark_start + len(cell.drawn)
            mark = Mark(mark_start, mark_end, is_unknown, tone, cell.is_typed)
            if not cell.drawn or not (is_unknown or tone is not None):
                continue
            if parts and parts[-1].end == mark_start and parts[-1][2:] == mark[2:]:
                parts[-1] = parts[-1]._replace(end=mark_end)
            else:
                parts.append(mark)
        row_marks.append(parts)
    return row_marks


def wrap(cells: Iterable[Cell], width: int) -> Iterator[list[Cell]]:
    """Yield rows of at most `width` cells that end, if possible, after white space or an ideograph."""
    row: list[Cell] = []
    used = 0  # width of the row
    end = 0  # number of its cells up to the last position where it may break
    for cell in cells:
        is_space = cell.may_break and cell.drawn.isspace()
        if is_space and used + cell.width > width:  # white space at the end of a row is cut to what fits
            cell = cell._replace(drawn=" " * (width - used), width=width - used)
        while row and used + cell.width > width:
            yield row[: end or len(row)]
            row = row[end or len(row) :]
            end = 0
            used = _row_width(row)
        row.append(cell)
        used += cell.width
        if cell.must_break:
            yield row
            row, used, end = [], 0, 0
        elif cell.may_break:
            end = len(row)
    yield row


def _visible_end(text: str, width: int, height: int) -> str:
    """Return a suffix of the text that fills the screen, cut at a newline, or else at a position that rarely moves."""
    screen_chars = width * height
    start = max(0, len(text) // screen_chars - 2) * screen_chars
    newline = len(text)
    for _ in range(height):
        newline = text.rfind("\n", start, newline)
        if newline < 0:
            return text[start:]
    return text[newline + 1 :]


def _cells(text: str, continuation: str, width: int) -> Iterator[Cell]:
    column = 0  # since the last newline: tabs are set as if the line were not wrapped
    for part, is_typed in ((text, True), (continuation, False)):
        for cluster in clusters(part):
            if cluster == "\t":
                tab = TAB_WIDTH - column % TAB_WIDTH
                cell = Cell(" " * tab, tab, 1, is_typed, may_break=True)
            else:
                cell = _cell(cluster, is_typed, width)
            yield cell
            column = 0 if cell.must_break else column + cell.width


@lru_cache(4096)
def _cell(cluster: str, is_typed: bool, width: int) -> Cell:
    if cluster.endswith("\n"):
        return Cell("", 0, len(cluster), is_typed, may_break=False, must_break=True)
    drawn, cells = glyph(cluster)
    if cells > width:  # a character of double width on a screen with one column
        drawn, cells = "·", 1
    return Cell(drawn, cells, len(cluster), is_typed, may_break=cluster in (" ", "-") or is_ideograph(cluster))


def _cursor(rows: list[list[Cell]], width: int, num_before: int, is_inside: bool) -> tuple[int, int, int]:
    """Return the row and column of the cursor, and how many characters are drawn before it in its row.

    At the end of the text it is where the next typed character will be: after a full row, the start of the next one.

    Args:
        rows: All rows.
        width: The width of the screen.
        num_before: Number of characters of the text before the cursor.
        is_inside: Whether there is text after the cursor, so that it is on a character.
    """
    cursor = (0, 0, 0)
    for row, cells in enumerate(rows):
        if cells and not cells[0].is_typed:
            break
        column = drawn = 0
        for cell in cells:
            if not cell.is_typed:
                break
            if is_inside and num_before <= 0:
                return row, min(column, width - 1), drawn
            num_before -= cell.num_chars
            column += cell.width
            drawn += len(cell.drawn)
            cursor = (row + 1, 0, 0) if cell.must_break or column >= width else (row, column, drawn)
    return cursor


def _row_width(cells: list[Cell]) -> int:
    return sum(cell.width for cell in cells)
