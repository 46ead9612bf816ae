"""How much of a sample is its own: the longest passage that stands in the training text, and how many n-grams do not.

The sample is indexed and the text read once, in blocks. A block can only better the longest passage so far, of L
characters, if it holds a stretch of L + 1 characters of the sample: hashes find it, letters confirm it, and it is
followed as far as it goes; until there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.text.documents import FILE, MARK, NONE, separator
from chargen.text.hashing import Hashes, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import Span

NGRAMS = (4, 8, 16, 32)  #: characters
LARGEST_SIEVE = 1 << 22  #: places


@dataclass(frozen=True)
class CopyReport:
    """What a sample has from its training text."""

    chars: int  #: of the sample
    passage: str  #: the longest that stands in the training text; of several the one that stands first there
    begin: int  #: where it begins in the sample, in characters
    training_begin: int  #: where it begins in the training text
    novel_ngrams: Mapping[int, float | None]  #: n → share of those that the text lacks; None: the sample has none

    def to_json(self) -> dict[str, Any]:
        """Return it as values that `json` can write."""
        return {**asdict(self), "novel_ngrams": {str(n): share for n, share in self.novel_ngrams.items()}}

    @property
    def passage_chars(self) -> int:
        """How many characters the passage has."""
        return len(self.passage)


def copy_report(sample: str, training: Span, documents: str = NONE, ngrams: Sequence[int] = NGRAMS) -> CopyReport:
    """Compare a sample with the text that its model learned from.

    Args:
        sample: what the model wrote, in any length; memory is some hundred bytes for each of its characters.
        training: see `sampling/learned.py`. No more than some blocks of it are in memory at a time.
        documents: what a document is, if the model writes such. Nothing is counted across what parts two of them,
            unless they are files, between which there is only what may stand in one.
        ngrams: lengths in characters.

    Returns:
        The passage is exact, letter by letter. A share may err by the collision of hashes of 61 bits.
    """
    codes = _codes(sample, documents)
    counted = {n: _Ngrams(codes, n) for n in ngrams}
    longest = _Longest(sample, codes)
    overlap = max(ngrams, default=1) - 1
    for begin, block in read_overlapping(training, lambda: max(longest.chars, overlap)):
        block_codes = to_uint64_codes(block)
        *found, longer = hash_windows(block_codes, [*ngrams, longest.chars + 1])
        for n, hashes in zip(ngrams, found, strict=True):
            counted[n].look(hashes)
        longest.look(begin, block, block_codes, longer)
    passage = sample[longest.begin : longest.begin + longest.chars]
    shares = {n: some.novel_share() for n, some in counted.items()}
    return CopyReport(len(sample), passage, longest.begin, longest.training_begin, shares)


def _codes(sample: str, documents: str) -> Hashes:
    """Return a sample's code points, with MARK for every character between two documents."""
    codes = to_uint64_codes(sample)
    between = "" if documents in (NONE, FILE) else separator(documents)
    place = sample.find(between) if between else -1
    while place >= 0:
        codes[place : place + len(between)] = ord(MARK)
        place = sample.find(between, place + 1)
    return codes


def _stretches(codes: Hashes, width: int) -> tuple[Hashes, NDArray[np.intp]]:
    """Return the hashes of a sample's stretches within documents, and where each begins."""
    hashes = hash_windows(codes, [width])[0]
    ends = np.concatenate([[0], np.cumsum(codes == ord(MARK))])
    places = np.flatnonzero(ends[width:] == ends[:-width]) if len(hashes) else np.zeros(0, dtype=np.intp)
    return hashes[places], places


class _Sieve:
    """Finds the few numbers that are wanted among many: a table by their low bits, then a binary search."""

    def __init__(self, values: Hashes) -> None:
        self.values = values  # sorted, each once
        size = min(LARGEST_SIEVE, 16 << len(values).bit_length())
        self._low = np.uint64(size - 1)
        self._table = np.zeros(size, dtype=np.bool_)
        self._table[(values & self._low).astype(np.intp)] = True

    def among(self, hashes: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return (the places in `hashes` where a wanted number stands, the place of each among those wanted)."""
        near = np.flatnonzero(self._table[(hashes & self._low).astype(np.intp)])
        if not len(near):
            return near, near
        places = np.minimum(np.searchsorted(self.values, hashes[near]), len(self.values) - 1)
        same = self.values[places] == hashes[near]
        return near[same], places[same]


class _Ngrams:
    """The sample's n-grams of one length; those that were found are looked for no more."""

    def __init__(self, codes: Hashes, n: int) -> None:
        values, self._counts = np.unique(_stretches(codes, n)[0], return_counts=True)
        self._sieve = _Sieve(values)
        self._found = np.zeros(len(values), dtype=np.bool_)
        self._all = int(self._counts.sum())

    def look(self, hashes: Hashes) -> None:
        """Strike off what stands here."""
        self._found[self._sieve.among(hashes)[1]] = True
        if 8 * np.count_nonzero(self._found) > len(self._found):
            left = ~self._found
            self._counts, self._sieve = self._counts[left], _Sieve(self._sieve.values[left])
            self._found = np.zeros(len(self._counts), dtype=np.bool_)

    def novel_share(self) -> float | None:
        """Return the share of those that were found nowhere."""
        return float(self._counts[~self._found].sum() / self._all) if self._all else None


class _Longest:
    """The longest passage so far."""

    def __init__(self, sample: str, codes: Hashes) -> None:
        self.chars = self.begin = self.training_begin = 0
        self._sample, self._codes = sample, codes
        self._inside = codes != ord(MARK)
        self._index: tuple[int, _Sieve, NDArray[np.intp]] | None = None  # of the length asked for last

    def look(self, begin: int, block: str, codes: Hashes, hashes: Hashes) -> None:
        """Look for a longer one in a block.

        Args:
            begin: of the block in the training text.
            block: the text.
            codes: its code points.
            hashes: of its stretches of one character more than the longest passage has.
        """
        while match := self._match(self.chars + 1, block, hashes):
            here, there = match
            size = min(len(self._codes) - here, len(codes) - there)
            same = (self._codes[here : here + size] == codes[there : there + size]) & self._inside[here : here + size]
            self.chars = size if same.all() else int(same.argmin())
            self.begin, self.training_begin = here, begin + there
            hashes = hash_windows(codes, [self.chars + 1])[0]

    def _match(self, width: int, block: str, hashes: Hashes) -> tuple[int, int] | None:
        """Return where a passage of this length stands in the sample and in the block, the first there, by letters."""
        if not len(hashes) or width > len(self._sample):
            return None
        if not self._index or self._index[0] != width:
            found, places = _stretches(self._codes, width)
            values, first = np.unique(found, return_index=True)
            self._index = width, _Sieve(values), places[first]
        _, sieve, places = self._index
        for there, index in zip(*sieve.among(hashes), strict=True):
            here = int(places[index])
            if self._sample.startswith(block[there : there + width], here):
                return here, int(there)
        return None
