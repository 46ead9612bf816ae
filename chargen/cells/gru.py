"""The gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the variant of cuDNN and torch.nn.GRU:

    r = σ(W_ir x + b_ir + W_hr h + b_hr)        n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
    z = σ(W_iz x + b_iz + W_hz h + b_hz)        h' = (1 − z) ∘ n + z ∘ h

r is the reset gate, z the update gate, n the candidate state. The reset gate multiplies the product W_hn h
(arXiv:1406.1078 version 1) instead of h itself, so that W_hh h is a single matrix product for the two gates and the
candidate.

Shapes: weight_ih [3H, I] and weight_hh [3H, H], with the gates stacked in the order r, z, n.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class GRU(Cell):
    """The gated recurrent unit: the update gate z interpolates between the old state h and the candidate n."""

    num_gates = num_input_gates = 3
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        H = h.shape[-1]
        h_gates = h @ params["weight_hh"].T + params["bias_hh"]  # [B, 3H]
        r_z = sigmoid(xp, x_gates[..., : 2 * H] + h_gates[..., : 2 * H])
        r, z = r_z[..., :H], r_z[..., H:]
        n = xp.tanh(x_gates[..., 2 * H :] + r * h_gates[..., 2 * H :])
        return (n + z * (h - n),)


CELL = GRU()
