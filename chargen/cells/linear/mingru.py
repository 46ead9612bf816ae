"""The minimal GRU of Feng et al. (2024, arXiv:2410.01201, "Were RNNs all we needed?"):

    z = σ(W_z x + b_z)          n = W_n x + b_n
    h' = (1 − z) ∘ h + z ∘ n

The GRU without what makes its steps depend on each other: neither the gate nor the candidate n sees the state, and no
tanh is applied. What remains is a weighted mean of candidates, whose weights depend on the inputs.

Shapes: weight_ih [2H, I], with the gates stacked in the order z, n; h is both the state and the output.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Params, State, sigmoid
from chargen.cells.linear.linear import LinearCell


class MinGRU(LinearCell):
    """The minimal GRU: an update gate that depends on the input alone."""

    num_input_gates = 2
    state_names = ("h",)

    def coefficients(self, xp: Any, params: Params, x_gates: Array) -> tuple[State, State]:
        """Return ((1 − z,), (z ∘ n,)); see `LinearCell.coefficients`."""
        H = x_gates.shape[-1] // 2
        z = sigmoid(xp, x_gates[..., :H])
        return (1.0 - z,), (z * x_gates[..., H:],)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        (a,), (b,) = self.coefficients(xp, params, x_gates)
        return (a * h + b,)


CELL = MinGRU()
