"""Read texts with labels from a folder or a file. Lines are read as by `text/readers.py`.

folder/LABEL/*          each file is one text
folder/LABEL.txt        each line is one text
file                    each line is label<TAB>text
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.text.cleaning import CleaningReport, check_unicode
from chargen.text.limits import ReadLimit
from chargen.text.readers import COMPRESSED_SUFFIXES, open_lines
from chargen.text.records import LINES, RecordFormat

DEFAULT_FORMAT = RecordFormat()
MAX_HELD_BYTES = 1 << 30  #: size of all texts in memory
LINE_BYTES = 60  #: memory that a line takes in addition to its characters


def read_labelled(
    path: Path, record_format: RecordFormat = DEFAULT_FORMAT, report: CleaningReport | None = None
) -> dict[str, list[str]]:
    """Return the texts of each label, with the labels in alphabetical order.

    Args:
        path: Path of a folder or a file.
        record_format: How the files are decoded; and the field with the text, for files in a folder that have fields.
        report: Receives what was skipped or changed; None drops it.

    Raises:
        CorpusError: If there is no such file, a line has no label or no text, or there are fewer than two labels.
    """
    try:
        read = _read_folder if path.is_dir() else _read_file
        texts = read(path, record_format, report or CleaningReport())
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    texts = {label: label_texts for label, label_texts in sorted(texts.items()) if label_texts}
    if len(texts) < 2:
        raise CorpusError(
            f"{path} has texts of {format_count(len(texts), 'label')}, but two are needed",
            "Give a folder with a sub-folder or a file for each label, or a file of lines label<TAB>text.",
        )
    return texts


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


def _read_folder(folder: Path, record_format: RecordFormat, report: CleaningReport) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_dir():
            files = sorted(p for p in entry.rglob("*") if p.is_file() and not p.name.startswith("."))
            whole = replace(record_format, form=LINES)
            file_texts = ["\n".join(_read_regular_file(file, whole, report)).rstrip("\n") for file in files]
            texts.setdefault(entry.name, []).extend(text for text in file_texts if text)
        elif entry.is_file():  # reading a pipe or a device could block
            label = Path(entry.stem).stem if entry.suffix in COMPRESSED_SUFFIXES else entry.stem
            lines = _read_regular_file(entry, record_format, report)
            texts.setdefault(label, []).extend(line for line in lines if line)
    for label in texts:
        check_unicode(label, f"the name {label!a}")
    return texts


def _read_regular_file(path: Path, record_format: RecordFormat, report: CleaningReport) -> list[str]:
    """Return the lines of a file in a folder. Only regular files are read: a link may lead to an endless one."""
    return read_all_lines(str(path), record_format, report, regular_only=True)


def _read_file(path: Path, record_format: RecordFormat, report: CleaningReport) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    lines = read_all_lines(str(path), replace(record_format, form=LINES), report)
    for number, line in enumerate(lines, start=1):
        label, tab, text = line.partition("\t")
        if not (tab and label.strip() and text):
            raise CorpusError(f"{path}, line {number:,} is not label<TAB>text", "Put a tab between label and text.")
        texts.setdefault(label.strip(), []).append(text)
    return texts
