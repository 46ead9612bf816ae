"""What a job is divided into: a slice is a run of rows in a file, and becomes a part of the output.

    file    ├── slice 0 ──┤── slice 1 ──┤── slice 2 ──┤        by rows, and by bytes where rows are long
               part 17        part 18       part 19

The slices of a file are found once, when the job is planned, and are stored with the job. So a part has the same rows
at each start, with any number of workers, and can be written again without a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chargen.errors import CorpusError
from chargen.io import decode_file_name, encode_file_name, escape_surrogates
from chargen.registry import import_extra
from chargen.schema import format_count, is_unicode

MAX_SLICE_ROWS = 1 << 15  #: rows of a slice; a little more where lines are counted in blocks
MAX_SLICE_BYTES = 1 << 22  #: bytes of text of a slice, whichever limit comes first: under a minute of work for a core
MAX_SLICE_ROW_BYTES = 1 << 26  #: bytes of all columns of a slice of a Parquet file
MAX_TEXT_CHARS = 1 << 22  #: characters of a text; it is in memory some tens of times while it is scored
MAX_COLUMNS = 1_000  #: maximum number of columns of a file

TEXT, JSON, CSV, TSV, PARQUET = "text", "json", "csv", "tsv", "parquet"  #: forms of files


@dataclass(frozen=True)
class Slice:
    """A run of rows of a file.

    Attributes:
        first_row: Number of rows before it in the file.
        num_rows: Number of its rows, with those that cannot be read.
        start: Where it starts: the byte in the decompressed content for lines, the row group for Parquet, else 0.
        end: Where it ends: the byte in the decompressed content for lines, else 0.
    """

    first_row: int
    num_rows: int
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class FilePlan:
    """The slices of a file."""

    slices: tuple[Slice, ...] = ()
    is_sequential: bool = False  #: whether a slice can be read only after what is before it in the file
    fields: Mapping[str, str] = field(default_factory=dict)  #: fields of JSON lines: name → kind (`json_fields.py`)


@dataclass(frozen=True)
class Failure:
    """A row or a file that could not be read."""

    where: str  #: the file, and the line or the row in it
    reason: str

    @classmethod
    def of(cls, where: str, message: str) -> Failure:
        """Return the failure of the message of an error, which usually starts with the place."""
        return cls(where, message.removeprefix(where).lstrip(":, "))

    def to_json(self) -> dict[str, str]:
        """Return the failure as JSON values.

        A file name may have bytes that are not UTF-8. Then `where` is encoded, and the reason has escapes for them.
        """
        return {"where": encode_file_name(self.where), "reason": escape_surrogates(self.reason)}

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Failure:
        """Return the failure that `to_json` described."""
        return cls(decode_file_name(value["where"]), value["reason"])

    def to_line(self) -> str:
        """Return the failure for people, without the hint that may follow the reason on another line."""
        return f"{self.where}: {self.reason.splitlines()[0]}"


@dataclass(frozen=True)
class Rows:
    """The rows of a slice that could be read."""

    table: Any  #: pyarrow Table with all columns, N rows
    texts: list[str | None]  #: the text of each row; None for null, [N]
    numbers: list[int]  #: number of each row in its file, from 0, [N]
    failures: list[Failure]  #: the rows that could not be read, with the reasons


class RowSource(Protocol):
    """The rows of a file."""

    def plan(self) -> FilePlan:
        """Read the whole file, and divide it into slices.

        Raises:
            CorpusError: If it cannot be read, is damaged, or has no text column.
        """

    def read(self, part: Slice) -> Rows:
        """Read a slice. Slices in the order of the file are read without starting again.

        Raises:
            CorpusError: If the file can no longer be read.
        """

    def close(self) -> None:
        """Close the file."""


def take_rows(table: Any, indices: Sequence[int]) -> Any:
    """Return the rows of a pyarrow Table with these indices, which may be none.

    The type of the indices is given: pyarrow finds no type for an empty list, and then refuses it.
    """
    arrow = import_extra("pyarrow", "parquet", "bulk work")
    return table.take(arrow.array(indices, arrow.int64()))


def check_row_text(text: object, column: str) -> str | None:
    """Return the text of a row if it is a string or null.

    Raises:
        CorpusError: If it is something else, is too long, or has a lone surrogate, which is half of a character.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise CorpusError(f"the field {column!r} is no string")
    if len(text) > MAX_TEXT_CHARS:
        raise CorpusError(f"the text has {format_count(len(text), 'character')}; the limit is {MAX_TEXT_CHARS:,}")
    if not text.isascii() and not is_unicode(text):
        raise CorpusError("the text has invalid UTF-8, or half of a surrogate pair")
    return text


def check_columns(names: list[str], text_column: str, added: tuple[str, ...], where: str) -> None:
    """Check the columns of a file.

    Args:
        names: The columns.
        text_column: The column that must be there.
        added: Columns that the job adds.
        where: Name of the file.

    Raises:
        CorpusError: If the text column is missing, a name occurs twice, there are too many columns, or a column has
            the name of an added column.
    """
    from chargen.text.limits import first_names

    if text_column not in names:
        raise CorpusError(
            f"{where} has no column {text_column!r}",
            f"Name the column with --text-column NAME; there is: {first_names(names) or 'none'}.",
        )
    repeated = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if repeated is not None:
        raise CorpusError(f"{where} has {names.count(repeated):,} columns {repeated!r}", "Rename all but one of them.")
    if len(names) > MAX_COLUMNS:
        raise CorpusError(f"{where} has {len(names):,} columns, but {MAX_COLUMNS:,} is the limit")
    taken = next((name for name in names if name in added), None)
    if taken is not None:
        raise CorpusError(
            f"{where} already has a column {taken!r}, which would be added",
            "Give --prefix NAME, which is put before the names of the added columns, or rename the column.",
        )
