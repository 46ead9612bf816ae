"""The order of scored texts: the likeliest per character (or byte, or altogether) first.

key     −log p over characters, bytes, or nothing: the smaller the likelier; without a value, last: so an empty text,
        but in total where its end was scored
ties    in the order in which they came

Scores by the million in their order: the texts wait on disk, 16 bytes of each in memory.

memory   key of 0 · key of 1 · key of 2 · …           where its record stands · …
disk     {"text": …, "log_prob_nats": …}\n{…}\n…     a temporary file, gone when it is closed
"""

from __future__ import annotations

import heapq
import json
import math
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from chargen.scoring.scorer import Score
from chargen.text.long_text import temporary_storage_error

BY = ("per-char", "per-byte", "total")


def sort_key(score: Score, by: str = "per-char") -> float:
    """Return what scores are sorted by, in nats per character, per byte, or of the whole text."""
    if by == "total":
        return math.inf if not score.chars and score.end_log_prob_nats is None else -score.log_prob_nats
    number = score.chars if by == "per-char" else score.bytes
    return -score.log_prob_nats / number if number else math.inf


def rank(scores: Sequence[Score], by: str = "per-char") -> list[Score]:
    """Return scores from the likeliest to the least likely; equals in their order, those without a value last."""
    return sorted(scores, key=lambda score: sort_key(score, by))


class Top:
    """The best N of any number of scores, of which no more than N are kept: exact, ties in the order they came in.

    Args:
        size: N.
        by: one of BY.
    """

    def __init__(self, size: int, by: str = "per-char") -> None:
        self._size, self._by = size, by
        self._worst_first: list[tuple[float, int, Score]] = []  # a heap of (−key, −place, score)

    def add(self, place: int, score: Score) -> None:
        """Take note of a score; places are all different, and grow with the input."""
        entry = (-sort_key(score, self._by), -place, score)
        if len(self._worst_first) < self._size:
            heapq.heappush(self._worst_first, entry)
        elif entry[:2] > self._worst_first[0][:2]:
            heapq.heapreplace(self._worst_first, entry)

    def best(self) -> list[tuple[int, Score]]:
        """Return (place, score) of the best so far, the likeliest first."""
        return [(-place, score) for _, place, score in sorted(self._worst_first, key=lambda e: e[:2], reverse=True)]


IN_MEMORY = 1 << 24  #: bytes of records, from which on they are kept on disk


class DiskRanking:
    """Takes scores in any order, and gives them back ranked; to be entered and left.

    Args:
        by: one of `rank.BY`.
    """

    def __init__(self, by: str = "per-char") -> None:
        self._by = by
        self._keys, self._offsets = array("d"), array("q")
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> DiskRanking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, score: Score) -> None:
        """Keep a score. Its place is how many were kept before it.

        Raises:
            StorageError: the disk does not take it.
        """
        self._keys.append(sort_key(score, self._by))
        self._offsets.append(self._file.tell())
        record = {key: getattr(score, key) for key in Score.__dataclass_fields__}
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            raise temporary_storage_error(f"{len(self._keys):,} scores", error) from error

    def ranked(self) -> Iterator[tuple[int, Score]]:
        """Yield (place, score), the likeliest first; ties in the order they came in."""
        for place in np.argsort(np.frombuffer(self._keys), kind="stable") if self._keys else ():
            self._file.seek(self._offsets[place])
            record = json.loads(self._file.readline())
            if record["pieces"] is not None:
                record["pieces"] = tuple((piece, nats) for piece, nats in record["pieces"])
            yield int(place), Score(**record)
