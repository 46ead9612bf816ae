"""Several ways to do the same, all to the same bits: the fastest is found by doing it.

Several threads read a matrix twice as fast as one, but where another program holds a core they wait for each other a
hundred times as long: one such step is enough to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

LOOKS = 4  #: timed calls, of each way
LOOK_AGAIN, MOST_PAUSE = 256, 1024  #: calls until the next; ever more of them where the last way is faster each time
HOPELESS = 8  #: times slower than the last way
ENDLESS = 1 << 62


class Ways:
    """A function of one argument that can be called in several ways.

    Args:
        ways: the first is the fastest where nothing is in its way, the last where something is.
    """

    def __init__(self, ways: Sequence[Callable[[Any], Any]]) -> None:
        self._ways, self._way = ways, ways[0]
        self._times: list[list[float]] = [[] for _ in ways]
        self._pause = LOOK_AGAIN
        self._until_look = 0 if len(ways) > 1 else ENDLESS

    def __call__(self, given: Any) -> Any:
        if self._until_look:
            self._until_look -= 1
            return self._way(given)
        return self._timed(given)

    def map(self, givens: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of many calls, with less work for each."""
        place = 0
        while place < len(givens):
            count = min(self._until_look, len(givens) - place)
            self._until_look -= count
            yield from map(self._way, givens[place : place + count])
            place += count
            if place < len(givens):
                yield self._timed(givens[place])
                place += 1

    def _timed(self, given: Any) -> Any:
        """Call the way that was timed least; when all have been, go on with the fastest for a while."""
        number = max(range(len(self._ways)), key=lambda k: (-len(self._times[k]), k))  # the last one first
        begin = time.perf_counter()
        result = self._ways[number](given)
        self._times[number].append(time.perf_counter() - begin)
        totals = [sum(times) for times in self._times]
        if len(self._times[0]) == LOOKS or totals[0] > HOPELESS * totals[-1]:
            best = totals.index(min(totals))
            self._way, self._times = self._ways[best], [[] for _ in self._ways]
            self._pause = LOOK_AGAIN if best == 0 else min(2 * self._pause, MOST_PAUSE)
            self._until_look = self._pause
        return result
