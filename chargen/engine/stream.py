"""One stream of a model, id by id, near the speed at which its weights can be read.

`NumpyEngine.step` returns a new state each time and takes any number of streams. A stream here has a room of its own
that each step writes over, and a program for one id (`program.py`), made from the cell's equations (`trace.py`). A cell
that cannot be traced is stepped as it is written.

After MANY_STEPS, and where numba is installed, the same stream goes on with compiled loops (`kernel.py`): to import
numba and compile takes as long as they save in so many steps. It is counted for each stream by itself, as the two
differ by rounding: so what is written does not depend on what else was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import State
from chargen.engine.engine import Engine, Stream, log_softmax
from chargen.engine.graph import Graph, TraceError
from chargen.engine.kernel import Kernel, compile_kernels, compiled_step, installed
from chargen.engine.program import Float, Rows, Step, new_room, numpy_step, prime, threaded
from chargen.engine.schedule import schedule

MANY_STEPS = 60_000  #: about 0.7 s for 12 µs saved in each; 1.5 s more the first time, then it is kept on disk

LOOKS = 4  #: timed steps, of each way
LOOK_AGAIN, MOST_PAUSE = 256, 1024  #: steps until the next; ever more of them where parts are faster each time
HOPELESS = 8  #: times slower than parts
ENDLESS = 1 << 62
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

    compiled = False

    def __init__(self, engine: Engine, state: tuple[State, ...]) -> None:
        self._engine, self._state = engine, state

    def step(self, token_id: int) -> Float:
        logits, self._state = self._engine.step(np.array([token_id]), self._state)
        first: Float = logits[0]
        return first

    def state(self) -> tuple[State, ...]:
        return self._state


class Program:
    """What the streams of one model share: the order of a step, the rows of its table, the compiled loops.

    Args:
        graph: a step.
        tables: the input gates of every id, [V, X·H], for each member.
        hidden_size: H.
    """

    def __init__(self, graph: Graph, tables: Sequence[Float], hidden_size: int) -> None:
        self.plan = schedule(graph, hidden_size)
        self.rows = Rows(self.plan, tables)
        self._kernels: list[Kernel | None] | None = None

    def kernels(self) -> list[Kernel | None]:
        """Return the compiled loops.

        Raises:
            TraceError: they cannot be made.
        """
        if self._kernels is None:
            self._kernels = compile_kernels(self.plan)
        return self._kernels


class TracedStream:
    """A stream that a program steps.

    Args:
        program: of the model.
        state: to go on from, each part [1, H].
    """

    def __init__(self, program: Program, state: tuple[State, ...]) -> None:
        self._program, self._sizes = program, [len(layer) for layer in state]
        self._room = new_room(program.plan)
        for place, part in zip(self._states(), (part for layer in state for part in layer), strict=True):
            place[:] = np.reshape(part, place.shape)
        prime(program.plan, self._room)
        ways = (False, True) if threaded(program.plan) else (False,)
        self._take([numpy_step(program.plan, self._room, program.rows, parted) for parted in ways])
        self._left = MANY_STEPS
        self.compiled = False

    def step(self, token_id: int) -> Float:
        self._left -= 1
        if not self._left:
            self.compile()  # always at the same step: it changes what is rounded
        if self._until_look:
            self._until_look -= 1
            return self._step(token_id)
        return self._timed(token_id)

    def _take(self, ways: list[Step]) -> None:
        """Go on with one of several ways to make a step, all to the same bits: whole products, or in parts."""
        self._ways, self._step = ways, ways[0]
        self._times: list[list[float]] = [[] for _ in ways]
        self._pause = LOOK_AGAIN
        self._until_look = 0 if len(ways) > 1 else ENDLESS

    def _timed(self, token_id: int) -> Float:
        """Make a step in the way that was timed least; when all have been, go on with the fastest for a while.

        Several threads read a matrix twice as fast as one, but where another program holds a core they wait for each
        other a hundred times as long: one such step is enough to know.
        """
        way = max(range(len(self._ways)), key=lambda k: (-len(self._times[k]), k))  # parts first
        begin = time.perf_counter()
        logits = self._ways[way](token_id)
        self._times[way].append(time.perf_counter() - begin)
        totals = [sum(times) for times in self._times]
        if len(self._times[0]) == LOOKS or totals[0] > HOPELESS * totals[-1]:
            best = totals.index(min(totals))
            self._step, self._times = self._ways[best], [[] for _ in self._ways]
            self._pause = LOOK_AGAIN if best == 0 else min(2 * self._pause, MOST_PAUSE)
            self._until_look = self._pause
        return logits

    def state(self) -> tuple[State, ...]:
        parts = iter(self._states())
        return tuple(tuple(next(parts)[None].copy() for _ in range(size)) for size in self._sizes)

    def compile(self) -> bool:
        """Go on with compiled loops, and tell whether that was possible: numba may not be there."""
        try:
            if installed():
                plan, rows, kernels = self._program.plan, self._program.rows, self._program.kernels()
                ways = [compiled_step(plan, self._room, rows, kernels, k > 0) for k in range(len(self._ways))]
                self._take(ways)
                self.compiled = True
        except TraceError:
            return False  # numba does not know one of its operations
        return self.compiled

    def _states(self) -> list[NDArray[Any]]:
        plan = self._program.plan
        return [self._room[place : place + plan.hidden_size] for place in plan.states]
