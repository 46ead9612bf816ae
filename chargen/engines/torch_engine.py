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

from chargen.config import ModelConfig
from chargen.engines.cuda_graphs import RecordedStream, RecordedStreamBatch, Recording
from chargen.engines.interface import Item, Result, Stream, StreamBatch
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import MAX_STREAMS, PlainStream, PlainStreamBatch, read_stream
from chargen.networks.fused_steps import STEPS, Forward
from chargen.networks.network import Network, NetworkState, reset

MAX_LOGITS = 1 << 21  #: in one piece of a window: 8 MB of float32, which stay in the cache
MAX_HIDDEN = 1 << 23  #: outputs of the layers in one piece of a window: 32 MB of float32
MAX_WORKERS = 16
MAX_LANES_OF_GPU, MAX_RECORDINGS = 4096, 2
FEW_LANES, LONG = 4, 1024  #: from so many steps on so few lanes are read faster one after another, as NumPy's streams


class TorchEngine:
    """An `Engine` over a network, in whatever precision and on whatever device its weights are.

    Args:
        network: its weights may change between two calls, as they do in training.
        frozen: they will not: the engine may keep copies of them in a faster form.
        recorded: streams are steps that were recorded (`capture.py`); if left out, those of frozen weights on a GPU.
    """

    def __init__(self, network: Network, frozen: bool = False, recorded: bool | None = None) -> None:
        self.network = network
        self.vocab_size = network.config.vocab_size
        bias = network.weight("head.bias")
        self._device = bias.device
        self._left = False  #: whether what `map` works on is no longer wanted
        on_gpu = bias.device.type == "cuda"
        self._recorded = frozen and on_gpu if recorded is None else recorded
        self._recordings: dict[int, Recording] = {}
        self.max_streams = MAX_LANES_OF_GPU if on_gpu else MAX_STREAMS
        self._fast = frozen and bias.device.type == "cpu" and bias.dtype == torch.float32
        with torch.no_grad():
            self._layers = Forward(network).read if self._fast and network.config.cell in STEPS else network.read

    @classmethod
    def from_weights(cls, config: ModelConfig, weights: Mapping[str, NDArray[Any]], device: str = "cpu") -> TorchEngine:
        """Make the network of a checkpoint's config and weights."""
        network = Network(config)
        network.import_weights(weights)
        return cls(network.to(device), frozen=True)

    def initial_state(self, batch_size: int) -> NetworkState:
        return self.network.initial_state(batch_size)

    def select(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        return tuple(tuple(part[torch.from_numpy(rows).to(part.device)] for part in layer) for layer in state)

    def reset(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        fresh = torch.zeros(len(state[0][0]), dtype=torch.bool, device=self._device)
        fresh[torch.from_numpy(rows).to(self._device)] = True
        return reset(state, fresh)

    def stream(self, state: NetworkState) -> Stream:
        return RecordedStream(self._recording(1), state) if self._recorded else PlainStream(self, state)

    def stream_batch(self, state: NetworkState, num_ids: int = 0) -> StreamBatch:
        if self._recorded:
            return RecordedStreamBatch(self, self._recording(len(state[0][0])), state)
        return PlainStreamBatch(self, state)

    def _recording(self, batch_size: int) -> Recording:
        """Return the recording of so many streams: the one there is, or a new one in the oldest's place."""
        if batch_size not in self._recordings:
            while len(self._recordings) >= MAX_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
            self._recordings[batch_size] = Recording(self.network, batch_size)
        return self._recordings[batch_size]

    @torch.no_grad()
    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[NDArray[np.float32], NetworkState]:
        tops, state = self._layers(self._ids(ids).unsqueeze(0), state)
        return self.network.head(tops)[0].float().cpu().numpy(), state

    @torch.no_grad()
    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        T, B = inputs.shape
        self._check()
        if self._fast and B <= FEW_LANES and T >= LONG:
            return self._read_streams(inputs, targets, state)
        log_probs = np.empty((T, B))
        config = self.network.config
        span = max(1, MAX_HIDDEN // (B * config.hidden_size * config.ensemble_size))
        for begin in range(0, T, span):
            window = slice(begin, begin + span)
            tops, state = self._layers(self._ids(inputs[window]), state)
            log_probs[window] = self._chosen(tops, self._ids(targets[window]))
        return log_probs, state

    def _read_streams(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        """Read lane after lane, each as one stream of the same equations in NumPy."""
        (T, B), after = inputs.shape, []
        log_probs = np.empty((T, B))
        for lane in range(B):
            stream = self._streams.stream(tuple(tuple(part[lane, None].numpy() for part in layer) for layer in state))
            for begin in range(0, T, LONG):
                self._check()
                window = slice(begin, begin + LONG)
                log_probs[window, lane] = read_stream(stream, inputs[window, lane], targets[window, lane])
            after.append(stream.state())
        layers = zip(*after, strict=True)
        parts = (zip(*of_lanes, strict=True) for of_lanes in layers)
        return log_probs, tuple(tuple(torch.from_numpy(np.concatenate(part)) for part in layer) for layer in parts)

    @cached_property
    def _streams(self) -> NumpyEngine:
        return NumpyEngine(self.network.config, self.network.export_weights())

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item, in their order; on a CPU several are worked on at once.

        Each thread has its lanes and makes its products alone. Threads that share a product wait for each other after
        every one of them, which costs much where another process takes part of a core.
        """
        threads = torch.get_num_threads()
        if self._device.type != "cpu" or threads == 1:
            yield from map(function, items)
            return
        torch.set_num_threads(1)
        pool = ThreadPoolExecutor(min(threads, MAX_WORKERS))
        try:
            yield from pool.map(function, items)
        finally:
            self._left = True  # all is done, or nobody waits for the rest: Ctrl-C ends a long text at once
            pool.shutdown(cancel_futures=True)
            self._left = False
            torch.set_num_threads(threads)

    def _check(self) -> None:
        if self._left:
            raise CancelledError

    def _chosen(self, tops: list[torch.Tensor], targets: torch.Tensor) -> NDArray[np.float64]:
        """Return log p of the targets [T, B], a piece of the [T·B, V] logits at a time."""
        T, B = targets.shape
        rows, wanted = [top.reshape(T * B, -1) for top in tops], targets.reshape(-1)
        most = max(1, MAX_LOGITS // self.vocab_size)
        losses = [
            F.cross_entropy(self.network.head([r[i : i + most] for r in rows]), wanted[i : i + most], reduction="none")
            for i in range(0, T * B, most)
        ]
        return -torch.cat(losses).view(T, B).double().cpu().numpy()

    def _ids(self, ids: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).to(self._device)
