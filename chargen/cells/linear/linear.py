"""The interface of linear recurrences.

    h_t = a_t ∘ h_{t−1} + b_t           the decay a_t and the update b_t depend on the input x_t alone

Without a nonlinear function between two steps, the steps can be combined in any grouping:

    h_2 = a_2 a_1 h_0 + (a_2 b_1 + b_2)

So a whole window is computed by a parallel scan (`networks/kernels/scan.py`), while text is generated step by step with
the same equations. What the network cannot do within one layer is let the state decide what is remembered; a second
layer can (`--layers 2`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from chargen.cells.cell import Array, Cell, Params, State


class LinearCell(Cell):
    """A cell whose new state is a linear function of its old state, unit by unit."""

    num_gates = 0
    recurrent_names = ()

    @abstractmethod
    def coefficients(self, xp: Any, params: Params, x_gates: Array) -> tuple[State, State]:
        """Return the coefficients of steps.

        Args:
            xp: The module that the arrays belong to (numpy, torch, …).
            params: The parameters of the layer.
            x_gates: The input gates of a step or of a window, [..., X·H].

        Returns:
            (the decay a, the update b), each with as many parts as the state: one for a real recurrence, the real and
            the imaginary part for a complex one. A part is [..., H]; a decay that does not depend on the input is [H].
        """
