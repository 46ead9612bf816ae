"""The simple recurrent network with tanh (Elman 1990, "Finding structure in time"), as in torch.nn.RNN:

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

Shapes: weight_ih [H, I], weight_hh [H, H]; h is both the state and the output.
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State


class RNN(Cell):
    """The simple recurrent network: one gate, whose activation is the new hidden state."""

    num_gates = num_input_gates = 1
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        return (xp.tanh(x_gates + h @ params["weight_hh"].T + params["bias_hh"]),)


CELL = RNN()
