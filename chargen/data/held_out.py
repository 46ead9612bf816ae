"""Hold out a part of a text for validation: the end of the text, or documents chosen at random.

    last     ├──────────────── training ────────────────┤├─ held out ─┤
    random   ├ training ┤held out├── training ──┤held out├ training ──┤      whole documents

Whether a document is chosen depends on its index alone, not on the seed of a run. So all runs on a text hold out the
same documents: their losses can be compared, and a run that starts from the model of another one (`--init-from`) is not
validated on documents that this model was trained on.

The training documents are not copied: `DocumentSelection` knows where they are. The validation documents are copied in
random order, so that each part of the validation text represents all of it, even if the corpus is sorted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chargen.config import RANDOM, DataConfig
from chargen.errors import CorpusError
from chargen.text.documents import MARK, UTF8_ERRORS
from chargen.text.long_text import LongText, Span, TextPart

MAX_VAL_CHARS = 200_000  #: validation characters taken from a corpus; more would take too long at the end of a run
MARK_BYTES = MARK.encode("utf-8", UTF8_ERRORS)  #: three bytes
NUM_STRETCHES = 64  #: number of places from which an excerpt of the training documents is taken

Positions = NDArray[np.int64]


def hold_out(text: LongText, config: DataConfig) -> tuple[TextPart, Span]:
    """Return the training part and the validation part of a text.

    Args:
        text: The whole text.
        config: `val_fraction` is the share of the characters that is held out. `val_split` says which: "last" holds out
            the end of the text, from the start of a document on; "random" holds out documents from everywhere, as near
            to this share as possible, but at least one.

    Returns:
        The training part, and at most MAX_VAL_CHARS characters of what is held out.

    Raises:
        CorpusError: If the text has fewer than two characters, or fewer than two documents.
    """
    N = text.statistics.num_chars
    if N < 2:
        raise CorpusError(
            f"the corpus has {N} character, but at least two are needed: one for training and one for validation",
            "Give a longer text. A useful model needs at least a few thousand characters.",
        )
    if config.val_split == RANDOM:
        return _hold_out_documents(text, config.val_fraction)
    cut = min(N - 1, max(1, int(N * (1 - config.val_fraction))))
    if text.has_documents:
        cut = _next_document_start(text, cut)
    return text.span(0, cut), text.span(cut, min(N, cut + MAX_VAL_CHARS))


def training_part(text: LongText, config: DataConfig, num_chars: int) -> TextPart | None:
    """Return the part of a corpus that a model was trained on.

    Args:
        text: The whole corpus.
        config: The settings of the model.
        num_chars: Number of characters that the model was trained on: all if it had a separate validation text.

    Returns:
        The part; None if it does not have this number of characters.
    """
    if config.val_split != RANDOM or num_chars == text.statistics.num_chars:
        return text.span(0, num_chars) if num_chars <= text.statistics.num_chars else None
    train, _ = hold_out(text, config)
    return train if train.num_chars == num_chars else None


def training_keys(config: DataConfig, num_chars: int) -> list[str]:
    """Return the possible values of `TextPart.key` of the text that a model was trained on."""
    whole = f"0 {num_chars}"
    return [_random_key(config.val_fraction), whole] if config.val_split == RANDOM else [whole]


def document_ends(text: LongText) -> Positions:
    """Return the position after each document and its MARK, [documents]."""
    ends = [np.zeros(0, dtype=np.int64)]
    position = 0
    for piece in text.utf8_pieces():  # decoding takes ten times as long, because MARK is not valid UTF-8
        chars = _char_starts(piece)
        codes = np.frombuffer(piece + b"\0\0", dtype=np.uint8)
        is_mark = (codes[chars] == MARK_BYTES[0]) & (codes[chars + 1] == MARK_BYTES[1])
        is_mark &= codes[chars + 2] == MARK_BYTES[2]
        ends.append(np.flatnonzero(is_mark) + (position + 1))
        position += len(chars)
    return np.concatenate(ends)


def _char_starts(utf8: bytes) -> Positions:
    """Return the offset of the first byte of each character, [N]."""
    return np.flatnonzero((np.frombuffer(utf8, dtype=np.uint8) & 0xC0) != 0x80)


class DocumentSelection(TextPart):
    """Some of the documents of a text, in the order of the text.

    Args:
        text: The whole text.
        key: See `TextPart.key`.
        begins, ends: Where each range of documents begins and ends, ascending, [ranges]. No range is empty.
    """

    def __init__(self, text: LongText, key: str, begins: Positions, ends: Positions) -> None:
        self.text = text
        self._key = key
        self._begins = begins
        self._ends = ends
        self._offsets = np.append(0, np.cumsum(ends - begins))  # [ranges + 1]: characters of the part before each range

    @property
    def num_chars(self) -> int:
        """Number of characters of the part."""
        return int(self._offsets[-1])

    @property
    def key(self) -> str:
        """A string that, together with the hash of the text, identifies the part."""
        return self._key

    def pieces(self) -> Iterator[str]:
        """Yield the part in pieces."""
        for piece in self.utf8_pieces():
            yield piece.decode("utf-8", UTF8_ERRORS)

    def utf8_pieces(self) -> Iterator[bytes]:
        """Yield the part in pieces, as UTF-8."""
        return self._utf8_pieces(0, self.num_chars)

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of this part as a string; positions count from its start, negative ones from its end."""
        first, last, _ = slice(begin, end).indices(self.num_chars)
        return b"".join(self._utf8_pieces(first, last)).decode("utf-8", UTF8_ERRORS)

    def excerpt(self, num_chars: int) -> str:
        """Return stretches of text from many places, at most `num_chars` characters together; a list may be sorted.

        The first and the last document of a stretch may be cut there. Without them, only the short documents of a text
        would remain, or none. A MARK also follows a cut document, so a baseline sees NUM_STRETCHES wrong starts and
        ends of documents: one in 16,000 characters of an excerpt of 1 MB.
        """
        if num_chars >= self.num_chars:
            return self.read()
        size = max(0, num_chars // NUM_STRETCHES - 1)  # without the MARK after the last document
        starts = [k * self.num_chars // NUM_STRETCHES for k in range(NUM_STRETCHES)]
        stretches = [self.read(start, start + size).strip(MARK) for start in starts]
        return "".join([stretch + MARK for stretch in stretches if stretch])

    def _utf8_pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the characters from one position of the part to another."""
        if begin >= end:
            return
        first = int(np.searchsorted(self._offsets, begin, side="right")) - 1
        last = int(np.searchsorted(self._offsets, end))
        begins, ends = self._begins[first:last].copy(), self._ends[first:last].copy()
        begins[0] += begin - self._offsets[first]
        ends[-1] -= self._offsets[last] - end
        position = int(begins[0])
        k = 0  # the first range that is not finished
        for piece in self.text.utf8_pieces(position, int(ends[-1])):
            chars = np.append(_char_starts(piece), len(piece))  # byte offsets
            N = len(chars) - 1
            m = int(np.searchsorted(begins, position + N))  # the ranges before m begin in this piece or earlier
            cuts = [chars[np.clip(edges[k:m] - position, 0, N)].tolist() for edges in (begins, ends)]
            yield b"".join([piece[b:e] for b, e in zip(*cuts, strict=True)])
            position += N
            k = int(np.searchsorted(ends, position, side="right"))


def _hold_out_documents(text: LongText, fraction: float) -> tuple[DocumentSelection, Span]:
    """Hold out documents until they have a share of the characters.

    A document that is longer than this share is never chosen, unless all are: a corpus with one long and some short
    documents is still trained on the long one.
    """
    ends = document_ends(text)
    if len(ends) < 2:
        raise _one_document_error()
    N = text.statistics.num_chars
    lengths = np.diff(ends, prepend=0)
    candidates = np.flatnonzero(lengths <= max(fraction * N, int(lengths.min())))
    order = candidates[np.argsort(_random_keys(candidates), kind="stable")]
    num_chars = np.cumsum(lengths[order])
    count = 1 + int(np.abs(num_chars - fraction * N)[: len(ends) - 1].argmin())
    num_read = 1 + int(np.searchsorted(num_chars[:count], MAX_VAL_CHARS))
    val = _copy_documents(text, ends, order[: min(count, num_read)])
    chosen = np.sort(order[:count])
    begins, stops = np.append(0, ends[chosen]), np.append(ends[chosen] - lengths[chosen], N)
    has_text = begins < stops
    return DocumentSelection(text, _random_key(fraction), begins[has_text], stops[has_text]), val


def _copy_documents(text: LongText, ends: Positions, chosen: Positions) -> Span:
    """Return a new text of at most MAX_VAL_CHARS characters with some documents, in the order of `chosen`.

    Args:
        text: The whole text.
        ends: The position after each document.
        chosen: Indices of documents. Only the last one may end after MAX_VAL_CHARS characters; it is cut there.
    """
    in_order = np.sort(chosen)
    begins = np.append(0, ends)[in_order]
    stops = np.minimum(ends[in_order], begins + MAX_VAL_CHARS)
    documents = DocumentSelection(text, "", begins, stops).read()
    edges = np.append(0, np.cumsum(stops - begins)).tolist()
    copy = LongText(has_documents=True)
    for k in np.searchsorted(in_order, chosen).tolist():
        copy.write(documents[edges[k] : edges[k + 1]])
    return copy.span(0, min(MAX_VAL_CHARS, copy.statistics.num_chars))


def _random_key(fraction: float) -> str:
    return f"documents without a random {fraction!r}"


def _random_keys(indices: Positions) -> NDArray[np.uint64]:
    """Return a random number for each index: the output of SplitMix64 (Steele et al. 2014), the same everywhere."""
    x = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _next_document_start(text: LongText, offset: int) -> int:
    """Return the start of the first document after an offset, or of the last document if none starts after it.

    Raises:
        CorpusError: If the text has only one document.
    """
    piece_start = offset
    for piece in text.pieces(offset):
        start = piece.find(MARK) + 1
        if start > 0 and piece_start + start < text.statistics.num_chars:
            return piece_start + start
        piece_start += len(piece)
    start = text.read(0, offset).rfind(MARK) + 1
    if not start:
        raise _one_document_error()
    return start


def _one_document_error() -> CorpusError:
    return CorpusError(
        "the corpus has one document, but at least two are needed: one for training and one for validation",
        "Give more documents, or a --val text, or --documents none.",
    )
