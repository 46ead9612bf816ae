"""A text that may be longer than memory: UTF-8 in memory while it is short, in an unnamed file when it is long.

It is written once, from its beginning to its end, and then read as often as anyone likes, by place or in pieces.

    write, write, …  ─▶  UTF-8 bytes  ─▶  blocks of whole characters  ─▶  survey: length, hash, how often each character
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError, StorageError
from chargen.text.documents import MARK
from chargen.text.parallel import in_order

IN_MEMORY = 1 << 26  #: bytes of a text that are kept there
BLOCK = 1 << 16  #: bytes that are read at a time
ERRORS = "surrogatepass"  #: a lone surrogate (which no clean file holds) counts as its three bytes


@dataclass(frozen=True)
class Survey:
    """What one reading of the whole text tells."""

    num_chars: int
    num_bytes: int  #: in UTF-8
    sha256: str  #: of those
    counts: NDArray[np.int64]  #: [highest code point + 1]: how often each stands in the text
    places: NDArray[np.int64]  #: [blocks + 1]: the characters before each block
    offsets: NDArray[np.int64]  #: [blocks + 1]: the bytes before each block


class LongText:
    """A text that is written once and read by place."""

    def __init__(self, documents: bool = False) -> None:
        self.documents = documents  #: whether a MARK in it ends a document
        self._file: BinaryIO = io.BytesIO()
        self._lock = threading.Lock()
        self._at_end = True  # of what was written, so that writing goes on there
        self._lent: tuple[int, int] | None = None  # the size and time of a file that is this text as it stands
        self.num_bytes = 0

    @classmethod
    def of(cls, text: str) -> LongText:
        """Return a text that is in memory already as one that may be long."""
        made = cls()
        made.write(text)
        return made

    def write(self, piece: str) -> None:
        """Add to the end. Not to be called once the text was surveyed.

        Raises:
            StorageError: the disk does not take it.
        """
        data = piece.encode("utf-8", ERRORS)
        if self._lent:
            if self._read(self.num_bytes, len(data)) == data:
                self.num_bytes += len(data)
                return
            self._copy_of_its_own()
        try:
            if not self._at_end:
                self._file.seek(self.num_bytes)
                self._at_end = True
            self._file.write(data)
            if self.num_bytes + len(data) > IN_MEMORY and isinstance(self._file, io.BytesIO):
                self._to_disk()
        except OSError as error:
            raise StorageError(
                f"a text of more than {self.num_bytes:,} bytes cannot be kept in {tempfile.gettempdir()}: "
                f"{error.strerror or error}",
                "Free some room there, or name another folder in the environment variable TMPDIR.",
            ) from error
        self.num_bytes += len(data)

    def borrow(self, path: Path) -> None:
        """Keep no copy of what is written next, as long as it is what stands in a file, byte for byte."""
        if not self.num_bytes:
            self._file = open(path, "rb")  # noqa: SIM115 (it closes with the text)
            weakref.finalize(self, self._file.close)
            self._lent = _stamp(self._file)

    def _copy_of_its_own(self) -> None:
        source, self._file, self._lent, size = self._file, io.BytesIO(), None, self.num_bytes
        source.seek(0)
        self._to_disk()
        while self._file.tell() < size:
            self._file.write(source.read(min(BLOCK, size - self._file.tell())))
        self._at_end = True

    def _to_disk(self) -> None:
        memory, self._file = self._file, tempfile.TemporaryFile()  # noqa: SIM115 (it closes with the text)
        weakref.finalize(self, self._file.close)
        memory.seek(0)
        shutil.copyfileobj(memory, self._file, BLOCK)

    def cut(self, num_bytes: int) -> None:
        """Take back what was written after the first `num_bytes`."""
        self.num_bytes = num_bytes
        self._at_end = False

    def ends_with_newline(self) -> bool:
        """Tell whether the last character is a newline."""
        return self.num_bytes > 0 and self._read(self.num_bytes - 1, 1) == b"\n"

    @cached_property
    def survey(self) -> Survey:
        """Read the whole text once, on all cores."""
        digest = hashlib.sha256()
        chars, lengths = [0], [0]

        def blocks() -> Iterator[bytes]:
            for block in self._blocks():
                digest.update(block)
                lengths.append(len(block))
                yield block

        def counted() -> Iterator[NDArray[np.int64]]:
            for found in in_order(lambda block: _counted(block.decode("utf-8", ERRORS)), blocks()):
                chars.append(int(found.sum()))
                yield found

        counts = summed(counted())
        places, offsets = np.cumsum(chars, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)
        return Survey(int(places[-1]), self.num_bytes, digest.hexdigest(), counts, places, offsets)

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[str]:
        """Yield the characters from `begin` to `end`, some at a time.

        Args:
            begin: characters from the beginning.
            end: the same; the whole rest if left out.
        """
        survey = self.survey
        end = survey.num_chars if end is None else min(end, survey.num_chars)
        block = max(0, int(np.searchsorted(survey.places, begin, side="right")) - 1)
        while begin < end:
            place, offset = int(survey.places[block]), int(survey.offsets[block])
            piece = self._read(offset, int(survey.offsets[block + 1]) - offset).decode("utf-8", ERRORS)
            yield piece[begin - place : end - place]
            begin, block = int(survey.places[block + 1]), block + 1

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return the characters from `begin` to `end` as one string."""
        return "".join(self.pieces(begin, end))

    def span(self, begin: int = 0, end: int | None = None) -> Span:
        """Return the characters from `begin` to `end` as a value that can be handed on."""
        return Span(self, begin, self.survey.num_chars if end is None else end)

    def _blocks(self) -> Iterator[bytes]:
        """Yield the text's bytes, cut between characters."""
        offset = 0
        while offset < self.num_bytes:
            block = self._read(offset, min(BLOCK, self.num_bytes - offset))
            if offset + len(block) < self.num_bytes:
                block = block[: _last_begin(block)]
            yield block
            offset += len(block)

    def _read(self, offset: int, size: int) -> bytes:
        if self._lent and self._lent != _stamp(self._file):
            raise CorpusError("a file was changed while it was read", "Begin again.")
        with self._lock:  # one reader at a time moves the place in the file
            self._at_end = False
            self._file.seek(offset)
            return self._file.read(size)


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _last_begin(block: bytes) -> int:
    """Return where the last character of a block of UTF-8 begins, unless it is the only one."""
    place = len(block) - 1
    while place > 0 and block[place] & 0xC0 == 0x80:
        place -= 1
    return place or len(block)


def _counted(text: str) -> NDArray[np.int64]:
    """Return how often each code point stands in a text, [highest + 1]."""
    counts: NDArray[np.int64] = np.bincount(code_points(text)).astype(np.int64, copy=False)
    return counts


def summed(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
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
    return np.frombuffer(text.encode("utf-32-le", ERRORS), dtype="<u4")


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

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of the part, by places that count from its beginning; negative ones from its end."""
        first, last, _ = slice(begin, end).indices(self.num_chars)
        return self.text.read(self.begin + first, self.begin + last)

    def counts(self) -> NDArray[np.int64]:
        """Return how often each code point stands in it, [highest + 1]."""
        counts: NDArray[np.int64]
        if self.num_chars == self.text.survey.num_chars:
            counts = self.text.survey.counts.copy()
        else:
            counts = summed(in_order(_counted, self.pieces()))
        if self.text.documents:
            counts[ord(MARK) : ord(MARK) + 1] = 0  # it is no character of the text
        return counts
