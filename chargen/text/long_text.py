"""What one reading of a whole text tells: its length, its hash, how often each character stands in it, and where.

blocks of UTF-8 ─▶ count_characters, on all cores ─▶ sum_counts ─▶ TextStatistics

A text that may be longer than memory: UTF-8 in memory while it is short, in an unnamed file when it is long.

It is written once, from its beginning to its end, and then read as often as anyone likes, by place or in pieces.

    write, write, …  ─▶  UTF-8 bytes  ─▶  blocks of whole characters  ─▶  survey (`survey.py`)
                                                └───────────────────────▶  pieces(begin, end) in characters
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError, StorageError
from chargen.text.documents import MARK, OLD_MARK
from chargen.text.limits import open_regular
from chargen.text.workers import Arrays, map_blocks

BLOCK = 1 << 16  #: bytes between two places that are known
UTF8_ERRORS = "surrogatepass"  #: a lone surrogate (the mark between documents, no character) counts as its three bytes


@dataclass(frozen=True)
class TextStatistics:
    """A whole text in figures."""

    num_chars: int
    num_bytes: int  #: in UTF-8
    sha256: str  #: of those
    counts: NDArray[np.int64]  #: [highest code point + 1]: how often each stands in the text
    places: NDArray[np.int64]  #: [blocks + 1]: the characters before each block
    offsets: NDArray[np.int64]  #: [blocks + 1]: the bytes before each block


def count_characters(text: bytes) -> Arrays:
    """Count a part of a text, which may be done by another process.

    Returns:
        The code points that stand in it, how often each does, and for each block its characters and its bytes.
    """
    counts, chars, sizes = np.zeros(0, dtype=np.int64), [], []
    begin = 0
    while begin < len(text):
        block = text[begin : begin + BLOCK]
        if begin + len(block) < len(text):
            block = block[: last_char_start(block)]
        codes = code_points(block.decode("utf-8", UTF8_ERRORS))
        counts = sum_counts([counts, np.bincount(codes)])
        chars.append(len(codes))
        sizes.append(len(block))
        begin += len(block)
    found = np.flatnonzero(counts)
    return [found, counts[found], np.array(chars, dtype=np.int64), np.array(sizes, dtype=np.int64)]


def collect_statistics(
    blocks: Iterable[bytes], num_bytes: int, function: Callable[..., Arrays] = count_characters, *arguments: str
) -> TextStatistics | None:
    """Read a whole text once; None if the function found a block that it does not count.

    Args:
        blocks: its UTF-8, cut between characters.
        num_bytes: of all of them, about.
        function: what is done with each; it returns what `count_characters` does, or nothing.
        arguments: what else it is told.
    """
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    counts = np.zeros(0, dtype=np.int64)
    chars, sizes = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for found in map_blocks(function, hashed(), num_bytes, *arguments):
        if not found:
            return None
        codes, often, block_chars, block_sizes = found
        if len(codes) and codes[-1] >= len(counts):
            counts = np.pad(counts, (0, int(codes[-1]) + 1 - len(counts)))
        counts[codes] += often
        chars.append(block_chars)
        sizes.append(block_sizes)
    places, offsets = np.cumsum(np.concatenate(chars)), np.cumsum(np.concatenate(sizes))
    return TextStatistics(int(places[-1]), int(offsets[-1]), digest.hexdigest(), counts, places, offsets)


def sum_counts(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the sum of counts of different lengths."""
    total = np.zeros(0, dtype=np.int64)
    for some in counts:
        if len(some) > len(total):
            total = np.pad(total, (0, len(some) - len(total)))
        total[: len(some)] += some
    return total


def code_points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Return a text's code points, [N]. A lone surrogate passes: it is a code point that no vocabulary holds."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", UTF8_ERRORS), dtype="<u4")


def last_char_start(block: bytes) -> int:
    """Return where the last character of a block of UTF-8 begins, unless it is the only one."""
    place = len(block) - 1
    while place > 0 and block[place] & 0xC0 == 0x80:
        place -= 1
    return place or len(block)


MAX_MEMORY_BYTES = 1 << 26  #: bytes of a text that are kept there
TASK_BYTES = 1 << 20  #: bytes that are worth handing to another process


class LongText:
    """A text that is written once and read by place."""

    def __init__(self, documents: bool = False) -> None:
        self.documents = documents  #: whether a MARK in it ends a document
        self._file: BinaryIO = io.BytesIO()
        self._lock = threading.Lock()
        self._at_end = True  # of what was written, so that writing goes on there
        self._stamp: tuple[int, int] | None = None  # of a file that is this text as it stands: its size and time
        self.num_bytes = 0

    @classmethod
    def from_string(cls, text: str) -> LongText:
        """Return a text that is in memory already as one that may be long."""
        made = cls()
        made.write(text)
        return made

    @classmethod
    def from_file(cls, path: Path) -> LongText:
        """Return a file as the text that it is, byte for byte, without a copy. It is not written to.

        Raises:
            OSError: it cannot be opened.
        """
        made = cls()
        made._file = open_regular(str(path))
        weakref.finalize(made, made._file.close)
        made._stamp = _stamp(made._file)
        made.num_bytes = made._stamp[0]
        return made

    def write(self, piece: str) -> None:
        """Add to the end. Not to be called once the text was collect_statistics.

        Raises:
            StorageError: the disk does not take it.
        """
        data = piece.encode("utf-8", UTF8_ERRORS)
        try:
            if not self._at_end:
                self._file.seek(self.num_bytes)
                self._at_end = True
            self._file.write(data)
            if self.num_bytes + len(data) > MAX_MEMORY_BYTES and isinstance(self._file, io.BytesIO):
                self._to_disk()
        except OSError as error:
            raise temporary_storage_error(f"a text of more than {self.num_bytes:,} bytes", error) from error
        self.num_bytes += len(data)

    def _to_disk(self) -> None:
        memory, self._file = self._file, tempfile.TemporaryFile()  # noqa: SIM115 (it closes with the text)
        weakref.finalize(self, self._file.close)
        memory.seek(0)
        shutil.copyfileobj(memory, self._file)

    def cut(self, num_bytes: int) -> None:
        """Take back what was written after the first `num_bytes`."""
        self.num_bytes = num_bytes
        self._at_end = False

    def ends_with_newline(self) -> bool:
        """Tell whether the last character is a newline."""
        return self.num_bytes > 0 and self._read(self.num_bytes - 1, 1) == b"\n"

    @cached_property
    def statistics(self) -> TextStatistics:
        """Read the whole text once, on all cores."""
        survey = collect_statistics(self.blocks(), self.num_bytes)
        assert survey  # every block is count_characters
        return survey

    def has_sha256(self, sha256: object) -> bool:
        """Tell whether a hash is of this text, as this version or, of documents, an earlier one computes it.

        Earlier versions marked the end of a document with U+FDD0. A text that has this character is another one to
        them, with more documents.
        """
        if sha256 == self.statistics.sha256:
            return True
        if not self.documents or self.statistics.counts[ord(OLD_MARK) : ord(OLD_MARK) + 1].any():
            return False
        digest, new, old = hashlib.sha256(), MARK.encode("utf-8", UTF8_ERRORS), OLD_MARK.encode()
        for block in self.blocks():
            digest.update(block.replace(new, old))
        return digest.hexdigest() == sha256

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[str]:
        """Yield the characters from `begin` to `end`, some at a time.

        Args:
            begin: characters from the beginning.
            end: the same; the whole rest if left out.
        """
        for block in self.parts(begin, end):
            yield block.decode("utf-8", UTF8_ERRORS)

    def parts(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the same as UTF-8."""
        survey = self.statistics
        end = survey.num_chars if end is None else min(end, survey.num_chars)
        block = max(0, int(np.searchsorted(survey.places, begin, side="right")) - 1)
        while begin < end:
            place, after = int(survey.places[block]), int(survey.places[block + 1])
            offset = int(survey.offsets[block])
            part = self._read(offset, int(survey.offsets[block + 1]) - offset)
            if begin > place or end < after:
                part = part.decode("utf-8", UTF8_ERRORS)[begin - place : end - place].encode("utf-8", UTF8_ERRORS)
            yield part
            begin, block = after, block + 1

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return the characters from `begin` to `end` as one string."""
        return "".join(self.pieces(begin, end))

    def span(self, begin: int = 0, end: int | None = None) -> Span:
        """Return the characters from `begin` to `end` as a value that can be handed on."""
        return Span(self, begin, self.statistics.num_chars if end is None else end)

    def blocks(self, cut: Callable[[bytes], int] = last_char_start) -> Iterator[bytes]:
        """Yield the text's bytes, cut between characters.

        Args:
            cut: says of a block that is not the last one how much of it to yield.
        """
        offset = 0
        while offset < self.num_bytes:
            block = self._read(offset, min(TASK_BYTES, self.num_bytes - offset))
            if offset + len(block) < self.num_bytes:
                block = block[: cut(block)]
            yield block
            offset += len(block)

    def _read(self, offset: int, size: int) -> bytes:
        if self._stamp and self._stamp != _stamp(self._file):
            raise CorpusError("a file was changed while it was read", "Begin again.")
        with self._lock:  # one reader at a time moves the place in the file
            self._at_end = False
            self._file.seek(offset)
            return self._file.read(size)


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def temporary_storage_error(what: str, error: OSError) -> StorageError:
    """Return the error for what cannot be kept in the folder for temporary files."""
    try:
        folder = tempfile.gettempdir()
    except OSError:  # none of those that Python tries can be written to
        folder = "a folder for temporary files"
    return StorageError(
        f"{what} cannot be kept in {folder}: {error.strerror or error}",
        "Free some room there, or name another folder in the environment variable TMPDIR.",
    )


@dataclass(frozen=True)
class Span:
    """A part of a text, from one character to another."""

    text: LongText
    begin: int
    end: int

    @property
    def num_chars(self) -> int:
        return self.end - self.begin

    def pieces(self) -> Iterator[str]:
        """Yield the part, some characters at a time."""
        return self.text.pieces(self.begin, self.end)

    def parts(self) -> Iterator[bytes]:
        """Yield the same as UTF-8."""
        return self.text.parts(self.begin, self.end)

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of the part, by places that count from its beginning; negative ones from its end."""
        first, last, _ = slice(begin, end).indices(self.num_chars)
        return self.text.read(self.begin + first, self.begin + last)

    def counts(self) -> NDArray[np.int64]:
        """Return how often each code point stands in it, [highest + 1]."""
        counts: NDArray[np.int64]
        if self.num_chars == self.text.statistics.num_chars:
            counts = self.text.statistics.counts.copy()
        else:
            counts = sum_counts(np.bincount(code_points(piece)) for piece in self.pieces())
        if self.text.documents:
            counts[ord(MARK) : ord(MARK) + 1] = 0  # it is no character of the text
        return counts
