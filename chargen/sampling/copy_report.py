"""Report how much of a generated text is copied: the longest passage from the training text, and the new n-grams.

The generated text is indexed, and the training text is read once, in blocks. A block can only contain a longer passage
than the longest one so far, of L characters, if it contains a window of L + 1 characters of the generated text. Hashes
find such a window, characters confirm it, and it is extended as far as both texts agree, until there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.text.documents import FILE, MARK, NONE, separator
from chargen.text.hashing import Hashes, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import TextPart

NGRAMS = (4, 8, 16, 32)  # lengths in characters
MAX_TABLE_SIZE = 1 << 22  # entries of the table of a hash set


@dataclass(frozen=True)
class CopyReport:
    """What a generated text has in common with the training text."""

    chars: int  #: length of the generated text
    passage: str  #: the longest passage that occurs in the training text; of several, the first one there
    begin: int  #: position of the passage in the generated text, in characters
    training_begin: int  #: position of the passage in the training text
    novel_ngrams: Mapping[
        int, float | None
    ]  #: n → share of the n-grams that the training text lacks; None if no n-gram

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {**asdict(self), "novel_ngrams": {str(n): share for n, share in self.novel_ngrams.items()}}

    @property
    def passage_chars(self) -> int:
        """Length of the passage in characters."""
        return len(self.passage)


def make_copy_report(
    generated: str, training: TextPart, documents: str = NONE, ngrams: Sequence[int] = NGRAMS
) -> CopyReport:
    """Compare a generated text with the training text of its model.

    Args:
        generated: The generated text, of any length. It needs some hundred bytes of memory per character.
        training: The training text; see `find_training_text`. A few blocks of it are in memory at a time.
        documents: How the corpus is split into documents, if the model has documents. Nothing is compared across the
            separator of two documents, except with "file", where the separator is ordinary text.
        ngrams: Lengths of the n-grams, in characters.

    Returns:
        The report. The passage is exact; a share can be wrong if two 61-bit hashes collide.
    """
    codes = _codes(generated, documents)
    counters = {n: _NgramCounter(codes, n) for n in ngrams}
    longest = _LongestPassage(generated, codes)
    ngram_overlap = max(ngrams, default=1) - 1
    for start, block in read_overlapping(training, lambda: max(longest.num_chars, ngram_overlap)):
        block_codes = to_uint64_codes(block)
        *ngram_hashes, longer_hashes = hash_windows(block_codes, [*ngrams, longest.num_chars + 1])
        for n, hashes in zip(ngrams, ngram_hashes, strict=True):
            counters[n].mark_found(hashes)
        longest.search(start, block, block_codes, longer_hashes)
    passage = generated[longest.start : longest.start + longest.num_chars]
    novel_ngrams = {n: counter.novel_share() for n, counter in counters.items()}
    return CopyReport(len(generated), passage, longest.start, longest.training_start, novel_ngrams)


def _codes(generated: str, documents: str) -> Hashes:
    """Return the code points of a generated text, with MARK for each character of a document separator."""
    codes = to_uint64_codes(generated)
    document_separator = "" if documents in (NONE, FILE) else separator(documents)
    position = generated.find(document_separator) if document_separator else -1
    while position >= 0:
        codes[position : position + len(document_separator)] = ord(MARK)
        position = generated.find(document_separator, position + 1)
    return codes


def _windows(codes: Hashes, width: int) -> tuple[Hashes, NDArray[np.intp]]:
    """Return the hashes of the windows that lie within a document, and the positions of these windows."""
    hashes = hash_windows(codes, [width])[0]
    num_marks = np.concatenate([[0], np.cumsum(codes == ord(MARK))])
    no_windows = np.zeros(0, dtype=np.intp)
    positions = np.flatnonzero(num_marks[width:] == num_marks[:-width]) if len(hashes) else no_windows
    return hashes[positions], positions


class _HashSet:
    """A set of hashes that finds its few elements among many: a table of their low bits, then a binary search."""

    def __init__(self, values: Hashes) -> None:
        self.values = values  #: sorted, without duplicates
        size = min(MAX_TABLE_SIZE, 16 << len(values).bit_length())
        self._low_bits = np.uint64(size - 1)
        self._table = np.zeros(size, dtype=np.bool_)
        self._table[(values & self._low_bits).astype(np.intp)] = True

    def find(self, hashes: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return (the indices of `hashes` that are in the set, the index of each in `values`)."""
        candidates = np.flatnonzero(self._table[(hashes & self._low_bits).astype(np.intp)])
        if not len(candidates):
            return candidates, candidates
        indices = np.minimum(np.searchsorted(self.values, hashes[candidates]), len(self.values) - 1)
        is_equal = self.values[indices] == hashes[candidates]
        return candidates[is_equal], indices[is_equal]


class _NgramCounter:
    """The n-grams (of a single length) of the generated text that were not found in the training text so far."""

    def __init__(self, codes: Hashes, n: int) -> None:
        values, self._counts = np.unique(_windows(codes, n)[0], return_counts=True)
        self._hash_set = _HashSet(values)
        self._is_found = np.zeros(len(values), dtype=np.bool_)
        self._total = int(self._counts.sum())

    def mark_found(self, hashes: Hashes) -> None:
        """Mark the n-grams with these hashes as found."""
        self._is_found[self._hash_set.find(hashes)[1]] = True
        if 8 * np.count_nonzero(self._is_found) > len(self._is_found):  # remove them, so that the search gets faster
            is_left = ~self._is_found
            self._counts = self._counts[is_left]
            self._hash_set = _HashSet(self._hash_set.values[is_left])
            self._is_found = np.zeros(len(self._counts), dtype=np.bool_)

    def novel_share(self) -> float | None:
        """Return the share of the n-grams that were not found; None if there are no n-grams."""
        return float(self._counts[~self._is_found].sum() / self._total) if self._total else None


class _LongestPassage:
    """The longest passage so far."""

    def __init__(self, generated: str, codes: Hashes) -> None:
        self.num_chars = self.start = self.training_start = 0
        self._generated = generated
        self._codes = codes
        self._is_text = codes != ord(MARK)
        self._index: tuple[int, _HashSet, NDArray[np.intp]] | None = None  # (width, window hashes, their positions)

    def search(self, block_start: int, block: str, block_codes: Hashes, hashes: Hashes) -> None:
        """Search a block of the training text for a longer passage.

        Args:
            block_start: Position of the block in the training text.
            block: The block.
            block_codes: Its code points.
            hashes: The hashes of its windows that are one character longer than the longest passage.
        """
        while match := self._first_match(self.num_chars + 1, block, hashes):
            start, start_in_block = match
            size = min(len(self._codes) - start, len(block_codes) - start_in_block)
            own = self._codes[start : start + size]
            is_equal = (own == block_codes[start_in_block : start_in_block + size]) & self._is_text[
                start : start + size
            ]
            self.num_chars = size if is_equal.all() else int(is_equal.argmin())
            self.start, self.training_start = start, block_start + start_in_block
            hashes = hash_windows(block_codes, [self.num_chars + 1])[0]

    def _first_match(self, width: int, block: str, hashes: Hashes) -> tuple[int, int] | None:
        """Return the positions, in the generated text and in the block, of the first common passage of a length."""
        if not len(hashes) or width > len(self._generated):
            return None
        if not self._index or self._index[0] != width:
            window_hashes, positions = _windows(self._codes, width)
            values, first = np.unique(window_hashes, return_index=True)
            self._index = width, _HashSet(values), positions[first]
        _, hash_set, positions = self._index
        for start_in_block, index in zip(*hash_set.find(hashes), strict=True):
            start = int(positions[index])
            if self._generated.startswith(block[start_in_block : start_in_block + width], start):
                return start, int(start_in_block)
        return None
