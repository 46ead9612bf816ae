"""Rank scored texts: the most or the least likely text comes first, in nats per character, per byte or in total.

A text without a value comes last in both orders: an empty text, unless it is ranked by the total and its end was
scored. Ties keep the order in which they were added.

`rank` sorts scores in memory. `Top` keeps the first N of any number of scores. `DiskRanking` ranks millions of texts:
it keeps the sort key of each text and the offset of its record in memory, 16 bytes, and the record in a temporary file.

    memory   key 0 · key 1 · key 2 · …      offset 0 · offset 1 · offset 2 · …
    disk     record 0 · record 1 · record 2 · …    one line of JSON each
"""

from __future__ import annotations

import heapq
import json
import math
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from types import TracebackType
from typing import IO

import numpy as np

from chargen.schema import format_count
from chargen.scoring.scorer import Score
from chargen.text.long_text import temporary_storage_error

BY = ("per-char", "per-byte", "total")  #: values that texts can be ranked by
BEST, WORST = "best", "worst"  #: orders: the most likely text first, or the least likely one
MAX_MEMORY_BYTES = 1 << 24  #: records of a DiskRanking beyond this size are written to disk


def sort_key(score: Score, by: str = "per-char", order: str = BEST) -> float:
    """Return the number by which scores are sorted, the smallest first; ∞ without a value.

    This is −log p in nats per character, per byte or in total, with the opposite sign where the worst text comes first.

    Args:
        score: Score of a text.
        by: One of BY.
        order: BEST or WORST.
    """
    nats = -score.log_prob_nats if order == BEST else score.log_prob_nats
    if by == "total":
        return math.inf if not score.chars and score.end_log_prob_nats is None else nats
    count = score.chars if by == "per-char" else score.bytes
    return nats / count if count else math.inf


def rank(scores: Sequence[Score], by: str = "per-char", order: str = BEST) -> list[Score]:
    """Return scores in the order BEST or WORST; ties keep their order, and texts without a value come last."""
    return sorted(scores, key=lambda score: sort_key(score, by, order))


class Top:
    """Finds the first N of any number of scores, and keeps at most N in memory. Ties keep the order of the input.

    Args:
        size: N.
        by: One of BY.
        order: BEST or WORST.
    """

    def __init__(self, size: int, by: str = "per-char", order: str = BEST) -> None:
        self._size, self._by, self._order = size, by, order
        self._last_first: list[tuple[float, int, Score]] = []  # a heap of (−key, −position, score)

    def add(self, position: int, score: Score) -> None:
        """Add a score.

        Args:
            position: Position of the text in the input; it grows from call to call.
            score: Score of the text.
        """
        entry = (-sort_key(score, self._by, self._order), -position, score)
        if len(self._last_first) < self._size:
            heapq.heappush(self._last_first, entry)
        elif entry[:2] > self._last_first[0][:2]:
            heapq.heapreplace(self._last_first, entry)

    def ranked(self) -> list[tuple[int, Score]]:
        """Return (position, score) of the first N scores so far, in their order."""
        first = sorted(self._last_first, key=lambda entry: entry[:2], reverse=True)
        return [(-position, score) for _, position, score in first]


class DiskRanking:
    """Collects scores in any order and yields them ranked. It is a context manager that owns a temporary file.

    Args:
        by: One of BY.
        order: BEST or WORST.
    """

    def __init__(self, by: str = "per-char", order: str = BEST) -> None:
        self._by, self._order = by, order
        self._keys, self._offsets = array("d"), array("q")
        self._file: IO[bytes] = BytesIO()

    def __enter__(self) -> DiskRanking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, position: int, score: Score) -> None:
        """Add a score.

        Args:
            position: Position of the text in the input; it grows from call to call.
            score: Score of the text.

        Raises:
            StorageError: If the disk is full.
        """
        self._keys.append(sort_key(score, self._by, self._order))
        self._offsets.append(self._file.tell())
        record = {"position": position, **{key: getattr(score, key) for key in Score.__dataclass_fields__}}
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
            if isinstance(self._file, BytesIO) and self._file.tell() > MAX_MEMORY_BYTES:
                self._move_to_disk(self._file)
        except OSError as error:
            raise temporary_storage_error(format_count(len(self._keys), "score"), error) from error

    def _move_to_disk(self, memory: BytesIO) -> None:
        import tempfile  # takes 3 ms, and most rankings stay in memory

        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._file.write(memory.getbuffer())

    def ranked(self) -> Iterator[tuple[int, Score]]:
        """Yield (position, score) of all scores in their order; ties keep the order of the input."""
        for index in np.argsort(np.frombuffer(self._keys), kind="stable") if self._keys else ():
            self._file.seek(self._offsets[index])
            record = json.loads(self._file.readline())
            if record["pieces"] is not None:
                record["pieces"] = tuple((piece, nats) for piece, nats in record["pieces"])
            if record["directions"] is not None:
                record["directions"] = tuple(record["directions"])
            yield record.pop("position"), Score(**record)
