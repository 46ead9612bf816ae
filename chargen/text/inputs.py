"""Open an input and read its bytes, decompressed.

    a path               a file of this machine; gzip, bzip2, xz and Zstandard are recognised by their first bytes
    -                    standard input, which may be compressed, too
    file:///…            a file of this machine
    scheme://…           a file that is read through fsspec                     (extra: chargen[remote])

fsspec supports about fifty schemes, and chains of them ("zip://a::https://…"). Many of these read files of this
machine, or need parameters that a URL does not contain. So only the schemes in SCHEMES are allowed.

A block has what one read returns, so that the lines of a slow pipe are not held back until a block is full.

A compressed file may contain several streams, one after another, as `cat a.xz b.xz` gives. Zero bytes may follow them.
Any other data is an error, because it would be lost.

A block of a Zstandard frame decompresses to at most 128 KiB, so a frame is decompressed block by block (RFC 8878,
section 3.1.1):

    frame   magic · header · block, block, … · checksum (4 bytes, if the header says so)
    block   3 bytes, little-endian: last (1 bit) · type (2 bits: raw, repeated byte, compressed) · size ; content
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from chargen.errors import ChargenError, CorpusError
from chargen.registry import did_you_mean_file, import_extra
from chargen.text.limits import ReadLimit, open_regular


@contextmanager
def open_input(argument: str, limit: ReadLimit) -> Iterator[BinaryIO]:
    """Open a file, a URL, or standard input for "-".

    Raises:
        ChargenError: If a package that is needed is not installed.
        CorpusError: If the input cannot be opened.
    """
    if argument == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = _open(argument, limit)
    except OSError as error:
        reason = describe_failure(error, argument)
        raise CorpusError(f"{argument} cannot be read: {reason}", _hint_for(error, argument)) from error
    with stream:
        yield stream


def _hint_for(error: OSError, argument: str) -> str:
    """Return what the user can do about an input that cannot be opened."""
    if isinstance(error, PermissionError):
        return "Ask its owner for permission to read it, or give a copy of it."
    if isinstance(error, IsADirectoryError):
        return "Give the name of a file, not of a folder."
    path = argument if os.path.exists(argument) else local_path(argument) or argument
    is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError)) and not is_remote(path)
    return (did_you_mean_file(path) if is_missing else "") or "Check its name."


def _open(argument: str, limit: ReadLimit) -> BinaryIO:
    if limit.regular_only:
        return open_regular(argument)
    if os.path.exists(argument) or not is_remote(argument):
        return open(argument, "rb")
    path = local_path(argument)
    return open_remote(argument) if path is None else open(path, "rb")


def has_input(stream: Any) -> bool:
    """Return whether a read of an open input returns at once; False where that is not known.

    A file of this machine never waits. A pipe or a terminal waits until something is written to it or it is closed.
    """
    try:
        descriptor = stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
        return bool(select.select([descriptor], [], [], 0)[0])
    except (AttributeError, OSError, ValueError):  # not a file; or Windows, where only sockets can be asked
        return False


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A bzip2 file starts with BZh, a digit, and the digits of π (a block) or of its square root (the end of a stream).
BZIP2_MAGICS = tuple(b"BZh%d%s" % (level, part) for level in range(1, 10) for part in (b"1AY&SY", b"\x17rE8P\x90"))
MAGICS = {b"\x1f\x8b": "gzip", ZSTD_MAGIC: "zstd", b"\xfd7zXZ\0": "xz", **dict.fromkeys(BZIP2_MAGICS, "bzip2")}
MAGIC_BYTES = 10  #: length of the longest magic
MIN_MAGIC_BYTES = 4  #: a file that ends inside a magic is a damaged one if it has at least this number of its bytes
SKIPPABLE = b"\x2a\x4d\x18"  #: last three bytes of the magic of a skippable frame; the first byte is 0x50 to 0x5F
REPEATED_BYTE = 1  #: type of a block whose content is one byte
MAX_WINDOW_BYTES = 1 << 27  #: window size limit, as for `zstd --long=27`; `xz -9` needs half of it
MAX_XZ_MEMORY_BYTES = MAX_WINDOW_BYTES + (1 << 24)  #: the window and the tables of an xz decoder
BLOCK_BYTES = 1 << 15  #: bytes per read: small enough for the cache, and for many blocks to be plain ASCII
INCOMPLETE = "the file is incomplete"


class _CountingReader(io.RawIOBase):
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


def decompress(stream: Any, where: str, limit: ReadLimit) -> Iterator[bytes]:
    """Yield the content of an open file in blocks, decompressed if it is gzip, bzip2, xz or Zstandard.

    Raises:
        ChargenError: If the module that reads this compression is not installed.
        CorpusError: If the file is damaged, cannot be read, or exceeds the limit.
    """
    kind = ""
    num_bytes = 0
    try:
        buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
        compressed = _CountingReader(buffered)
        start = buffered.peek(MAGIC_BYTES)[:MAGIC_BYTES]
        matching = (magic for magic in MAGICS if magic.startswith(start[: len(magic)]))
        kind = next((MAGICS[magic] for magic in matching if len(start) >= min(len(magic), MIN_MAGIC_BYTES)), "")
        for block in _decompressed_blocks(compressed, kind, where) if kind else _read_blocks(buffered):
            num_bytes += len(block)
            limit.add(len(block), where)
            if kind:
                limit.check_ratio(compressed.num_bytes, num_bytes, where)
            yield block
    except EOFError as error:
        raise CorpusError(f"{where} is a damaged {kind} file ({error})", "Download or compress it again.") from error
    except OSError as error:
        if isinstance(error, ChargenError):
            raise
        raise CorpusError(f"{where} cannot be read: {error.strerror or error}") from error


def _decompressed_blocks(stream: Any, kind: str, where: str) -> Iterator[bytes]:
    """Yield the content of a compressed file in blocks.

    Raises:
        ChargenError: If the module that reads this compression is not installed.
        EOFError: If the file is damaged or incomplete.
    """
    errors: tuple[type[Exception], ...] = (zlib.error, gzip.BadGzipFile)
    if kind == "gzip":
        blocks = _read_blocks(gzip.GzipFile(fileobj=stream))
    elif kind == "zstd":
        zstandard = import_extra("zstandard", "zstd", where)
        blocks, errors = _decompress_zstd(stream, zstandard), (zstandard.ZstdError,)
    else:
        try:
            decompressor, error_type = _bzip2() if kind == "bzip2" else _xz()
        except ImportError as error:  # Python can be built without these modules
            message = f"{where} is a {kind} file, which this Python was built without"
            raise ChargenError(message, "Decompress it first.") from error
        blocks = _decompress_streams(stream, decompressor, error_type)
    try:
        yield from blocks
    except errors as error:
        raise EOFError(str(error)) from error


def _bzip2() -> tuple[Callable[[], Any], type[Exception]]:
    import bz2

    return bz2.BZ2Decompressor, OSError


def _xz() -> tuple[Callable[[], Any], type[Exception]]:
    import lzma

    return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_XZ_MEMORY_BYTES), lzma.LZMAError


def _read_blocks(stream: Any) -> Iterator[bytes]:
    read = getattr(stream, "read1", stream.read)  # read1 does not wait until a block is full
    while block := read(BLOCK_BYTES):
        yield block


def _decompress_streams(
    stream: Any, new_decompressor: Callable[[], Any], error_type: type[Exception]
) -> Iterator[bytes]:
    """Yield the content of the streams of a bzip2 or xz file, one after another, each by a decompressor of its own."""
    data = b""
    while data := _skip_zeros(stream, data):
        decompressor = new_decompressor()
        while not decompressor.eof:
            if decompressor.needs_input:
                data = data or stream.read(BLOCK_BYTES)
                if not data:
                    raise EOFError(INCOMPLETE)
            try:
                block = decompressor.decompress(data, BLOCK_BYTES)
            except error_type as error:
                raise EOFError(str(error)) from error
            data = b""
            yield block
        data = decompressor.unused_data


def _skip_zeros(stream: Any, data: bytes) -> bytes:
    """Return what follows zero bytes in some data and, if there is nothing else in it, in the rest of a file."""
    rest = data.lstrip(b"\0")
    while not rest and (data := stream.read(BLOCK_BYTES)):
        rest = data.lstrip(b"\0")
    return rest


def _decompress_zstd(stream: Any, zstandard: Any) -> Iterator[bytes]:
    """Yield the content of Zstandard frames, block by block."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    while magic := stream.read(len(ZSTD_MAGIC)):
        if magic[1:] == SKIPPABLE and magic[0] >> 4 == 5:
            _skip(stream, int.from_bytes(_read_exactly(stream, 4), "little"))
            continue
        if magic != ZSTD_MAGIC:
            raise EOFError("other data follows a frame" if len(magic) == 4 else INCOMPLETE)
        frame = decompressor.decompressobj()
        header, has_checksum = _read_frame_header(magic, stream, zstandard)
        yield frame.decompress(header)
        is_last = False
        while not is_last:
            block_header = _read_exactly(stream, 3)
            bits = int.from_bytes(block_header, "little")
            is_last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
            content = _read_exactly(stream, 1 if kind == REPEATED_BYTE else size)
            yield frame.decompress(block_header + content)
        if has_checksum:
            yield frame.decompress(_read_exactly(stream, 4))
        if not frame.eof:
            raise EOFError("a frame does not end where its blocks end")


def _read_frame_header(magic: bytes, stream: Any, zstandard: Any) -> tuple[bytes, bool]:
    """Return the header of a frame with its magic, and whether a checksum ends the frame."""
    header = magic + _read_exactly(stream, 1)
    dictionary_id_sizes = (0, 1, 2, 4)  # RFC 8878, 3.1.1.1.1
    single_segment = header[4] >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[header[4] >> 6]
    header += _read_exactly(stream, (1 - single_segment) + dictionary_id_sizes[header[4] & 3] + content_size)
    return header, bool(zstandard.get_frame_parameters(header).has_checksum)


def _read_exactly(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part: bytes = stream.read(size - len(data))
        if not part:
            raise EOFError(INCOMPLETE)
        data += part
    return data


def _skip(stream: Any, size: int) -> None:
    while size:
        size -= len(_read_exactly(stream, min(size, BLOCK_BYTES)))


# Scheme → (the module that fsspec needs for it, the packages that provide the module).
SCHEMES = {
    "http": ("aiohttp", "aiohttp requests"),
    "https": ("aiohttp", "aiohttp requests"),
    "ftp": ("ftplib", ""),
    "sftp": ("paramiko", "paramiko"),
    "s3": ("s3fs", "s3fs"),
    "gs": ("gcsfs", "gcsfs"),
    "az": ("adlfs", "adlfs"),
    "abfs": ("adlfs", "adlfs"),
    "hf": ("huggingface_hub", "huggingface_hub"),
    "memory": ("fsspec", ""),  # data that this process wrote
}


def is_remote(argument: str) -> bool:
    """Return whether an argument is a URL, not a path."""
    return "://" in argument


def local_path(url: str) -> str | None:
    """Return the path in a `file:` URL; None for any other URL.

    Raises:
        CorpusError: If the URL names another machine, or its path contains a NUL.
    """
    if not url.lower().startswith("file://") or "::" in url:
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise CorpusError(f"{url} names a file of another machine ({parts.netloc})", "Write file:///PATH, or the path.")
    from urllib.request import url2pathname  # takes 8 ms, and most inputs are paths

    path = url2pathname(parts.path)
    if "\0" in path:
        raise CorpusError(f"{url!r} has a NUL in its path", "Write file:///PATH, or the path.")
    return path


def fsspec_for(url: str) -> Any:
    """Return the module fsspec, or raise a ChargenError if it is not installed or cannot read this URL."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES or "::" in url:
        what = "is a chain of file systems" if "::" in url else f"has the scheme {scheme!r}"
        hint = f"Give a path, or a URL: {_possible_schemes()}."
        raise CorpusError(f"{url} {what}, which chargen does not read", hint)
    fsspec = import_extra("fsspec", "remote", url)
    module, package = SCHEMES[scheme]
    if importlib.util.find_spec(module) is None:
        raise ChargenError(f"{url} needs a package that is not installed", f"pip install {package}")
    return fsspec


def open_remote(url: str) -> BinaryIO:
    """Open a remote file; `fsspec_for` lists the errors, and a CorpusError says that it cannot be opened."""
    fsspec = fsspec_for(url)
    try:
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(fsspec.open(url, "rb").open(), url)))
    except Exception as error:  # each back end of fsspec has its own types of errors
        raise _read_error(error, url) from error


def describe_failure(error: BaseException, where: str) -> str:
    """Return the reason of a read error in words."""
    import asyncio  # takes 17 ms, and most inputs are paths
    import concurrent.futures

    if isinstance(error, (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)):
        return "the server did not answer in time"
    if isinstance(error, FileNotFoundError) and is_remote(where):
        return "there is no file at this address (not found)"
    if (status := getattr(error, "status", None)) and (message := getattr(error, "message", "")):
        return f"the server answered {status} {message}"  # aiohttp's ClientResponseError
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _RemoteFile(io.RawIOBase):
    """A remote file whose read errors of any type become `CorpusError`."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data: bytes = self._file.read(len(buffer))
        except Exception as error:
            raise _read_error(error, self._url) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _read_error(error: Exception, url: str) -> CorpusError:
    return CorpusError(
        f"{url} cannot be read: {describe_failure(error, url)}", "Check the address, and whether you may access it."
    )


def _possible_schemes() -> str:
    """Return the schemes that can be read, and what to install for the others."""
    available = [scheme for scheme, (module, _) in SCHEMES.items() if importlib.util.find_spec(module)]
    missing = [
        f"{scheme}:// (pip install {package})" for scheme, (_, package) in SCHEMES.items() if scheme not in available
    ]
    names = ", ".join(f"{scheme}://" for scheme in ["file", *available] if scheme != "memory")
    return f"{names}" + (f"; with another package {', '.join(missing)}" if missing else "")
