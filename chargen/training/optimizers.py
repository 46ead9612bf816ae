"""Optimize the weights: a learning rate schedule, AdamW, and a sparse Adagrad for the n-gram table.

The schedule is a linear warm-up followed by half a cosine (Loshchilov & Hutter 2016, arXiv:1608.03983).

AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) applies weight decay to the matrices only:

    m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²        m̂, v̂: divided by 1 − βᵗ
    w ← w − η (m̂ / (√v̂ + ε) + λ w)

The update itself is torch's fused kernel. `torch.optim.AdamW` is not used for two reasons: here the moments are plain
tensors with names, which can be saved and restored; and creating a `torch.optim.AdamW` loads torch's compiler, which
takes about as long as importing torch (3.1 s against 3.3 s, on a busy machine).

The n-gram table has up to 262,144 rows, of which a window reads a few thousand. Its rule is Adagrad (Duchi,
Hazan & Singer 2011) with one accumulator G per row:

    G_r ← G_r + Σ mean g²        w_r ← w_r − η Σ g / √(δ + G_r)        g: gradient of the window's summed loss at
                                                                       one position where row r was read
The constant δ keeps the steps small until a row has been read some dozens of times. Rows that were not read do not
change, so no step touches the whole table. Adam would move a rarely read row by its full learning rate each time; with
Adam, the n-grams overfitted (`benchmarks/LOG.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from chargen.config import TrainConfig
from chargen.networks.network import NGRAM_TABLE

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  #: AdamW's state for each parameter
EPSILON = 1e-8
NGRAM_RATE_FACTOR = 5.0  #: learning rate of the n-gram table divided by that of the other weights
NGRAM_DAMPING = 5.0  #: δ
SQUARES = "squares"  #: name of the accumulator G in a training state


def learning_rate_factor(progress: float, warmup: float, final: float) -> float:
    """Return the learning rate at a point of the run, as a share of the peak.

    Args:
        progress: Completed share of the run, 0 to 1, in steps or in time.
        warmup: Share of the run during which the learning rate rises linearly from 0.
        final: Share of the peak at the end of the run.

    >>> [round(learning_rate_factor(p, 0.1, 0.0), 2) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    decayed = min(1.0, (progress - warmup) / max(1e-9, 1.0 - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * decayed))


class AdamW:
    """Optimizes all parameters of a network except the n-gram table.

    Args:
        network: The network; each step changes its parameters in place.
        config: The training settings: β1, β2, weight decay, device.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        self._parameters = {name: p for name, p in network.named_parameters() if name != NGRAM_TABLE}
        self._config = config
        self._fused = torch.device(config.device).type in ("cpu", "cuda")
        self._moments: dict[str, dict[str, Tensor]] = {
            "exp_avg": {name: torch.zeros_like(p) for name, p in self._parameters.items()},
            "exp_avg_sq": {name: torch.zeros_like(p) for name, p in self._parameters.items()},
            "step": {
                name: torch.zeros((), device=p.device if self._fused else "cpu") for name, p in self._parameters.items()
            },
        }

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update every parameter with its gradient. A learning rate that is a tensor is a scalar on their device."""
        for is_matrix, weight_decay in ((True, self._config.weight_decay), (False, 0.0)):
            names = [name for name, p in self._parameters.items() if (p.ndim == 2) == is_matrix]
            adamw(
                params=[self._parameters[name] for name in names],
                grads=[gradient for name in names if (gradient := self._parameters[name].grad) is not None],
                exp_avgs=[self._moments["exp_avg"][name] for name in names],
                exp_avg_sqs=[self._moments["exp_avg_sq"][name] for name in names],
                max_exp_avg_sqs=[],
                state_steps=[self._moments["step"][name] for name in names],
                fused=self._fused,
                amsgrad=False,
                beta1=self._config.beta1,
                beta2=self._config.beta2,
                lr=learning_rate,
                weight_decay=weight_decay,
                eps=EPSILON,
                maximize=False,
            )

    def parameters(self) -> list[Tensor]:
        """Return the parameters that are optimized."""
        return list(self._parameters.values())

    def clear_gradients(self) -> None:
        """Remove the gradients of the last step."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of every moment under a name such as "exp_avg.head__bias"."""
        return {
            f"{moment}.{name}": np.atleast_1d(value.cpu().numpy().copy())
            for moment in MOMENTS
            for name, value in self._moments[moment].items()
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore the moments that `tensors()` returned.

        Raises:
            KeyError: If a moment is missing.
        """
        for moment in MOMENTS:
            for name, value in self._moments[moment].items():
                value.copy_(torch.from_numpy(tensors[f"{moment}.{name}"].copy()).reshape(value.shape))


class SparseAdagrad:
    """Optimizes the n-gram table of a network; it does nothing if the network has none.

    Args:
        network: The network; each step changes its table in place.
        num_ids: Number of tokens in a window. It scales the gradient of the mean loss to that of the summed loss.
        rate_factor: Learning rate of the table divided by that of the other weights.
        damping: δ.
    """

    def __init__(
        self,
        network: nn.Module,
        num_ids: int,
        rate_factor: float = NGRAM_RATE_FACTOR,
        damping: float = NGRAM_DAMPING,
    ) -> None:
        self._table = dict(network.named_parameters()).get(NGRAM_TABLE)
        self._num_ids, self._rate_factor, self._damping = num_ids, rate_factor, damping
        self._squares = torch.zeros(0) if self._table is None else self._table.new_zeros(len(self._table))

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the rows that were read, and remove the gradient."""
        if self._table is None or self._table.grad is None:
            return
        gradient = self._table.grad
        self._table.grad = None
        if gradient.is_sparse:  # [n] and [n, D]; a row that was read several times occurs several times
            self.step_reads(learning_rate, gradient._indices()[0][:, None], None, gradient._values())
        else:  # a device without sparse tensors: the gradients of a row are already summed
            gradient = gradient * self._num_ids
            self._squares += gradient.square().mean(1)
            step = self._rate_factor * learning_rate * gradient / (self._damping + self._squares).sqrt()[:, None]
            self._table.sub_(step)

    @torch.no_grad()
    def step_reads(self, learning_rate: float | Tensor, rows: Tensor, factors: Tensor | None, gradient: Tensor) -> None:
        """Update the rows that the positions of a window have read.

        Args:
            learning_rate: The learning rate of the other weights.
            rows: The rows of the table that each position has read, [P, K].
            factors: The factor of each of them in the sum of its position, [P, K]; None for 1.
            gradient: The gradient of the sums, [P, D].
        """
        if self._table is None:
            return
        gradient = gradient * self._num_ids
        squares = gradient.square().mean(1)[:, None].expand(rows.shape)  # of the gradient of a row: by its factor²
        flat = rows.flatten()
        self._squares.index_add_(0, flat, (squares if factors is None else squares * factors.square()).flatten())
        scales = (self._damping + self._squares[rows]).rsqrt_().mul_(-self._rate_factor * learning_rate)
        if factors is not None:
            scales *= factors
        # `index_add_` adds in a fixed order; the order of `index_put_` depends on the threads.
        self._table.index_add_(0, flat, (gradient[:, None] * scales[..., None]).flatten(0, 1))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of the accumulator."""
        return {} if self._table is None else {f"{SQUARES}.{NGRAM_TABLE}": self._squares.cpu().numpy().copy()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore the accumulator that `tensors()` returned.

        Raises:
            KeyError: If it is missing.
        """
        if self._table is not None:
            self._squares.copy_(torch.from_numpy(tensors[f"{SQUARES}.{NGRAM_TABLE}"].copy()))
