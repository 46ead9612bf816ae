"""One stream of a model, id by id, near the speed at which its weights can be read.

`NumpyEngine.step` returns a new state each time and takes any number of streams. A stream here has a room of its own
that each step writes over, and a program for one id (`program.py`), made from the cell's equations (`trace.py`). A cell
that cannot be traced is stepped as it is written.

After MANY_STEPS, and where numba is installed, the same stream goes on with compiled loops (`compiled.py`): to import
numba and compile takes as long as they save in so many steps. It is counted for each stream by itself, as the two
differ by rounding: so what is written does not depend on what else was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import State
from chargen.engine.compiled import compiled_draw, compiled_step
from chargen.engine.engine import Draws, Engine, Stream, log_softmax
from chargen.engine.graph import Graph, TraceError
from chargen.engine.kernel import Kernels, installed
from chargen.engine.ngrams import NGrams, Reader
from chargen.engine.program import numpy_step, threaded
from chargen.engine.room import Float, Rows, enter, leave, new_room
from chargen.engine.schedule import schedule
from chargen.engine.ways import Ways

MANY_STEPS = 30_000  #: 0.6 s for 24 to 36 µs saved in each; 1.5 s more the first time, then it is kept on disk

TOGETHER = 256  #: steps whose logits are made probabilities at once: 15 µs each alone, 1 µs together


def read_stream(stream: Stream, inputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Let a stream read ids, [T], and return log p of each target, [T], in nats."""
    log_probs = np.empty(len(inputs))
    for begin in range(0, len(inputs), TOGETHER):
        window = slice(begin, begin + TOGETHER)
        logits = np.stack([stream.step(token_id).copy() for token_id in inputs[window].tolist()])
        log_probs[window] = np.take_along_axis(log_softmax(logits), targets[window, None], axis=1)[:, 0]
    return log_probs


class PlainStream:
    """A stream that is stepped by its engine."""

    def __init__(self, engine: Engine, state: tuple[State, ...]) -> None:
        self._engine, self._state = engine, state

    def step(self, token_id: int) -> Float:
        logits, self._state = self._engine.step(np.array([token_id]), self._state)
        first: Float = logits[0]
        return first

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        return None

    def state(self) -> tuple[State, ...]:
        return self._state


class Program:
    """What the streams of one model share: the order of a step, the rows of its table, the compiled loops.

    Args:
        graph: a step.
        tables: the input gates of every id, [V, X·H], for each member.
        hidden_size: H.
        ngrams: that the head reads, if it does.
    """

    def __init__(self, graph: Graph, tables: Sequence[Float], hidden_size: int, ngrams: NGrams | None = None) -> None:
        self.plan, self._ngrams = schedule(graph, hidden_size), ngrams
        self.rows = Rows(self.plan, tables)
        self.kernels = Kernels(self.plan)

    def reader(self, room: Float, history: Any) -> Reader | None:
        """Return what reads the n-grams of streams into their room, where there are n-grams."""
        if self._ngrams is None or self.plan.ngrams is None:
            return None
        return Reader(self._ngrams, history, room[..., self.plan.ngrams])


class TracedStream:
    """A stream that a program steps.

    Args:
        program: of the model.
        state: to go on from, each part [1, H].
    """

    def __init__(self, program: Program, state: tuple[State, ...]) -> None:
        self._program, self._room = program, new_room(program.plan)
        self._reader = program.reader(self._room, state[-1][0])
        self._like = state if self._reader is None else state[:-1]
        enter(program.plan, self._room, self._like)
        self._parted = (False, True) if threaded(program.plan) else (False,)  # whole products, or in parts
        self._step = Ways(
            [numpy_step(program.plan, self._room, program.rows, parted, self._reader) for parted in self._parted]
        )
        self._left = MANY_STEPS
        self._compiled = False

    def step(self, token_id: int) -> Float:
        self._left -= 1
        if not self._left:
            self.compile()  # always at the same step: it changes what is rounded
        return self._step(token_id)  # type: ignore[no-any-return]

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        if not self._compiled:
            return None
        program = self._program
        shared = (program.plan, self._room, program.rows, program.kernels, added, inverse)
        return Ways([compiled_draw(*shared, parted, self._reader) for parted in self._parted]).map

    def state(self) -> tuple[State, ...]:
        layers = leave(self._program.plan, self._room, self._like)
        return layers if self._reader is None else (*layers, (self._reader.history(),))

    def compile(self) -> bool:
        """Go on with compiled loops, and tell whether that was possible: numba may not be there."""
        program = self._program
        try:
            if installed():
                shared = (program.plan, self._room, program.rows, program.kernels)
                self._step = Ways([compiled_step(*shared, parted, self._reader) for parted in self._parted])
                self._compiled = True
        except TraceError:
            return False  # numba does not know one of its operations
        return self._compiled
