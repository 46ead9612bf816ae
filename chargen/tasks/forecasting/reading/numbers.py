"""Read cells of a table as numbers: what is missing, and what is no number."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.schema import format_value
from chargen.tasks.forecasting.reading.table import Cells, Chunk, Table

MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "?"))  #: cells without a value, in lower case
_USUAL_MISSING = frozenset(("", "NA", "NaN", "nan", "null"))
_WITH_COMMA = re.compile(r"[-+]?\d[\d. ']*,[\d,.]*\d")


def parse_numbers(cells: Cells, chunk: Chunk, name: str, table: Table) -> NDArray[np.float64]:
    """Return cells as numbers; NaN for a missing one.

    Args:
        cells: The cells of a column.
        chunk: The rows that they belong to.
        name: Name of the column, for messages.
        table: The table, for messages.

    Raises:
        CorpusError: If a cell is no number, or is infinite; the message has its place.
    """
    if isinstance(cells, np.ndarray):
        if cells.dtype.kind != "f":
            raise CorpusError(f"{table.where}: the column {name!r} has times, not numbers", "Name a column of numbers.")
        values: NDArray[np.float64] = np.asarray(cells, np.float64)
    else:
        values = _parse_texts(list(cells), chunk, name, table)
    if np.isinf(values).any():
        k = int(np.isinf(values).argmax())
        raise CorpusError(
            f"{table.place(chunk.places[k])}: {format_value(str(cells[k]))} in the column {name!r} is infinite",
            "Correct it; or leave the cell empty and give --fill.",
        )
    return values


def _parse_texts(cells: list[str], chunk: Chunk, name: str, table: Table) -> NDArray[np.float64]:
    with suppress(ValueError):  # a missing value in another spelling, or no number: the loop below finds it
        values = [np.nan if cell in _USUAL_MISSING else float(cell) for cell in cells]
        if "_" not in "".join(cells):  # Python reads "1_000" as a number
            return np.array(values, np.float64)
    numbers = np.full(len(cells), np.nan)
    for k, cell in enumerate(cells):
        text = cell.strip()
        if text.casefold() in MISSING:
            continue
        try:
            if "_" in text:
                raise ValueError
            numbers[k] = float(text)
        except ValueError:
            raise _no_number(cell, table.place(chunk.places[k]), name) from None
    return numbers


def _no_number(cell: str, place: str, name: str) -> CorpusError:
    if _WITH_COMMA.fullmatch(cell.strip()):
        return CorpusError(
            f"{place}: {format_value(cell)} in the column {name!r} is a number with a comma",
            "Write numbers with a decimal point and without separators of thousands, as in 12.5 or 1234.5.",
        )
    return CorpusError(
        f"{place}: {format_value(cell)} in the column {name!r} is no number",
        "Correct it; or leave the cell empty and give --fill. If the column has no numbers, name another one.",
    )
