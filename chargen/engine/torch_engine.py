"""A model in torch: many streams as batches of matrix products, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.engine.engine import Item, Result, Stream
from chargen.engine.lanes import Lanes
from chargen.engine.stream import PlainStream
from chargen.nets.forward import STEPS, Forward
from chargen.nets.network import Network, NetworkState, restart

MOST_LOGITS = 1 << 21  #: in one piece of a window: 8 MB of float32, which stay in the cache
MOST_HIDDEN = 1 << 23  #: outputs of the layers in one piece of a window: 32 MB of float32
MOST_WORKERS = 16


class TorchEngine:
    """An `Engine` over a network, in whatever precision and on whatever device its weights are.

    Args:
        network: its weights may change between two calls, as they do in training.
        frozen: they will not: the engine may keep copies of them in a faster form.
    """

    def __init__(self, network: Network, frozen: bool = False) -> None:
        self.network = network
        self.vocab_size = network.config.vocab_size
        bias = network.weight("head.bias")
        self._device = bias.device
        fast = frozen and bias.device.type == "cpu" and bias.dtype == torch.float32 and network.config.cell in STEPS
        with torch.no_grad():
            self._layers = Forward(network).read if fast else network.read

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

    def restart(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        fresh = torch.zeros(len(state[0][0]), dtype=torch.bool, device=self._device)
        fresh[torch.from_numpy(rows).to(self._device)] = True
        return restart(state, fresh)

    def stream(self, state: NetworkState) -> Stream:
        return PlainStream(self, state)

    def lanes(self, state: NetworkState, num_ids: int = 0) -> Lanes:
        return Lanes(self, state)

    @torch.no_grad()
    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[NDArray[np.float32], NetworkState]:
        tops, state = self._layers(self._ids(ids).unsqueeze(0), state)
        return self.network.head(tops)[0].float().cpu().numpy(), state

    @torch.no_grad()
    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        T, B = inputs.shape
        log_probs = np.empty((T, B))
        config = self.network.config
        span = max(1, MOST_HIDDEN // (B * config.hidden_size * config.members))
        for begin in range(0, T, span):
            window = slice(begin, begin + span)
            tops, state = self._layers(self._ids(inputs[window]), state)
            log_probs[window] = self._chosen(tops, self._ids(targets[window]))
        return log_probs, state

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
        try:
            with ThreadPoolExecutor(min(threads, MOST_WORKERS)) as pool:
                yield from pool.map(function, items)
        finally:
            torch.set_num_threads(threads)

    def _chosen(self, tops: list[torch.Tensor], targets: torch.Tensor) -> NDArray[np.float64]:
        """Return log p of the targets [T, B], a piece of the [T·B, V] logits at a time."""
        T, B = targets.shape
        rows, wanted = [top.reshape(T * B, -1) for top in tops], targets.reshape(-1)
        most = max(1, MOST_LOGITS // self.vocab_size)
        losses = [
            F.cross_entropy(self.network.head([r[i : i + most] for r in rows]), wanted[i : i + most], reduction="none")
            for i in range(0, T * B, most)
        ]
        return -torch.cat(losses).view(T, B).double().cpu().numpy()

    def _ids(self, ids: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).to(self._device)
