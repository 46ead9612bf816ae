"""The linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349): every unit is a damped oscillation.

    λ = r e^{iθ}                                r = σ(ν), between 0 and 1
    s' = λ ∘ s + √(1 − r²) ∘ (W x + b)          s and W x are complex
    h' = Re s'

A real decay can only fade an input out. A complex one also turns it: after k steps an input counts r^k cos(kθ), so a
unit can prefer a certain lag, or alternate. The factor √(1 − r²) keeps the state of slow and of fast units equally
large. Orvieto et al. write r = exp(−exp(ν)); σ has the same range and never overflows. Their matrix C, which mixes
the units into the output, is the next layer or the head.

Shapes: weight_ih [2H, I], the real rows and then the imaginary ones; decay [H], which is ν; angle [H], which is θ. The
state has the real and the imaginary part of s; the output is the real part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chargen.cells.cell import Array, Params, State, sigmoid
from chargen.cells.linear.linear import LinearCell

MIN_INITIAL_DECAY, MAX_INITIAL_DECAY = -2.0, 5.0  #: ν: r from 0.12 to 0.993, memories of 0.5 to 150 steps
MAX_INITIAL_ANGLE = math.pi


class LRU(LinearCell):
    """The linear recurrent unit: a diagonal recurrence with a complex decay."""

    num_input_gates = 2
    state_names = ("re", "im")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weight_ih, bias_ih, decay and angle; see `Cell.parameter_shapes`."""
        shapes = super().parameter_shapes(input_size, hidden_size)
        return {**shapes, "decay": (hidden_size,), "angle": (hidden_size,)}

    def initial_weight(
        self, xp: Any, name: str, shape: tuple[int, ...], uniform: Callable[[tuple[int, ...]], Array]
    ) -> Array | None:
        """Return decays and angles that are spread over their range; see `Cell.initial_weight`."""
        if name == "decay":
            return MIN_INITIAL_DECAY + (MAX_INITIAL_DECAY - MIN_INITIAL_DECAY) * uniform(shape)
        return MAX_INITIAL_ANGLE * uniform(shape) if name == "angle" else None

    def coefficients(self, xp: Any, params: Params, x_gates: Array) -> tuple[State, State]:
        """Return ((Re λ, Im λ), the real and imaginary part of the update); see `LinearCell.coefficients`."""
        H = x_gates.shape[-1] // 2
        r = sigmoid(xp, params["decay"])
        gain = xp.sqrt((1.0 - r) * (1.0 + r))
        a = r * xp.cos(params["angle"]), r * xp.sin(params["angle"])
        return a, (gain * x_gates[..., :H], gain * x_gates[..., H:])

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (Re s', Im s'), each [B, H]; see `Cell.step`."""
        re, im = state
        (a_re, a_im), (b_re, b_im) = self.coefficients(xp, params, x_gates)
        return a_re * re - a_im * im + b_re, a_im * re + a_re * im + b_im


CELL = LRU()
