"""AdamW (Loshchilov & Hutter 1711.05101), with weight decay on the matrices alone.

    m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²        m̂, v̂: divided by 1 − βᵗ
    w ← w − η (m̂ / (√v̂ + ε) + λ w)

The update is torch's fused kernel. What is ours is that the moments are plain tensors with names, to be saved and put
back; and that the class `torch.optim.AdamW` is not needed: to make one loads torch's compiler, which takes about as
long as importing torch (3.1 s beside 3.3 s, on a busy machine).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from chargen.config import TrainConfig
from chargen.nets.network import NGRAM_TABLE

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
