"""Several ways to do the same, all to the same bits: the fastest is found by doing it.

Several threads read a matrix twice as fast as one, but where another program holds a core they wait for each other a
hundred times as long: one such step is enough to know.

One stream of a model, id by id, near the speed at which its weights can be read.

`NumpyEngine.step` returns a new state each time and takes any number of streams. A stream here has a buffer of its own
that each step writes over, and a program for one id (`program.py`), made from the cell's equations (`trace.py`). A cell
that cannot be traced is stepped as it is written.

After MANY_STEPS, and where numba is installed, the same stream goes on with compiled loops (`compiled.py`): to import
numba and compile takes as long as they save in so many steps. It is counted for each stream by itself, as the two
differ by rounding: so what is written does not depend on what else was.

Many streams of a model side by side, id by id.

They are stepped by their engine. After MANY_IDS, or from the beginning where so many are known to come, and where numba
is installed, they go on in buffers of their own with compiled loops: what is between the products takes a
sixth of a step then, instead of half. It changes what is rounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.network_state import NetworkState
from chargen.engines.interface import Draws, Engine, EngineState, Stream, log_softmax
from chargen.graph.graph import Graph, TraceError
from chargen.graph.memory_plan import plan_memory
from chargen.graph.numba_backend import Kernels, compiled_draw, compiled_step, numba_installed
from chargen.graph.numpy_backend import (
    Float,
    InputTable,
    NGramReader,
    NGramTable,
    load_state,
    new_buffer,
    numpy_step,
    store_state,
    threaded,
)

NUM_TIMED_CALLS = 4  #: timed calls, of each way
CALLS_BETWEEN_TIMINGS, MAX_CALLS_BETWEEN_TIMINGS = (
    256,
    1024,
)  #: calls until the next; ever more of them where the last way is faster each time
ABANDON_RATIO = 8  #: times slower than the last way
ENDLESS = 1 << 62


class FastestOf:
    """A function of one argument that can be called in several ways.

    Args:
        ways: the first is the fastest where nothing is in its way, the last where something is.
    """

    def __init__(self, ways: Sequence[Callable[[Any], Any]]) -> None:
        self._ways, self._way = ways, ways[0]
        self._times: list[list[float]] = [[] for _ in ways]
        self._pause = CALLS_BETWEEN_TIMINGS
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
        if len(self._times[0]) == NUM_TIMED_CALLS or totals[0] > ABANDON_RATIO * totals[-1]:
            best = totals.index(min(totals))
            self._way, self._times = self._ways[best], [[] for _ in self._ways]
            self._pause = CALLS_BETWEEN_TIMINGS if best == 0 else min(2 * self._pause, MAX_CALLS_BETWEEN_TIMINGS)
            self._until_look = self._pause
        return result


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

    def __init__(self, engine: Engine, state: NetworkState) -> None:
        self._engine, self._state = engine, state

    def step(self, token_id: int) -> Float:
        logits, self._state = self._engine.step(np.array([token_id]), self._state)
        first: Float = logits[0]
        return first

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        return None

    def state(self) -> NetworkState:
        return self._state


class Program:
    """What the streams of one model share: the order of a step, the rows of its table, the compiled loops.

    Args:
        graph: a step.
        tables: the input gates of every id, [V, X·H], for each member.
        hidden_size: H.
        ngrams: that the head reads, if it does.
    """

    def __init__(
        self, graph: Graph, tables: Sequence[Float], hidden_size: int, ngrams: NGramTable | None = None
    ) -> None:
        self.plan, self._ngrams = plan_memory(graph, hidden_size), ngrams
        self.rows = InputTable(self.plan, tables)
        self.kernels = Kernels(self.plan)

    def reader(self, buffer: Float, history: Any) -> NGramReader | None:
        """Return what reads the n-grams of streams into their buffer, where there are n-grams."""
        if self._ngrams is None or self.plan.ngrams is None:
            return None
        return NGramReader(self._ngrams, history, buffer[..., self.plan.ngrams])


class TracedStream:
    """A stream that a program steps.

    Args:
        program: of the model.
        state: to go on from, each part [1, H].
    """

    def __init__(self, program: Program, state: NetworkState) -> None:
        self._program, self._buffer = program, new_buffer(program.plan)
        self._reader = program.reader(self._buffer, state.ngram_history)
        self._like = state.layers
        load_state(program.plan, self._buffer, state.layers)
        self._split_products = (False, True) if threaded(program.plan) else (False,)  # whole products, or in parts
        self._step = FastestOf(
            [
                numpy_step(program.plan, self._buffer, program.rows, split_products, self._reader)
                for split_products in self._split_products
            ]
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
        shared = (program.plan, self._buffer, program.rows, program.kernels, added, inverse)
        return FastestOf(
            [compiled_draw(*shared, split_products, self._reader) for split_products in self._split_products]
        ).map

    def state(self) -> NetworkState:
        layers = store_state(self._program.plan, self._buffer, self._like)
        return NetworkState(layers, None if self._reader is None else self._reader.history())

    def compile(self) -> bool:
        """Go on with compiled loops, and tell whether that was possible: numba may not be there."""
        program = self._program
        try:
            if numba_installed():
                shared = (program.plan, self._buffer, program.rows, program.kernels)
                self._step = FastestOf(
                    [compiled_step(*shared, split_products, self._reader) for split_products in self._split_products]
                )
                self._compiled = True
        except TraceError:
            return False  # numba does not know one of its operations
        return self._compiled


MAX_STREAMS = 256  #: more on a CPU are no faster, and the first text is seen later
MANY_IDS = 50_000  #: 0.6 s for 10 to 20 µs saved with each; 2 s more the first time, then it is kept on disk


class PlainStreamBatch:
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
        self._buffer: Float | None = None  # with compiled loops
        if self._left <= 0:
            self.compile()

    def step(self, ids: NDArray[Any]) -> Float:
        if self._buffer is not None:
            return self._step(ids)
        logits, self._state = self._engine.step(ids, self._state)
        self._left -= len(ids)
        if self._left <= 0:
            self.compile()
        return logits

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws | None:
        if self._buffer is None or self._program is None:
            return None
        program = self._program
        shared = (program.plan, self._buffer, program.rows, program.kernels)
        return partial(map, compiled_draw(*shared, added, inverse, reader=self._reader))

    def select(self, rows: NDArray[np.intp]) -> PlainStreamBatch:
        lanes = copy(self)
        if self._buffer is None or self._program is None:
            lanes._state = self._engine.select(self._state, rows)
        else:
            buffer = new_buffer(self._program.plan, len(rows))
            buffer[:] = self._buffer[rows]
            lanes._go_on_in(buffer, self._program, self._reader and self._reader.history()[rows])
        return lanes

    def reset(self, rows: NDArray[np.intp]) -> None:
        if self._buffer is None:
            self._state = self._engine.reset(self._state, rows)
        else:
            self._buffer[rows] = self._fresh
            if self._reader is not None:
                self._reader.reset(rows)

    def compile(self) -> bool:
        """Go on with compiled loops, and tell whether that was possible: numba may not be there."""
        program, self._program = self._program, None
        if program is None or not numba_installed():
            return False
        buffer, fresh = new_buffer(program.plan, self._state.batch_size), new_buffer(program.plan, 1)
        load_state(program.plan, buffer, self._state.layers)
        load_state(program.plan, fresh, self._engine.initial_state(1).layers)
        try:
            self._go_on_in(buffer, program, self._state.ngram_history)
        except TraceError:
            return False  # numba does not know one of its operations
        self._fresh, self._program = fresh, program
        return True

    def _go_on_in(self, buffer: Float, program: Program, history: Any) -> None:
        self._reader = program.reader(buffer, history)
        self._step = compiled_step(program.plan, buffer, program.rows, program.kernels, reader=self._reader)
        self._buffer = buffer
