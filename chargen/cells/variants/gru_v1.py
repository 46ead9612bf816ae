"""The gated recurrent unit as it was published (Cho et al. 2014, arXiv:1406.1078):

    r = σ(W_ir x + b_ir + W_hr h + b_hr)        n = tanh(W_in x + b_in + W_hn (r ∘ h) + b_hn)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)        h' = (1 − z) ∘ n + z ∘ h

The reset gate multiplies h before the recurrent product, not the product as in `cells/gru.py`. So a step needs two
products, one after the other: this form is slower, and cuDNN does not have it.

Shapes: weight_ih [3H, I] and weight_hh [3H, H], with the gates stacked in the order r, z, n.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class GRUv1(Cell):
    """The gated recurrent unit whose reset gate multiplies the hidden state before the product."""

    num_gates = num_input_gates = 3
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        H = h.shape[-1]
        W, b = params["weight_hh"], params["bias_hh"]
        r_z = sigmoid(xp, x_gates[..., : 2 * H] + h @ W[: 2 * H, :].T + b[: 2 * H])  # [B, 2H]
        r, z = r_z[..., :H], r_z[..., H:]
        n = xp.tanh(x_gates[..., 2 * H :] + (r * h) @ W[2 * H :, :].T + b[2 * H :])
        return (n + z * (h - n),)


CELL = GRUv1()
