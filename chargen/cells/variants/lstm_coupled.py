"""The LSTM with coupled input and forget gates ("CIFG" in Greff et al. 2015, arXiv:1503.04069):

    f = σ(W_if x + b_if + W_hf h + b_hf)        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o = σ(W_io x + b_io + W_ho h + b_ho)
    c' = f ∘ c + (1 − f) ∘ g                    h' = o ∘ tanh(c')

The input gate is 1 − f: a unit takes in as much as it forgets, as in the GRU. So the cell state stays in [−1, 1], and
the cell has a quarter fewer weights than the LSTM.

Shapes: weight_ih [3H, I] and weight_hh [3H, H], with the gates stacked in the order f, g, o.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class CoupledLSTM(Cell):
    """The LSTM whose input gate is 1 − f."""

    num_gates = num_input_gates = 3
    state_names = ("h", "c")

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h', c'), each [B, H]; see `Cell.step`."""
        h, c = state
        H = h.shape[-1]
        a = x_gates + h @ params["weight_hh"].T + params["bias_hh"]  # [B, 3H]
        f, g, o = sigmoid(xp, a[..., :H]), xp.tanh(a[..., H : 2 * H]), sigmoid(xp, a[..., 2 * H :])
        c = g + f * (c - g)
        return o * xp.tanh(c), c


CELL = CoupledLSTM()
