"""What a file holds, unpacked: gzip and Zstandard are seen by their first bytes. Memory is bounded.

A block of Zstandard gives at most 128 KiB, so a frame is unpacked block by block (RFC 8878, section 3.1.1):

    frame   magic · header · block, block, … · checksum (4 bytes, if the header says so)
    block   3 bytes, little-endian: last (1 bit) · type (2 bits: raw, repeated byte, compressed) · size ; content
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from chargen.errors import ChargenError, CorpusError
from chargen.text.limits import ReadLimit

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"  #: the last three bytes of the magic of a frame to be skipped; the first is 0x50 to 0x5F
REPEATED_BYTE = 1  #: the type of a block whose content is one byte
MAX_ZSTD_WINDOW = 1 << 27  #: bytes that a frame may ask to be remembered; `zstd --long=27`
MAX_ZSTD_HEADER = 18
BLOCK = 1 << 15  #: bytes that are read at a time: few enough for the cache, and for many blocks to be plain ASCII


class _Counted(io.RawIOBase):
    """A stream that counts the bytes that are read from it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.num_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.num_bytes += len(data)
        return data


def unpacked(stream: Any, where: str, limit: ReadLimit) -> Iterator[bytes]:
    """Yield what an open file holds.

    Raises:
        CorpusError: it is damaged, cannot be read, or holds more than it may.
    """
    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    head = buffered.peek(4)[:4]
    counted = _Counted(buffered)
    damaged: tuple[type[BaseException], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    if head.startswith(GZIP_MAGIC):
        kind, blocks = "gzip", _read(gzip.GzipFile(fileobj=counted))
    elif head.startswith(ZSTD_MAGIC):
        zstandard = import_extra("zstandard", "zstd", where)
        kind, blocks = "zstd", _zstd(counted, zstandard)
        damaged += (zstandard.ZstdError,)
    else:
        kind, blocks = "", _read(buffered)
    num_bytes = 0
    try:
        for block in blocks:
            num_bytes += len(block)
            limit.add(len(block), where)
            if kind:
                limit.check_ratio(counted.num_bytes, num_bytes, where)
            yield block
    except damaged as error:
        raise CorpusError(f"{where} is a damaged {kind} file ({error})", "Fetch or compress it again.") from error
    except OSError as error:
        raise CorpusError(f"{where} cannot be read: {error.strerror or error}") from error


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import what reads a kind of file.

    Raises:
        ChargenError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ChargenError(f"{what} needs a package that is not here", f"pip install 'chargen[{extra}]'") from error


def _read(stream: Any) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _zstd(stream: Any, zstandard: Any) -> Iterator[bytes]:
    """Yield what Zstandard frames hold, block by block."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    while magic := stream.read(len(ZSTD_MAGIC)):
        if magic[1:] == SKIPPABLE and magic[0] >> 4 == 5:
            _skip(stream, int.from_bytes(_exactly(stream, 4), "little"))
            continue
        if magic != ZSTD_MAGIC:
            raise EOFError("something else follows a frame" if len(magic) == 4 else "it ends in the middle")
        frame = unpacker.decompressobj()
        header, has_checksum = _frame_header(magic, stream, zstandard)
        yield frame.decompress(header)
        last = False
        while not last:
            head = _exactly(stream, 3)
            number = int.from_bytes(head, "little")
            last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            content = _exactly(stream, 1 if kind == REPEATED_BYTE else size)
            yield frame.decompress(head + content)
        if has_checksum:
            yield frame.decompress(_exactly(stream, 4))
        if not frame.eof:
            raise EOFError("a frame does not end where it says")


def _frame_header(magic: bytes, stream: Any, zstandard: Any) -> tuple[bytes, bool]:
    """Read the header of a frame; return it with its magic, and whether a checksum ends the frame."""
    header = magic + _exactly(stream, 1)
    sizes = (0, 1, 2, 4)  # of the dictionary's number; RFC 8878, 3.1.1.1.1
    single = header[4] >> 5 & 1
    content = (single, 2, 4, 8)[header[4] >> 6]
    header += _exactly(stream, (1 - single) + sizes[header[4] & 3] + content)
    return header, bool(zstandard.get_frame_parameters(header).has_checksum)


def _exactly(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part: bytes = stream.read(size - len(data))
        if not part:
            raise EOFError("it ends in the middle")
        data += part
    return data


def _skip(stream: Any, size: int) -> None:
    while size:
        size -= len(_exactly(stream, min(size, BLOCK)))
