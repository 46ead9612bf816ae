"""Read the numbers of an input: a recording (WAV), a column of a table (CSV, TSV, Parquet), or one number per line.

A WAV file is recognised by its first bytes, also on standard input and compressed; a table by the suffix of its name.
A series has a value at each time, so a missing value is an error and is never left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple

import numpy as np

from chargen.config import MULAW, DataConfig
from chargen.errors import CorpusError
from chargen.schema import format_value
from chargen.text.cleaning import CleaningReport
from chargen.text.inputs import decompress
from chargen.text.limits import ReadLimit
from chargen.text.readers import FORMS, FORMS_WITH_FIELD, form_of, format_suffix
from chargen.text.records import ARRAY, JSON, LINES, PARQUET, RecordFormat, read_batches
from chargen.text.series.quantizer import MAX_MAGNITUDE, Quantizer, Values
from chargen.text.series.wav import is_wav, parse_wav

WAV_SUFFIX = ".wav"
MISSING = ("", "na", "n/a", "nan", "null", "none")  #: how tables write a missing value, in lower case
HOW_TO_FILL = "A series needs a value at each time: fill it in, or cut the series there."
HOW_TO_NAME = "Name the column with --text-field NAME."


class Series(NamedTuple):
    """The values of an input."""

    where: str  #: name of the input, for messages
    values: Values  #: finite, [N]
    rate_hz: int | None = None  #: sampling rate; None if the input is no recording
    channels: int = 1
    column: str = ""


def read_series(
    stream: BinaryIO, where: str, config: DataConfig, limit: ReadLimit, quantizer: Quantizer | None = None
) -> Series:
    """Read the numbers of an open input.

    Args:
        stream: The open file.
        where: Its name, which states the format, and is used in error messages.
        config: The encoding of a text file, and the column.
        limit: Counts the decompressed bytes.
        quantizer: That of the model which reads the series. Its column is the default, and a text of its levels, as
            `chargen sample` prints it, is read as their values.

    Raises:
        ChargenError: If the package that reads this format is not installed.
        CorpusError: If the input cannot be read or is damaged, or a value is missing or is not a number.
    """
    column = config.text_field or (quantizer.column if quantizer else "")
    form = form_of(where, column)
    if form in (JSON, ARRAY):
        raise CorpusError(
            f"{where} is JSON, which is not read as a series",
            "Give a WAV file, a table (.csv, .tsv, .parquet) with --text-field NAME, or one number per line.",
        )
    if form == PARQUET:
        from chargen.text.parquet import column_numbers

        if not column:
            raise CorpusError(f"{where} is a table, and no column is named", HOW_TO_NAME)
        return Series(where, _check_values(column_numbers(stream, where, column, limit), where, column), column=column)
    blocks = decompress(stream, where, limit)
    start = b""
    while len(start) < 12 and (block := next(blocks, b"")):
        start += block
    if is_wav(start) or format_suffix(where) == WAV_SUFFIX:
        return Series(where, *parse_wav(b"".join(chain([start], blocks)), where))
    form_column = column if form != LINES else ""
    record_format = RecordFormat(form, form_column, config.encoding)
    batches = read_batches(chain([start], blocks), where, record_format, CleaningReport())
    return Series(where, _parse_all(batches, where, form_column, quantizer), column=form_column)


def _parse_all(batches: Iterable[list[str]], where: str, column: str, quantizer: Quantizer | None) -> Values:
    """Return the numbers in all lines, or in all rows of a column. Blank lines at the end of a file are no values."""
    parts: list[Values] = []
    num_values = num_blank = 0
    for batch in batches:
        texts = [""] * num_blank + batch
        num_blank = 0 if column else len(texts) - _length_without_blanks(texts)
        texts = texts[: len(texts) - num_blank]
        parts.append(_parse(texts, num_values, where, column, quantizer))
        num_values += len(texts)
    if not num_values:
        raise CorpusError(f"{where} is empty: it has no numbers", "Give a series with at least two numbers.")
    return np.concatenate(parts)


def _length_without_blanks(texts: list[str]) -> int:
    length = len(texts)
    while length and not texts[length - 1].strip():
        length -= 1
    return length


def _parse(texts: list[str], num_before: int, where: str, column: str, quantizer: Quantizer | None) -> Values:
    """Return the numbers in some texts, of which `num_before` were read before."""
    try:
        values = np.array([float(text) for text in texts], dtype=np.float64)
    except ValueError:
        if quantizer is not None and not column and all(map(quantizer.is_text_of_levels, texts)):
            return quantizer.decode("".join(texts))
        values = np.array([_number_or_nan(text) for text in texts])
    usable = np.abs(values) <= MAX_MAGNITUDE
    if not usable.all():
        index = int(np.argmin(usable))
        raise _error(texts[index], num_before + index + 1, where, column)
    return values


def _number_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _error(text: str, number: int, where: str, column: str) -> CorpusError:
    """Return the error for a text that is no usable number."""
    place = f"{where}, row {number:,} of the column {column!r}" if column else f"{where}, line {number:,}"
    shown = format_value(text.strip())
    if text.strip().lower() in MISSING:
        return CorpusError(f"{place}: the value is missing ({shown})", HOW_TO_FILL)
    if not math.isnan(_number_or_nan(text)):
        return CorpusError(f"{place}: {shown} is not a finite number up to ±{MAX_MAGNITUDE:g}", HOW_TO_FILL)
    if text.count(",") == 1 and not math.isnan(_number_or_nan(text.replace(",", "."))):
        return CorpusError(f"{place}: {shown} is not a number", "Write numbers with a decimal point, not a comma.")
    is_table = not column and format_suffix(where) in {**FORMS, **FORMS_WITH_FIELD}
    hint = (
        HOW_TO_NAME
        if is_table
        else f"A series ({MULAW}) is a WAV file, one number per line, or a column of a table: --text-field NAME."
    )
    return CorpusError(f"{place}: {shown} is not a number", hint)


def _check_values(batches: Iterator[Values], where: str, column: str) -> Values:
    """Return all numbers of a column; nulls are NaN."""
    values = np.concatenate([np.zeros(0), *batches])
    if not len(values):
        raise CorpusError(f"{where} is empty: it has no rows", "Give a series with at least two numbers.")
    usable = np.abs(values) <= MAX_MAGNITUDE
    if not usable.all():
        index = int(np.argmin(usable))
        raise _error(str(values[index]), index + 1, where, column)
    return values
