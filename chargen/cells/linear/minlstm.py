"""The minimal LSTM of Feng et al. (2024, arXiv:2410.01201, "Were RNNs all we needed?"):

    i = σ(W_i x + b_i)          f = σ(W_f x + b_f)          n = W_n x + b_n
    h' = f/(f + i) ∘ h + i/(f + i) ∘ n

The LSTM without the recurrence of its gates, without tanh and without an output gate, so that the cell state is the
output. Divided by their sum, the gates add up to 1, which keeps the state as large as the candidates n.

The quotient is computed as σ(ln i − ln f), with −ln σ(x) = ln(1 + e^−x), because both gates can round to zero.

Shapes: weight_ih [3H, I], with the gates stacked in the order i, f, n; h is both the state and the output.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Params, State, relu, sigmoid
from chargen.cells.linear.linear import LinearCell


class MinLSTM(LinearCell):
    """The minimal LSTM: an input and a forget gate that depend on the input alone, divided by their sum."""

    num_input_gates = 3
    state_names = ("h",)

    def coefficients(self, xp: Any, params: Params, x_gates: Array) -> tuple[State, State]:
        """Return ((f/(f + i),), (i/(f + i) ∘ n,)); see `LinearCell.coefficients`."""
        H = x_gates.shape[-1] // 3
        i, f = x_gates[..., :H], x_gates[..., H : 2 * H]
        share = sigmoid(xp, _softplus(xp, -f) - _softplus(xp, -i))  # i/(f + i)
        return (1.0 - share,), (share * x_gates[..., 2 * H :],)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        (a,), (b,) = self.coefficients(xp, params, x_gates)
        return (a * h + b,)


def _softplus(xp: Any, x: Array) -> Array:
    """Return ln(1 + eˣ), which never overflows."""
    return relu(xp, x) + xp.log1p(xp.exp(-xp.abs(x)))


CELL = MinLSTM()
