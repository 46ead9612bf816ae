"""The multiplicative LSTM (Krause et al. 2016, arXiv:1609.07959):

    m = (W_im x + b_im) ∘ (W_hm h)              g = tanh(W_ig x + b_ig + W_mg m + b_mg)
    i = σ(W_ii x + b_ii + W_mi m + b_mi)        o = σ(W_io x + b_io + W_mo m + b_mo)
    f = σ(W_if x + b_if + W_mf m + b_mf)
    c' = f ∘ c + i ∘ g                          h' = o ∘ tanh(c')

The gates read m instead of h. The input scales each unit of m, so each character has its own transition matrix
W_m diag(W_im x) W_hm: the multiplicative RNN (Sutskever, Martens & Hinton 2011) with the gates of an LSTM.

Shapes: weight_ih [5H, I], in the order i, f, g, o, m; weight_hm [H, H]; weight_hh [4H, H], which is multiplied with m,
in the order i, f, g, o.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class MultiplicativeLSTM(Cell):
    """The LSTM whose gates read m, the hidden state in a form that the input scales."""

    num_gates = 4
    num_input_gates = 5
    state_names = ("h", "c")
    recurrent_names = ("weight_hm", "weight_hh")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the usual shapes, and that of weight_hm; see `Cell.parameter_shapes`."""
        return {**super().parameter_shapes(input_size, hidden_size), "weight_hm": (hidden_size, hidden_size)}

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h', c'), each [B, H]; see `Cell.step`."""
        h, c = state
        H = h.shape[-1]
        m = x_gates[..., 4 * H :] * (h @ params["weight_hm"].T)
        a = x_gates[..., : 4 * H] + m @ params["weight_hh"].T + params["bias_hh"]  # [B, 4H]
        i, f, o = sigmoid(xp, a[..., :H]), sigmoid(xp, a[..., H : 2 * H]), sigmoid(xp, a[..., 3 * H :])
        c = f * c + i * xp.tanh(a[..., 2 * H : 3 * H])
        return o * xp.tanh(c), c


CELL = MultiplicativeLSTM()
