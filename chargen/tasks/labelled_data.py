"""Read texts with labels from a folder or a file.

folder/LABEL/*          each file is one text
folder/LABEL.txt        each line is one text
file                    each line is label<TAB>text
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.text.cleaning import check_unicode
from chargen.text.limits import ReadLimit, open_regular
from chargen.text.records import read_lines

MAX_HELD_BYTES = 1 << 30  #: size of all texts in memory
LINE_BYTES = 60  #: memory that a line takes in addition to its characters


def read_labelled(path: Path) -> dict[str, list[str]]:
    """Return the texts of each label, with the labels in alphabetical order.

    Args:
        path: Path of a folder or a file.

    Raises:
        CorpusError: If there is no such file, a line has no label or no text, or there are fewer than two labels.
    """
    try:
        texts = _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    texts = {label: label_texts for label, label_texts in sorted(texts.items()) if label_texts}
    if len(texts) < 2:
        raise CorpusError(
            f"{path} has texts of {format_count(len(texts), 'label')}, but two are needed",
            "Give a folder with a sub-folder or a file for each label, or a file of lines label<TAB>text.",
        )
    return texts


def read_all_lines(file: BinaryIO, where: str) -> list[str]:
    """Return all lines of a file, without their LF or CRLF.

    Args:
        file: Open file.
        where: Name of the file in error messages.

    Raises:
        CorpusError: If a line is not UTF-8, or the lines take more than MAX_HELD_BYTES of memory.
    """
    lines = []
    limit = ReadLimit(MAX_HELD_BYTES)
    for line in read_lines(file, where):
        limit.add(len(line) + LINE_BYTES, where)
        lines.append(line.removesuffix("\r"))
    return lines


def _read_folder(folder: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_dir():
            files = sorted(p for p in entry.rglob("*") if p.is_file() and not p.name.startswith("."))
            file_texts = ["\n".join(_read_regular_file(file)).rstrip("\n") for file in files]
            texts.setdefault(entry.name, []).extend(text for text in file_texts if text)
        elif entry.is_file():  # reading a pipe or a device could block
            texts.setdefault(entry.stem, []).extend(line for line in _read_regular_file(entry) if line)
    for label in texts:
        check_unicode(label, f"the name {label!a}")
    return texts


def _read_regular_file(path: Path) -> list[str]:
    """Return the lines of a file in a folder. Only regular files are read: a link may lead to an endless one."""
    with open_regular(str(path)) as file:
        return read_all_lines(file, str(path))


def _read_file(path: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    with path.open("rb") as file:
        lines = read_all_lines(file, str(path))
    for number, line in enumerate(lines, start=1):
        label, tab, text = line.partition("\t")
        if not (tab and label.strip() and text):
            raise CorpusError(f"{path}, line {number:,} is not label<TAB>text", "Put a tab between label and text.")
        texts.setdefault(label.strip(), []).append(text)
    return texts
