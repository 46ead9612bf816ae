"""Sums over windows, with their hand-written gradient: all steps of a cell without recurrence (`cells/windows/`).

    forward     s_t = Σ_j g_{j,t−j}                 the contributions of the inputs 0 to n − 1 steps back
    backward    ∂g_{j,t} = ∂s_{t+j}

Each j is one sum of a whole window, shifted by j steps. The sums of the n − 1 steps after the window are what the state
carries to the next one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class WindowSums(torch.autograd.Function):
    """(contributions [T,B,n·H], the sums of the first n − 1 steps so far [n−1,B,H]) → sums [T+n−1,B,H]."""

    @staticmethod
    def forward(ctx: Any, contributions: Tensor, earlier: Tensor) -> Tensor:
        """Add up the shifted contributions."""
        T, B, H = *contributions.shape[:2], earlier.shape[-1]
        n = len(earlier) + 1
        ctx.num_inputs = n
        sums = contributions.new_zeros(T + n - 1, B, H)
        sums[: n - 1] = earlier
        for j, part in enumerate(torch.split(contributions, H, dim=-1)):
            sums[j : j + T] += part
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        n = ctx.num_inputs
        T = len(d_sums) - n + 1
        return torch.cat([d_sums[j : j + T] for j in range(n)], dim=-1), d_sums[: n - 1]
