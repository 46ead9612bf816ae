"""The interface of a recurrent cell: its parameters, its state, and one time step.

A step uses only the operations that NumPy and PyTorch spell alike, a part of the array API standard (data-apis.org):
`@`, `+`, `*`, `xp.tanh` and slicing. The same lines generate text with NumPy, train in PyTorch by autograd, and serve
as the reference for every faster implementation.

The input's contribution to the gates does not depend on the state. The caller therefore computes it for all steps at
once (`input_gates`), or reads it from a table: the first layer has only V different inputs.

    B batch size, I input size, H hidden size, V vocabulary size
    G number of recurrent gates, X number of input gates

Weights have the layout of torch.nn: the gates are stacked along the first axis. A cell need not have the usual four:
`parameter_shapes` states the names and shapes of its parameters, and everything else follows from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from chargen.errors import ConfigError

Array = Any  #: a NumPy array, a torch tensor, or an array of another array-API library
State = tuple[Array, ...]  #: the state of a layer: one array [B, H] for each state name; [H] without a batch axis
Params = dict[str, Array]  #: the parameters of a layer by name, see `Cell.parameter_shapes`


class Cell(ABC):
    """The equations of a recurrent cell. Instances have no data: parameters and state are arguments of every method."""

    num_gates: int  #: G: `weight_hh` has G·H rows; 0 for a cell without `weight_hh`
    num_input_gates: int  #: X: `weight_ih` has X·H rows; most cells have X = G
    state_names: tuple[str, ...]  #: names of the parts of the state; the first part is the output of the layer
    recurrent_names: tuple[str, ...] = ("weight_hh",)  #: the matrices that multiply the state; dropped by DropConnect
    learning_rate_factor: float = 1.0  #: factor of the recipe's learning rate, for a cell that needs a lower one

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The parts of the state whose elements are units; the others are sums that later steps complete."""
        return self.state_names

    def with_option(self, option: str) -> Cell:
        """Return the cell with the option that follows its name and a colon ("mlp:16").

        Raises:
            ConfigError: If the cell takes no option, or not this one.
        """
        raise ConfigError(f"this cell takes no option, but {option!r} was given", "Use the name of the cell alone.")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of a layer.

        Returns:
            weight_ih [X·H, I], weight_hh [G·H, H], bias_ih [X·H] and bias_hh [G·H]; without recurrent gates (G = 0),
            only weight_ih and bias_ih.
        """
        G, X = self.num_gates * hidden_size, self.num_input_gates * hidden_size
        if not G:
            return {"weight_ih": (X, input_size), "bias_ih": (X,)}
        return {
            "weight_ih": (X, input_size),
            "weight_hh": (G, hidden_size),
            "bias_ih": (X,),
            "bias_hh": (G,),
        }

    def initial_weight(
        self, xp: Any, name: str, shape: tuple[int, ...], uniform: Callable[[tuple[int, ...]], Array]
    ) -> Array | None:
        """Return the initial values of a parameter, or None for the usual ones.

        The usual ones are uniform in ±1/√(columns) for a matrix and zero for a vector.

        Args:
            xp: The module that the arrays belong to (torch).
            name: Name of the parameter in `parameter_shapes`.
            shape: Its shape.
            uniform: Function that draws an array of a given shape, uniform in [0, 1).
        """
        return None

    def initial_state(self, xp: Any, shape: tuple[int, ...], **kwargs: Any) -> State:
        """Return the state before the first step: zeros.

        Args:
            xp: The module that the arrays belong to (numpy, torch, …).
            shape: Shape of each part of the state: [B, H], or [H] without a batch axis.
            **kwargs: Further arguments of `xp.zeros`: dtype, device.
        """
        return tuple(xp.zeros(shape, **kwargs) for _ in self.state_names)

    def input_gates(self, params: Params, x: Array) -> Array:
        """Return W_ih x + b_ih.

        Args:
            params: The parameters of the layer.
            x: Inputs [..., I].

        Returns:
            The input's contribution to the gates, [..., X·H].
        """
        return x @ params["weight_ih"].T + params["bias_ih"]

    @abstractmethod
    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        """Compute one time step.

        Args:
            xp: The module that the arrays belong to (numpy, torch, …).
            params: The parameters of the layer.
            x_gates: `input_gates` of the input of this step, [B, X·H].
            state: The state before this step, each part [B, H].

        Returns:
            The state after this step; its first part is the output of the layer.
        """


def sigmoid(xp: Any, x: Array) -> Array:
    """Return σ(x) = (1 + tanh(x/2)) / 2, which never overflows."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def relu(xp: Any, x: Array) -> Array:
    """Return max(x, 0) = (x + |x|) / 2; the form with |x| needs no array of zeros."""
    return 0.5 * (x + xp.abs(x))


class NetworkState(NamedTuple):
    """The state of a whole network: the states of all layers, and the n-gram history if it has n-gram features.

    NumPy and torch engines share this type. A state is a value: functions take one and return another, and nothing
    changes its arrays in place.

    The first axis of every array is the batch, B.
    """

    layers: tuple[State, ...]  #: one state per layer, each part [B, H]
    #: the last N − 1 token ids, the newest last, and the hashes of words, [B, N − 1 + W]; None without n-grams
    ngram_history: Array | None = None

    @property
    def batch_size(self) -> int:
        """The number of streams, B."""
        return len(self.layers[0][0])

    def map(self, function: Callable[..., Array], *others: NetworkState) -> NetworkState:
        """Return the state with each array replaced by function(array, the same array of each other state …)."""
        layers = tuple(
            tuple(function(*arrays) for arrays in zip(*parts, strict=True))
            for parts in zip(self.layers, *(other.layers for other in others), strict=True)
        )
        if self.ngram_history is None:
            return NetworkState(layers)
        return NetworkState(layers, function(self.ngram_history, *(other.ngram_history for other in others)))
