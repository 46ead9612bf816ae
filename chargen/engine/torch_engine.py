"""A model in torch: many streams as one batch of matrix products, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.engine.engine import Stream
from chargen.engine.stream import PlainStream
from chargen.nets.network import Network, NetworkState, restart

MOST_LOGITS = 1 << 23  #: in one piece of a window: 32 MB of float32


class TorchEngine:
    """An `Engine` over a network, in whatever precision and on whatever device its weights are."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.vocab_size = network.config.vocab_size
        self._device = network.weight("head.bias").device

    @classmethod
    def from_weights(cls, config: ModelConfig, weights: Mapping[str, NDArray[Any]], device: str = "cpu") -> TorchEngine:
        """Make the network of a checkpoint's config and weights."""
        network = Network(config)
        network.import_weights(weights)
        return cls(network.to(device))

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

    @torch.no_grad()
    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[NDArray[np.float32], NetworkState]:
        logits, state = self.network(self._ids(ids).unsqueeze(0), state)
        return logits[0].float().cpu().numpy(), state

    @torch.no_grad()
    def read(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState
    ) -> tuple[NDArray[np.float64], NetworkState]:
        T, B = inputs.shape
        log_probs = np.empty((T, B))
        span = max(1, MOST_LOGITS // (B * self.vocab_size))
        for begin in range(0, T, span):
            window = slice(begin, begin + span)
            logits, state = self.network(self._ids(inputs[window]), state)
            wanted = self._ids(targets[window])
            losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            log_probs[window] = -losses.view(wanted.shape).double().cpu().numpy()
        return log_probs, state

    def _ids(self, ids: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).to(self._device)
