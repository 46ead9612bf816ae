"""How many threads a run by time uses on a CPU: what its own speed says.

Two threads that share a product wait for each other after each of them. On a quiet machine that costs nothing; where
another process takes part of a core, both wait for the slower one, and one thread alone can be twice as fast (measured,
see benchmarks/LOG.md). So the run compares: once at its beginning, and whenever its speed has changed.

Runs by steps keep their threads: another number adds in another order, and their results are to be the same bits.
"""

from __future__ import annotations

import torch

SLOWER = 0.7  #: of the best speed so far: something has changed
FASTER = 1.1  #: by so much another number of threads must be faster to be taken
SHORTEST, LONGEST = 4, 32  #: reports between two tries: twice as many after each that changed nothing


class Threads:
    """Tries one thread against all of them while it is entered, and keeps what is faster.

    Args:
        adapt: False leaves the number as it is.
    """

    def __init__(self, adapt: bool) -> None:
        self._adapt = adapt
        self.all = torch.get_num_threads()
        self.now = self.all
        self._before = 0.0  # the speed before a try; 0 where none is under way
        self._peak = 0.0
        self._tried = False
        self._patience = SHORTEST
        self._since_try = 0

    def observe(self, ids_per_s: float) -> None:
        """Take note of the speed since the last call, and change the number of threads if that helps or may help."""
        if self.all == 1 or not self._adapt:
            return
        self._since_try += 1
        if self._before:
            if ids_per_s < FASTER * self._before:
                self._switch()  # back
                self._patience = min(LONGEST, 2 * self._patience)
            else:
                self._patience = SHORTEST
            self._before, self._peak = 0.0, max(ids_per_s, self._before)
        elif self._since_try >= self._patience and (
            not self._tried or ids_per_s < SLOWER * self._peak or self.now == 1
        ):
            self._before, self._since_try, self._tried = ids_per_s, 0, True
            self._switch()
        else:
            self._peak = max(self._peak, ids_per_s)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *error: object) -> None:
        """Give the process back the threads that it had."""
        if self.now != self.all:
            self._switch()

    def _switch(self) -> None:
        self.now = 1 if self.now != 1 else self.all
        torch.set_num_threads(self.now)
