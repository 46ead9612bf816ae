"""The text that a model learned from, found again: a model's file knows its name and its hash, not the text.

In this order, and each only if it is the same text, character for character:

    the corpus that a person names ─▶ the one that the run's saved state names ─▶ one of the model's corpus's name
    ─▶ the ids that training left in the cache, decoded

The hashes of all stretches of W characters of a text, sorted, on disk: what is asked whether a stretch stands in it.

Eight bytes a character, in a store (`text/store.py`), which has checksums.
"""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from chargen.checkpoint import Checkpoint, load_metadata
from chargen.config import DataConfig
from chargen.data import token_store as encode
from chargen.data.token_store import load_cached_store, remove_old_store, write_store
from chargen.errors import CorpusError
from chargen.runs import STATE_FILE
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, NONE
from chargen.text.hashing import PRIME, Hashes, fingerprints, overlapping, wide_codes
from chargen.text.long_text import ERRORS, LongText, Span, no_room
from chargen.text.recorded_corpus import recorded_corpus
from chargen.text.workers import Arrays, in_order
from chargen.tokenizers.tokenizer import BOUNDARY_ID

UNREAD = "\ud801"  #: stands for a character that the model's vocabulary lacks; like MARK, no text has it
BLOCK = 1 << 16  #: ids that are decoded at a time


@dataclass(frozen=True)
class TrainingText:
    """What a model's file says of its text."""

    name: str
    sha256: str  #: of the whole clean corpus
    num_chars: int  #: the first ones of it, that were learned from
    data: DataConfig

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TrainingText:
        """Read it off a model.

        Raises:
            CorpusError: the model does not say.
        """
        about = checkpoint.about
        try:
            data = DataConfig.from_json(about["data"])
            name, sha256, num_chars = about["corpus"], about["corpus_sha256"], about["train_chars"]
            strings = [name, sha256, *(getattr(data, field.name) for field in fields(data) if field.type == "str")]
            if not all(isinstance(string, str) for string in strings) or type(num_chars) is not int or num_chars < 1:
                raise ValueError("a value of another type")
            return cls(name, sha256, num_chars, data)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                "the model's file does not say what text it learned from", "Train it again with this version."
            ) from error

    def is_of(self, corpus: Corpus) -> bool:
        """Tell whether a corpus is the one that this is said of."""
        return corpus.has_sha256(self.sha256) and corpus.num_chars >= self.num_chars


def training_text(checkpoint: Checkpoint, corpus: Sequence[str] = (), model_path: Path | None = None) -> Span:
    """Return the part of its corpus that a model learned from; validation is not in it.

    Of a model that began from another (`--init-from`) it is the text of the last run alone.

    Args:
        checkpoint: the model.
        corpus: where the corpus is, as `chargen train` takes it; nothing to look for it.
        model_path: of the model's file; a run's saved state beside it knows where the corpus was.

    Raises:
        CorpusError: `corpus` is another text than the model learned from; or it is not given and is not at hand.
    """
    learned = TrainingText.of(checkpoint)
    if corpus:
        found = read_corpus(corpus, learned.data)
        if not learned.is_of(found):
            raise _changed(learned, corpus, found.sha256)
        return found.content.span(0, learned.num_chars)
    changed: CorpusError | None = None
    for files, arguments in _places(learned, model_path):
        try:
            found = recorded_corpus(files, arguments, learned.num_chars, learned.data)
        except CorpusError:
            continue  # no longer there, or not to be read unless a person names it
        if learned.is_of(found):
            return found.content.span(0, learned.num_chars)
        changed = changed or _changed(learned, found.arguments, found.sha256)
    text = _from_cache(checkpoint, learned)
    if text is None:
        raise changed or CorpusError(
            f"the text that the model learned from is not at hand: {learned.name!r}, of which it learned "
            f"{learned.num_chars:,} characters (sha256 {learned.sha256[:12]}…)",
            "Give it as it was given to `chargen train`: --corpus FILE.",
        )
    return text


def _changed(learned: TrainingText, corpus: Sequence[str], sha256: str) -> CorpusError:
    return CorpusError(
        f"{', '.join(corpus)} is not the text that the model learned from: its sha256 is {sha256[:12]}…, "
        f"that of {learned.name!r} was {learned.sha256[:12]}…",
        "Give the text as it was then, all parts of it in their order: --corpus FILE.",
    )


def _places(learned: TrainingText, model_path: Path | None) -> Iterator[tuple[object, object]]:
    """Yield where the corpus may be, as `recorded_corpus` takes it: where it was, or a file of its name."""
    state = load_metadata(model_path.parent / STATE_FILE) if model_path else {}
    if state.get("corpus_files") is not None or state.get("corpus_arguments"):
        yield state.get("corpus_files"), state.get("corpus_arguments")
    if all(char.isalnum() or char in "-_" for char in learned.name):  # else it is no corpus's name, but a path
        for guess in (f"corpora/{learned.name}.txt", f"{learned.name}.txt", learned.name):
            yield None, [guess]


def _from_cache(checkpoint: Checkpoint, learned: TrainingText) -> Span | None:
    """Decode the ids that training left on the disk; None where there are none, or not all of them."""
    tokenizer = checkpoint.tokenizer
    key = encode.store_key(tokenizer, learned.sha256, 0, learned.num_chars)
    store = load_cached_store(encode.CACHE / f"{key[:32]}{encode.SUFFIX}", key, tokenizer.vocab_size)
    if store is None:
        return None
    writes = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    special = {BOUNDARY_ID: MARK}
    if tokenizer.unknown_id is not None:
        special[tokenizer.unknown_id] = UNREAD
    text, utf8 = LongText(learned.data.documents != NONE), codecs.getincrementaldecoder("utf-8")()
    try:
        for begin in range(0, len(store.ids), BLOCK):
            ids = store.ids[begin : begin + BLOCK]
            done = 0
            for place in np.flatnonzero(np.isin(ids, list(special))).tolist():
                # Nothing of a character may be left over: these ids are none, and have no bytes.
                text.write(utf8.decode(b"".join([writes[i] for i in ids[done:place].tolist()]), final=True))
                text.write(special[int(ids[place])])
                done = place + 1
            text.write(utf8.decode(b"".join([writes[i] for i in ids[done:].tolist()])))
        text.write(utf8.decode(b"", final=True))
    except UnicodeDecodeError:
        return None  # ids that no text has
    return text.span() if text.survey.num_chars == learned.num_chars else None


AT_ONCE = 1 << 24  #: hashes that are sorted at a time: 128 MiB
CODES = 0x110000  #: how many code points there are: by so much do stretches differ that share a beginning


def write_hashes(path: Path, parts: Iterator[Hashes], about: Mapping[str, Any]) -> Hashes:
    """Write sorted hashes, and map them into memory.

    Raises:
        StorageError: the file cannot be written.
    """
    remove_old_store(path)
    return np.asarray(write_store(path, parts, 1 << 64, about).ids)


def open_hashes(path: Path, key: str, note: Callable[[str], object]) -> Hashes | None:
    """Map the hashes in a file; None where there is none, or a damaged one, of which `note` is told."""
    store = load_cached_store(path, key, 1 << 64, note)
    if store is None or store.ids.dtype != np.uint64:
        return None
    return np.asarray(store.ids)


def stretch_hashes(text: Span, width: int) -> Iterator[Hashes]:
    """Yield the hashes of all stretches of a text, sorted from the first to the last, each once.

    Those across the end of a document are left out. The text is read once; of a long one, the hashes wait on the disk
    to be sorted, in a file for each of as many equal ranges as it takes.
    """

    pieces = (piece.encode("utf-8", ERRORS) for _, piece in overlapping(text, lambda: width - 1))
    count = max(1, -(-text.num_chars // AT_ONCE))
    edges = np.array([PRIME * k // count for k in range(1, count)], dtype=np.uint64)
    with ExitStack() as stack:
        most_bytes = 1 if count > 1 else 8 * AT_ONCE  # that are kept in memory
        ranges = [stack.enter_context(tempfile.SpooledTemporaryFile(most_bytes)) for _ in range(count)]
        for (found,) in in_order(_hashed, pieces, text.text.num_bytes, str(width)):
            for file, part in zip(ranges, np.split(found, np.searchsorted(found, edges)), strict=True):
                try:
                    file.write(part.tobytes())
                except OSError as error:
                    raise no_room(f"the hashes of a text of {text.num_chars:,} characters", error) from error
        small = np.zeros(0, dtype=np.uint64)
        for file in ranges:
            file.seek(0)
            found = _distinct(np.frombuffer(file.read(), dtype=np.uint64))
            small = np.concatenate([small, found[found < np.uint64(CODES)]])
            yield found
    yield small + np.uint64(PRIME)  # so that a range that ends beyond p finds what is next after 0


def _hashed(piece: bytes, width: str) -> Arrays:
    """Hash a piece, which may be done by another process."""
    return [_distinct(hashes_within(piece.decode("utf-8", ERRORS), int(width)))]


def hashes_within(piece: str, width: int) -> Hashes:
    """Return the hashes of a piece's stretches that hold no end of a document."""
    codes = wide_codes(piece)
    hashes = fingerprints(codes, [width])[0]
    if MARK in piece and len(hashes):
        ends = np.concatenate([[0], np.cumsum(codes == ord(MARK))])
        hashes = hashes[ends[width:] == ends[:-width]]
    return hashes


def _distinct(hashes: Hashes) -> Hashes:
    ordered = np.sort(hashes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
