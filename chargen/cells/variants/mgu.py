"""The minimal gated unit (Zhou et al. 2016, arXiv:1603.09420):

    f = σ(W_if x + b_if + W_hf h + b_hf)        n = tanh(W_in x + b_in + W_hn (f ∘ h) + b_hn)
    h' = (1 − f) ∘ h + f ∘ n

One gate does the work of both gates of the GRU: it resets the state that the candidate n sees, and it mixes n into the
state. The cell has a third fewer weights than the GRU.

Shapes: weight_ih [2H, I] and weight_hh [2H, H], with the gates stacked in the order f, n.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, sigmoid


class MGU(Cell):
    """The minimal gated unit: a single gate f."""

    num_gates = num_input_gates = 2
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        H = h.shape[-1]
        W, b = params["weight_hh"], params["bias_hh"]
        f = sigmoid(xp, x_gates[..., :H] + h @ W[:H, :].T + b[:H])
        n = xp.tanh(x_gates[..., H:] + (f * h) @ W[H:, :].T + b[H:])
        return (h + f * (n - h),)


CELL = MGU()
