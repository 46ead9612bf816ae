"""An update of the weights with one window, as operations on tensors only.

    window, carried state ─▶ loss ─▶ gradients ─▶ clipping ─▶ optimizers ─▶ weights, moments, state
                                         │
                                         └─ on several ranks: added up (`ranks/gradients.py`)

Each rank computes its own batch rows. No value is read by Python, and everything that the next update needs is changed
in place. So a GPU can repeat the kernels of an update as a recording (`networks/cuda_runtime.py`): two thirds of the
time of a small network's update were launches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from chargen.config import BF16, FLOAT32, TrainConfig
from chargen.errors import ModelError
from chargen.networks.cuda_runtime import NUM_WARM_UP_CALLS, Function, bf16_products, product_precision, record
from chargen.networks.draws import Draws
from chargen.networks.network import Network, TableReads, reset
from chargen.networks.precision import has_bf16_passes
from chargen.schema import format_count
from chargen.training.optimizers import AdamW, SparseAdagrad
from chargen.training.ranks.gradients import GradientSum
from chargen.training.ranks.group import ALONE, Ranks
from chargen.training.state import DROPOUT

MAX_RECORDINGS = 2  #: the windows of a text have at most two lengths; each recording holds the memory of a step


class Update:
    """Updates the weights of a network, the moments of the optimizers, and the carried state.

    Args:
        network: The network; each update changes it in place.
        config: The training settings.
        batch_size: Rows of a window.
        seq_len: Steps of a window.
        ranks: The processes that the rows are divided among.
    """

    def __init__(
        self, network: Network, config: TrainConfig, batch_size: int, seq_len: int, ranks: Ranks = ALONE
    ) -> None:
        self.device = torch.device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(config.seed + 1)  #: draws the dropout masks
        self.rows = ranks.rows(batch_size)  #: the rows that this process computes
        self._ranks = ranks
        self._network = network
        self._config = config
        has_passes = has_bf16_passes(network.config.cell_names, config.device)
        self._product_dtype = torch.bfloat16 if config.precision == BF16 and has_passes else torch.float32
        self._use_casts = config.precision == BF16 and not has_passes
        self._state = network.initial_state(self.rows.count).map(Tensor.clone)
        self._state_after = self._state
        self._optimizer = AdamW(network, config)
        self._ngram_optimizer = SparseAdagrad(network, batch_size * seq_len)
        self._reads: TableReads | None = None  # of the last window
        self._sum = GradientSum(ranks, self.rows, self._optimizer.parameters(), seq_len) if ranks.is_divided else None

    @property
    def is_divided(self) -> bool:
        """Whether the rows are divided among several processes."""
        return self._sum is not None

    def compute_gradients(self, inputs: Tensor, targets: Tensor, reset_rows: Tensor | None) -> Tensor:
        """Compute the gradients of the loss of a window for the own rows.

        Args:
            inputs: Token ids of the own rows, [T, B].
            targets: The token id that follows each of them, for all rows, [T, B]; negative targets are ignored.
            reset_rows: The own rows whose state is reset before the window, bool [B]; None for none.

        Returns:
            The own part of the loss in nats per token, a scalar on the device.
        """
        state = self._state if reset_rows is None else reset(self._state, reset_rows)
        own_targets = targets if self._sum is None else targets[:, self.rows.slice]
        draws = Draws(self.generator) if self._sum is None else Draws(self.generator, self.rows, targets)
        with product_precision(self.device, tf32=self._config.precision != FLOAT32):
            reads: list[TableReads] = []
            with bf16_products(self.device, self._use_casts):
                loss, self._state_after = self._network.loss(
                    inputs, own_targets, state, draws, reads, self._product_dtype
                )
            self._optimizer.clear_gradients()
            loss.backward()  # type: ignore[no-untyped-call]
        self._reads = reads[0] if reads else None
        if self._sum is not None:
            self._sum.pack(loss.detach(), self._reads, len(inputs))
        return loss.detach()

    def add_up(self, loss: Tensor, num_steps: int) -> Tensor:
        """Add up the gradients of all ranks, and return the loss of the whole batch.

        Args:
            loss: The own part of the loss.
            num_steps: Steps of the window.
        """
        return loss if self._sum is None else self._sum.exchange(num_steps)

    def clip(self) -> Tensor:
        """Clip the gradients, and return their norm before that, a scalar on the device."""
        return clip_grad_norm_(self._optimizer.parameters(), self._config.clip_norm)

    @torch.no_grad()
    def apply(self, learning_rate: float | Tensor, num_steps: int) -> None:
        """Change the weights by the gradients of a window of some steps, and carry the state over to the next one."""
        self._optimizer.step(learning_rate)
        if reads := self._reads:
            if self._sum is not None:
                self._ngram_optimizer.step_reads(learning_rate, *self._sum.all_reads(reads, num_steps))
            elif (gradient := reads.features.grad) is not None:
                self._ngram_optimizer.step_reads(learning_rate, reads.rows, reads.factors, gradient)
        self._state.map(Tensor.copy_, self._state_after)  # it cuts the gradient: BPTT is truncated
        self._state_after = self._state

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the arrays of the training state: weights, moments, carried state, random state.

        All ranks call it; the carried state is complete on the leader only.
        """
        named = {f"weights.{name}": weight for name, weight in self._network.export_weights().items()}
        named.update(self._optimizer.tensors() | self._ngram_optimizer.tensors())
        for name, part in self._named_state().items():
            named[name] = self._ranks.join_rows(part.cpu(), self.rows.total).numpy().copy()
        named[DROPOUT] = self.generator.get_state().numpy().copy()
        return named

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore the arrays that `tensors()` returned. Without the random state, the masks start again from the seed.

        Raises:
            KeyError: If another array is missing.
            ModelError: If an array has another shape, or if the random state does not fit the device.
        """
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self._network.import_weights(weights)
        self._optimizer.restore(tensors)
        self._ngram_optimizer.restore(tensors)
        for name, part in self._named_state().items():
            saved = tensors[name]
            if saved.shape != (self.rows.total, *part.shape[1:]):
                raise ModelError(
                    f"the training state has {format_count(len(saved), 'batch row')}, but its text and settings "
                    f"need {self.rows.total:,}"
                )
            part.copy_(torch.from_numpy(saved[self.rows.slice].copy()))
        if DROPOUT not in tensors:  # the state of another device: `TrainingState.for_device`
            self.generator.manual_seed(self._config.seed + 1)
            return
        try:
            self.generator.set_state(torch.from_numpy(tensors[DROPOUT].copy()))
        except RuntimeError as error:
            raise ModelError(
                f"the random state of the training state does not fit a generator of its device {self.device}",
                "Start a new run; --init-from uses its model.",
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

    A single process records an update as a whole. On several ranks, what comes before and after the exchange of the
    gradients is recorded.

    Args:
        update: The update.
        batch_size: Rows of a window.
        seq_len: Steps of the longest window.
    """

    def __init__(self, update: Update, batch_size: int, seq_len: int) -> None:
        self._update = update
        device = update.device
        self._inputs = torch.zeros(seq_len, update.rows.count, dtype=torch.int64, device=device)
        self._targets = torch.zeros(seq_len, batch_size, dtype=torch.int64, device=device)
        self._reset_rows = torch.zeros(update.rows.count, dtype=torch.bool, device=device)
        self._learning_rate = torch.zeros((), device=device)
        self._loss = torch.zeros((), device=device)
        self._norm = torch.zeros((), device=device)
        self._num_direct: Counter[int] = Counter()  # updates that were made directly, by the length of the window
        self._replays: dict[int, list[Function]] = {}  # by the length of the window

    def run(
        self, inputs: Tensor, targets: Tensor, reset_rows: Tensor | None, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Make an update.

        Args:
            inputs: As in `Update.compute_gradients`.
            targets: The same.
            reset_rows: The same.
            learning_rate: The learning rate.

        Returns:
            (loss of the whole batch in nats per token, norm of the gradients before clipping), which the next call
            overwrites.
        """
        T = len(inputs)
        self._inputs[:T].copy_(inputs)
        self._targets[:T].copy_(targets)
        if reset_rows is None:
            self._reset_rows.zero_()
        else:
            self._reset_rows.copy_(reset_rows)
        self._learning_rate.fill_(learning_rate)
        first, *rest = self._functions(T)
        first()
        for function in rest:
            self._loss.copy_(self._update.add_up(self._loss, T))
            function()
        return self._loss, self._norm

    def _functions(self, T: int) -> list[Function]:
        """Return the parts of an update with a window of T steps: recordings, or direct ones if it is not recorded."""
        if T in self._replays:
            return self._replays[T]
        functions = self._parts(T)
        if self._num_direct[T] < NUM_WARM_UP_CALLS or len(self._replays) == MAX_RECORDINGS:
            self._num_direct[T] += 1
            return functions
        generators = [self._update.generator]
        self._replays[T] = [record(function, self._update.device, generators) for function in functions]
        return self._replays[T]

    def _parts(self, T: int) -> list[Function]:
        """Return the parts of an update with a window of T steps, between which the gradients are exchanged."""
        before, after = partial(self._compute_gradients, T), partial(self._update_weights, T)
        if self._update.is_divided:
            return [before, after]

        def whole() -> None:
            before()
            after()

        return [whole]

    def _compute_gradients(self, T: int) -> None:
        loss = self._update.compute_gradients(self._inputs[:T], self._targets[:T], self._reset_rows)
        self._loss.copy_(loss)

    @torch.no_grad()
    def _update_weights(self, T: int) -> None:
        self._norm.copy_(self._update.clip())
        self._update.apply(self._learning_rate, T)
