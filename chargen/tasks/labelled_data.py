"""Texts with labels, from a folder or one file.

folder/LABEL/*          a text a file
folder/LABEL.txt        a text a line
file                    label<TAB>text, a line each
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from chargen.errors import CorpusError
from chargen.tasks.rescoring import read_lines
from chargen.text.cleaning import check_unicode
from chargen.text.limits import ReadLimit, open_regular

MAX_HELD_BYTES = 1 << 30  #: of texts that are held in memory
LINE_BYTES = 60  #: that a line takes beside its characters


def read_labelled(path: Path) -> dict[str, list[str]]:
    """Return the texts of each label, labels in the order of their names.

    Raises:
        CorpusError: there is no such file, or a line is not of the form, or there are not two labels.
    """
    try:
        found = _folder(path) if path.is_dir() else _file(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    found = {label: texts for label, texts in sorted(found.items()) if texts}
    if len(found) < 2:
        raise CorpusError(
            f"{path} has texts of {len(found)} label{'s' * (len(found) != 1)}, but two are the least to tell apart",
            "Give a folder with a sub-folder or a file for each label, or a file of lines label<TAB>text.",
        )
    return found


def _folder(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_dir():
            files = sorted(p for p in entry.rglob("*") if p.is_file() and not p.name.startswith("."))
            texts = ["\n".join(_found_lines(file)).rstrip("\n") for file in files]
            found.setdefault(entry.name, []).extend(text for text in texts if text)
        elif entry.is_file():  # not a pipe or a device, which would be waited for
            found.setdefault(entry.stem, []).extend(line for line in _found_lines(entry) if line)
    for label in found:
        check_unicode(label, f"the name {label!a}")
    return found


def _file(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), start=1):
        label, tab, text = line.partition("\t")
        if not (tab and label.strip() and text):
            raise CorpusError(f"{path}, line {number:,} is not label<TAB>text", "Put a tab after the label.")
        found.setdefault(label.strip(), []).append(text)
    return found


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        return read_all_lines(file, str(path))


def _found_lines(path: Path) -> list[str]:
    """Return the lines of a file that nobody named: a link may lead to what has no end, as some files of /proc."""
    with open_regular(str(path)) as file:
        return read_all_lines(file, str(path))


def read_all_lines(file: BinaryIO, where: str) -> list[str]:
    """Return the lines of a file, all of them in memory, without their ends.

    Raises:
        CorpusError: a line is not UTF-8, or they are too many to be held.
    """
    lines, limit = [], ReadLimit(MAX_HELD_BYTES)
    for line in read_lines(file, where):
        limit.add(len(line) + LINE_BYTES, where)
        lines.append(line.removesuffix("\r"))
    return lines
