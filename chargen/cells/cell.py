"""The contract of a recurrent cell: its parameters, its state, and one step.

A step is written in the part of the array API (data-apis.org) that NumPy and torch spell alike: `@`, `+`, `*`,
`xp.tanh`, slicing. The same lines run one stream in NumPy, train in torch by autograd, and check every faster path.

The input's part of the gates does not depend on the state, so the caller computes it for all steps at once
(`input_gates`), or looks it up: for the first layer there are only V different inputs.

    B batch, I input size, H hidden size, G number of gates, X of them and of what the input alone decides.
    Weights are laid out as in torch.nn: gates stacked in rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

Array = Any  #: a NumPy array, a torch tensor, or another array-API array
State = tuple[Array, ...]  #: what a layer carries from step to step, each [B, H] (or [H] for one stream)
Params = dict[str, Array]


class Cell(ABC):
    """One recurrence. A leaf has no attributes beyond these: state and parameters are passed in."""

    num_gates: int  #: G, rows of H of the recurrent product
    num_input_gates: int  #: X, rows of H of the input's product; most cells have X = G
    state_names: tuple[str, ...]  #: the first is the output

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one layer."""
        G, X = self.num_gates * hidden_size, self.num_input_gates * hidden_size
        return {
            "weight_ih": (X, input_size),
            "weight_hh": (G, hidden_size),
            "bias_ih": (X,),
            "bias_hh": (G,),
        }

    def initial_state(self, xp: Any, shape: tuple[int, ...], **kwargs: Any) -> State:
        """Return the state before the first step: zeros of `shape`, [B, H] or [H]."""
        return tuple(xp.zeros(shape, **kwargs) for _ in self.state_names)

    def input_gates(self, params: Params, x: Array) -> Array:
        """Return W_ih x + b_ih for inputs of any leading shape: [..., I] → [..., X·H]."""
        return x @ params["weight_ih"].T + params["bias_ih"]

    @abstractmethod
    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return the next state, its first part the output.

        Args:
            xp: the module that the arrays belong to (numpy, torch, …).
            params: the layer's parameters.
            x_gates: `input_gates` of this step's input, [B, X·H].
            state: the state before, each part [B, H].
        """


def sigmoid(xp: Any, x: Array) -> Array:
    """Return σ(x) = (1 + tanh(x/2)) / 2, which never overflows."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5
