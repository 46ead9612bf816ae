"""Many streams of a model side by side, id by id.

They are stepped by their engine. After MANY_IDS, or from the beginning where so many are known to come, and where numba
is installed, they go on in rooms of their own with compiled loops (`compiled.py`): what is between the products takes a
sixth of a step then, instead of half. It changes what is rounded.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.compiled import compiled_draw, compiled_step
from chargen.engine.engine import Draws, Engine, EngineState
from chargen.engine.graph import TraceError
from chargen.engine.kernel import installed
from chargen.engine.room import Float, enter, new_room
from chargen.engine.stream import Program

MOST_LANES = 256  #: more on a CPU are no faster, and the first text is seen later
MANY_IDS = 50_000  #: 0.6 s for 10 to 20 µs saved with each; 2 s more the first time, then it is kept on disk


class Lanes:
    """Streams that are stepped together.

    Args:
        engine: theirs.
        state: to go on from, each part [B, H].
        program: of the model, for compiled loops; None if there are none.
        num_ids: that are known to come.
    """

    def __init__(self, engine: Engine, state: EngineState, program: Program | None = None, num_ids: int = 0) -> None:
        self._engine, self._state, self._program = engine, state, program
        self._left = MANY_IDS - num_ids
        self._room: Float | None = None  # with compiled loops
        if self._left <= 0:
            self.compile()

    def step(self, ids: NDArray[Any]) -> Float:
        if self._room is not None:
            return self._step(ids)
        logits, self._state = self._engine.step(ids, self._state)
        self._left -= len(ids)
        if self._left <= 0:
            self.compile()
        return logits

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        if self._room is None or self._program is None:
            return None
        program = self._program
        shared = (program.plan, self._room, program.rows, program.kernels)
        return partial(map, compiled_draw(*shared, added, inverse, reader=self._reader))

    def select(self, rows: NDArray[np.intp]) -> Lanes:
        lanes = copy(self)
        if self._room is None or self._program is None:
            lanes._state = self._engine.select(self._state, rows)
        else:
            room = new_room(self._program.plan, len(rows))
            room[:] = self._room[rows]
            lanes._go_on_in(room, self._program, self._reader and self._reader.history()[rows])
        return lanes

    def restart(self, rows: NDArray[np.intp]) -> None:
        if self._room is None:
            self._state = self._engine.restart(self._state, rows)
        else:
            self._room[rows] = self._fresh
            if self._reader is not None:
                self._reader.restart(rows)

    def compile(self) -> bool:
        """Go on with compiled loops, and tell whether that was possible: numba may not be there."""
        program, self._program = self._program, None
        if program is None or not installed():
            return False
        room, fresh = new_room(program.plan, len(self._state[0][0])), new_room(program.plan, 1)
        layers = slice(None if program.plan.ngrams is None else -1)
        enter(program.plan, room, self._state[layers])
        enter(program.plan, fresh, self._engine.initial_state(1)[layers])
        try:
            self._go_on_in(room, program, self._state[-1][0])
        except TraceError:
            return False  # numba does not know one of its operations
        self._fresh, self._program, self._state = fresh, program, None
        return True

    def _go_on_in(self, room: Float, program: Program, history: Any) -> None:
        self._reader = program.reader(room, history)
        self._step = compiled_step(program.plan, room, program.rows, program.kernels, reader=self._reader)
        self._room = room
