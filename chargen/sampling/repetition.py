"""A penalty on repeated sequences: DRY, "don't repeat yourself" (p-e-w 2024, text-generation-webui pull request 5677).

If the last n ids stood in the text before, n > allowed, the id that followed them there loses

    multiplier · base^(n − allowed − 1) nats

so that a loop becomes ever dearer, and single letters cost nothing however often they come. Here n counts ids. Of a
long text the last ids are looked back at, HISTORY of them at least.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.sampling.guides import Guide
from chargen.text.tokenizer import Ids

MOST_PLACES = 64  #: where a sequence stood, that are looked at: the latest
MOST_COUNTED = 300  #: repeated ids, beyond which the penalty no longer grows
MAX_ALLOWED = 1000  #: repeated ids that may cost nothing
MAX_PENALTY_NATS = 1e9  #: as good as forbidden, and small enough that other differences are kept
HISTORY = 1 << 15  #: ids that are looked back at, at least; at most twice as many: memory does not grow with a text


class _Texts:
    """Ids in a row, and where each sequence of `width` of them stands: the id after it."""

    def __init__(self, ids: list[int], width: int) -> None:
        self.ids: list[int] = []
        self.places: dict[int, list[int]] = {}  # by the hash of the sequence
        self._width = width
        for token_id in ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        if len(self.ids) >= self._width:
            self.places.setdefault(hash(tuple(self.ids[-self._width :])), []).append(len(self.ids))
        self.ids.append(token_id)


class History(NamedTuple):
    """The first `size` ids of a text that may have grown further since, in another's hands."""

    texts: _Texts
    size: int


class Repetition(Guide):
    """Takes nats from ids that would go on repeating.

    Args:
        multiplier, base, allowed: see above.
        vocab_size: V.

    Raises:
        ConfigError: `allowed` is above MAX_ALLOWED.
    """

    def __init__(self, multiplier: float, base: float, allowed: int, vocab_size: int) -> None:
        if allowed > MAX_ALLOWED:
            raise ConfigError(f"dry_allowed is {allowed:,}, but must be at most {MAX_ALLOWED:,}")
        self._multiplier, self._base, self._allowed, self._vocab_size = multiplier, base, allowed, vocab_size

    def begin(self, prompt: str, ids: Ids) -> History:
        return History(_Texts(ids.tolist(), self._allowed + 1), len(ids))

    def advance(self, state: History, token_id: int) -> History:
        texts, size = state
        if size >= 2 * HISTORY:
            texts, size = _Texts(texts.ids[size - HISTORY : size], self._allowed + 1), HISTORY
        elif len(texts.ids) != size:  # another went on from here: this one gets a text of its own
            texts = _Texts(texts.ids[:size], self._allowed + 1)
        texts.append(token_id)
        return History(texts, size + 1)

    def penalties(self, state: History) -> NDArray[np.float64] | None:
        texts, size = state
        ids, width = texts.ids, self._allowed + 1
        last = ids[size - width : size] if size >= width else []
        places = texts.places.get(hash(tuple(last)), []) if last else []
        longest: dict[int, int] = {}
        for place in [place for place in places[-MOST_PLACES:] if place < size]:
            if ids[place - width : place] != last:
                continue  # another sequence with the same hash
            n = width
            while n < min(place, MOST_COUNTED) and ids[place - n - 1] == ids[size - n - 1]:
                n += 1
            longest[ids[place]] = max(n, longest.get(ids[place], 0))
        if not longest:
            return None
        nats = np.zeros(self._vocab_size)
        for token_id, n in longest.items():
            nats[token_id] = self._penalty_nats(n - width)
        return nats

    def _penalty_nats(self, further: int) -> float:
        try:
            return min(self._multiplier * self._base**further, MAX_PENALTY_NATS)
        except OverflowError:
            return MAX_PENALTY_NATS
