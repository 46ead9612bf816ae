"""An update of the weights with one window, as operations on tensors only.

    window, carried state ─▶ loss ─▶ gradients ─▶ clipping ─▶ optimizers ─▶ weights, moments, state

No value is read by Python, and everything that the next update needs is changed in place. So a GPU can repeat the
kernels of an update as a recording (`networks/cuda_runtime.py`): two thirds of the time of a small network's update
were launches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from chargen.config import TrainConfig
from chargen.errors import ModelError
from chargen.networks.cuda_runtime import NUM_WARM_UP_CALLS, Function, product_precision, record
from chargen.networks.network import Network, reset
from chargen.schema import format_count
from chargen.training.optimizers import AdamW, SparseAdagrad

DROPOUT = "dropout"  #: name of the random state in a training state
MAX_RECORDINGS = 2  #: the windows of a text have at most two lengths; each recording holds the memory of a step


class Update:
    """Updates the weights of a network, the moments of the optimizers, and the carried state.

    Args:
        network: The network; each update changes it in place.
        config: The training settings.
        batch_size: Rows of a window.
        seq_len: Steps of a window.
    """

    def __init__(self, network: Network, config: TrainConfig, batch_size: int, seq_len: int) -> None:
        self.device = torch.device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(config.seed + 1)  #: draws the dropout masks
        self._network = network
        self._config = config
        self._state = network.initial_state(batch_size).map(Tensor.clone)
        self._state_after = self._state
        self._optimizer = AdamW(network, config)
        self._ngram_optimizer = SparseAdagrad(network, batch_size * seq_len)

    def compute_gradients(self, inputs: Tensor, targets: Tensor, reset_rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the gradients of the loss of a window, and clip them.

        Args:
            inputs: Token ids, [T, B].
            targets: The token id that follows each of them, [T, B]; negative targets are ignored.
            reset_rows: The rows whose state is reset before the window, bool [B]; None for none.

        Returns:
            (loss in nats per token, norm of the gradients before clipping), both scalars on the device.
        """
        state = self._state if reset_rows is None else reset(self._state, reset_rows)
        with product_precision(self.device, tf32=True):
            loss, self._state_after = self._network.loss(inputs, targets, state, self.generator)
            self._optimizer.clear_gradients()
            loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(self._optimizer.parameters(), self._config.clip_norm)
        return loss.detach(), norm

    @torch.no_grad()
    def apply(self, learning_rate: float | Tensor) -> None:
        """Change the weights by the gradients, and carry the state over to the next window."""
        self._optimizer.step(learning_rate)
        self._ngram_optimizer.step(learning_rate)
        self._state.map(Tensor.copy_, self._state_after)  # it cuts the gradient: BPTT is truncated
        self._state_after = self._state

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the arrays of the training state: weights, moments, carried state, random state."""
        named = {f"weights.{name}": weight for name, weight in self._network.export_weights().items()}
        named.update(self._optimizer.tensors() | self._ngram_optimizer.tensors())
        named.update({name: part.cpu().numpy().copy() for name, part in self._named_state().items()})
        named[DROPOUT] = self.generator.get_state().numpy().copy()
        return named

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore the arrays that `tensors()` returned.

        Raises:
            KeyError: If an array is missing.
            ModelError: If an array has another shape, or if the random state belongs to another device.
        """
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self._network.import_weights(weights)
        self._optimizer.restore(tensors)
        self._ngram_optimizer.restore(tensors)
        for name, part in self._named_state().items():
            saved = tensors[name]
            if saved.shape != part.shape:
                raise ModelError(
                    f"the training state has {format_count(len(saved), 'batch row')}, but its text and settings "
                    f"need {len(part):,}"
                )
            part.copy_(torch.from_numpy(saved.copy()))
        try:
            self.generator.set_state(torch.from_numpy(tensors[DROPOUT].copy()))
        except RuntimeError as error:
            raise ModelError(
                f"the random state of the training state does not fit a generator of the device {self.device}",
                "Resume on the device that it was trained on.",
            ) from error

    def _named_state(self) -> dict[str, Tensor]:
        """Return the arrays of the carried state by their names in a training state."""
        layers, history = self._state.layers, self._state.ngram_history
        named = {f"state.{i}.{part}": value for i, parts in enumerate(layers) for part, value in enumerate(parts)}
        if history is not None:  # a training state has it after the layers, under the next number
            named[f"state.{len(layers)}.0"] = history
        return named


class RecordedUpdate:
    """Makes updates as recordings, one for each length of a window; the first updates of a length are made directly.

    Args:
        update: The update.
        batch_size: Rows of a window.
        seq_len: Steps of the longest window.
    """

    def __init__(self, update: Update, batch_size: int, seq_len: int) -> None:
        self._update = update
        device = update.device
        self._inputs = torch.zeros(seq_len, batch_size, dtype=torch.int64, device=device)
        self._targets = torch.zeros_like(self._inputs)
        self._reset_rows = torch.zeros(batch_size, dtype=torch.bool, device=device)
        self._learning_rate = torch.zeros((), device=device)
        self._loss = torch.zeros((), device=device)
        self._norm = torch.zeros((), device=device)
        self._num_direct: Counter[int] = Counter()  # updates that were made directly, by the length of the window
        self._replays: dict[int, Function] = {}  # by the length of the window

    def run(
        self, inputs: Tensor, targets: Tensor, reset_rows: Tensor | None, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Make an update. Arguments and results are those of `Update`; the next call overwrites the results."""
        T = len(inputs)
        self._inputs[:T].copy_(inputs)
        self._targets[:T].copy_(targets)
        if reset_rows is None:
            self._reset_rows.zero_()
        else:
            self._reset_rows.copy_(reset_rows)
        self._learning_rate.fill_(learning_rate)
        if T in self._replays:
            self._replays[T]()
        elif self._num_direct[T] < NUM_WARM_UP_CALLS or len(self._replays) == MAX_RECORDINGS:
            self._num_direct[T] += 1
            self._update_weights(T)
        else:
            function = partial(self._update_weights, T)
            self._replays[T] = record(function, self._update.device, [self._update.generator])
            self._replays[T]()
        return self._loss, self._norm

    def _update_weights(self, T: int) -> None:
        loss, norm = self._update.compute_gradients(self._inputs[:T], self._targets[:T], self._reset_rows)
        self._update.apply(self._learning_rate)
        with torch.no_grad():
            self._loss.copy_(loss)
            self._norm.copy_(norm)
