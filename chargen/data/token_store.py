"""A long text → ids on disk, on all cores; what was encoded once is found again.

The cache is keyed by what the ids depend on: the content, the part of it, and the tokenizer. Two runs that start
together may both encode a text; each writes a file of its own, and the one that ends last names it.

A memory-mapped array of ids with a JSON header and checksums: what training reads.

    bytes 0–7    "chargen2"
    bytes 8–15   length of the header, little-endian
    the header   JSON, padded with spaces so that the ids begin at a multiple of 64
    the ids      little-endian uint8, int16, int32 or uint64: the smallest that holds the vocabulary
    the end      CRC-32 of each MiB of ids, then of the header and of these; little-endian, 4 bytes each

All of it is checked when it is opened (a gigabyte in 0.3 s): a text that is trained on is not to be another one in
silence. Short ones are read; long ones are mapped, and only the pages that are looked at take memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.io import open_atomically, remove_stale_partial_files
from chargen.text.documents import MARK
from chargen.text.limits import open_regular
from chargen.text.long_text import TASK_BYTES, UTF8_ERRORS, Span
from chargen.text.workers import Arrays, map_blocks
from chargen.tokenizers.tokenizer import Tokenizer, tokenizer_from_json

CACHE = Path("corpora/.cache")
SUFFIX, INDEX_SUFFIX = ".ids", ".copies"  #: of encoded texts; of the hashes of what stands in them
LONGEST_LINE = 1 << 22  #: bytes; a longer line is cut anywhere


def stored_ids(tokenizer: Tokenizer, text: Span, note: Callable[[str], object] = lambda text: None) -> NDArray[Any]:
    """Return a text's ids, [N], memory-mapped from the cache.

    Args:
        tokenizer: how it becomes ids.
        text: what is encoded.
        note: is told if what the cache had was damaged.

    Raises:
        StorageError: they cannot be written.
    """
    key = ids_key(tokenizer, text.text.statistics.sha256, text.begin, text.end)
    path = CACHE / f"{key[:32]}{SUFFIX}"
    if store := cached_store(path, key, tokenizer.vocab_size, note):
        return store.ids
    make_room(path)
    return write_store(path, encoded(tokenizer, text), tokenizer.vocab_size, {"sha256": key}).ids


def ids_key(tokenizer: Tokenizer, sha256: str, begin: int, end: int) -> str:
    """Return the key of the ids of a text with this hash, from one character to another; it names their file."""
    key = hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode())
    key.update(f"{sha256} {begin} {end}".encode())
    return key.hexdigest()


def encoded(tokenizer: Tokenizer, text: Span) -> Iterator[NDArray[Any]]:
    """Yield a text's ids, some at a time, of the smallest type that holds them."""
    documents = text.text.has_documents
    end = MARK.encode("utf-8", UTF8_ERRORS) if documents else b"\n"
    described = json.dumps(tokenizer.to_json(), sort_keys=True)
    blocks = _whole_lines(text.utf8_pieces(), end)
    for (ids,) in map_blocks(_ids_of, blocks, text.text.num_bytes, described, "documents" if documents else ""):
        yield ids


def _ids_of(block: bytes, described: str, documents: str) -> Arrays:
    """Encode whole lines, or whole documents; it may be another process that does."""
    tokenizer, table = _tokenizer(described)
    dtype = smallest_dtype(tokenizer.vocab_size)
    if table and not documents and block.isascii():
        return [np.frombuffer(block.translate(table), dtype=dtype)]
    text = block.decode("utf-8", UTF8_ERRORS)
    return [(tokenizer.encode_documents(text) if documents else tokenizer.encode(text)).astype(dtype)]


@lru_cache(maxsize=2)
def _tokenizer(described: str) -> tuple[Tokenizer, bytes | None]:
    """Return a tokenizer, and what makes ids of ASCII text fastest."""
    tokenizer = tokenizer_from_json(json.loads(described))
    return tokenizer, tokenizer.ascii_table()


def _whole_lines(parts: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield a text in blocks that end with a line or document, because a token may cross any other place."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        cut = part.rfind(end) + len(end) if end in part else 0
        if cut and size + cut >= TASK_BYTES or size > LONGEST_LINE:
            yield b"".join([*held, part[:cut]])
            held, size, part = [], 0, part[cut:]
        held.append(part)
        size += len(part)
    if size:
        yield b"".join(held)


def clean_cache(folder: Path = CACHE) -> tuple[int, int]:
    """Delete every cached file that nobody is writing; return (how many, their bytes)."""
    count, size = remove_stale_partial_files(folder)
    for path in folder.glob("*") if folder.is_dir() else ():
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue  # none of ours
        if path.suffix in (SUFFIX, INDEX_SUFFIX):
            path.unlink(missing_ok=True)
            count, size = count + 1, size + status.st_size
    return count, size


MAGIC, OLD_MAGIC = b"chargen2", b"chargen1"  #: the old one has no checksums
ALIGNMENT = 64
MAX_IDS = 1 << 63
BLOCK_BYTES = 1 << 20  #: of ids, that a checksum is of
MAX_HEADER_BYTES = 1 << 20
IN_MEMORY = 1 << 26  #: bytes of ids that are read; more are mapped
DTYPES = (np.dtype("u1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<u8"))


@dataclass(frozen=True)
class Store:
    """Ids on disk, shape [N], and what the header says of them."""

    ids: NDArray[Any]
    about: Mapping[str, Any]


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type of whole number that holds every id below `vocab_size`.

    Those of a vocabulary are such that torch knows them; hashes have the last.
    """
    for dtype in DTYPES[:-1]:
        if vocab_size - 1 <= np.iinfo(dtype).max:
            return dtype
    return DTYPES[-1]


def write_store(path: Path, parts: Iterable[NDArray[Any]], vocab_size: int, about: Mapping[str, Any]) -> Store:
    """Write ids and what there is to say of them, and open the result.

    Args:
        path: of the store.
        parts: the ids, some at a time.
        vocab_size: they are below it.
        about: anything that `json` can write.

    Raises:
        StorageError: the file cannot be written.
    """
    dtype = smallest_dtype(vocab_size)
    sums = _Checksums()
    with open_atomically(path) as file:
        begin = file.write(_header(dtype, MAX_IDS, about, 0))  # as long as it can become
        for part in parts:
            data = np.ascontiguousarray(part, dtype=dtype).data.cast("B")
            file.write(data)
            sums.add(data)
        blocks = sums.blocks()
        header = _header(dtype, sums.num_bytes // dtype.itemsize, about, begin)
        file.write(blocks + _crc_bytes(header, blocks))
        file.seek(0)
        file.write(header)
    return open_store(path)


class _Checksums:
    """The checksum of each block of the bytes that are added."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._done: list[int] = []
        self._last = 0  # of the block that is not full

    def add(self, data: memoryview) -> None:
        while len(data):
            part = data[: BLOCK_BYTES - self.num_bytes % BLOCK_BYTES]
            self._last = zlib.crc32(part, self._last)
            self.num_bytes += len(part)
            data = data[len(part) :]
            if not self.num_bytes % BLOCK_BYTES:
                self._done.append(self._last)
                self._last = 0

    def blocks(self) -> bytes:
        """Return the checksums, 4 bytes each."""
        rest = [self._last] if self.num_bytes % BLOCK_BYTES else []
        return np.array([*self._done, *rest], dtype="<u4").tobytes()


def _crc_bytes(header: bytes, blocks: bytes) -> bytes:
    return zlib.crc32(blocks, zlib.crc32(header)).to_bytes(4, "little")


def _header(dtype: np.dtype[Any], length: int, about: Mapping[str, Any], at_least: int) -> bytes:
    """Return all that stands before the ids, padded to a multiple of ALIGNMENT of at least so many bytes."""
    header = json.dumps({"dtype": dtype.str, "length": length, "about": dict(about)}).encode()
    size = max(at_least, -(-(len(MAGIC) + 8 + len(header)) // ALIGNMENT) * ALIGNMENT)
    header = header.ljust(size - len(MAGIC) - 8)
    return MAGIC + len(header).to_bytes(8, "little") + header


class OldStoreError(CorpusError):
    """A store by an earlier version, which has no checksums."""


def open_store(path: Path, vocab_size: int = 1 << 64) -> Store:
    """Map a store into memory, and check all of it.

    Args:
        path: of the store.
        vocab_size: every id is to be below it.

    Raises:
        OldStoreError: an earlier version wrote it.
        CorpusError: the file is missing, or is not a whole store, or is damaged.
    """
    damaged = CorpusError(f"{path} is not a whole chargen store", "Delete it; it is made again from the corpus.")
    try:
        with open_regular(str(path)) as file:
            start, file_size = file.read(16), os.fstat(file.fileno()).st_size
            if start[:8] == OLD_MAGIC:
                raise OldStoreError(f"{path} was written by an earlier version", damaged.hint)
            size = int.from_bytes(start[8:], "little")
            if start[:8] != MAGIC or size > min(file_size, MAX_HEADER_BYTES):
                raise damaged
            start += file.read(size)
            header = json.loads(start[16:])
            dtype, length, about = np.dtype(str(header["dtype"])), header["length"], header["about"]
            if dtype not in DTYPES or type(length) is not int or length < 0 or not isinstance(about, dict):
                raise damaged
            num_bytes = length * dtype.itemsize
            ends_bytes = 4 * (-(-num_bytes // BLOCK_BYTES) + 1)
            if file_size != len(start) + num_bytes + ends_bytes:
                raise damaged
            file.seek(len(start) + num_bytes)
            *blocks, whole = np.frombuffer(file.read(ends_bytes), dtype="<u4")
            if _crc_bytes(start, np.array(blocks, dtype="<u4").tobytes()) != whole.tobytes():
                raise damaged
            if num_bytes <= IN_MEMORY:  # then nothing that happens to the file later changes them
                file.seek(len(start))
                ids: NDArray[Any] = np.frombuffer(file.read(num_bytes), dtype)
                if len(ids) != length:
                    raise damaged
            else:  # a file that is cut short later ends the process
                ids = np.memmap(file, dtype, "r", len(start), (length,))
        if not _is_whole(ids, blocks, vocab_size):
            raise damaged
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, CorpusError):
            raise
        raise damaged from error
    return Store(ids, about)


def _is_whole(ids: NDArray[Any], checksums: Sequence[Any], vocab_size: int) -> bool:
    """Tell whether the ids are those that were written, and ids of the vocabulary; on two cores."""
    per_block = BLOCK_BYTES // ids.dtype.itemsize
    most = vocab_size - 1

    def holds(k: int) -> bool:
        block = ids[k * per_block : (k + 1) * per_block]
        return zlib.crc32(block.data) == checksums[k] and int(block.max()) <= most and int(block.min()) >= 0

    if len(checksums) <= 8:
        return all(map(holds, range(len(checksums))))
    with ThreadPoolExecutor(2) as pool:
        return all(pool.map(holds, range(len(checksums))))


def make_room(path: Path) -> None:
    """Remove what stands where a store is to be written, unless it is a folder; a link itself, not what it names.

    What killed processes have left half written beside it goes too.
    """
    remove_stale_partial_files(path.parent)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink(missing_ok=True)


def cached_store(
    path: Path, key: str, vocab_size: int, note: Callable[[str], object] = lambda text: None
) -> Store | None:
    """Return the store that a cache has, None where it has to be made.

    Args:
        path: where it would be.
        key: what the header is to say under "sha256".
        vocab_size: every id is to be below it.
        note: is told of a file that is damaged. It is not told of one by an earlier version.
    """
    if not os.path.lexists(path):
        return None
    try:
        store = open_store(path, vocab_size)
    except OldStoreError:
        return None
    except CorpusError:
        note(f"{path} was damaged and is made again")
        return None
    if store.about.get("sha256") != key:
        note(f"{path} was of another text or model and is made again")
        return None
    return store
