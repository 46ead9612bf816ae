"""A model in NumPy: it loads in milliseconds and runs one stream at the speed of a matrix–vector product.

The engine calls the cell's equations. The input product of the first layer is computed once for each of the V token
token ids, so a step reads it as a row of a table. A single stream runs the same equations as generated code
(`streams.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import NetworkState, State
from chargen.cells.stack import connect, normalize
from chargen.cells.weights import FIXED_DTYPES, NGRAM_TABLE, get_cells
from chargen.config import ModelConfig
from chargen.engines import blas_threads
from chargen.engines.interface import Item, Result, Stream, log_softmax
from chargen.engines.streams import (
    MAX_STREAMS,
    PlainStream,
    PlainStreamBatch,
    TracedModel,
    TracedStream,
    read_stream,
)
from chargen.graph.graph import Graph, TraceError
from chargen.graph.ngram_reader import NGramTable
from chargen.graph.trace import Layer, trace
from chargen.storage.stored_weights import StoredWeights

Float = NDArray[np.float32]
MAX_SERIAL_PRODUCTS = 100_000_000  #: one thread computes tables of this many products of two numbers in about 2 ms
NORMALIZE = partial(normalize, np)


class NumpyEngine:
    """An `Engine` with float32 weights.

    Args:
        config: The shape of the network.
        weights: The weights by the names that `cells/weights.py` defines.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        packed = weights.table(NGRAM_TABLE) if isinstance(weights, StoredWeights) else None
        skipped = {*FIXED_DTYPES, *([NGRAM_TABLE] if packed else [])}  # the table is expanded if it is read
        names = [name for name in weights if name not in skipped]
        w = {name: np.ascontiguousarray(weights[name], dtype=np.float32) for name in names}
        self.vocab_size = config.vocab_size
        self.max_streams = MAX_STREAMS
        self._hidden_size = config.hidden_size
        self._num_layers = config.num_layers  # layers of each ensemble member
        self._residual, self._skip = config.residual, config.skip
        self._cells = get_cells(config)  # of the layers of an ensemble member
        self._layers = [
            {name.rpartition(".")[2]: p for name, p in w.items() if name.startswith(f"layers.{layer}.")}
            for layer in range(config.total_layers)
        ]
        gate_size = self._cells[0].num_input_gates * self._hidden_size
        if config.vocab_size * config.embedding_dim * gate_size > MAX_SERIAL_PRODUCTS:
            blas_threads.start_threads()
        self._tables = [
            self._cells[0].input_gates(params, w["embedding.weight"]) for params in self._layers[:: self._num_layers]
        ]
        head = np.tile(w["embedding.weight"], config.ensemble_size) if config.tie_weights else w["head.weight"]
        # [V, M·H], or [V, M·L·H] with skip connections: gives the mean of the logits of M networks
        self._head = head / np.float32(config.ensemble_size)
        self._head_bias = w["head.bias"]
        self._ngrams: NGramTable | None = None
        if config.ngrams:
            fixed = (weights[name] for name in FIXED_DTYPES) if config.ngram_index else ()
            self._ngrams = NGramTable(config, w["ngrams.head"], packed or w[NGRAM_TABLE], *fixed)

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state before the first token."""
        shape = (batch_size, self._hidden_size)
        member = [cell.initial_state(np, shape, dtype=np.float32) for cell in self._cells]
        return NetworkState(
            tuple(member * len(self._tables)),
            None if self._ngrams is None else self._ngrams.initial_history(batch_size),
        )

    def select(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Return the state of these streams."""
        return state.map(lambda part: part[rows])

    def reset(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Return the state with these streams reset to the initial state."""
        keep = np.ones((state.batch_size, 1), dtype=np.bool_)
        keep[rows] = False
        return state.map(lambda part: np.where(keep, part, np.zeros_like(part)))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item, one after the other."""
        return map(function, items)

    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[Float, NetworkState]:
        """Read one token id per stream, [B], and return (the logits of the next token [B, V], the state after it)."""
        result: tuple[Float, NetworkState] = self._fastest_step((ids, state))
        return result

    @cached_property
    def _fastest_step(self) -> Callable[[tuple[NDArray[Any], NetworkState]], Any]:
        """The step with products on all threads or on one thread, whichever is faster at the time."""
        return partial(blas_threads.ThreadChooser().call, self._step)

    def _step(self, inputs: tuple[NDArray[Any], NetworkState]) -> tuple[Float, NetworkState]:
        """Compute a step from (token ids [B], the state before)."""
        ids, state = inputs
        after: list[State] = []
        tops: list[Float] = []  # what the head reads
        total = read = None
        for layer, (params, before) in enumerate(zip(self._layers, state.layers, strict=True)):
            network, level = divmod(layer, self._num_layers)
            cell = self._cells[level]
            x_gates = cell.input_gates(params, read) if level else self._tables[network][ids]  # [B, X·H]
            after.append(cell.step(np, params, x_gates, before))
            total, read = connect(NORMALIZE, params, after[-1][0], total if level and self._residual else None)
            if self._skip or level == self._num_layers - 1:
                tops.append(read)
        hidden = tops[0] if len(tops) == 1 else np.concatenate(tops, axis=1)  # [B, M·H]
        logits = hidden @ self._head.T + self._head_bias
        if self._ngrams is None or state.ngram_history is None:
            return logits, NetworkState(tuple(after))
        features, history = self._ngrams.read(ids, state.ngram_history)
        logits += features @ self._ngrams.head.T
        return logits, NetworkState(tuple(after), history)

    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        """Read token ids, [T, B], and return (log p of each target in nats [T, B], the state after the last)."""
        if inputs.shape[1] == 1:  # for any T: a text read in parts then has the same bits as a text read at once
            stream = self.stream(state)
            return read_stream(stream, inputs[:, 0], targets[:, 0])[:, None], stream.state()
        log_probs, rows = np.empty(inputs.shape), np.arange(inputs.shape[1])
        for t, ids in enumerate(inputs):
            logits, state = self.step(ids, state)
            log_probs[t] = log_softmax(logits)[rows, targets[t]]
        return log_probs, state

    def stream(self, state: NetworkState) -> Stream:
        """Return a stream that continues from a state [1, H]; it computes what `step` computes, but faster."""
        return PlainStream(self, state) if self.traced is None else TracedStream(self.traced, state)

    def stream_batch(self, state: NetworkState, num_ids: int = 0) -> PlainStreamBatch:
        """Return streams that continue from a state [B, H]; they compute what `step` computes, but faster in long runs.

        Args:
            state: The state from which the streams continue.
            num_ids: Expected number of token ids that all streams together will read; 0 if that is unknown.
        """
        return PlainStreamBatch(self, state, self.traced, num_ids)

    def trace(self, embedding_dim: int | None = None) -> Graph:
        """Return the operator graph of a step, for a back end (`graph/trace.py`).

        Args:
            embedding_dim: The size of a token embedding if the graph starts from it; None if it starts from the input
                gates of the first layers.

        Raises:
            TraceError: If a cell uses an operation that has no operator.
        """
        num_networks = len(self._tables)
        layers = []
        heads = iter(np.split(self._head, num_networks * (self._num_layers if self._skip else 1), axis=1))
        for number, params in enumerate(self._layers):
            network, level = divmod(number, self._num_layers)
            is_read = self._skip or level == self._num_layers - 1
            layers.append(
                Layer(
                    self._cells[level],
                    params,
                    table=None if level else network,
                    head=next(heads) if is_read else None,
                    residual=level > 0 and self._residual,
                )
            )
        ngrams_head = None if self._ngrams is None else self._ngrams.head
        return trace(layers, self._hidden_size, self._head_bias, ngrams_head, embedding_dim)

    @cached_property
    def traced(self) -> TracedModel | None:
        """The traced model; None for a cell that cannot be traced."""
        try:
            graph = self.trace()
        except TraceError:
            return None
        return TracedModel(graph, self._tables, self._hidden_size, self._ngrams)
