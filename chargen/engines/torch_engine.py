"""A model in torch: many streams as batches of matrix products, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from chargen.cells.cell import NetworkState
from chargen.config import ModelConfig
from chargen.engines.cuda_graphs import RecordedStream, RecordedStreamBatch, Recording
from chargen.engines.interface import Item, Result, Stream, StreamBatch, concatenate_states
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import MAX_STREAMS, PlainStream, PlainStreamBatch, read_stream
from chargen.networks.cuda_runtime import product_precision
from chargen.networks.fused_steps import FUSED_STEPS, FusedNetwork
from chargen.networks.network import Network, reset
from chargen.networks.torch_runtime import single_thread

MAX_LOGITS = 1 << 21  # computed at once: 8 MB of float32, which stay in the cache
MAX_OUTPUTS = 1 << 23  # outputs of the layers computed at once: 32 MB of float32
MAX_WORKERS = 16
MIN_PART_PRODUCTS = 1 << 21  # multiplications of a step that make a thread of its own worth its cost in Python
MAX_GPU_STREAMS = 4096
MAX_RECORDINGS = 2
# At least this many steps of at most this many streams are read faster one stream after another, in NumPy.
MAX_STREAMS_ONE_BY_ONE, MIN_STEPS_ONE_BY_ONE = 4, 1024


class TorchEngine:
    """An `Engine` with a network, in the precision and on the device of its weights.

    Args:
        network: The network. Unless `frozen`, its weights may change between two calls, as in training.
        frozen: Whether the weights will never change. The engine may then keep copies of them in a faster form.
        recorded: Whether streams run as recorded steps (`cuda_graphs.py`). The default is True for frozen weights on a
            GPU.
    """

    def __init__(self, network: Network, frozen: bool = False, recorded: bool | None = None) -> None:
        self.network = network
        self.vocab_size = network.config.vocab_size
        bias = network.weight("head.bias")
        self._device = bias.device
        # multiplications with the state in a step, for a row
        self._recurrent_products = sum(
            network.weight(f"layers.0.{name}").numel() for name in network.cells[0].recurrent_names
        )
        self._is_cancelled = False  # whether the results of `map` are no longer needed
        on_gpu = bias.device.type == "cuda"
        self._recorded = frozen and on_gpu if recorded is None else recorded
        self._recordings: dict[int, Recording] = {}
        self.max_streams = MAX_GPU_STREAMS if on_gpu else MAX_STREAMS
        self._is_fast = frozen and bias.device.type == "cpu" and bias.dtype == torch.float32
        use_fused_steps = self._is_fast and all(name in FUSED_STEPS for name in network.config.cell_names)
        with torch.no_grad():
            self._run_layers = FusedNetwork(network).run_layers if use_fused_steps else network.run_layers

    @classmethod
    def from_weights(cls, config: ModelConfig, weights: Mapping[str, NDArray[Any]], device: str = "cpu") -> TorchEngine:
        """Create an engine from the config and the weights of a checkpoint."""
        network = Network(config)
        network.import_weights(weights)
        return cls(network.to(device), frozen=True)

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state before the first token."""
        return self.network.initial_state(batch_size)

    def select(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Return the state of these streams."""
        return state.map(lambda part: part[torch.from_numpy(rows).to(part.device)])

    def reset(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Return the state with these streams reset to the initial state."""
        is_reset = torch.zeros(state.batch_size, dtype=torch.bool, device=self._device)
        is_reset[torch.from_numpy(rows).to(self._device)] = True
        return reset(state, is_reset)

    def stream(self, state: NetworkState) -> Stream:
        """Return a stream that continues from a state of batch size 1."""
        return RecordedStream(self._recording(1), state) if self._recorded else PlainStream(self, state)

    def stream_batch(self, state: NetworkState, num_ids: int = 0) -> StreamBatch:
        """Return streams that continue from a state; `num_ids` is not used."""
        if self._recorded:
            return RecordedStreamBatch(self, self._recording(state.batch_size), state)
        return PlainStreamBatch(self, state)

    def _recording(self, batch_size: int) -> Recording:
        """Return the recording for a batch size; a new one replaces the oldest of MAX_RECORDINGS."""
        if batch_size not in self._recordings:
            while len(self._recordings) >= MAX_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
            self._recordings[batch_size] = Recording(self.network, batch_size)
        return self._recordings[batch_size]

    @torch.no_grad()
    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[NDArray[np.float32], NetworkState]:
        """Read one token id per stream, [B], and return (the logits of the next token [B, V], the state after it)."""
        with product_precision(self._device, tf32=False):
            outputs, state = self._run_layers(self._to_tensor(ids).unsqueeze(0), state)
            return self.network.head(outputs)[0].float().cpu().numpy(), state

    @torch.no_grad()
    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        """Read token ids, [T, B], and return (log p of each target in nats [T, B], the state after the last)."""
        T, B = inputs.shape
        self._check_cancelled()
        if self._is_fast and B <= MAX_STREAMS_ONE_BY_ONE and T >= MIN_STEPS_ONE_BY_ONE:
            return self._read_one_by_one(inputs, targets, state)
        if self._device.type != "cpu":
            with product_precision(self._device, tf32=False):
                return self._read_rows(inputs, targets, state)
        parts = np.array_split(np.arange(B), self._num_parts(B))
        if len(parts) == 1:
            with single_thread():
                return self._read_rows(inputs, targets, state)

        def read_part(rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NetworkState]:
            return self._read_rows(inputs[:, rows], targets[:, rows], self.select(state, rows))

        log_probs, states = zip(*self.map(read_part, parts), strict=True)
        return np.concatenate(log_probs, axis=1), states[0].map(lambda *rows: torch.cat(rows), *states[1:])

    def _num_parts(self, batch_size: int) -> int:
        """Return into how many parts of its rows a batch is divided. Each part is computed by one thread alone.

        Two threads that share a product wait for each other at its end. That cost the validation of a run 7.6 s instead
        of 0.1 s when another process used one of the two cores. Parts wait for each other once in a call.
        """
        products_per_row = self._recurrent_products + self.vocab_size * self.network.config.head_size
        max_parts = min(torch.get_num_threads(), MAX_WORKERS, batch_size)
        return max(1, min(max_parts, batch_size * products_per_row // MIN_PART_PRODUCTS))

    @torch.no_grad()
    def _read_rows(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        """Read [T, B] as `read` does, with a part of the outputs in memory at a time."""
        T, B = inputs.shape
        log_probs = np.empty((T, B))
        config = self.network.config
        max_steps = max(1, MAX_OUTPUTS // (B * config.head_size * config.ensemble_size))
        for start in range(0, T, max_steps):
            window = slice(start, start + max_steps)
            outputs, state = self._run_layers(self._to_tensor(inputs[window]), state)
            log_probs[window] = self._target_log_probs(outputs, self._to_tensor(targets[window]))
        return log_probs, state

    def _read_one_by_one(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        """Read one batch row after another, each as a NumPy stream with the same weights."""
        T, B = inputs.shape
        after = []
        log_probs = np.empty((T, B))
        for row in range(B):
            stream = self._numpy_engine.stream(state.map(lambda part: part[row, None].numpy()))  # noqa: B023
            for start in range(0, T, MIN_STEPS_ONE_BY_ONE):
                self._check_cancelled()
                window = slice(start, start + MIN_STEPS_ONE_BY_ONE)
                log_probs[window, row] = read_stream(stream, inputs[window, row], targets[window, row])
            after.append(stream.state())
        return log_probs, concatenate_states(after).map(torch.from_numpy)

    @cached_property
    def _numpy_engine(self) -> NumpyEngine:
        return NumpyEngine(self.network.config, self.network.export_weights())

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item in their order; on a CPU worker threads compute several at once.

        Each worker computes its products alone. Threads that share a product wait for each other after every one of
        them, which is expensive when another process uses one of the cores.
        """
        num_threads = torch.get_num_threads()
        if self._device.type != "cpu" or num_threads == 1:
            yield from map(function, items)
            return
        with single_thread():
            pool = ThreadPoolExecutor(min(num_threads, MAX_WORKERS))
            try:
                yield from pool.map(function, items)
            finally:
                # All items are done or the caller has stopped: Ctrl-C ends the reading of a long text at once.
                self._is_cancelled = True
                pool.shutdown(cancel_futures=True)
                self._is_cancelled = False

    def _check_cancelled(self) -> None:
        if self._is_cancelled:
            raise CancelledError

    def _target_log_probs(self, outputs: list[torch.Tensor], targets: torch.Tensor) -> NDArray[np.float64]:
        """Return log p of the targets [T, B], with a part of the logits [T·B, V] in memory at a time."""
        T, B = targets.shape
        flat_outputs = [output.reshape(T * B, -1) for output in outputs]
        flat_targets = targets.reshape(-1)
        size = max(1, MAX_LOGITS // self.vocab_size)
        losses = []
        for start in range(0, T * B, size):
            logits = self.network.head([output[start : start + size] for output in flat_outputs])
            losses.append(F.cross_entropy(logits, flat_targets[start : start + size], reduction="none"))
        return -torch.cat(losses).view(T, B).double().cpu().numpy()

    def _to_tensor(self, ids: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).to(self._device)
