"""Read records that have a text and a label: the rows of CSV, TSV and Parquet, JSON lines and JSON arrays.

    text,label                 {"text": "Good film.", "label": "positive"}
    Good film.,positive        {"text": "Dull.", "label": 0}

The fields are those that are named, else "text" and "label", else the only two fields. Of two fields without a known
name, the label is the one with fewer different values, or
the shorter ones if both have as many. What was taken is reported, unless both names were known.

A label may be a string, a whole number, or true or false. A record whose text is empty or null is left out and counted;
one without a label is an error, which `--errors skip` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from chargen.errors import CorpusError
from chargen.registry import did_you_mean
from chargen.schema import format_count
from chargen.text.cleaning import CleaningReport
from chargen.text.decoding import decode_marked, remove_bom
from chargen.text.inputs import decompress, open_input
from chargen.text.json_array import RecordParser, array_elements, how_to_correct, with_start
from chargen.text.limits import ReadLimit, check_record, first_names
from chargen.text.parquet import column_names, column_values
from chargen.text.records import (
    CSV,
    HOW_TO_SKIP,
    JSON,
    PARQUET,
    TSV,
    RecordCheck,
    RecordFormat,
    open_table,
    split_pieces,
)

TEXT_FIELD, LABEL_FIELD = "text", "label"  #: names of the fields if none are given
MAX_HEADER_CELL_CHARS = 40  #: a longer name of a column is probably a text: the table has no header
MAX_EXACT = 2**53  #: whole numbers up to this size are exact as floats
Record = tuple[str, "dict[str, Any] | CorpusError"]  #: name for error messages, values by field


@dataclass(frozen=True)
class FieldNames:
    """Which fields of the records are read."""

    text: str
    label: str
    is_guess: bool  #: whether the two may be swapped: their names say nothing


@dataclass(frozen=True)
class LabelledText:
    """A record that was read."""

    name: str  #: where it is, for error messages
    text: str
    label: str


def read_labelled_records(
    path: Path, record_format: RecordFormat, label_field: str, report: CleaningReport, limit: ReadLimit
) -> list[LabelledText]:
    """Return all records of a file that have a text and a label, in their order.

    Args:
        path: The file.
        record_format: Its form, one of JSON, ARRAY, CSV, TSV and PARQUET; the field of the text, or "".
        label_field: The field of the label, or "".
        report: Receives which fields were taken, and the records that were left out.
        limit: Counts the bytes that are read.

    Raises:
        CorpusError: If the file or a record cannot be read, or it has no such fields.
    """
    where = str(path)
    with _open_records(path, record_format, report, limit) as (fields, records):
        names = choose_fields(where, fields, record_format.field, label_field)
        if record_format.form == PARQUET:
            records = _parquet_records(where, names, limit)
        found, is_swapped = _read_pairs(records, where, record_format, names, report)
    text_field, taken = (names.label, names.text) if is_swapped else (names.text, names.label)
    if (text_field, taken) != (record_format.field or TEXT_FIELD, label_field or LABEL_FIELD):
        report.add_note(f"{where}: the text is in the field {text_field!r}, and the label in {taken!r}")
    return found


def choose_fields(where: str, fields: Sequence[str], text_field: str, label_field: str) -> FieldNames:
    """Return which fields contain the text and the label.

    Args:
        where: Name of the file, for error messages.
        fields: All fields of the file.
        text_field, label_field: The fields that the user named, or "".

    Raises:
        CorpusError: If a field does not exist or exists twice, or none was named and it cannot be found.
    """
    if text_field and text_field == label_field:
        raise CorpusError(f"--text-field and --label-field both name {text_field!r}", "Name two different fields.")
    for name, option in ((text_field, "--text-field"), (label_field, "--label-field")):
        if name and name not in fields:
            similar = did_you_mean(name, fields)
            raise CorpusError(
                f"{where} has no column or field {name!r}, which {option} names",
                f"{similar} There is: {first_names(fields)}.".strip(),
            )
    text, label = text_field or TEXT_FIELD, label_field or LABEL_FIELD
    is_guess = False
    if (text not in fields or label not in fields) and len(fields) == 2 and fields[0] != fields[1]:
        first, second = fields
        if text in fields:
            label = second if text == first else first
        elif label in fields:
            text = second if label == first else first
        else:
            text, label, is_guess = first, second, True
    for name, option in ((text, "--text-field"), (label, "--label-field")):
        if name not in fields:
            raise CorpusError(f"{where} has no column or field {name!r}", _field_hint(fields, name, option))
        if fields.count(name) > 1:
            raise CorpusError(f"{where} has {fields.count(name):,} columns {name!r}", "Rename all but one of them.")
    return FieldNames(text, label, is_guess)


def _field_hint(fields: Sequence[str], name: str, option: str) -> str:
    """Return what to do about a column that was not found, and was not named either."""
    if any(len(field) > MAX_HEADER_CELL_CHARS or not field.strip() for field in fields):
        return "Its first line must be a header with the names of the columns, such as text,label."
    similar = did_you_mean(name, fields)
    return f"{similar} Name the column with {option} NAME; there is: {first_names(fields)}.".strip()


# ── records of each form ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _open_records(
    path: Path, record_format: RecordFormat, report: CleaningReport, limit: ReadLimit
) -> Iterator[tuple[list[str], Iterator[Record]]]:
    """Open a file and yield (its fields, its records); the records of Parquet are read by column, later."""
    where, form = str(path), record_format.form
    with open_input(where, limit) as stream:
        if form == PARQUET:
            yield column_names(stream, where), iter(())
            return
        blocks = decompress(stream, where, limit)
        is_strict = record_format.errors == "strict"
        pieces = remove_bom(
            decode_marked(blocks, where, record_format.encoding, report, has_nuls=False, is_strict=is_strict)
        )
        if form in (CSV, TSV):
            header, rows = open_table(pieces, where, form)
            yield (
                header,
                (
                    (name, row if isinstance(row, CorpusError) else dict(zip(header, row, strict=True)))
                    for name, row in rows
                ),
            )
            return
        records = _json_records(pieces, where, form)
        first = next(records, None)
        fields = list(first[1]) if first and isinstance(first[1], dict) else []
        if first and isinstance(first[1], CorpusError) and record_format.errors != "skip":
            raise first[1]
        while first and isinstance(first[1], CorpusError):
            report.add_skipped_record(first[1])
            first = next(records, None)
            fields = list(first[1]) if first and isinstance(first[1], dict) else []
        if first is None:
            raise CorpusError(f"{where} has no records", "Give a file with records that have a text and a label.")
        yield fields, chain([first], records)


def _json_records(pieces: Iterator[str], where: str, form: str) -> Iterator[Record]:
    """Yield the objects of JSON lines, or of a JSON array."""
    pieces = with_start(pieces)
    first = next(pieces, "")
    pieces = chain([first], pieces)
    if form != JSON and first.lstrip().startswith("["):
        parsed = array_elements(pieces, where)
    else:
        parsed = _json_lines(pieces, where)
    for name, value, wrong in parsed:
        if wrong:
            yield name, CorpusError(f"{name} {wrong}", f"{how_to_correct(wrong)} {HOW_TO_SKIP}")
        elif isinstance(value, dict):
            yield name, value
        else:
            yield name, CorpusError(f"{name} is no JSON object with a text and a label", HOW_TO_SKIP)


def _json_lines(pieces: Iterator[str], where: str) -> Iterator[tuple[str, Any, str]]:
    parser = RecordParser()
    for number, line in enumerate(split_pieces(pieces, "\n", 1 << 30), start=1):
        if line.strip():
            name = f"{where}, line {number:,}"
            check_record(len(line), name)
            yield (name, *parser.parse_line(line.removesuffix("\r")))


def _parquet_records(where: str, names: FieldNames, limit: ReadLimit) -> Iterator[Record]:
    """Yield the rows of a Parquet file. Its two columns are read side by side, each from a stream of its own."""
    with open_input(where, limit) as one, open_input(where, limit) as other:
        texts = column_values(one, where, names.text, limit, as_names=names.is_guess)
        labels = column_values(other, where, names.label, limit, as_names=True)
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
            yield f"{where}, row {number:,}", {names.text: text, names.label: label}


# ── texts and labels ──────────────────────────────────────────────────────────────────────────────────────────────────


def _read_pairs(
    records: Iterator[Record], where: str, record_format: RecordFormat, names: FieldNames, report: CleaningReport
) -> tuple[list[LabelledText], bool]:
    """Return (the records, whether text and label were swapped)."""
    rows: list[tuple[str, Any, Any]] = []
    for name, values in records:
        error = values if isinstance(values, CorpusError) else _missing_field(name, values, names)
        if error is None:
            assert isinstance(values, dict)
            rows.append((name, values[names.text], values[names.label]))
        elif record_format.errors == "skip":
            report.add_skipped_record(error)
        else:
            raise error
    is_swapped = names.is_guess and _variety(rows, 1) < _variety(rows, 2)
    if is_swapped:
        rows = [(name, label, text) for name, text, label in rows]
    if names.is_guess:
        _check_header(where, rows, names.text if is_swapped else names.label)
    return _checked_pairs(rows, where, record_format, report), is_swapped


def _missing_field(name: str, values: dict[str, Any], names: FieldNames) -> CorpusError | None:
    missing = next((field for field in (names.text, names.label) if field not in values), None)
    if missing is None:
        return None
    return CorpusError(f"{name} has no field {missing!r}", f"There is: {first_names(values) or 'none'}. {HOW_TO_SKIP}")


def _variety(rows: Sequence[tuple[str, Any, Any]], column: int) -> tuple[int, int]:
    """Return (number of different values, number of characters) of a column: a label has less than a text."""
    values = [str(row[column]) for row in rows]
    return len(set(values)), sum(map(len, values))


def _check_header(where: str, rows: Sequence[tuple[str, Any, Any]], label_field: str) -> None:
    """Check that the name of the column of labels is not itself a label.

    Raises:
        CorpusError: If it is: then the first line is a record, and the table has no header.
    """
    if any(str(label).strip() == label_field.strip() for _, _, label in rows):
        raise CorpusError(
            f"{where} has no header: {label_field!r} in its first line is also a label of other lines",
            "Put the names of the columns in the first line, such as text,label.",
        )


def _checked_pairs(
    rows: Sequence[tuple[str, Any, Any]], where: str, record_format: RecordFormat, report: CleaningReport
) -> list[LabelledText]:
    check = RecordCheck(record_format, report)
    found = []
    num_nulls = num_empty = 0
    for name, text, label in rows:
        if text is None:
            num_nulls += 1
            continue
        try:
            if not isinstance(text, str):
                raise CorpusError(f"{name} has {text!r} in place of a text", HOW_TO_SKIP)
            if not text.strip():
                num_empty += 1
                continue
            found.append(LabelledText(name, check.checked(text, name), check.checked(_label_name(name, label), name)))
        except CorpusError as error:
            if record_format.errors != "skip":
                raise
            report.add_skipped_record(error)
    report.add_nulls(where, num_nulls)
    note_empty(where, num_empty, report)
    check.finish(where)
    return found


def _label_name(name: str, value: Any) -> str:
    """Return a label as a string: true as "true", 1 and 1.0 as "1".

    Raises:
        CorpusError: If it is empty, null, or no value that can name a label.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and abs(value) <= MAX_EXACT and float(value).is_integer():
        return str(int(value))
    if value is None or (isinstance(value, str) and not value.strip()):
        raise CorpusError(f"{name} has no label", f"Add the label, or remove the record. {HOW_TO_SKIP}")
    if not isinstance(value, str):
        raise CorpusError(f"{name} has the label {value!r}", f"A label is a text or a whole number. {HOW_TO_SKIP}")
    return value.strip()


def note_empty(where: str, count: int, report: CleaningReport) -> None:
    """Add a note about texts that were left out because they are empty, if there are any."""
    if count:
        report.add_note(f"{where}: left out {format_count(count, 'text that is', 'texts that are')} empty")
