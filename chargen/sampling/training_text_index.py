"""The training text of a model, and an index of it on disk.

A model's file contains the name and the hash of its training text, not the text itself. `find_training_text` searches
for it in this order, and accepts only the same text, character for character:

    the corpus that the user names ─▶ the corpus that the training state names ─▶ a corpus with the name in the model
    ─▶ the token ids that training left in the cache, decoded

The index holds the sorted hashes of all windows of W characters, so that a binary search tells whether a window occurs
in the text. It takes 8 bytes per character, in a store with checksums (`data/token_store.py`). Of the indexes of
a text, one for each W that was asked for, the newest MAX_INDEXES are kept.
"""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint, load_metadata
from chargen.config import DataConfig
from chargen.data import token_store
from chargen.data.held_out import training_keys, training_part
from chargen.errors import CorpusError
from chargen.runs import STATE_FILE
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, NONE, UTF8_ERRORS
from chargen.text.hashing import PRIME, Hashes, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import LongText, Span, TextPart, temporary_storage_error
from chargen.text.recorded_corpus import read_recorded_corpus
from chargen.text.workers import Arrays, map_blocks
from chargen.tokenizers.reversed_text import reverse_span, reversed_key
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Tokenizer

UNKNOWN_CHAR = "\ud801"  # stands for a character that the vocabulary lacks; like MARK, it occurs in no text
DECODE_BLOCK = 1 << 16  # token ids that are decoded at a time
MAX_SORTED_HASHES = 1 << 24  # hashes that are sorted in memory at a time: 128 MiB
MAX_INDEXES = 4  # indexes of a text that are kept: 8 GiB for the longest text
NUM_CODE_POINTS = 0x110000  # the hashes of windows that differ in their last character only differ by less than this


# ── the training text ─────────────────────────────────────────────────────────


@dataclass(frozen=True)
class TrainingText:
    """The description of the training text in a model file."""

    name: str  #: name of the corpus
    sha256: str  #: hash of the whole clean corpus
    num_chars: int  #: number of training characters
    data: DataConfig

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> TrainingText:
        """Read the description from a model.

        Raises:
            CorpusError: If the model has none.
        """
        about = checkpoint.about
        try:
            data = DataConfig.from_json(about["data"])
            name, sha256, num_chars = about["corpus"], about["corpus_sha256"], about["train_chars"]
            strings = [name, sha256, *(getattr(data, field.name) for field in fields(data) if field.type == "str")]
            if not all(isinstance(string, str) for string in strings) or type(num_chars) is not int or num_chars < 1:
                raise ValueError("a value has the wrong type")
            return cls(name, sha256, num_chars, data)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                "the model's file does not name the text that it was trained on", "Train it again with this version."
            ) from error

    def find_in(self, corpus: Corpus) -> TextPart | None:
        """Return the part of a corpus that is the described text; None if the corpus is another one."""
        return training_part(corpus.content, self.data, self.num_chars) if corpus.has_sha256(self.sha256) else None


def find_training_text(checkpoint: Checkpoint, corpus: Sequence[str] = (), model_path: Path | None = None) -> TextPart:
    """Return the part of the corpus that a model was trained on, without the validation part.

    For a model that was initialised from another one (`--init-from`), this is the text of the last run only.

    Args:
        checkpoint: The model.
        corpus: The corpus, as `chargen train` takes it; empty to search for it.
        model_path: Path of the model's file. The training state next to it records where the corpus was.

    Raises:
        CorpusError: If `corpus` is not the text that the model was trained on, or if that text is not found.
    """
    learned = TrainingText.from_checkpoint(checkpoint)
    if corpus:
        candidate = read_corpus(corpus, learned.data, quantizer=checkpoint.tokenizer.quantizer)
        part = learned.find_in(candidate)
        if part is None:
            raise _other_text_error(learned, corpus, candidate.sha256)
        return part
    mismatch: CorpusError | None = None
    for files, arguments in _recorded_locations(learned, model_path):
        try:
            candidate = read_recorded_corpus(
                files, arguments, learned.num_chars, learned.data, quantizer=checkpoint.tokenizer.quantizer
            )
        except CorpusError:
            continue  # it is no longer there, or must not be read unless the user names it
        if (part := learned.find_in(candidate)) is not None:
            return part
        mismatch = mismatch or _other_text_error(learned, candidate.arguments, candidate.sha256)
    text = _decode_cached_ids(checkpoint, learned)
    if text is None:
        raise mismatch or CorpusError(
            f"the text that the model was trained on was not found: {learned.name!r}, of which it was trained on "
            f"{learned.num_chars:,} characters (sha256 {learned.sha256[:12]}…)",
            "Give the same files as for `chargen train`: --corpus FILE.",
        )
    return text


def _other_text_error(learned: TrainingText, corpus: Sequence[str], sha256: str) -> CorpusError:
    return CorpusError(
        f"{', '.join(corpus)} is not the text that the model was trained on: its sha256 is {sha256[:12]}…, "
        f"that of {learned.name!r} was {learned.sha256[:12]}…",
        "Give the unchanged text, all files in the same order: --corpus FILE.",
    )


def _recorded_locations(learned: TrainingText, model_path: Path | None) -> Iterator[tuple[object, object]]:
    """Yield where the corpus may be, as (files, arguments) of `read_recorded_corpus`."""
    state = load_metadata(model_path.parent / STATE_FILE) if model_path else {}
    if state.get("corpus_files") is not None or state.get("corpus_arguments"):
        yield state.get("corpus_files"), state.get("corpus_arguments")
    if all(char.isalnum() or char in "-_" for char in learned.name):  # otherwise it is a path, not the name of a corpus
        for guess in (f"corpora/{learned.name}.txt", f"{learned.name}.txt", learned.name):
            yield None, [guess]


def _decode_cached_ids(checkpoint: Checkpoint, learned: TrainingText) -> TextPart | None:
    """Decode the token ids that training left in the cache; None if they are missing or incomplete."""
    is_backward = learned.data.is_backward
    for part in training_keys(learned.data, learned.num_chars):
        part = reversed_key(part) if is_backward else part
        key = token_store.store_key(checkpoint.tokenizer, learned.sha256, part)
        path = token_store.encoded_texts_folder() / f"{key[:32]}{token_store.SUFFIX}"
        store = token_store.load_cached_store(path, key, checkpoint.tokenizer.vocab_size)
        if store is not None and (text := _decode_ids(checkpoint.tokenizer, store.ids, learned)):
            return reverse_span(text) if is_backward else text
    return None


def _decode_ids(tokenizer: Tokenizer, ids: NDArray[Any], learned: TrainingText) -> Span | None:
    """Decode the token ids of a training text; None if they are of another text."""
    token_bytes = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    special = {BOUNDARY_ID: MARK}
    if tokenizer.unknown_id is not None:
        special[tokenizer.unknown_id] = UNKNOWN_CHAR
    text = LongText(learned.data.documents != NONE)
    utf8 = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(ids), DECODE_BLOCK):
            block = ids[start : start + DECODE_BLOCK]
            num_done = 0
            for position in np.flatnonzero(np.isin(block, list(special))).tolist():
                # A special token id has no bytes, and no character may be incomplete before it.
                text.write(
                    utf8.decode(b"".join([token_bytes[i] for i in block[num_done:position].tolist()]), final=True)
                )
                text.write(special[int(block[position])])
                num_done = position + 1
            text.write(utf8.decode(b"".join([token_bytes[i] for i in block[num_done:].tolist()])))
        text.write(utf8.decode(b"", final=True))
    except UnicodeDecodeError:
        return None  # no text has these token ids
    return text.span() if text.statistics.num_chars == learned.num_chars else None


# ── the index ─────────────────────────────────────────────────────────────────


def index_path(text_key: str, max_copy: int) -> Path:
    """Return the file of an index in the cache.

    Args:
        text_key: Hash of the text in hexadecimal digits.
        max_copy: The longest run that may be copied; the windows of the index are longer by one character.
    """
    return token_store.encoded_texts_folder() / f"{text_key[:32]}-{max_copy}{token_store.INDEX_SUFFIX}"


def write_index(path: Path, parts: Iterator[Hashes], about: Mapping[str, Any]) -> Hashes:
    """Write sorted hashes to a file, delete the oldest indexes of the text, and return the hashes as a memory map.

    Args:
        path: The file; see `index_path`.
        parts: The hashes, in blocks.
        about: Metadata; it must be serializable as JSON.

    Raises:
        StorageError: If the file cannot be written.
    """
    token_store.remove_old_store(path)
    hashes = np.asarray(token_store.write_store(path, parts, 1 << 64, about).ids)
    _delete_old_indexes(path)
    return hashes


def _delete_old_indexes(newest: Path) -> None:
    """Delete the least recently used indexes of a text, so that MAX_INDEXES are left, with the newest one."""
    text_key = newest.name.partition("-")[0]
    times_ns: dict[Path, int] = {}
    for path in newest.parent.glob(f"{text_key}-*{token_store.INDEX_SUFFIX}"):
        with suppress(OSError):  # another process has deleted it
            times_ns[path] = path.lstat().st_mtime_ns
    times_ns.pop(newest, None)
    for path in sorted(times_ns, key=times_ns.__getitem__, reverse=True)[MAX_INDEXES - 1 :]:
        with suppress(OSError):  # on Windows, a file that a process has mapped cannot be deleted
            path.unlink()


def open_index(path: Path, key: str, note: Callable[[str], object]) -> Hashes | None:
    """Return the hashes of a file as a memory map; None if it is missing or damaged, which is passed to `note`."""
    store = token_store.load_cached_store(path, key, 1 << 64, note)
    if store is None or store.ids.dtype != np.uint64:
        return None
    with suppress(OSError):  # the folder may be read-only
        os.utime(path)  # the indexes that were used last are kept
    return np.asarray(store.ids)


def window_hashes(text: TextPart, width: int) -> Iterator[Hashes]:
    """Yield the hashes of all windows of a text, in ascending order and without duplicates.

    Windows that cross the end of a document are left out. The text is read once. The hashes of a long text are split by
    value into equal ranges, which wait in temporary files and are sorted one after the other.

    Args:
        text: The text.
        width: Characters of a window.

    Raises:
        StorageError: If the temporary files cannot be written.
    """
    pieces = (piece.encode("utf-8", UTF8_ERRORS) for _, piece in read_overlapping(text, lambda: width - 1))
    num_ranges = max(1, -(-text.num_chars // MAX_SORTED_HASHES))
    edges = np.array([PRIME * k // num_ranges for k in range(1, num_ranges)], dtype=np.uint64)
    with ExitStack() as stack:
        max_memory_bytes = 1 if num_ranges > 1 else 8 * MAX_SORTED_HASHES
        files = [stack.enter_context(tempfile.SpooledTemporaryFile(max_memory_bytes)) for _ in range(num_ranges)]
        for (hashes,) in map_blocks(_hash_block, pieces, text.text.num_bytes, str(width)):
            for file, part in zip(files, np.split(hashes, np.searchsorted(hashes, edges)), strict=True):
                try:
                    file.write(part.tobytes())
                except OSError as error:
                    what = f"the hashes of a text of {text.num_chars:,} characters"
                    raise temporary_storage_error(what, error) from error
        smallest = np.zeros(0, dtype=np.uint64)
        for file in files:
            file.seek(0)
            hashes = _sort_distinct(np.frombuffer(file.read(), dtype=np.uint64))
            smallest = np.concatenate([smallest, hashes[hashes < np.uint64(NUM_CODE_POINTS)]])
            yield hashes
    # A range of hashes that exceeds PRIME continues at 0, so the smallest hashes are repeated after the largest.
    yield smallest + np.uint64(PRIME)


def _hash_block(block: bytes, width: str) -> Arrays:
    """Hash a block of text. Other processes may run this."""
    return [_sort_distinct(hash_windows_in_documents(block.decode("utf-8", UTF8_ERRORS), int(width)))]


def hash_windows_in_documents(text: str, width: int) -> Hashes:
    """Return the hashes of the windows of a text that do not cross the end of a document."""
    codes = to_uint64_codes(text)
    hashes = hash_windows(codes, [width])[0]
    if MARK in text and len(hashes):
        num_marks = np.concatenate([[0], np.cumsum(codes == ord(MARK))])
        hashes = hashes[num_marks[width:] == num_marks[:-width]]
    return hashes


def _sort_distinct(hashes: Hashes) -> Hashes:
    ordered = np.sort(hashes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
