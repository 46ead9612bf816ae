"""The plain recurrent network (Elman 1990), with tanh:

h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
"""

from __future__ import annotations

from typing import Any

from chargen.cells.cell import Array, Cell, Params, State


class RNN(Cell):
    """One gate, which is the output itself."""

    num_gates = num_input_gates = 1
    state_names = ("h",)

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        (h,) = state
        return (xp.tanh(x_gates + h @ params["weight_hh"].T + params["bias_hh"]),)


CELL = RNN()
