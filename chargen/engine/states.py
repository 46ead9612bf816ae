"""States of several streams taken apart and put together: forks share a beginning that was read once.

A state is nested tuples of arrays whose first axis is the stream (`Cell.initial_state`); only this file and the engines
know it. The arrays are NumPy's: a fork is for little work, done without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import EngineState


def rows(state: EngineState, streams: NDArray[Any]) -> EngineState:
    """Return the state of the streams [B] that are named, in that order; one may be named more than once."""
    return tuple(rows(part, streams) for part in state) if isinstance(state, tuple) else state[streams]


def joined(states: Sequence[EngineState]) -> EngineState:
    """Return states, at least one, as the state of all their streams side by side."""
    if isinstance(states[0], tuple):
        return tuple(joined(parts) for parts in zip(*states, strict=True))
    return np.concatenate(states)
