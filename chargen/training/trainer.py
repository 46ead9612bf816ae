"""Train a network step by step with truncated back-propagation through time (BPTT).

    window k      [═══]──state──▶[═══]──state──▶[═══]        the state is carried over, the gradient is cut

The trainer knows only token ids and a network; `loop.py` handles time, files and reports. All values that change from
step to step are in `Trainer.tensors()` and `Trainer.counters()`. After `Trainer.restore` with these values, the next
step is identical, bit for bit.

`DeviceLoader` puts the batches on the network's device. On a GPU it keeps the whole text in device memory and cuts the
windows there, so that a step copies only a few hundred bytes from the host and never waits for it. Windows are cut from
the (memory-mapped) token ids on the host if the device is a CPU, or if the text is too large or consists of documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chargen.config import TrainConfig
from chargen.data.batches import BatchSource, Position, TextBatches
from chargen.errors import DivergenceError, ModelError
from chargen.networks.cuda_runtime import copy_to_device
from chargen.networks.draws import Rows
from chargen.networks.network import Network
from chargen.storage.stored_weights import Tensors
from chargen.training.optimizers import learning_rate_factor
from chargen.training.ranks.group import ALONE, Command, Ranks
from chargen.training.update import RecordedUpdate, Update

SYNC_EVERY = 16  #: steps between checks of the loss on a GPU: reading a value makes Python wait for the device


class MeanLoss:
    """A running mean of losses, which are summed on their device so that no step waits for a value.

    The sum is float64, or float32 on MPS, which has no float64.
    """

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.total = torch.zeros((), dtype=dtype, device=device)
        self.steps = 0

    def add(self, loss: Tensor) -> None:
        """Add the loss of a step."""
        self.total += loss
        self.steps += 1

    def pop(self) -> float:
        """Return the mean loss in nats per token, NaN if there is none, and reset the sum."""
        mean = float(self.total) / self.steps if self.steps else math.nan
        self.total.zero_()
        self.steps = 0
        return mean


class Trainer:
    """Trains a network on the batches of a source.

    Args:
        network: The network; each step changes it in place.
        batches: The source of the batches.
        config: The training settings.
        recorded: Whether the updates run as a recording (`update.py`). The default is True on a GPU with CUDA.
        ranks: The processes that the batch rows are divided among. The leader announces what all do together.
    """

    def __init__(
        self,
        network: Network,
        batches: BatchSource,
        config: TrainConfig,
        recorded: bool | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.network = network
        self.batches = batches
        self.config = config
        self.step = 0  #: number of steps so far
        self.learning_rate = 0.0  #: learning rate of the last step
        self.gradient_norm = torch.zeros(())  #: norm of the last step's gradient, before clipping
        self.position = Position()  #: position of the next batch
        self._device = torch.device(config.device)
        self._update = Update(network, config, batches.batch_size, batches.seq_len, ranks)
        self._loader = DeviceLoader(batches, self._device, rows=self._update.rows)
        is_recorded = self._device.type == "cuda" if recorded is None else recorded
        self._recorded = RecordedUpdate(self._update, batches.batch_size, batches.seq_len) if is_recorded else None
        self.recent = MeanLoss(self._device)  #: mean loss since the last report
        self.since_validation = MeanLoss(
            self._device
        )  #: mean loss since the last validation; it is part of the training state

    @property
    def ids_seen(self) -> int:
        """The number of targets of all steps so far."""
        return self.position.epoch * self.batches.ids_per_epoch + self.batches.num_ids_before(self.position)

    @property
    def epoch(self) -> float:
        """The number of times that the text was read so far."""
        return self.ids_seen / self.batches.ids_per_epoch

    def train_step(self, progress: float) -> None:
        """Train on the next window, on all ranks.

        Args:
            progress: Completed share of the run, 0 to 1; it determines the learning rate.

        Raises:
            DivergenceError: If the loss or the gradient is not finite. On a CPU the weights are not changed.
        """
        self.ranks.announce(Command.STEP, progress)
        inputs, targets, reset_rows = self._loader.get_batch(self.position)
        factor = learning_rate_factor(progress, self.config.warmup, self.config.final_learning_rate)
        learning_rate = self.config.learning_rate * factor
        if self._recorded:
            loss, norm = self._recorded.run(inputs, targets, reset_rows, learning_rate)
            self._check_finite(loss, norm)
        else:
            own_loss = self._update.compute_gradients(inputs, targets, reset_rows)
            loss = self._update.add_up(own_loss, len(inputs))
            norm = self._update.clip()
            self._check_finite(loss, norm)
            self._update.apply(learning_rate, len(inputs))
        self.learning_rate = learning_rate
        self.gradient_norm = norm
        self.recent.add(loss)
        self.since_validation.add(loss)
        self.step += 1
        self.position = self.batches.next_position(self.position)

    def _check_finite(self, loss: Tensor, norm: Tensor) -> None:
        if self._device.type != "cpu" and self.step % SYNC_EVERY:
            return
        if not (math.isfinite(float(loss)) and math.isfinite(float(norm))):
            raise DivergenceError(
                f"the loss is {float(loss):g} and the gradient norm is {float(norm):g} at step {self.step + 1:,}",
                "Use a lower learning rate (--lr) or a lower gradient clipping norm (--clip).",
            )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the arrays of the training state: weights, moments, carried state, random state.

        All ranks send their batch rows of the carried state to the leader, so that another number of ranks can go on.
        """
        self.ranks.announce(Command.STATE)
        return self._update.tensors()

    def counters(self) -> dict[str, Any]:
        """Return the rest of the training state, as a JSON object: the position and the sum of the losses."""
        losses = [float(self.since_validation.total), self.since_validation.steps]
        return {"step": self.step, "epoch": self.position.epoch, "window": self.position.window, "losses": losses}

    def share_weights(self, weights: Tensors | None) -> None:
        """Give the network of every rank the leader's weights; a follower passes None."""
        self.ranks.announce(Command.WEIGHTS)
        self.network.import_weights(self.ranks.send_arrays(weights))

    def share_state(self, tensors: Tensors | None, counters: Mapping[str, Any] | None) -> None:
        """Restore the leader's training state on every rank; a follower passes None.

        Raises:
            ModelError: As `restore`.
        """
        self.ranks.announce(Command.RESTORE)
        self.restore(self.ranks.send_arrays(tensors), self.ranks.send(counters))

    def restore(self, tensors: Tensors, counters: Mapping[str, Any]) -> None:
        """Restore the training state that `tensors()` and `counters()` returned.

        Raises:
            ModelError: If a tensor is missing or has another shape, or if the state belongs to another text.
        """
        position = Position(int(counters["epoch"]), int(counters["window"]))
        if not self.batches.has_window(position):
            raise ModelError(f"the training state is at window {position.window:,}, which its text does not have")
        try:
            self._update.restore(tensors)
        except KeyError as error:
            raise ModelError(f"the training state has no {error}", "Train again from the start.") from error
        self.step = int(counters["step"])
        self.position = position
        self.since_validation.total.fill_(float(counters["losses"][0]))
        self.since_validation.steps = int(counters["losses"][1])


MAX_RESIDENT_IDS = 1 << 30  #: token ids kept in device memory: 4 GB as int32


class DeviceLoader:
    """Loads the batches of a source onto a device.

    Args:
        batches: The source of the batches.
        device: The target device.
        resident: Whether the text is kept in device memory. None: if the device is not the CPU and the text is not too
            large. The batches of documents are always cut on the host.
        rows: The batch rows to load; None for all.
    """

    def __init__(
        self, batches: BatchSource, device: torch.device, resident: bool | None = None, rows: Rows | None = None
    ) -> None:
        self._rows = rows.slice if rows else slice(None)
        self._batches = batches
        self._device = device
        if resident is None:
            resident = device.type != "cpu" and batches.num_ids <= MAX_RESIDENT_IDS
        self._text = batches if resident and isinstance(batches, TextBatches) else None
        self._ids = torch.from_numpy(self._text.ids_with_start()).to(device) if self._text else None
        self._steps = torch.arange(batches.seq_len + 1, device=device).unsqueeze(1)

    def get_batch(self, position: Position) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the batch at a position.

        Returns:
            (inputs of the own rows, [T, B]; targets of all rows, [T, B]; which of the own rows are reset, a bool mask
            [B], or None for none).
        """
        if self._text is None or self._ids is None:
            batch = self._batches.get_batch(position)
            reset = batch.reset[self._rows]
            reset_rows = copy_to_device(reset, self._device) if reset.any() else None
            inputs = np.ascontiguousarray(batch.inputs[:, self._rows])
            return copy_to_device(inputs, self._device), copy_to_device(batch.targets, self._device), reset_rows
        offsets, length = self._text.window_offsets(position)
        window = self._ids[copy_to_device(offsets, self._device) + self._steps[: length + 1]].long()  # [T + 1, B]
        mask = self._text.reset_mask(position)[self._rows]
        return window[:-1, self._rows], window[1:], copy_to_device(mask, self._device) if mask.any() else None
