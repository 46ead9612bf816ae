"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000), without peepholes:

    i = σ(W_ii x + b_ii + W_hi h + b_hi)        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    f = σ(W_if x + b_if + W_hf h + b_hf)        o = σ(W_io x + b_io + W_ho h + b_ho)
    c' = f ∘ c + i ∘ g                          h' = o ∘ tanh(c')

i is the input gate, f the forget gate, g the candidate, o the output gate; h is the output and c the cell state.

Shapes: weight_ih [4H, I] and weight_hh [4H, H], with the gates stacked in the order i, f, g, o, as in torch.nn.LSTM.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class LSTM(Cell):
    """Long short-term memory: input, forget and output gates control a cell state c."""

    num_gates = num_input_gates = 4
    state_names = ("h", "c")

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h', c'), each [B, H]; see `Cell.step`."""
        h, c = state
        H = h.shape[-1]
        a = x_gates + h @ params["weight_hh"].T + params["bias_hh"]  # [B, 4H]
        i_f = sigmoid(xp, a[..., : 2 * H])
        i, f = i_f[..., :H], i_f[..., H:]
        g = xp.tanh(a[..., 2 * H : 3 * H])
        o = sigmoid(xp, a[..., 3 * H :])
        c = f * c + i * g
        return o * xp.tanh(c), c


CELL = LSTM()
