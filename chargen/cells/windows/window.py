"""The interface of cells without recurrence: a function of the last n inputs, with the same weights at every step.

    h_t = f(W_0 x_t + W_1 x_{t−1} + … + W_{n−1} x_{t−n+1} + b)          a causal convolution of width n

Inputs before the start of the text count as zero. A step needs no buffer of inputs: the state has the sums that future
steps have already received, and each input adds its contribution to all of them:

    step t:   h = f(W_0 x_t + sum1 + b)         sum1' = sum2 + W_1 x_t      …      sum{n−1}' = W_{n−1} x_t

An input more than n − 1 steps back is lost: this is what a recurrent cell is compared with. With several layers,
the windows add up to L·(n − 1) + 1 inputs.

Shapes: weight_ih [n·H, I], the rows of W_0 first; bias [H].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from chargen.cells.cell import Array, Cell, Params, State
from chargen.errors import ConfigError

MAX_WIDTH = 64  #: inputs; the state of a stream has one vector for each


class WindowCell(Cell):
    """A function of the last `width` inputs.

    Args:
        width: The number of inputs n that an output depends on, 1 to MAX_WIDTH.

    Raises:
        ConfigError: If the width is out of range.
    """

    num_gates = 0
    recurrent_names = ()

    def __init__(self, width: int) -> None:
        if not 1 <= width <= MAX_WIDTH:
            raise ConfigError(f"a window of {width:,} inputs is not possible", f"Use 1 to {MAX_WIDTH}.")
        self.num_input_gates = width
        self.state_names = ("h", *(f"sum{k}" for k in range(1, width)))

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The parts of the state whose elements are units: h alone."""
        return ("h",)

    def with_option(self, option: str) -> Cell:
        """Return the cell with a window of this many inputs ("16").

        Raises:
            ConfigError: If it is not a whole number from 1 to MAX_WIDTH.
        """
        if not (option.isascii() and option.isdigit() and len(option) < 10):
            raise ConfigError(f"{option!r} is not a number of inputs", f"Use a whole number from 1 to {MAX_WIDTH}.")
        return type(self)(int(option))

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return weight_ih [n·H, I] and bias [H]; see `Cell.parameter_shapes`."""
        return {"weight_ih": (self.num_input_gates * hidden_size, input_size), "bias": (hidden_size,)}

    def input_gates(self, params: Params, x: Array) -> Array:
        """Return the contributions W_0 x, …, W_{n−1} x of an input, [..., n·H]; see `Cell.input_gates`."""
        return x @ params["weight_ih"].T

    @abstractmethod
    def activation(self, xp: Any, x: Array) -> Array:
        """Return f(x), element by element."""

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Return (h', sum1', …), each [B, H]; see `Cell.step`."""
        n = self.num_input_gates
        H = params["bias"].shape[-1]
        parts = [x_gates[..., k * H : (k + 1) * H] for k in range(n)]
        sums = [part + earlier for part, earlier in zip(parts, state[1:], strict=False)]  # the last part has none
        totals = [*sums, parts[-1]]
        return self.activation(xp, totals[0] + params["bias"]), *totals[1:]
