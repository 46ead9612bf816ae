"""A text that may be longer than memory, and its statistics: length, hash, character counts, positions of its blocks.

A short text is kept in memory as UTF-8, a long one in an unnamed temporary file. A text is written once, from start to
end. It can then be read any number of times, as a whole or from any character on:

    write, write, …  ─▶  UTF-8 bytes  ─▶  blocks of whole characters, counted on all cores  ─▶  TextStatistics
                                                └───────────────────────────────────────▶  pieces(begin, end)

A position is a number of characters from the start of the text. The statistics contain the position and the byte offset
of each block, so that any position is found without reading what is before its block.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError, StorageError
from chargen.text.decoding import code_points
from chargen.text.documents import MARK, OLD_MARK, UTF8_ERRORS
from chargen.text.limits import open_regular

if TYPE_CHECKING:
    from chargen.text.workers import Arrays

BLOCK_BYTES = 1 << 16  #: bytes between two known positions
TASK_BYTES = 1 << 20  #: bytes that are worth sending to another process
MAX_MEMORY_BYTES = 1 << 26  #: a longer text is kept in a file


@dataclass(frozen=True)
class TextStatistics:
    """Length, hash and character counts of a whole text."""

    num_chars: int
    num_bytes: int  #: size in UTF-8
    sha256: str  #: hash of the UTF-8 bytes
    counts: NDArray[np.int64]  #: [highest code point + 1]: how often each code point occurs
    char_offsets: NDArray[np.int64]  #: [blocks + 1]: characters before each block
    byte_offsets: NDArray[np.int64]  #: [blocks + 1]: bytes before each block


def count_characters(text: bytes) -> Arrays:
    """Count the characters of a part of a text; it may run in another process.

    Args:
        text: UTF-8, split between characters.

    Returns:
        The code points that occur; how often each occurs; for each block of about BLOCK_BYTES, its characters and its
        bytes.
    """
    counts, num_chars, num_bytes = np.zeros(0, dtype=np.int64), [], []
    begin = 0
    while begin < len(text):
        block = text[begin : begin + BLOCK_BYTES]
        if begin + len(block) < len(text):
            block = block[: last_char_start(block)]
        codes = code_points(block.decode("utf-8", UTF8_ERRORS))
        counts = sum_counts([counts, np.bincount(codes)])
        num_chars.append(len(codes))
        num_bytes.append(len(block))
        begin += len(block)
    distinct_codes = np.flatnonzero(counts)
    return [
        distinct_codes,
        counts[distinct_codes],
        np.array(num_chars, dtype=np.int64),
        np.array(num_bytes, dtype=np.int64),
    ]


def collect_statistics(
    blocks: Iterable[bytes], num_bytes: int, function: Callable[..., Arrays] = count_characters, *arguments: str
) -> TextStatistics | None:
    """Read a whole text once, on all cores.

    Args:
        blocks: The text's UTF-8, split between characters.
        num_bytes: Approximate size of all blocks.
        function: Called with each block; returns what `count_characters` does, or nothing to refuse the text.
        arguments: Further arguments of the function.

    Returns:
        The statistics; None if the function refused a block.
    """
    from chargen.text.workers import map_blocks  # with its imports, it takes 5 ms, and opening a model needs none of it

    digest = hashlib.sha256()

    def hash_and_yield() -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    counts = np.zeros(0, dtype=np.int64)
    num_chars, num_block_bytes = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for result in map_blocks(function, hash_and_yield(), num_bytes, *arguments):
        if not result:
            return None
        codes, code_counts, block_chars, block_bytes = result
        if len(codes) and codes[-1] >= len(counts):
            counts = np.pad(counts, (0, int(codes[-1]) + 1 - len(counts)))
        counts[codes] += code_counts
        num_chars.append(block_chars)
        num_block_bytes.append(block_bytes)
    char_offsets = np.cumsum(np.concatenate(num_chars))
    byte_offsets = np.cumsum(np.concatenate(num_block_bytes))
    return TextStatistics(
        num_chars=int(char_offsets[-1]),
        num_bytes=int(byte_offsets[-1]),
        sha256=digest.hexdigest(),
        counts=counts,
        char_offsets=char_offsets,
        byte_offsets=byte_offsets,
    )


def sum_counts(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the sum of counts of different lengths."""
    total = np.zeros(0, dtype=np.int64)
    for part in counts:
        if len(part) > len(total):
            total = np.pad(total, (0, len(part) - len(total)))
        total[: len(part)] += part
    return total


def last_char_start(block: bytes) -> int:
    """Return where the last character of a block of UTF-8 begins; the length of the block if it has only one."""
    position = len(block) - 1
    while position > 0 and block[position] & 0xC0 == 0x80:
        position -= 1
    return position or len(block)


class LongText:
    """A text that is written once, and then read from any position."""

    def __init__(self, has_documents: bool = False) -> None:
        self.has_documents = has_documents  #: whether a MARK in the text ends a document
        self.num_bytes = 0
        self._file: BinaryIO = io.BytesIO()
        self._lock = threading.Lock()
        self._is_at_end = True  # whether the file position is where the next piece is written
        self._file_stamp: tuple[int, int] | None = None  # size and time of a user's file that is read in place

    @classmethod
    def from_string(cls, text: str) -> LongText:
        """Return a text from a string."""
        long_text = cls()
        long_text.write(text)
        return long_text

    @classmethod
    def from_file(cls, path: Path) -> LongText:
        """Return the content of a UTF-8 file as a text that is read in place, without a copy. It cannot be written to.

        Raises:
            OSError: If the file cannot be opened, or is not a regular file.
        """
        long_text = cls()
        long_text._file = open_regular(str(path))
        weakref.finalize(long_text, long_text._file.close)
        long_text._file_stamp = _file_stamp(long_text._file)
        long_text.num_bytes = long_text._file_stamp[0]
        return long_text

    def write(self, piece: str) -> None:
        """Append a piece. It must not be called after `statistics` is used.

        Raises:
            StorageError: If the temporary file cannot be written.
        """
        data = piece.encode("utf-8", UTF8_ERRORS)
        try:
            if not self._is_at_end:
                self._file.seek(self.num_bytes)
                self._is_at_end = True
            self._file.write(data)
            if self.num_bytes + len(data) > MAX_MEMORY_BYTES and isinstance(self._file, io.BytesIO):
                self._move_to_disk()
        except OSError as error:
            raise temporary_storage_error(f"a text of more than {self.num_bytes:,} bytes", error) from error
        self.num_bytes += len(data)

    def _move_to_disk(self) -> None:
        import shutil
        import tempfile

        memory = self._file
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the text)
        weakref.finalize(self, self._file.close)
        memory.seek(0)
        shutil.copyfileobj(memory, self._file)

    def truncate(self, num_bytes: int) -> None:
        """Remove everything after the first `num_bytes`."""
        self.num_bytes = num_bytes
        self._is_at_end = False

    def ends_with_newline(self) -> bool:
        """Return whether the last character is a newline."""
        return self.num_bytes > 0 and self._read(self.num_bytes - 1, 1) == b"\n"

    @cached_property
    def statistics(self) -> TextStatistics:
        """Statistics of the whole text. The first use reads the text once, on all cores."""
        statistics = collect_statistics(self.utf8_blocks(), self.num_bytes)
        assert statistics  # `count_characters` refuses no block
        return statistics

    def has_sha256(self, sha256: object) -> bool:
        """Return whether a hash is of this text, as this version or an earlier one computes it.

        Earlier versions marked the end of a document with U+FDD0. They treat a text that contains this character as
        another text, with more documents.
        """
        if sha256 == self.statistics.sha256:
            return True
        if not self.has_documents or self.statistics.counts[ord(OLD_MARK) : ord(OLD_MARK) + 1].any():
            return False
        digest, new, old = hashlib.sha256(), MARK.encode("utf-8", UTF8_ERRORS), OLD_MARK.encode()
        for block in self.utf8_blocks():
            digest.update(block.replace(new, old))
        return digest.hexdigest() == sha256

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[str]:
        """Yield the characters from `begin` to `end` in pieces of about BLOCK_BYTES.

        Args:
            begin: Position of the first character.
            end: Position after the last character; the end of the text by default.
        """
        for block in self.utf8_pieces(begin, end):
            yield block.decode("utf-8", UTF8_ERRORS)

    def utf8_pieces(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the same as `pieces`, as UTF-8."""
        statistics = self.statistics
        end = statistics.num_chars if end is None else min(end, statistics.num_chars)
        block = max(0, int(np.searchsorted(statistics.char_offsets, begin, side="right")) - 1)
        while begin < end:
            block_begin, block_end = int(statistics.char_offsets[block]), int(statistics.char_offsets[block + 1])
            offset = int(statistics.byte_offsets[block])
            piece = self._read(offset, int(statistics.byte_offsets[block + 1]) - offset)
            if begin > block_begin or end < block_end:
                chars = piece.decode("utf-8", UTF8_ERRORS)[begin - block_begin : end - block_begin]
                piece = chars.encode("utf-8", UTF8_ERRORS)
            yield piece
            begin = block_end
            block += 1

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return the characters from `begin` to `end` as one string."""
        return "".join(self.pieces(begin, end))

    def span(self, begin: int = 0, end: int | None = None) -> Span:
        """Return the part from `begin` to `end` as a value, without reading it."""
        return Span(self, begin, self.statistics.num_chars if end is None else end)

    def utf8_blocks(self, choose_cut: Callable[[bytes], int] = last_char_start) -> Iterator[bytes]:
        """Yield the whole text as UTF-8, in blocks of about TASK_BYTES that are split between characters.

        Args:
            choose_cut: Returns how many bytes of a block to yield. It is not called for the last block.
        """
        offset = 0
        while offset < self.num_bytes:
            block = self._read(offset, min(TASK_BYTES, self.num_bytes - offset))
            if offset + len(block) < self.num_bytes:
                block = block[: choose_cut(block)]
            yield block
            offset += len(block)

    def _read(self, offset: int, size: int) -> bytes:
        if self._file_stamp and self._file_stamp != _file_stamp(self._file):
            raise CorpusError("a file was changed while it was read", "Run the command again.")
        with self._lock:  # the threads that read share one file position
            self._is_at_end = False
            self._file.seek(offset)
            return self._file.read(size)


def _file_stamp(file: BinaryIO) -> tuple[int, int]:
    """Return the size and the time of the last change of an open file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def temporary_storage_error(what: str, error: OSError) -> StorageError:
    """Return the error for data that cannot be written to a temporary file."""
    import tempfile

    try:
        folder = tempfile.gettempdir()
    except OSError:  # Python found no folder that it can write to
        folder = "a folder for temporary files"
    return StorageError(
        f"{what} cannot be kept in {folder}: {error.strerror or error}",
        "Free some space there, or name another folder in the environment variable TMPDIR.",
    )


class TextPart(ABC):
    """A part of a text, as a value. The part is read from the text when it is used, so it takes little memory."""

    text: LongText

    @property
    @abstractmethod
    def num_chars(self) -> int:
        """Number of characters of the part."""

    @property
    @abstractmethod
    def key(self) -> str:
        """A string that, together with the hash of the text, identifies the part."""

    @abstractmethod
    def pieces(self) -> Iterator[str]:
        """Yield the part in pieces."""

    @abstractmethod
    def utf8_pieces(self) -> Iterator[bytes]:
        """Yield the part in pieces, as UTF-8."""

    @abstractmethod
    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of this part as a string; positions count from its start, negative ones from its end."""

    @abstractmethod
    def excerpt(self, num_chars: int) -> str:
        """Return at most `num_chars` characters that baselines learn from instead of the whole part."""

    def counts(self) -> NDArray[np.int64]:
        """Return how often each code point occurs, int64 [highest + 1]; MARK is not counted in a text of documents."""
        counts: NDArray[np.int64]
        if self.num_chars == self.text.statistics.num_chars:
            counts = self.text.statistics.counts.copy()
        else:
            counts = sum_counts(np.bincount(code_points(piece)) for piece in self.pieces())
        if self.text.has_documents:
            counts[ord(MARK) : ord(MARK) + 1] = 0
        return counts


@dataclass(frozen=True)
class Span(TextPart):
    """The part of a text from one position to another."""

    text: LongText
    begin: int
    end: int

    @property
    def num_chars(self) -> int:
        """Number of characters of the part."""
        return self.end - self.begin

    @property
    def key(self) -> str:
        """A string that, together with the hash of the text, identifies the part."""
        return f"{self.begin} {self.end}"

    def pieces(self) -> Iterator[str]:
        """Yield the part in pieces."""
        return self.text.pieces(self.begin, self.end)

    def utf8_pieces(self) -> Iterator[bytes]:
        """Yield the part in pieces, as UTF-8."""
        return self.text.utf8_pieces(self.begin, self.end)

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of this part as a string; positions count from its start, negative ones from its end."""
        first, last, _ = slice(begin, end).indices(self.num_chars)
        return self.text.read(self.begin + first, self.begin + last)

    def excerpt(self, num_chars: int) -> str:
        """Return the last `num_chars` characters, which are nearest to the text that follows."""
        return self.read(-num_chars) if num_chars else ""
