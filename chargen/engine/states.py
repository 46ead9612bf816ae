"""States put together: forks share a beginning that was read once; `Engine.select` takes them apart.

A state is nested tuples of arrays whose first axis is the stream (`Cell.initial_state`); only this file and the engines
know it. The arrays are NumPy's: a fork is for little work, done without torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chargen.engine.engine import EngineState


def joined(states: Sequence[EngineState]) -> EngineState:
    """Return states, at least one, as the state of all their streams side by side."""
    if isinstance(states[0], tuple):
        return tuple(joined(parts) for parts in zip(*states, strict=True))
    return np.concatenate(states)
