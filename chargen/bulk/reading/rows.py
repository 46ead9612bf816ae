"""Open any file as rows, by the suffix of its name; compressed files end in .gz, .bz2, .xz or .zst after it.

*.jsonl, *.ndjson, *.json    JSON lines: the fields are columns
*.csv, *.tsv                 a table with a header; all values are text
*.parquet                    a table
all others                   plain text: each line is a row with one column
"""

from __future__ import annotations

from collections.abc import Mapping

from chargen.bulk.reading.line_rows import LineRows
from chargen.bulk.reading.parquet_rows import ParquetRows
from chargen.bulk.reading.slices import CSV, JSON, PARQUET, TEXT, TSV, RowSource
from chargen.bulk.reading.table_rows import TableRows
from chargen.text.readers import format_suffix

FORMS = {".jsonl": JSON, ".ndjson": JSON, ".json": JSON, ".csv": CSV, ".tsv": TSV, ".parquet": PARQUET}


def form_of(path: str) -> str:
    """Return the form of a file by its name.

    >>> form_of("a.JSONL.gz"), form_of("b.log")
    ('json', 'text')
    """
    return FORMS.get(format_suffix(path), TEXT)


def open_rows(
    path: str, text_column: str, added: tuple[str, ...], fields: Mapping[str, str] | None = None
) -> RowSource:
    """Return the rows of a file. Nothing is read before they are used.

    Args:
        path: A path or a URL.
        text_column: Name of the column of the text; the column that plain text gets.
        added: Names of the columns that the job adds.
        fields: The fields of the JSON lines of the job, to read slices.

    Raises:
        ChargenError: If the package for this form is not installed.
    """
    form = form_of(path)
    if form == PARQUET:
        return ParquetRows(path, text_column, added)
    if form in (CSV, TSV):
        return TableRows(path, text_column, added, form)
    return LineRows(path, text_column, added, form == JSON, dict(fields or {}))
