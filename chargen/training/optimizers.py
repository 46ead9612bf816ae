"""The learning rate over a run: a rise over the warm-up, then half a cosine down (Loshchilov & Hutter 1608.03983).

AdamW (Loshchilov & Hutter 1711.05101), with weight decay on the matrices alone.

    m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²        m̂, v̂: divided by 1 − βᵗ
    w ← w − η (m̂ / (√v̂ + ε) + λ w)

The update is torch's fused kernel. What is ours is that the moments are plain tensors with names, to be saved and put
back; and that the class `torch.optim.AdamW` is not needed: to make one loads torch's compiler, which takes about as
long as importing torch (3.1 s beside 3.3 s, on a busy machine).

The rule for the table of n-grams, of which a window reads a few thousand rows of a hundred thousand.

    G_r ← G_r + Σ mean g²        w_r ← w_r − η Σ g / √(δ + G_r)        g: the gradient of one place where r was read,
                                                                       of the sum of the window's losses
Adagrad (Duchi, Hazan & Singer 2011) with one G for a row, and steps made smaller until a row was read some dozens of
times (δ). A row that was not read stays as it is, so that the others need not be looked at. Adam would move a row that
is seldom read by its whole rate each time: with it, n-grams were learned by heart (`benchmarks/LOG.md`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from chargen.config import TrainConfig
from chargen.networks.network import NGRAM_TABLE, Network


def learning_rate_factor(progress: float, warmup: float, final: float) -> float:
    """Return the share of the peak rate at a point of the run.

    Args:
        progress: how much of the run is done, 0 to 1: of its steps, or of its time.
        warmup: share of the run over which the rate rises from 0, linearly.
        final: share of the peak that the decay ends at.

    >>> [round(learning_rate_factor(p, 0.1, 0.0), 2) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    decayed = min(1.0, (progress - warmup) / max(1e-9, 1.0 - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * decayed))


MOMENTS = ("exp_avg", "exp_avg_sq", "step")  #: what is remembered of each weight
EPSILON = 1e-8


class AdamW:
    """The optimizer of a network's parameters, but for the table of n-grams (`rows.py`).

    Args:
        network: its parameters are changed in place by each step.
        config: β1, β2 and the weight decay.
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
    def step(self, learning_rate: float) -> None:
        """Move every parameter against its gradient."""
        for matrices, weight_decay in ((True, self._config.weight_decay), (False, 0.0)):
            names = [name for name, p in self._parameters.items() if (p.ndim == 2) == matrices]
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
        """Return what is optimized."""
        return list(self._parameters.values())

    def clear_gradients(self) -> None:
        """Forget the gradients, before the next are computed."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of every moment, as "exp_avg.head__bias"."""
        return {
            f"{moment}.{name}": np.atleast_1d(value.cpu().numpy().copy())
            for moment in MOMENTS
            for name, value in self._moments[moment].items()
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Put back what `tensors()` returned.

        Raises:
            KeyError: a moment is missing.
        """
        for moment in MOMENTS:
            for name, value in self._moments[moment].items():
                value.copy_(torch.from_numpy(tensors[f"{moment}.{name}"].copy()).reshape(value.shape))


RATE, DAMPING = 5.0, 5.0  #: η over the rate of the other weights; δ
SQUARES = "squares"  #: what is remembered


class SparseAdagrad:
    """The optimizer of a network's table, if it has one.

    Args:
        network: its table is changed in place by each step.
        ids: of a window, whose mean loss the gradient is of.
    """

    def __init__(self, network: Network, ids: int) -> None:
        self._table = network.get_parameter(NGRAM_TABLE) if network.config.ngrams else None
        self._ids = ids
        self._squares = torch.zeros(0) if self._table is None else self._table.new_zeros(len(self._table))

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the rows that were read against their gradient, and forget it."""
        if self._table is None or self._table.grad is None:
            return
        gradient, self._table.grad = self._table.grad, None
        if gradient.is_sparse:
            rows, values = gradient._indices()[0], gradient._values() * self._ids  # [N], [N, D], a row once or often
            self._squares.index_add_(0, rows, values.square().mean(1))
            scales = (DAMPING + self._squares[rows]).rsqrt_().mul_(-RATE * learning_rate)
            self._table.index_add_(0, rows, values * scales[:, None])  # in order; `index_put_` adds as threads come
        else:  # of a device without sparse tensors, where the places of a row are one
            gradient = gradient * self._ids
            self._squares += gradient.square().mean(1)
            self._table.sub_(RATE * learning_rate * gradient / (DAMPING + self._squares).sqrt()[:, None])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of what is remembered."""
        return {} if self._table is None else {f"{SQUARES}.{NGRAM_TABLE}": self._squares.cpu().numpy().copy()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Put back what `tensors()` returned.

        Raises:
            KeyError: it is missing.
        """
        if self._table is not None:
            self._squares.copy_(torch.from_numpy(tensors[f"{SQUARES}.{NGRAM_TABLE}"].copy()))
