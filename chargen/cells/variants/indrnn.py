"""The independently recurrent network (Li et al. 2018, arXiv:1803.04831, "IndRNN"):

    h' = max(0, W_ih x + b_ih + u ∘ h)          u = tanh(w)

Each unit sees only its own last value, so the gradient of a unit over k steps is u^k: it can be read off the weight.
Units work together through the layers above. Li et al. clip |u| so that u^T stays small; here tanh keeps it below 1,
which holds for texts of any length.

Shapes: weight_ih [H, I], bias_ih [H], weight_hh [H], which is w; h is both the state and the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.cells.cell import Array, Cell, Params, State, relu

MAX_INITIAL_WEIGHT = 2.0  #: tanh 2 = 0.96: units start with memories of 0 to about 28 steps (a decay to 1/e)


class IndRNN(Cell):
    """The independently recurrent network: the recurrent matrix is diagonal."""

    num_gates = 0
    num_input_gates = 1
    state_names = ("h",)
    recurrent_names = ()

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weight_ih, bias_ih and weight_hh; see `Cell.parameter_shapes`."""
        return {**super().parameter_shapes(input_size, hidden_size), "weight_hh": (hidden_size,)}

    def initial_weight(
        self, xp: Any, name: str, shape: tuple[int, ...], uniform: Callable[[tuple[int, ...]], Array]
    ) -> Array | None:
        """Return weights that give the units memories of different lengths; see `Cell.initial_weight`."""
        return MAX_INITIAL_WEIGHT * uniform(shape) if name == "weight_hh" else None

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h',), each [B, H]; see `Cell.step`."""
        (h,) = state
        return (relu(xp, x_gates + xp.tanh(params["weight_hh"]) * h),)


CELL = IndRNN()
