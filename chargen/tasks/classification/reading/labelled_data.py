"""Read texts with labels from a folder or a file, in the form that its name states.

    folder/LABEL/*                    each file is one text, also those in sub-folders; hidden ones are left out
    folder/LABEL.txt                  each line is one text
    file.csv, .tsv, .parquet          each row has a text and a label         (labelled_records.py)
    file.jsonl, .ndjson, .json        each object has a text and a label
    any other file                    each line is label<TAB>text

A .tsv file has a header if its fields are named, or if its first line has columns "text" and "label"; otherwise its
lines are label<TAB>text. Every form may be compressed. A text that consists of white space is left out and counted. A
label in two Unicode forms is one label. Texts are not changed: a classifier brings them to the form that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.tasks.classification.reading.labelled_records import (
    LABEL_FIELD,
    TEXT_FIELD,
    note_empty,
    read_labelled_records,
)
from chargen.text.cleaning import CleaningReport, check_unicode, to_nfc
from chargen.text.limits import ReadLimit
from chargen.text.readers import COMPRESSED_SUFFIXES, FORMS, FORMS_WITH_FIELD, format_suffix, open_lines
from chargen.text.records import JSON, LINES, TSV, RecordFormat

DEFAULT_FORMAT = RecordFormat()
MAX_HELD_BYTES = 1 << 30  #: size of all texts in memory
LINE_BYTES = 60  #: memory that a line takes in addition to its characters


def read_labelled(
    path: Path,
    record_format: RecordFormat = DEFAULT_FORMAT,
    report: CleaningReport | None = None,
    label_field: str = "",
) -> dict[str, list[str]]:
    """Return the texts of each label, with the labels composed (NFC) and in alphabetical order.

    Args:
        path: Path of a folder or a file.
        record_format: How the files are decoded, and the field of the text.
        report: Receives what was skipped or changed, and which fields were taken; None drops it.
        label_field: The field of the label, in a file of records; "" for "label", or the other one of two fields.

    Raises:
        CorpusError: If there is no such file, a line has no label or no text, or there are fewer than two labels.
    """
    report = report or CleaningReport()
    try:
        if path.is_dir():
            found = _read_folder(path, record_format, report, label_field)
        else:
            found = _read_file(path, record_format, report, label_field)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    merged: dict[str, list[str]] = {}
    for label, label_texts in found.items():
        merged.setdefault(to_nfc(label), []).extend(label_texts)
    texts = {label: label_texts for label, label_texts in sorted(merged.items()) if label_texts}
    if not texts:
        raise CorpusError(f"{path} has no text with a label", "Give each label a few texts that are not empty.")
    if len(texts) < 2:
        raise CorpusError(
            f"{path} has texts of 1 label ({next(iter(texts))!r}), but two are needed",
            "Give a folder with a sub-folder or a file for each label, a file of lines label<TAB>text, or CSV, JSON "
            "lines or Parquet with a text and a label.",
        )
    return texts


def describe_repeated_texts(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return sentences about texts that occur more than once, or with several labels; usually there are none."""
    num_texts = sum(map(len, texts.values()))
    labels_of: dict[str, set[str]] = {}
    for label, label_texts in texts.items():
        for text in label_texts:
            labels_of.setdefault(text, set()).add(label)
    num_pairs = sum(map(len, labels_of.values()))
    num_ambiguous = sum(len(labels) > 1 for labels in labels_of.values())
    notes = []
    if num_texts > num_pairs:
        repetitions = format_count(num_texts - num_pairs, "text is a repetition", "texts are repetitions")
        notes.append(f"{repetitions}: a text counts once for each of its labels")
    if num_ambiguous:
        ambiguous = format_count(num_ambiguous, "text has", "texts have")
        notes.append(f"{ambiguous} more than one label; all copies are in the same part of the split")
    return notes


def read_all_lines(
    name: str, record_format: RecordFormat, report: CleaningReport, regular_only: bool = False
) -> list[str]:
    """Return all lines or records of an input; the arguments are those of `text.readers.open_batches`.

    Raises:
        CorpusError: If the input cannot be read, or its texts take more than MAX_HELD_BYTES of memory.
    """
    lines = []
    limit = ReadLimit(MAX_HELD_BYTES)
    for line in open_lines(name, record_format, report, regular_only):
        limit.add(len(line) + LINE_BYTES, name)
        lines.append(line)
    return lines


def record_form(path: Path, record_format: RecordFormat, label_field: str) -> str:
    """Return the form of a file of records with fields, or LINES for lines label<TAB>text."""
    if record_format.form == JSON:
        return JSON
    suffix = format_suffix(path.name)
    form = {**FORMS, **FORMS_WITH_FIELD}.get(suffix, LINES)
    if form == TSV and not (record_format.field or label_field) and not _has_header(path, record_format):
        return LINES
    return form


def _has_header(path: Path, record_format: RecordFormat) -> bool:
    """Return whether the first line of a .tsv file has columns with the default names."""
    lines: Iterator[str] = open_lines(str(path), replace(record_format, form=LINES), CleaningReport())
    first = next(lines, "")
    return {TEXT_FIELD, LABEL_FIELD} <= set(first.split("\t"))


def _read_folder(
    folder: Path, record_format: RecordFormat, report: CleaningReport, label_field: str
) -> dict[str, list[str]]:
    if label_field:
        raise CorpusError(
            f"--label-field {label_field} has no effect: the labels of the folder {folder} are the names in it",
            "Leave it out, or give one file with a text and a label in each record.",
        )
    texts: dict[str, list[str]] = {}
    num_empty = 0
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_dir():
            label = entry.name
            files = [path for path in sorted(entry.rglob("*")) if path.is_file() and not _is_hidden(path, entry)]
            whole = replace(record_format, form=LINES)
            found = ["\n".join(_read_regular_file(file, whole, report)).rstrip("\n") for file in files]
        elif entry.is_file():  # reading a pipe or a device could block
            label = Path(entry.stem).stem if entry.suffix in COMPRESSED_SUFFIXES else entry.stem
            found = _read_regular_file(entry, record_format, report)
        else:
            continue
        kept = [text for text in found if text.strip()]
        num_empty += len(found) - len(kept)
        texts.setdefault(label, []).extend(kept)
    for label in texts:
        check_unicode(label, f"the name {label!a}")
    note_empty(str(folder), num_empty, report)
    return texts


def _is_hidden(path: Path, folder: Path) -> bool:
    """Return whether a path in a folder has a name that starts with a dot, or is in a sub-folder with such a name."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read_regular_file(path: Path, record_format: RecordFormat, report: CleaningReport) -> list[str]:
    """Return the lines of a file in a folder. Only regular files are read: a link may lead to an endless one."""
    return read_all_lines(str(path), record_format, report, regular_only=True)


def _read_file(
    path: Path, record_format: RecordFormat, report: CleaningReport, label_field: str
) -> dict[str, list[str]]:
    form = record_form(path, record_format, label_field)
    if form != LINES:
        record_format = replace(record_format, form=form)
        records = read_labelled_records(path, record_format, label_field, report, ReadLimit(MAX_HELD_BYTES))
        texts: dict[str, list[str]] = {}
        for record in records:
            texts.setdefault(record.label, []).append(record.text)
        return texts
    given = f"--text-field {record_format.field}" if record_format.field else ""
    given = f"--label-field {label_field}" if label_field else given
    if given:
        raise CorpusError(
            f"{given} has no effect: {path} has lines label<TAB>text, and no fields",
            "Leave it out, give --json-lines if each line is a JSON object, or name the file .csv, .tsv or .parquet.",
        )
    return _read_lines(path, record_format, report)


def _read_lines(path: Path, record_format: RecordFormat, report: CleaningReport) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    num_empty = 0
    for number, line in enumerate(read_all_lines(str(path), replace(record_format, form=LINES), report), start=1):
        label, tab, text = line.partition("\t")
        if tab and label.strip():
            num_empty += not text.strip()
            if text.strip():
                texts.setdefault(label.strip(), []).append(text)
        elif line.strip() or tab:
            raise CorpusError(f"{path}, line {number:,} is not label<TAB>text", "Put a tab between label and text.")
    note_empty(str(path), num_empty, report)
    return texts
