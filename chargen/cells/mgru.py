"""A multiplicative gated recurrent unit: two gates, and a recurrent matrix whose columns the input scales:

    s = 2 σ(W_is x + b_is)                      u = s ∘ h
    z = σ(W_iz x + b_iz + W_hz u + b_hz)        n = tanh(W_in x + b_in + W_hn u + b_hn)
    h' = (1 − z) ∘ n + z ∘ h

The input scales each hidden unit by s, from 0 to 2, before the recurrent product. Each character thus has its own
transition matrix W_hh diag(s). This is the idea of the multiplicative RNN (Sutskever, Martens & Hinton 2011), in the
form of half a round of the Mogrifier (Melis, Kočiský & Blunsom 2020, arXiv:1909.01792). It makes the reset gate of the
GRU unnecessary (Ravanelli et al. 2018, arXiv:1803.10225, omit it, too), so there are two recurrent products instead of
three.

z is the update gate, n the candidate state, u the scaled hidden state.

Shapes: weight_hh [2H, H], with the gates stacked in the order z, n; weight_ih [3H, I], in the order z, n, s.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class MGRU(Cell):
    """The multiplicative gated recurrent unit: the input scales the columns of the recurrent matrix."""

    num_gates = 2
    num_input_gates = 3
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        H = h.shape[-1]
        u = 2.0 * sigmoid(xp, x_gates[..., 2 * H :]) * h
        a = x_gates[..., : 2 * H] + u @ params["weight_hh"].T + params["bias_hh"]  # [B, 2H]
        z, n = sigmoid(xp, a[..., :H]), xp.tanh(a[..., H:])
        return (n + z * (h - n),)


CELL = MGRU()
