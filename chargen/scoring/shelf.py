"""Scores by the million in their order: the texts wait on disk, 16 bytes of each in memory.

memory   key of 0 · key of 1 · key of 2 · …           where its record stands · …
disk     {"text": …, "log_prob_nats": …}\\n{…}\\n…     a temporary file, gone when it is closed
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from chargen.scoring.rank import sort_key
from chargen.scoring.scorer import Score
from chargen.text.longtext import no_room

IN_MEMORY = 1 << 24  #: bytes of records, from which on they are kept on disk


class Shelf:
    """Takes scores in any order, and gives them back ranked; to be entered and left.

    Args:
        by: one of `rank.BY`.
    """

    def __init__(self, by: str = "per-char") -> None:
        self._by = by
        self._keys, self._offsets = array("d"), array("q")
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Shelf:
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
            raise no_room(f"{len(self._keys):,} scores", error) from error

    def ranked(self) -> Iterator[tuple[int, Score]]:
        """Yield (place, score), the likeliest first; ties in the order they came in."""
        for place in np.argsort(np.frombuffer(self._keys), kind="stable") if self._keys else ():
            self._file.seek(self._offsets[place])
            record = json.loads(self._file.readline())
            if record["pieces"] is not None:
                record["pieces"] = tuple((piece, nats) for piece, nats in record["pieces"])
            yield int(place), Score(**record)
