"""A multiplicative gated recurrent unit: two gates, and a transition that the input scales.

    s = 2 σ(W_is x + b_is)                      u = s ∘ h
    z = σ(W_iz x + b_iz + W_hz u + b_hz)        n = tanh(W_in x + b_in + W_hn u + b_hn)
    h' = (1 − z) ∘ n + z ∘ h

The input character chooses how much of each unit the recurrent matrix sees, so that every character has a transition
of its own, W_hh diag(s): the idea of the multiplicative RNN (Sutskever, Martens & Hinton 2011), in the form of one
half round of the Mogrifier (Melis, Kočiský & Blunsom 2020, arXiv 1909.01792). With that, the GRU's reset gate is no
longer needed (Ravanelli et al. 2018, arXiv 1803.10225, leave it out too), and two products do the work of three.
The recurrent gates are stacked z, n; the input's part has s after them.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class MGRU(Cell):
    """A gated unit whose recurrent matrix is scaled by the input."""

    num_gates = 2
    num_input_gates = 3
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        (h,) = state
        H = h.shape[-1]
        u = 2.0 * sigmoid(xp, x_gates[..., 2 * H :]) * h
        a = x_gates[..., : 2 * H] + u @ params["weight_hh"].T + params["bias_hh"]  # [B, 2H]
        z, n = sigmoid(xp, a[..., :H]), xp.tanh(a[..., H:])
        return (n + z * (h - n),)


CELL = MGRU()
