"""Steps and draws on a GPU as CUDA graphs: Python makes a single launch instead of a launch for each kernel.

    logits [B, V] ─▶ apply_temperature ─▶ softmax ─▶ cumulative sum ─▶ first token id above u ─▶ step ─▶ logits …
    └──────────────────────────── TOKENS_PER_LAUNCH times in one launch ──────────────────────────────────┘

The kernels of a small network take 2 µs each, and to launch one from Python takes 5 µs or more. So the kernels of a
step are recorded once for a batch size and then replayed; each replay reads and writes the same memory. On a device
without graphs the same functions are called directly.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.cells.cell import NetworkState
from chargen.engines.interface import Draws, Engine, StreamBatch
from chargen.engines.streams import PlainStreamBatch
from chargen.engines.uniform_rows import Blocks, UniformRows, jump_table
from chargen.networks.cuda_runtime import (
    Function,
    copy_to_device,
    product_precision,
    record,
    start_copy_to_host,
    warm_up,
)
from chargen.networks.layers import single_step_backend
from chargen.networks.network import Network

TOKENS_PER_LAUNCH = 32  # a launch costs 10 µs, and the copy of the drawn token ids to the host 20 µs


class Recording:
    """The recorded steps and draws of a network for one batch size, and the memory that they read and write.

    Streams use the memory in turns. `owner` is the state of the streams that use it now,
    or None if no one needs that state.

    Args:
        network: The network. Its weights must not change after the recording.
        batch_size: The batch size B.
    """

    @torch.no_grad()
    def __init__(self, network: Network, batch_size: int) -> None:
        self.device = network.weight("head.bias").device
        self._owner: weakref.ref[RecordedState] | None = None  # a reference cycle would keep GPU memory
        V = network.config.vocab_size
        self.state = network.initial_state(batch_size).map(Tensor.clone)
        self.logits = torch.zeros(batch_size, V, device=self.device)
        self.ids = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        self.uniforms = torch.zeros(TOKENS_PER_LAUNCH, batch_size, dtype=torch.float64, device=self.device)
        self.drawn = torch.zeros(TOKENS_PER_LAUNCH, batch_size, dtype=torch.int64, device=self.device)
        self.added = torch.zeros(V, device=self.device)
        self.inverse_temperature = torch.ones(1, device=self.device)
        self._network = network
        self._backends = [single_step_backend(name) for name in network.config.cell_names]
        with product_precision(self.device, tf32=False):
            self.read = self._record(self._read)
            self.draw_one = self._record(lambda: self._draw(1))
            self.draw_many = self._record(lambda: self._draw(TOKENS_PER_LAUNCH))

    @property
    def owner(self) -> RecordedState | None:
        """The state of the streams that use the memory now."""
        return None if self._owner is None else self._owner()

    @owner.setter
    def owner(self, state: RecordedState | None) -> None:
        self._owner = None if state is None else weakref.ref(state)

    def _record(self, function: Function) -> Function:
        warm_up(function, self.device)
        return record(function, self.device)

    @torch.no_grad()
    def _read(self) -> None:
        """Read the token ids in `ids`, and store the state and the logits after them."""
        self._store(*self._step(self.ids, self.state))

    @torch.no_grad()
    def _draw(self, count: int) -> None:
        """Draw `count` tokens per stream with probability softmax((logits + added) · inverse_temperature); read each.

        `added` is multiplied with the inverse temperature before the launch.
        """
        logits, state = self.logits, self.state
        for k in range(count):
            probabilities = torch.addcmul(self.added, logits, self.inverse_temperature).softmax(-1)
            cumulative = probabilities.cumsum(-1, dtype=torch.float64)
            thresholds = cumulative[:, -1:] * self.uniforms[k, :, None]
            ids = torch.searchsorted(cumulative, thresholds, right=True)[:, 0]
            self.drawn[k].copy_(ids)
            logits, state = self._step(ids, state)
        self._store(logits, state)

    def draw(self, uniforms: Tensor) -> Tensor:
        """Launch draws with random numbers on the device, [T, B]: → token ids of the same shape, int32."""
        T = len(uniforms)
        drawn = torch.empty(uniforms.shape, dtype=torch.int32, device=self.device)
        start = 0
        while start < T:
            count, draw = (TOKENS_PER_LAUNCH, self.draw_many) if T - start >= TOKENS_PER_LAUNCH else (1, self.draw_one)
            window = slice(start, start + count)
            self.uniforms[:count].copy_(uniforms[window])
            draw()
            drawn[window].copy_(self.drawn[:count])
            start += count
        return drawn

    def _step(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        logits, state = self._network(ids[None], state, backend=self._backends)
        return logits[0], state

    def _store(self, logits: Tensor, state: NetworkState) -> None:
        self.logits.copy_(logits)
        self.load_state(state)

    def load_state(self, state: NetworkState) -> None:
        """Copy a state to the recording's memory."""
        self.state.map(Tensor.copy_, state)


class RecordedState:
    """The state of streams that use a recording; it is saved when other streams take the recording's memory.

    Args:
        recording: The recording that the streams use; it has the same batch size as `state`.
        state: The state from which the streams continue, each part [B, H].
    """

    def __init__(self, recording: Recording, state: NetworkState) -> None:
        self._recording, self._state = recording, state
        self._logits = torch.zeros_like(recording.logits)

    def state(self) -> NetworkState:
        """Return the state as a value."""
        if self._recording.owner is self:
            self.save()
        return self._state

    def save(self) -> None:
        """Copy the state and the logits of these streams out of the recording's memory, and release the memory."""
        recording = self._recording
        recording.owner = None
        self._state = recording.state.map(Tensor.clone)
        self._logits = recording.logits.clone()

    def read(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read one token id per stream, [B], and return the logits of the next token, [B, V]."""
        recording = self._take_recording()
        recording.ids.copy_(torch.from_numpy(ids.astype(np.int64)))
        recording.read()
        return recording.logits.cpu().numpy()

    def draw_in_turns(
        self, uniforms: NDArray[np.float64], added: NDArray[np.float64], inverse_temperature: float
    ) -> Iterator[Any]:
        """Yield token ids, [B], drawn with random numbers, [T, B]; each is read before the next is drawn.

        Other streams can use the recording's memory between two launches.
        """
        for start in range(0, len(uniforms), TOKENS_PER_LAUNCH):
            yield from self.start_draws(uniforms[start : start + TOKENS_PER_LAUNCH], added, inverse_temperature)

    def start_draws(
        self, uniforms: NDArray[np.float64] | Tensor, added: NDArray[np.float64], inverse_temperature: float
    ) -> Iterator[Any]:
        """Launch the same draws at once, and return an iterator that waits for all of them.

        The random numbers may be on the device.
        More draws can be launched before the iterator is used, so that the GPU is never idle.
        """
        recording = self._take_recording()
        recording.added.copy_(copy_to_device(added * inverse_temperature, recording.device))
        recording.inverse_temperature.fill_(inverse_temperature)
        if isinstance(uniforms, np.ndarray):
            uniforms = copy_to_device(uniforms, recording.device)
        drawn = start_copy_to_host(recording.draw(uniforms))
        return (ids for wait in (drawn,) for ids in wait())

    def _take_recording(self) -> Recording:
        recording = self._recording
        if recording.owner is not self:
            if (owner := recording.owner) is not None:
                owner.save()
            recording.load_state(self._state)
            recording.logits.copy_(self._logits)
            recording.owner = self
        return recording


class RecordedStream:
    """A stream in a recording for batch size 1."""

    def __init__(self, recording: Recording, state: NetworkState) -> None:
        self._recorded = RecordedState(recording, state)
        self.state = self._recorded.state

    def step(self, token_id: int) -> NDArray[np.float32]:
        """Read a token id and return the logits of the next token, [V]."""
        first: NDArray[np.float32] = self._recorded.read(np.array([token_id]))[0]
        return first

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws:
        """Return the function of `Stream.draws`."""

        def draw(uniforms: Sequence[float]) -> Iterator[int]:
            for drawn in self._recorded.draw_in_turns(np.array(uniforms)[:, None], added, inverse_temperature):
                yield int(drawn[0])

        return draw


class DeviceUniforms:
    """Computes the random numbers of texts on a device: those of `UniformRows.blocks`.

    Args:
        rows: The random numbers of B texts.
        device: The device.
    """

    def __init__(self, rows: UniformRows, device: torch.device) -> None:
        self._device = device
        self._states = rows.states().map(self._copy)

    def __call__(self, count: int) -> Tensor:
        """Return the next random numbers, float64 [count, B]."""
        table = jump_table(count).map(self._copy)
        numbers: Tensor = self._states.block(table)
        self._states = self._states.after(table)
        return numbers.double() * 2.0**-53

    def _copy(self, array: NDArray[np.int64]) -> Tensor:
        return copy_to_device(array, self._device)


class RecordedStreamBatch:
    """Streams that are stepped together in a recording. `select` returns a batch that its engine steps instead."""

    def __init__(self, engine: Engine, recording: Recording, state: NetworkState) -> None:
        self._engine, self._recording = engine, recording
        self._recorded = RecordedState(recording, state)

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read one token id per stream, [B], and return the logits of the next token, [B, V]."""
        return self._recorded.read(ids)

    def draws(self, added: NDArray[np.float64], inverse_temperature: float) -> Draws:
        """Return the function of `StreamBatch.draws`."""
        return lambda uniforms: self._recorded.start_draws(uniforms, added, inverse_temperature)

    def uniform_blocks(self, rows: UniformRows) -> Blocks:
        """Return a function that computes the next random numbers of each stream on the device."""
        return DeviceUniforms(rows, self._recording.device)

    def select(self, rows: NDArray[np.intp]) -> StreamBatch:
        """Return a batch of these streams only."""
        return PlainStreamBatch(self._engine, self._engine.select(self._recorded.state(), rows))

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Reset these streams to the initial state."""
        self._recorded = RecordedState(self._recording, self._engine.reset(self._recorded.state(), rows))
