"""A model in NumPy: it loads in milliseconds and runs one stream at the speed of a matrix–vector product.

It is the cell's equations and nothing else. The first layer's input product is done once for each of the V characters,
so that a step reads it as a table row. Of a single stream the same equations are run by a faster program (`stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells import CELLS
from chargen.cells.cell import State
from chargen.config import ModelConfig
from chargen.engines.interface import Item, Result, Stream, log_softmax
from chargen.engines.streams import MAX_STREAMS, PlainStream, PlainStreamBatch, Program, TracedStream, read_stream
from chargen.graph.graph import TraceError
from chargen.graph.numpy_backend import NGramTable
from chargen.graph.trace import Layer, trace

Float = NDArray[np.float32]


class NumpyEngine:
    """An `Engine` over float32 weights.

    Args:
        config: the network's shape.
        weights: as `cells/weights.py` names them.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        w = {name: np.ascontiguousarray(weight, dtype=np.float32) for name, weight in weights.items()}
        self.vocab_size, self.max_streams = config.vocab_size, MAX_STREAMS
        self._hidden_size = config.hidden_size
        self._cell = CELLS.get(config.cell)
        self._layers = [
            {name.rpartition(".")[2]: p for name, p in w.items() if name.startswith(f"layers.{layer}.")}
            for layer in range(config.total_layers)
        ]
        self._depth = config.num_layers
        self._tables = [
            self._cell.input_gates(params, w["embedding.weight"]) for params in self._layers[:: self._depth]
        ]
        head = np.tile(w["embedding.weight"], config.ensemble_size) if config.tie_weights else w["head.weight"]
        self._head = head / np.float32(config.ensemble_size)  # [V, M·H]: the mean of the members' logits
        self._head_bias = w["head.bias"]
        self._ngrams = NGramTable(config, w) if config.ngrams else None

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        shape = (batch_size, self._hidden_size)
        layers = tuple(self._cell.initial_state(np, shape, dtype=np.float32) for _ in self._layers)
        return layers if self._ngrams is None else (*layers, (self._ngrams.history(batch_size),))

    def select(self, state: tuple[State, ...], rows: NDArray[np.intp]) -> tuple[State, ...]:
        return tuple(tuple(part[rows] for part in layer) for layer in state)

    def reset(self, state: tuple[State, ...], rows: NDArray[np.intp]) -> tuple[State, ...]:
        keep = np.ones((len(state[0][0]), 1), dtype=np.bool_)
        keep[rows] = False
        return tuple(tuple(np.where(keep, part, np.zeros_like(part)) for part in layer) for layer in state)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(function, items)

    def step(self, ids: NDArray[Any], state: tuple[State, ...]) -> tuple[Float, tuple[State, ...]]:
        after: list[State] = []
        for layer, (params, before) in enumerate(zip(self._layers, state[: len(self._layers)], strict=True)):
            member, level = divmod(layer, self._depth)
            x_gates = self._cell.input_gates(params, after[-1][0]) if level else self._tables[member][ids]  # [B, X·H]
            after.append(self._cell.step(np, params, x_gates, before))
        tops = [layer_state[0] for layer_state in after[self._depth - 1 :: self._depth]]
        hidden = tops[0] if len(tops) == 1 else np.concatenate(tops, axis=1)  # [B, M·H]
        logits = hidden @ self._head.T + self._head_bias
        if self._ngrams is not None:
            found, history = self._ngrams.read(ids, state[-1][0])
            logits += found @ self._ngrams.head.T
            after.append((history,))
        return logits, tuple(after)

    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: tuple[State, ...]
    ) -> tuple[NDArray[np.float64], tuple[State, ...]]:
        if inputs.shape[1] == 1:  # however few: what was read in parts is what was read at once, to the bit
            stream = self.stream(state)
            return read_stream(stream, inputs[:, 0], targets[:, 0])[:, None], stream.state()
        log_probs, lanes = np.empty(inputs.shape), np.arange(inputs.shape[1])
        for t, ids in enumerate(inputs):
            logits, state = self.step(ids, state)
            log_probs[t] = log_softmax(logits)[lanes, targets[t]]
        return log_probs, state

    def stream(self, state: tuple[State, ...]) -> Stream:
        """Return a stream that goes on from a state of one, as `step` would with one id at a time, but faster."""
        return PlainStream(self, state) if self._program is None else TracedStream(self._program, state)

    def stream_batch(self, state: tuple[State, ...], num_ids: int = 0) -> PlainStreamBatch:
        """Return many streams that go on from a state, as `step` would, but faster where they read much."""
        return PlainStreamBatch(self, state, self._program, num_ids)

    @cached_property
    def _program(self) -> Program | None:
        """What a stream runs; None for a cell that does what `trace` does not know."""
        members = len(self._tables)
        layers = [
            Layer(params, None if number % self._depth else number // self._depth)
            for number, params in enumerate(self._layers)
        ]
        heads = np.split(self._head, members, axis=1)
        try:
            ngrams_head = None if self._ngrams is None else self._ngrams.head
            graph = trace(self._cell, layers, self._hidden_size, heads, self._head_bias, ngrams_head)
        except TraceError:
            return None
        return Program(graph, self._tables, self._hidden_size, self._ngrams)
