"""Steps and draws on a GPU as captured graphs: what Python asks for is one launch, and not one for every product.

    logits [B, V] ─▶ temper ─▶ softmax ─▶ cumulative ─▶ first id above u ─▶ step ─▶ logits …     AT_ONCE times a launch

A small network's kernels take two microseconds each, to launch one from Python takes five or more. So what a step does
is recorded once for a number of streams (a CUDA graph) and played back, reading and writing the same memory each time.
Where there are no graphs the same functions are called as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.cells.network_state import NetworkState
from chargen.engines.interface import Draws, Engine, StreamBatch
from chargen.engines.streams import PlainStreamBatch
from chargen.networks.layers import one_step
from chargen.networks.network import Network

AT_ONCE = 32  #: ids that are drawn by one launch: it costs 10 µs, and the look at what was drawn 20
WARM_UPS = 3  #: calls before a capture: libraries make ready what they need

Function = Callable[[], None]


def capture(function: Function, device: torch.device) -> Function:
    """Return what does the same to the same memory by one launch, where the device has graphs.

    Args:
        function: launches work on the device and waits for nothing; called a few times before it is recorded.
        device: that it works on.
    """
    if device.type != "cuda":
        return function
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            function()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class Recording:
    """The steps of B streams of a network, recorded, and the memory that they work in.

    Streams take turns in it: whose state it holds is `owner`.

    Args:
        network: its weights do not change any more.
        batch_size: B.
    """

    @torch.no_grad()
    def __init__(self, network: Network, batch_size: int) -> None:
        V, self.device = network.config.vocab_size, network.weight("head.bias").device
        self.owner: Places | None = None
        self.state = network.initial_state(batch_size).map(Tensor.clone)
        self.logits = torch.zeros(batch_size, V, device=self.device)
        self.ids = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        self.uniforms = torch.zeros(AT_ONCE, batch_size, dtype=torch.float64, device=self.device)
        self.drawn = torch.zeros(AT_ONCE, batch_size, dtype=torch.int64, device=self.device)
        self.added = torch.zeros(V, device=self.device)
        self.inverse = torch.ones(1, device=self.device)
        self._network, self._path = network, one_step(network.config.cell)
        self.read = capture(self._read, self.device)
        self.draw_one = capture(lambda: self._draw(1), self.device)
        self.draw_many = capture(lambda: self._draw(AT_ONCE), self.device)

    @torch.no_grad()
    def _read(self) -> None:
        """Read `ids`."""
        self._keep(*self._step(self.ids, self.state))

    @torch.no_grad()
    def _draw(self, count: int) -> None:
        """Draw so many ids with probability softmax((logits + added) · inverse), by `uniforms`, and read each."""
        logits, state = self.logits, self.state
        for k in range(count):
            probabilities = torch.addcmul(self.added, logits, self.inverse).softmax(-1)
            cumulative = probabilities.cumsum(-1, dtype=torch.float64)
            wanted = cumulative[:, -1:] * self.uniforms[k, :, None]
            ids = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
            self.drawn[k].copy_(ids)
            logits, state = self._step(ids, state)
        self._keep(logits, state)

    def _step(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        logits, state = self._network(ids[None], state, path=self._path)
        return logits[0], state

    def _keep(self, logits: Tensor, state: NetworkState) -> None:
        self.logits.copy_(logits)
        self.enter(state)

    def enter(self, state: NetworkState) -> None:
        """Take a state over."""
        self.state.map(Tensor.copy_, state)


class Places:
    """Streams in a recording; when another takes their place they keep what they need to come back.

    Args:
        recording: of as many streams.
        state: to go on from, each part [B, H].
    """

    def __init__(self, recording: Recording, state: NetworkState) -> None:
        self._recording, self._state = recording, state
        self._logits = torch.zeros_like(recording.logits)

    def state(self) -> NetworkState:
        """Return the state as a value."""
        if self._recording.owner is self:
            self.leave()
        return self._state

    def leave(self) -> None:
        """Keep what the recording holds of these streams."""
        recording, recording.owner = self._recording, None
        self._state = recording.state.map(Tensor.clone)
        self._logits = recording.logits.clone()

    def read(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read an id each, [B], and return the logits of the next, [B, V]."""
        recording = self._entered()
        recording.ids.copy_(torch.from_numpy(ids.astype(np.int64)))
        recording.read()
        return recording.logits.cpu().numpy()

    def draws(self, uniforms: NDArray[np.float64], added: NDArray[np.float64], inverse: float) -> Iterator[Any]:
        """Yield ids [B] drawn by random numbers [T, B], each read before the next is drawn."""
        begin, scaled = 0, torch.from_numpy(added * inverse)
        while begin < len(uniforms):
            recording = self._entered()  # another stream may have been there since
            recording.added.copy_(scaled)
            recording.inverse.fill_(inverse)
            whole = len(uniforms) - begin >= AT_ONCE
            count, draw = (AT_ONCE, recording.draw_many) if whole else (1, recording.draw_one)
            recording.uniforms[:count].copy_(torch.from_numpy(uniforms[begin : begin + count]))
            draw()
            yield from recording.drawn[:count].cpu().numpy().copy()
            begin += count

    def _entered(self) -> Recording:
        recording = self._recording
        if recording.owner is not self:
            if recording.owner is not None:
                recording.owner.leave()
            recording.enter(self._state)
            recording.logits.copy_(self._logits)
            recording.owner = self
        return recording


class RecordedStream:
    """A stream in a recording of one."""

    def __init__(self, recording: Recording, state: NetworkState) -> None:
        self._places = Places(recording, state)
        self.state = self._places.state

    def step(self, token_id: int) -> NDArray[np.float32]:
        first: NDArray[np.float32] = self._places.read(np.array([token_id]))[0]
        return first

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws:
        def draw(uniforms: Sequence[float]) -> Iterator[int]:
            for drawn in self._places.draws(np.array(uniforms)[:, None], added, inverse):
                yield int(drawn[0])

        return draw


class RecordedStreamBatch:
    """Streams that are stepped together in a recording; those that are left when some have ended, by their engine."""

    def __init__(self, engine: Engine, recording: Recording, state: NetworkState) -> None:
        self._engine, self._recording = engine, recording
        self._places = Places(recording, state)

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        return self._places.read(ids)

    def draws(self, added: NDArray[np.float64], inverse: float) -> Draws:
        return lambda uniforms: self._places.draws(uniforms, added, inverse)

    def select(self, rows: NDArray[np.intp]) -> StreamBatch:
        return PlainStreamBatch(self._engine, self._engine.select(self._places.state(), rows))

    def reset(self, rows: NDArray[np.intp]) -> None:
        self._places = Places(self._recording, self._engine.reset(self._places.state(), rows))
