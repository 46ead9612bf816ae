"""Encode a text in parallel and keep its token ids in a checked, memory-mapped cache file.

Training reads its token ids from this file. The cache key is a hash of everything that the token ids depend on: the
content of the text, the part of it, and the tokenizer. If two runs that start together encode the same text, each
writes its own temporary file, and the one that finishes last gives it the final name.

    bytes 0–7    "chargen2"
    bytes 8–15   size of the header in bytes, little-endian
    header       JSON, padded with spaces so that the token ids start at a multiple of 64 bytes
    token ids    little-endian uint8, int16, int32 or uint64: the smallest type that holds the vocabulary
    checksums    CRC-32 of each MiB of token ids, then CRC-32 of the header and these checksums; 4 bytes each,
                 little-endian

The whole file is checked when it is opened (1 GB takes 0.3 s), so that a damaged file is never trained on unnoticed.
Small files are read into memory. Large files are memory-mapped, so that only the pages in use take memory.
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
from chargen.folders import cache_folder
from chargen.io import make_storage_error, open_atomically, remove_stale_partial_files
from chargen.text.documents import MARK, UTF8_ERRORS
from chargen.text.limits import open_regular
from chargen.text.long_text import TASK_BYTES, TextPart
from chargen.text.workers import Arrays, map_blocks
from chargen.tokenizers.tokenizer import Tokenizer, tokenizer_from_json

SUFFIX = ".ids"  #: file name suffix of encoded texts
INDEX_SUFFIX = ".copies"  #: file name suffix of the n-gram hashes of encoded texts
MAX_LINE_BYTES = 1 << 22  #: a longer line is split at an arbitrary byte


def encoded_texts_folder() -> Path:
    """Return the folder of the cached files."""
    return cache_folder() / "corpora"


def load_or_encode_ids(
    tokenizer: Tokenizer, text: TextPart, note: Callable[[str], object] = lambda text: None
) -> NDArray[Any]:
    """Return the token ids of a text, [N]: from the cache, or newly encoded and added to the cache.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        note: Called with a message if the cached file was damaged.

    Raises:
        StorageError: If the token ids cannot be written.
    """
    key = text_key(tokenizer, text)
    path = _store_path(key)
    if store := load_cached_store(path, key, tokenizer.vocab_size, note):
        return store.ids
    remove_old_store(path)
    return write_store(path, encode_span(tokenizer, text), tokenizer.vocab_size, {"sha256": key}).ids


def load_encoded_ids(key: str, vocab_size: int) -> NDArray[Any]:
    """Return the token ids, [N], that another process on this machine has encoded.

    Args:
        key: The cache key of the text: `text_key`.
        vocab_size: Every id must be below this number.

    Raises:
        CorpusError: If they are not in the cache.
    """
    store = load_cached_store(_store_path(key), key, vocab_size)
    if store is None:
        raise CorpusError(f"{_store_path(key)}, which another process has encoded, does not exist or is damaged")
    return store.ids


def _store_path(key: str) -> Path:
    return encoded_texts_folder() / f"{key[:32]}{SUFFIX}"


def text_key(tokenizer: Tokenizer, text: TextPart) -> str:
    """Return the cache key of the token ids of a text."""
    return store_key(tokenizer, text.text.statistics.sha256, text.key)


def store_key(tokenizer: Tokenizer, sha256: str, part: str) -> str:
    """Return the cache key of the token ids of a text.

    Args:
        tokenizer: The tokenizer.
        sha256: Hash of the whole text.
        part: The part of the text: `TextPart.key`.
    """
    key = hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode())
    key.update(f"{sha256} {part}".encode())
    return key.hexdigest()


def encode_span(tokenizer: Tokenizer, text: TextPart) -> Iterator[NDArray[Any]]:
    """Yield the token ids of a text in blocks, in the smallest type that holds the vocabulary."""
    documents = text.text.has_documents
    end = MARK.encode("utf-8", UTF8_ERRORS) if documents else b"\n"
    tokenizer_json = json.dumps(tokenizer.to_json(), sort_keys=True)
    blocks = _split_blocks(text.utf8_pieces(), end)
    for (ids,) in map_blocks(
        _encode_block, blocks, text.text.num_bytes, tokenizer_json, "documents" if documents else ""
    ):
        yield ids


def _encode_block(block: bytes, tokenizer_json: str, documents: str) -> Arrays:
    """Encode complete lines, or complete documents. This can run in a worker process."""
    tokenizer, table = _tokenizer(tokenizer_json)
    dtype = smallest_dtype(tokenizer.vocab_size)
    if table and not documents and block.isascii():
        return [np.frombuffer(block.translate(table), dtype=dtype)]
    text = block.decode("utf-8", UTF8_ERRORS)
    return [(tokenizer.encode_documents(text) if documents else tokenizer.encode(text)).astype(dtype)]


@lru_cache(maxsize=2)
def _tokenizer(tokenizer_json: str) -> tuple[Tokenizer, bytes | None]:
    """Return a tokenizer and its byte table, with which ASCII text is encoded fastest."""
    tokenizer = tokenizer_from_json(json.loads(tokenizer_json))
    return tokenizer, tokenizer.ascii_table()


def _split_blocks(parts: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield a text in blocks that end with a line or document: at any other position a token could be split."""
    pending: list[bytes] = []
    size = 0
    for part in parts:
        cut = part.rfind(end) + len(end) if end in part else 0
        if cut and size + cut >= TASK_BYTES or size > MAX_LINE_BYTES:
            yield b"".join([*pending, part[:cut]])
            pending = []
            size = 0
            part = part[cut:]
        pending.append(part)
        size += len(part)
    if size:
        yield b"".join(pending)


def clean_cache(folder: Path | None = None) -> tuple[int, int]:
    """Delete all cache files that no process is writing. Windows keeps those that a process has open.

    Args:
        folder: Folder of the files; None for `encoded_texts_folder()`.

    Returns:
        The number of deleted files and their total size in bytes.

    Raises:
        StorageError: If another file cannot be deleted.
    """
    folder = folder or encoded_texts_folder()
    count, size = remove_stale_partial_files(folder)
    for path in folder.glob("*") if folder.is_dir() else ():
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue  # chargen creates no folders here
        if path.suffix in (SUFFIX, INDEX_SUFFIX):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if os.name == "nt" and isinstance(error, PermissionError):
                    continue
                raise make_storage_error(path, error) from error
            count += 1
            size += status.st_size
    return count, size


MAGIC = b"chargen2"
OLD_MAGIC = b"chargen1"  #: first bytes of the previous format, which has no checksums
ALIGNMENT = 64  #: bytes
MAX_IDS = 1 << 63
BLOCK_BYTES = 1 << 20  #: bytes of token ids per checksum
MAX_HEADER_BYTES = 1 << 20
MAX_IN_MEMORY_BYTES = 1 << 26  #: files with more bytes of token ids are memory-mapped
DTYPES = (np.dtype("u1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<u8"))


@dataclass(frozen=True)
class Store:
    """An opened token store."""

    ids: NDArray[Any]  #: [N], read-only
    about: Mapping[str, Any]  #: metadata from the header


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest integer type that holds every token id below `vocab_size`.

    Token ids get a type that torch supports. The last type, uint64, is for hashes.
    """
    for dtype in DTYPES[:-1]:
        if vocab_size - 1 <= np.iinfo(dtype).max:
            return dtype
    return DTYPES[-1]


def write_store(path: Path, parts: Iterable[NDArray[Any]], vocab_size: int, about: Mapping[str, Any]) -> Store:
    """Write token ids and metadata to a store, and open it.

    Args:
        path: The file to write.
        parts: The token ids, in blocks.
        vocab_size: All token ids are below this number.
        about: Metadata; it must be serializable as JSON.

    Raises:
        StorageError: If the file cannot be written.
    """
    dtype = smallest_dtype(vocab_size)
    sums = _Checksums()
    with open_atomically(path) as file:
        # A placeholder with the largest length: the final header is never longer.
        header_size = file.write(_header(dtype, MAX_IDS, about, 0))
        for part in parts:
            data = np.ascontiguousarray(part, dtype=dtype).data.cast("B")
            file.write(data)
            sums.add(data)
        blocks = sums.blocks()
        header = _header(dtype, sums.num_bytes // dtype.itemsize, about, header_size)
        file.write(blocks + _crc_bytes(header, blocks))
        file.seek(0)
        file.write(header)
    return open_store(path)


class _Checksums:
    """Computes the checksum of each block of the bytes that are added."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._full_blocks: list[int] = []  # checksums
        self._last = 0  # checksum of the block that is not full yet

    def add(self, data: memoryview) -> None:
        """Append bytes."""
        while len(data):
            part = data[: BLOCK_BYTES - self.num_bytes % BLOCK_BYTES]
            self._last = zlib.crc32(part, self._last)
            self.num_bytes += len(part)
            data = data[len(part) :]
            if not self.num_bytes % BLOCK_BYTES:
                self._full_blocks.append(self._last)
                self._last = 0

    def blocks(self) -> bytes:
        """Return the checksums of all blocks so far, 4 bytes each."""
        rest = [self._last] if self.num_bytes % BLOCK_BYTES else []
        return np.array([*self._full_blocks, *rest], dtype="<u4").tobytes()


def _crc_bytes(header: bytes, blocks: bytes) -> bytes:
    return zlib.crc32(blocks, zlib.crc32(header)).to_bytes(4, "little")


def _header(dtype: np.dtype[Any], length: int, about: Mapping[str, Any], min_size: int) -> bytes:
    """Return the bytes before the token ids, padded to a multiple of ALIGNMENT and to at least `min_size` bytes."""
    header = json.dumps({"dtype": dtype.str, "length": length, "about": dict(about)}).encode()
    size = max(min_size, -(-(len(MAGIC) + 8 + len(header)) // ALIGNMENT) * ALIGNMENT)
    header = header.ljust(size - len(MAGIC) - 8)
    return MAGIC + len(header).to_bytes(8, "little") + header


class OldStoreError(CorpusError):
    """A store was written by an earlier version, which had no checksums."""


def open_store(path: Path, vocab_size: int = 1 << 64) -> Store:
    """Open a store and check all of it.

    Args:
        path: The file.
        vocab_size: Every id must be below this number.

    Raises:
        OldStoreError: If an earlier version wrote the file.
        CorpusError: If the file is missing, incomplete, damaged, or not a store.
    """
    damaged = CorpusError(f"{path} is not a complete chargen store", "Delete it; chargen creates it from the corpus.")
    try:
        with open_regular(str(path)) as file:
            start = file.read(16)
            file_size = os.fstat(file.fileno()).st_size
            if start[:8] == OLD_MAGIC:
                raise OldStoreError(f"{path} was written by an earlier version", damaged.hint)
            size = int.from_bytes(start[8:], "little")
            if start[:8] != MAGIC or size > min(file_size, MAX_HEADER_BYTES):
                raise damaged
            start += file.read(size)
            header = json.loads(start[16:])
            dtype = np.dtype(str(header["dtype"]))
            length = header["length"]
            about = header["about"]
            if dtype not in DTYPES or type(length) is not int or length < 0 or not isinstance(about, dict):
                raise damaged
            num_bytes = length * dtype.itemsize
            checksum_bytes = 4 * (-(-num_bytes // BLOCK_BYTES) + 1)
            if file_size != len(start) + num_bytes + checksum_bytes:
                raise damaged
            file.seek(len(start) + num_bytes)
            *blocks, header_crc = np.frombuffer(file.read(checksum_bytes), dtype="<u4")
            if _crc_bytes(start, np.array(blocks, dtype="<u4").tobytes()) != header_crc.tobytes():
                raise damaged
            if num_bytes <= MAX_IN_MEMORY_BYTES:  # later changes of the file cannot affect the token ids
                file.seek(len(start))
                ids: NDArray[Any] = np.frombuffer(file.read(num_bytes), dtype)
                if len(ids) != length:
                    raise damaged
            else:  # if the file is truncated later, the process crashes (SIGBUS)
                ids = np.memmap(file, dtype, "r", len(start), (length,))
        if not _are_valid_ids(ids, blocks, vocab_size):
            raise damaged
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, CorpusError):
            raise
        raise damaged from error
    return Store(ids, about)


def _are_valid_ids(ids: NDArray[Any], checksums: Sequence[Any], vocab_size: int) -> bool:
    """Return whether the token ids match their checksums and are in the vocabulary. Large stores use two threads."""
    per_block = BLOCK_BYTES // ids.dtype.itemsize
    max_id = vocab_size - 1

    def is_valid(k: int) -> bool:
        block = ids[k * per_block : (k + 1) * per_block]
        return zlib.crc32(block.data) == checksums[k] and int(block.max()) <= max_id and int(block.min()) >= 0

    if len(checksums) <= 8:
        return all(map(is_valid, range(len(checksums))))
    with ThreadPoolExecutor(2) as pool:
        return all(pool.map(is_valid, range(len(checksums))))


def remove_old_store(path: Path) -> None:
    """Remove a file or a link at the path of a store, and partial files that killed processes left in its folder.

    A folder is not removed. If the path is a link, the link is removed and its target is not. A regular file that
    cannot be removed stays, as on Windows one that is in use: `write_store` replaces it, or raises the error.

    Raises:
        StorageError: If a link or a device cannot be removed: `write_store` would write to what it leads to.
    """
    remove_stale_partial_files(path.parent)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if path.is_symlink() or not path.is_file():
                raise make_storage_error(path, error) from error


def load_cached_store(
    path: Path, key: str, vocab_size: int, note: Callable[[str], object] = lambda text: None
) -> Store | None:
    """Return a store from the cache, or None if it must be made.

    Args:
        path: The file.
        key: The required value of "sha256" in the metadata.
        vocab_size: Every id must be below this number.
        note: Called with a message if the file is damaged or has another key; not if an earlier version wrote it.
    """
    if not os.path.lexists(path):
        return None
    try:
        store = open_store(path, vocab_size)
    except OldStoreError:
        return None
    except CorpusError:
        note(f"{path} was damaged and is created again")
        return None
    if store.about.get("sha256") != key:
        note(f"{path} belonged to another text or model and is created again")
        return None
    return store
