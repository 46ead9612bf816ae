"""Streams: a model that reads one token after another, alone or in a batch.

One stream. `NumpyEngine.step` returns a new state at each step and takes any number of streams. A `TracedStream` has a
buffer of its own, which each step overwrites, and runs code generated for a single stream (`chargen/graph/`). It is
limited by the speed at which the weights can be read from memory. A cell that cannot be traced is stepped by the engine
(`PlainStream`).

Compiled loops. After COMPILE_AFTER_TOKENS tokens, if numba is installed, a stream continues with compiled loops: to
import numba and compile takes as long as the loops save in that many steps. Each stream counts its own tokens, because
the two back ends differ by rounding: the generated text does not depend on what else was generated.

A batch of streams is stepped by its engine. After COMPILE_BATCH_AFTER_TOKENS tokens, or from the start if that many are
expected, it continues in buffers of its own with compiled loops: the operators between the products then take a sixth
of a step instead of half of it. This changes rounding, too. Its products are computed on all threads or on one thread,
whichever number is faster at the time (`blas_threads.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import NetworkState
from chargen.engines import blas_threads
from chargen.engines.interface import Draws, Engine, EngineState, Stream, log_softmax
from chargen.graph import numba_installed
from chargen.graph.graph import Graph, TraceError
from chargen.graph.memory_plan import plan_memory
from chargen.graph.ngram_reader import NGramReader, NGramTable
from chargen.graph.numpy_backend import (
    Float,
    InputTable,
    allocate_buffer,
    build_numpy_step,
    large_matrices,
    load_state,
    store_state,
    uses_threads,
)

if TYPE_CHECKING:  # imported when a stream is compiled, or for several texts
    from chargen.engines.uniform_rows import Blocks, UniformRows
    from chargen.graph.numba_backend import CompiledModel

COMPILE_AFTER_TOKENS = 30_000  # 0.6 s for 24 to 36 µs saved in each; 1.5 s more the first time
COMPILE_BATCH_AFTER_TOKENS = 50_000  # 0.6 s for 10 to 20 µs saved with each token; 2 s more the first time
MAX_STREAMS = 256  # more streams are no faster on a CPU, and the first text would be complete later
SOFTMAX_BLOCK = 256  # steps whose logits become probabilities together: 15 µs for each step alone, 1 µs together

NUM_TIMED_CALLS = 4  # timed calls of each variant before one is chosen
CALLS_BETWEEN_TIMINGS = 256
MAX_CALLS_BETWEEN_TIMINGS = 1024  # the pause doubles up to this while a variant other than the first is chosen
ABANDON_RATIO = 8  # timing ends early when the first variant is this many times slower than the last
ENDLESS = 1 << 62


class FastestOf:
    """A function with a single argument and several variants that give the same bits; the fastest one is used.

    Two threads read a matrix twice as fast as one. But when another process uses a core, they wait for each other up to
    a hundred times as long as the product takes. So the variants are timed again and again: "one product on all
    threads" comes first, "parts on one thread each" last. On two busy cores `sample --length 10000` with the first
    variant alone took 5 times as long.

    Args:
        variants: The variants of the function. The first is the fastest on an idle machine, the last on a busy one.
    """

    def __init__(self, variants: Sequence[Callable[[Any], Any]]) -> None:
        self._variants = variants
        self._fastest = variants[0]
        self._times: list[list[float]] = [[] for _ in variants]
        self._pause = CALLS_BETWEEN_TIMINGS
        self._calls_until_timing = 0 if len(variants) > 1 else ENDLESS

    def __call__(self, argument: Any) -> Any:
        """Call the function by the variant that was fastest in the last timing, or time one of them."""
        if self._calls_until_timing:
            self._calls_until_timing -= 1
            return self._fastest(argument)
        return self._timed_call(argument)

    def map(self, arguments: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of many calls, with less overhead for each."""
        position = 0
        while position < len(arguments):
            count = min(self._calls_until_timing, len(arguments) - position)
            self._calls_until_timing -= count
            yield from map(self._fastest, arguments[position : position + count])
            position += count
            if position < len(arguments):
                yield self._timed_call(arguments[position])
                position += 1

    def _timed_call(self, argument: Any) -> Any:
        """Call the variant with the fewest timings, the last one first; choose the fastest when all have enough."""
        number = max(range(len(self._variants)), key=lambda k: (-len(self._times[k]), k))
        start = time.perf_counter()
        result = self._variants[number](argument)
        self._times[number].append(time.perf_counter() - start)
        totals = [sum(times) for times in self._times]
        if len(self._times[0]) == NUM_TIMED_CALLS or totals[0] > ABANDON_RATIO * totals[-1]:
            best = totals.index(min(totals))
            self._fastest = self._variants[best]
            self._times = [[] for _ in self._variants]
            self._pause = CALLS_BETWEEN_TIMINGS if best == 0 else min(2 * self._pause, MAX_CALLS_BETWEEN_TIMINGS)
            self._calls_until_timing = self._pause
        return result


def read_stream(stream: Stream, inputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Let a stream read token ids, [T], and return log p of each target, [T], in nats."""
    log_probs = np.empty(len(inputs))
    for start in range(0, len(inputs), SOFTMAX_BLOCK):
        window = slice(start, start + SOFTMAX_BLOCK)
        logits = np.stack([stream.step(token_id).copy() for token_id in inputs[window].tolist()])
        log_probs[window] = np.take_along_axis(log_softmax(logits), targets[window, None], axis=1)[:, 0]
    return log_probs


class PlainStream:
    """A stream that is stepped by its engine."""

    def __init__(self, engine: Engine, state: NetworkState) -> None:
        self._engine, self._state = engine, state

    def step(self, token_id: int) -> Float:
        """Read a token id and return the logits of the next token, [V]."""
        logits, self._state = self._engine.step(np.array([token_id]), self._state)
        first: Float = logits[0]
        return first

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws | None:
        """Return None: single steps are as fast."""
        return None

    def state(self) -> NetworkState:
        """Return the state as a value."""
        return self._state


class TracedModel:
    """The parts of a model that all its streams share: the memory plan, the input table, and the compiled kernels.

    Args:
        graph: One step of the network.
        tables: The input gates of every token id, [V, X·H], for each ensemble member.
        hidden_size: The hidden size H.
        ngrams: The table of the n-gram features; None if the network has none.
    """

    def __init__(
        self, graph: Graph, tables: Sequence[Float], hidden_size: int, ngrams: NGramTable | None = None
    ) -> None:
        self.plan = plan_memory(graph, hidden_size)
        self.input_table = InputTable(self.plan, tables)
        self.ngrams = ngrams

    @cached_property
    def compiled(self) -> CompiledModel:
        """What the compiled steps of all streams share."""
        from chargen.graph.numba_backend import CompiledModel, Kernels

        return CompiledModel(self.plan, self.input_table, Kernels(self.plan))

    def ngram_reader(self, buffer: Float, history: Any) -> NGramReader | None:
        """Return the reader that writes n-gram features to a buffer; None without n-grams."""
        if self.ngrams is None or self.plan.ngram_slice is None:
            return None
        return NGramReader(self.ngrams, history, buffer[..., self.plan.ngram_slice])


class TracedStream:
    """A stream that runs generated code.

    Args:
        model: The traced model.
        state: The state from which the stream continues, each part [1, H].
    """

    def __init__(self, model: TracedModel, state: NetworkState) -> None:
        self._model = model
        self._buffer = allocate_buffer(model.plan)
        self._reader = model.ngram_reader(self._buffer, state.ngram_history)
        self._layers = state.layers
        load_state(model.plan, self._buffer, state.layers)
        self._split_products = (False, True) if uses_threads(model.plan) else (False,)
        if large_matrices(model.plan):
            blas_threads.start_threads()
        self._step = FastestOf(
            [
                build_numpy_step(model.plan, self._buffer, model.input_table, split_products, self._reader)
                for split_products in self._split_products
            ]
        )
        self._tokens_until_compiled = COMPILE_AFTER_TOKENS
        self._is_compiled = False

    def step(self, token_id: int) -> Float:
        """Read a token id and return the logits of the next token, [V]: a view that the next step overwrites."""
        self._tokens_until_compiled -= 1
        if not self._tokens_until_compiled:
            self.compile()  # always at the same step, because it changes rounding
        return self._step(token_id)  # type: ignore[no-any-return]

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws | None:
        """Return the function that draws token ids in compiled loops; None before the stream is compiled."""
        if not self._is_compiled:
            return None
        from chargen.graph.numba_backend import build_compiled_draw

        return FastestOf(
            [
                build_compiled_draw(
                    self._model.compiled, self._buffer, added, inverse_temperature, split_products, self._reader
                )
                for split_products in self._split_products
            ]
        ).map

    def state(self) -> NetworkState:
        """Return the state as a value."""
        layers = store_state(self._model.plan, self._buffer, self._layers)
        return NetworkState(layers, None if self._reader is None else self._reader.history())

    def compile(self) -> bool:
        """Continue with compiled loops. Return whether that is possible: it needs numba."""
        try:
            if numba_installed():
                from chargen.graph.numba_backend import build_compiled_step

                if self._reader is not None:
                    self._reader.compile()
                self._step = FastestOf(
                    [
                        build_compiled_step(self._model.compiled, self._buffer, split_products, self._reader)
                        for split_products in self._split_products
                    ]
                )
                self._is_compiled = True
        except TraceError:
            return False  # numba cannot compile one of the operators
        return self._is_compiled


class PlainStreamBatch:
    """Streams that are stepped together.

    Args:
        engine: The engine that steps the streams.
        state: The state from which the streams continue, each part [B, H].
        model: The traced model, from which compiled loops are built; None to use only the steps of the engine.
        num_ids: Expected number of token ids that all streams together will read; 0 if that is unknown.
    """

    def __init__(self, engine: Engine, state: EngineState, model: TracedModel | None = None, num_ids: int = 0) -> None:
        self._engine, self._state, self._model = engine, state, model
        self._tokens_until_compiled = COMPILE_BATCH_AFTER_TOKENS  # counts what is read, not what is expected
        self._buffer: Float | None = None  # set when the loops are compiled
        self._threads = blas_threads.ThreadChooser()
        if num_ids >= COMPILE_BATCH_AFTER_TOKENS:
            self.compile()

    def step(self, ids: NDArray[Any]) -> Float:
        """Read one token id per stream, [B], and return the logits of the next token, [B, V]."""
        if self._buffer is not None:
            logits: Float = self._threads.call(self._step, ids)
            return logits
        logits, self._state = self._engine.step(ids, self._state)
        self._tokens_until_compiled -= len(ids)
        if self._tokens_until_compiled <= 0:
            self.compile()
        return logits

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws | None:
        """Return the function that draws token ids in compiled loops; None before the batch is compiled."""
        if self._buffer is None or self._model is None:
            return None
        from chargen.graph.numba_backend import build_compiled_draw

        draw = build_compiled_draw(self._model.compiled, self._buffer, added, inverse_temperature, reader=self._reader)
        return partial(map, partial(self._threads.call, draw))

    def uniform_blocks(self, rows: UniformRows) -> Blocks:
        """Return a function that computes the next random numbers of each stream."""
        return rows.blocks()

    def select(self, rows: NDArray[np.intp]) -> PlainStreamBatch:
        """Return a batch of these streams only."""
        batch = copy(self)
        if self._buffer is None or self._model is None:
            batch._state = self._engine.select(self._state, rows)
        else:
            buffer = allocate_buffer(self._model.plan, len(rows))
            buffer[:] = self._buffer[rows]
            batch._use_buffer(buffer, self._model, self._reader and self._reader.history()[rows])
        return batch

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Reset these streams to the initial state."""
        if self._buffer is None:
            self._state = self._engine.reset(self._state, rows)
        else:
            self._buffer[rows] = self._initial_buffer
            if self._reader is not None:
                self._reader.reset(rows)

    def compile(self) -> bool:
        """Continue with compiled loops. Return whether that is possible: it needs numba."""
        model, self._model = self._model, None
        if model is None or not numba_installed():
            return False
        buffer = allocate_buffer(model.plan, self._state.batch_size)
        initial_buffer = allocate_buffer(model.plan, 1)
        load_state(model.plan, buffer, self._state.layers)
        load_state(model.plan, initial_buffer, self._engine.initial_state(1).layers)
        try:
            self._use_buffer(buffer, model, self._state.ngram_history)
        except TraceError:
            return False  # numba cannot compile one of the operators
        self._initial_buffer = initial_buffer
        self._model = model
        return True

    def _use_buffer(self, buffer: Float, model: TracedModel, history: Any) -> None:
        from chargen.graph.numba_backend import build_compiled_step

        self._reader = model.ngram_reader(buffer, history)
        if self._reader is not None:
            self._reader.compile()
        self._step = build_compiled_step(model.compiled, buffer, reader=self._reader)
        self._buffer = buffer
