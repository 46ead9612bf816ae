"""One step of training after another: truncated back-propagation through time.

    window k      [═══]──state──▶[═══]──state──▶[═══]        the state is carried, the gradient is cut between windows

The trainer knows ids and a network; time, files and screens are `run.py`'s. All that it changes from step to step is
in `tensors()` and `numbers()`, which put back make the next step the same, bit for bit.

Batches as tensors where the network is.

A GPU keeps the whole text, and cuts its windows out itself: a step copies a few hundred bytes from the host and waits
for nothing. Where the text is too large for that or made of documents, and on a CPU, windows are cut from the
(memory-mapped) ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from chargen.cells.network_state import NetworkState
from chargen.config import TrainConfig
from chargen.data.batches import BatchSource, Position, TextBatches
from chargen.errors import DivergenceError, ModelError
from chargen.networks.network import Network, detach, reset
from chargen.training.optimizers import AdamW, SparseAdagrad, learning_rate_factor

SYNC_EVERY = 16  #: steps between looks at the loss on a device that runs ahead of Python


class LossSum:
    """Losses added up on their device, in float64 where it has that, so that no step has to wait for one."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.total = torch.zeros((), dtype=dtype, device=device)
        self.steps = 0

    def add(self, loss: Tensor) -> None:
        self.total += loss
        self.steps += 1

    def take(self) -> float:
        """Return the mean in nats per id, NaN where there is none, and begin anew."""
        mean = float(self.total) / self.steps if self.steps else math.nan
        self.total.zero_()
        self.steps = 0
        return mean


class Trainer:
    """A network in training on a stream.

    Args:
        network: changed in place, step by step.
        stream: where the batches come from.
        config: rates and clipping.
    """

    def __init__(self, network: Network, stream: BatchSource, config: TrainConfig) -> None:
        self.network = network
        self.stream = stream
        self.config = config
        self.step = 0
        self.learning_rate = 0.0  #: of the last step
        self.position = Position()
        self._device = torch.device(config.device)
        self._feed = DeviceLoader(stream, self._device)
        self._state = network.initial_state(stream.batch_size)
        self._dropout = torch.Generator(self._device).manual_seed(config.seed + 1)
        self._optimizer = AdamW(network, config)
        self._rows = SparseAdagrad(network, stream.batch_size * stream.seq_len)
        self.recent = LossSum(self._device)  #: since the last report
        self.since_look = LossSum(self._device)  #: since the last look; its steps decide, so it is part of the state

    @property
    def ids_seen(self) -> int:
        """How many targets the steps so far have had."""
        return self.position.epoch * self.stream.ids_per_epoch + self.stream.ids_before(self.position)

    @property
    def epoch(self) -> float:
        """How many times the text was read so far."""
        return self.ids_seen / self.stream.ids_per_epoch

    def train_step(self, progress: float) -> None:
        """Learn from one window.

        Args:
            progress: how much of the run is done, 0 to 1; the learning rate follows it.

        Raises:
            DivergenceError: the loss or the gradient is not finite. On a CPU the weights are still those of before.
        """
        inputs, targets, fresh = self._feed.batch(self.position)
        if fresh is not None:
            self._state = reset(self._state, fresh)

        loss, state = self.network.loss(inputs, targets, self._state, self._dropout)
        self._optimizer.clear_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(self._optimizer.parameters(), self.config.clip_norm)
        self._check_finite(loss.detach(), norm)
        factor = learning_rate_factor(progress, self.config.warmup, self.config.final_learning_rate)
        self.learning_rate = self.config.learning_rate * factor
        self._optimizer.step(self.learning_rate)
        self._rows.step(self.learning_rate)

        self._state = detach(state)
        self.recent.add(loss.detach())
        self.since_look.add(loss.detach())
        self.step += 1
        self.position = self.stream.after(self.position)

    def _check_finite(self, loss: Tensor, norm: Tensor) -> None:
        if self._device.type != "cpu" and self.step % SYNC_EVERY:
            return  # looking would make the device wait for Python
        if not (math.isfinite(float(loss)) and math.isfinite(float(norm))):
            raise DivergenceError(
                f"the loss is {float(loss):g} and the gradient's norm {float(norm):g} at step {self.step + 1:,}",
                "Lower the rate (--lr) or clip harder (--clip).",
            )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of the training state: weights, moments, carried state, random state."""
        named = {f"weights.{name}": weight for name, weight in self.network.export_weights().items()}
        named.update(self._optimizer.tensors() | self._rows.tensors())
        for layer, parts in enumerate(self._state.layers):
            for part, value in enumerate(parts):
                named[f"state.{layer}.{part}"] = value.cpu().numpy().copy()
        if self._state.ngram_history is not None:  # a training state has it after the layers, under the next number
            named[f"state.{len(self._state.layers)}.0"] = self._state.ngram_history.cpu().numpy().copy()
        named["dropout"] = self._dropout.get_state().numpy().copy()
        return named

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the training state, as values that `json` can write."""
        losses = [float(self.since_look.total), self.since_look.steps]
        return {"step": self.step, "epoch": self.position.epoch, "window": self.position.window, "losses": losses}

    def restore(self, tensors: dict[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """Put back what `tensors()` and `numbers()` returned.

        Raises:
            ModelError: something is missing, of another shape, of another text or of another device.
        """
        position = Position(int(numbers["epoch"]), int(numbers["window"]))
        if not self.stream.has(position):
            raise ModelError(f"the training state is at window {position.window:,}, which its text does not have")
        try:
            weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
            self.network.import_weights(weights)
            self._optimizer.restore(tensors)
            self._rows.restore(tensors)
            history = self._state.ngram_history
            layers = tuple(
                tuple(self._carried(tensors[f"state.{layer}.{i}"], part) for i, part in enumerate(parts))
                for layer, parts in enumerate(self._state.layers)
            )
            if history is not None:
                history = self._carried(tensors[f"state.{len(layers)}.0"], history)
            self._state = NetworkState(layers, history)
            self._dropout.set_state(torch.from_numpy(tensors["dropout"].copy()))
        except KeyError as error:
            raise ModelError(f"the training state has no {error}", "Train anew.") from error
        except RuntimeError as error:  # torch refuses the generator's state
            raise ModelError(
                f"the random state of the training state does not fit a generator of the device {self._device}",
                "Resume on the device that it was trained on.",
            ) from error
        self.step, self.position = int(numbers["step"]), position
        self.since_look.total.fill_(float(numbers["losses"][0]))
        self.since_look.steps = int(numbers["losses"][1])

    def _carried(self, saved: np.ndarray, like: Tensor) -> Tensor:
        if saved.shape != like.shape:
            raise ModelError(
                f"the training state carries {len(saved):,} lanes, but its text and settings make {len(like):,}"
            )
        return torch.from_numpy(saved.copy()).to(self._device)


RESIDENT_IDS = 1 << 30  #: 4 GB as int32


class DeviceLoader:
    """The batches of a stream, on a device.

    Args:
        stream: where they come from.
        device: where they go.
        resident: keep the text there; by default, where that is not the CPU and there is room.
    """

    def __init__(self, stream: BatchSource, device: torch.device, resident: bool | None = None) -> None:
        self._stream, self._device = stream, device
        keep = device.type != "cpu" and stream.num_ids <= RESIDENT_IDS if resident is None else resident
        self._lanes = stream if keep and isinstance(stream, TextBatches) else None
        self._ids = torch.from_numpy(self._lanes.text()).to(device) if self._lanes else None
        self._steps = torch.arange(stream.seq_len + 1, device=device).unsqueeze(1)

    def batch(self, position: Position) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (inputs [T, B], targets [T, B], fresh [B], or None where no lane starts anew)."""
        if self._lanes is None or self._ids is None:
            batch = self._stream.batch(position)
            fresh = torch.from_numpy(batch.fresh).to(self._device) if batch.fresh.any() else None
            return self._to(batch.inputs), self._to(batch.targets), fresh
        begins, length = self._lanes.window(position)
        window = self._ids[self._to(begins) + self._steps[: length + 1]].long()  # [T + 1, B]
        starts_anew = self._lanes.fresh(position)
        return window[:-1], window[1:], self._to(starts_anew) if starts_anew.any() else None

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
