"""The terminal as a page to write on: its size, its rows, the cursor, and two bars below."""

from __future__ import annotations

import os
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.style import Style

DIM, BAR = Style(dim=True), Style(reverse=True)
# Pastes are marked as such; a row that the terminal finds longer than we do stays one row.
MODES_ON, MODES_OFF = "\x1b[?2004h\x1b[?7l", "\x1b[?2004l\x1b[?7h"
UNKNOWN_SIZE = (80, 24)
ERASE = Control((ControlType.ERASE_IN_LINE, 2)).segment


class Screen:
    """The terminal's second screen, while it is entered; the first is found again as it was.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[list[Segment]] = []
        self._size = self._cursor = (0, 0)

    def __enter__(self) -> Screen:
        self._console.set_alt_screen(True)
        self._mode(MODES_ON)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mode(MODES_OFF)
        self._console.set_alt_screen(False)

    def size(self) -> tuple[int, int]:
        """Return the terminal's columns and rows as they are now, which a variable COLUMNS does not say."""
        columns, rows = os.get_terminal_size(self._console.file.fileno())
        return (columns, rows) if columns and rows else UNKNOWN_SIZE

    def draw(self, rows: list[tuple[str, str]], cursor: tuple[int, int], bars: list[str]) -> None:
        """Show typed and written text, and put the cursor where the typed one ends.

        Only rows that changed are sent. The typed part of the cursor's row is sent last, so that the cursor stands
        where the terminal thinks that it ends: of an emoji's width no two of them agree.
        """
        width, height = self.size()
        new = [[Segment(typed), Segment(written, DIM)] for typed, written in rows]
        new += [[]] * (height - len(bars) - len(new))
        new += [[Segment(set_cell_size(bar, width - 1), BAR if at == 0 else DIM)] for at, bar in enumerate(bars)]
        out: list[Segment] = []
        if self._size != (width, height):
            self._size, self._shown = (width, height), []
            out.append(Control.clear().segment)
        for y, segments in enumerate(new[:height]):
            if y >= len(self._shown) or segments != self._shown[y]:
                out += [Control.move_to(0, y).segment, ERASE, *segments]
        if not out and cursor == self._cursor:
            return
        row, column = cursor
        out += [Control.move_to(0, row).segment, Segment(rows[row][0] if column else "")]
        self._shown, self._cursor = new, cursor
        self._console.print(Segments(out), end="", crop=False)

    def _mode(self, sequence: str) -> None:
        if not self._console.legacy_windows:
            self._console.file.write(sequence)
            self._console.file.flush()


def joined(parts: list[str], width: int, between: str = "  ") -> str:
    """Join the parts that fit, the first of them at least, cut short if it must be.

    >>> joined(["temp 0.8", "seed 7", "a long name"], 20)
    'temp 0.8  seed 7'
    """
    line = ""
    for part in parts:
        longer = f"{line}{between}{part}" if line else part
        if line and cell_len(longer) > width:
            continue
        line = longer
    return line if cell_len(line) <= width else set_cell_size(line, width)
