"""The LSTM with peephole connections (Gers & Schmidhuber 2000, "Recurrent nets that time and count"):

    i = σ(W_ii x + b_ii + W_hi h + b_hi + p_i ∘ c)        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    f = σ(W_if x + b_if + W_hf h + b_hf + p_f ∘ c)        c' = f ∘ c + i ∘ g
    o = σ(W_io x + b_io + W_ho h + b_ho + p_o ∘ c')       h' = o ∘ tanh(c')

The gates also see the cell state: each one that of its own unit, by a weight p. In an LSTM without peepholes, a closed
output gate hides the cell state from all gates. The input and forget gates see the old cell state, the output gate the
new one. The peepholes start at zero, where the cell is the LSTM of `cells/lstm.py`.

Shapes: weight_ih [4H, I] and weight_hh [4H, H], in the order i, f, g, o; peephole [3H], in the order i, f, o.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class PeepholeLSTM(Cell):
    """The LSTM whose gates also see the cell state of their own unit."""

    num_gates = num_input_gates = 4
    state_names = ("h", "c")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the usual shapes, and those of the peepholes; see `Cell.parameter_shapes`."""
        return {**super().parameter_shapes(input_size, hidden_size), "peephole": (3 * hidden_size,)}

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h', c'), each [B, H]; see `Cell.step`."""
        h, c = state
        H = h.shape[-1]
        p = params["peephole"]
        a = x_gates + h @ params["weight_hh"].T + params["bias_hh"]  # [B, 4H]
        i = sigmoid(xp, a[..., :H] + p[:H] * c)
        f = sigmoid(xp, a[..., H : 2 * H] + p[H : 2 * H] * c)
        c = f * c + i * xp.tanh(a[..., 2 * H : 3 * H])
        o = sigmoid(xp, a[..., 3 * H :] + p[2 * H :] * c)
        return o * xp.tanh(c), c


CELL = PeepholeLSTM()
