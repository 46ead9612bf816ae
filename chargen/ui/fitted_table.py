"""A table that fits the terminal: no number is cut, and no row takes more than one line, but for labels.

What does not fit is made narrower: first long headers of numbers, then the texts, the longest first. Headers and labels
are wrapped at spaces, because every word of them counts. Texts and names are shortened in the middle ("…"), because
their start and their end tell them apart. If a terminal is too narrow even for that, the columns that the table can do
without are left out, one after the other; and if that is not sufficient, each row becomes a block of lines
"header  cell":

    name      …   bits/char   network   …              name       docs
    ───────────────────────────────────      ──▶       bits/char  1.704
    docs      …       1.704   mgru 1×448               network    mgru 1×448

Where the output is not a terminal, cells are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from chargen.ui.terminal_text import WRAPPED_INDENT, shorten, visible, wrap

MIN_TEXT_WIDTH = 12  # cells that a text keeps
MIN_HEADER_WIDTH = 12  # cells that the header of a column of numbers keeps
GAP = 3  # cells between two columns; one less without a rule
EDGES = 2  # cells outside the first and the last column


class FittedTable:
    """A table with a header, drawn by rich.

    Args:
        columns: The headers.
        rows: The cells of each row.
        right: Headers of the columns that contain numbers; they are aligned to the right and never shortened.
        has_rule: Whether a line and margins separate the header from the rows.
        optional: Headers of the columns that a narrow terminal does not show, in the order in which they are left out.
        labels: Headers of the columns that contain words of ours, and not names or texts of the user.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        right: Sequence[str] = (),
        has_rule: bool = True,
        optional: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self._columns = [visible(column) for column in columns]
        self._rows = [[visible(cell) for cell in row] for row in rows]
        self._is_number = [column in right for column in columns]
        self._is_label = [column in labels for column in columns]
        self._has_rule = has_rule
        self._optional = [columns.index(column) for column in optional]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the table, or the blocks, for the width of the console."""
        if not console.is_terminal:
            yield self._table(self._columns, self._rows, self._is_number)
            return
        widths = self._column_widths(options.max_width)
        if not widths:
            yield from self._blocks(options.max_width)
            return
        header = [_wrap_or_shorten(self._columns[k], cells) for k, cells in widths.items()]
        rows = [[self._fit_cell(row, k, cells) for k, cells in widths.items()] for row in self._rows]
        yield self._table(header, rows, [self._is_number[k] for k in widths])

    def shown_columns(self, console: Console) -> list[str]:
        """Return the headers of the columns that a console shows: all of them, but on a narrow terminal."""
        widths = self._column_widths(console.width) if console.is_terminal else {}
        return [self._columns[k] for k in widths or range(len(self._columns))]

    def _column_widths(self, max_width: int) -> dict[int, int]:
        """Return the columns to show, each with its width; none if the rows become blocks."""
        for num_left_out in range(len(self._optional) + 1):
            left_out = self._optional[:num_left_out]
            shown = [column for column in range(len(self._columns)) if column not in left_out]
            gaps = len(shown) - 1
            width = max_width - (EDGES + GAP * gaps if self._has_rule else (GAP - 1) * gaps)
            widths = self._fitting_widths(shown, width)
            if sum(widths) <= width:
                return dict(zip(shown, widths, strict=True))
        return {}

    def _fitting_widths(self, shown: Sequence[int], width: int) -> list[int]:
        """Return the widths of the columns `shown`, together at most `width` if they can be made as narrow as that."""
        widths, minima = [], []
        for column in shown:
            header = self._columns[column]
            cells = max((cell_len(row[column]) for row in self._rows), default=0)
            widths.append(max(cells, cell_len(header)))
            words = max((_longest_word(row[column]) for row in self._rows if self._is_label[column]), default=0)
            is_number = self._is_number[column]
            minimum = max(cells, min(cell_len(header), MIN_HEADER_WIDTH)) if is_number else max(MIN_TEXT_WIDTH, words)
            minima.append(minimum)
        for numbers in (True, False):
            columns = [k for k, column in enumerate(shown) if self._is_number[column] == numbers]
            while sum(widths) > width and any(widths[k] > minima[k] for k in columns):
                widths[max(columns, key=lambda k: widths[k] - min(widths[k], minima[k]))] -= 1
        return widths

    def _fit_cell(self, row: Sequence[str], column: int, width: int) -> str:
        """Return a cell, wrapped or shortened to `width`."""
        return _wrap_or_shorten(row[column], width) if self._is_label[column] else shorten(row[column], width)

    def _table(self, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[bool]) -> Table:
        frame = {"box": box.SIMPLE_HEAD} if self._has_rule else {"box": None, "padding": (0, GAP - 1, 0, 0)}
        table = Table(pad_edge=False, header_style="bold" if self._has_rule else "dim", **frame)
        for column, is_number in zip(header, numbers, strict=True):
            table.add_column(Text(column), justify="right" if is_number else "left", no_wrap=is_number)
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    def _blocks(self, width: int) -> Iterator[Text]:
        """Yield the lines of the blocks; a block has no line for an empty cell."""
        numbers = (cell_len(cell) for row in self._rows for cell, k in zip(row, self._is_number, strict=True) if k)
        indent = min(max(map(cell_len, self._columns)), width // 2, max(1, width - 2 - max(numbers, default=0)))
        yield Text()
        for row in self._rows:
            for k, header in enumerate(self._columns):
                if not row[k]:
                    continue
                margin = indent + 2 if header else 0
                cells = self._fit_cell(row, k, max(1, width - margin)).split("\n")
                for label, cell in zip_longest(_wrap_or_shorten(header, indent).split("\n"), cells, fillvalue=""):
                    yield Text(label + " " * (margin - cell_len(label)), "dim").append(cell, "not dim")
            yield Text()


def _continuation(text: str) -> str:
    """Return the indentation of the lines of a wrapped text after its first one."""
    return text[: len(text) - len(text.lstrip(" "))] + WRAPPED_INDENT


def _longest_word(text: str) -> int:
    """Return the cells that the longest word takes in a wrapped text."""
    return max((cell_len(word) for word in text.split()), default=0) + len(_continuation(text))


def _wrap_or_shorten(text: str, width: int) -> str:
    """Return a text with newlines at spaces; a line that is still too long is shortened."""
    if cell_len(text) <= width:
        return text
    return "\n".join(shorten(line, width) for line in wrap(text, width, _continuation(text)).split("\n"))
