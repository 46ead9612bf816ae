"""The ways to run one recurrent layer over a window, all of them the same function of the same parameters.

    equations   the cell's own step in a loop, gradients by autograd: any cell, any device, slow; the reference
    bptt        the hand-written back-propagation through time (`nets/bptt/`): the fastest on a CPU
    jit         the same with compiled passes (`nets/jit/`): faster still, where the package for it is installed
    fused       the library's whole-sequence kernel (cuDNN on a GPU)
    one_step    its kernel for a window of one, without a gradient: what writing on a GPU is made of

A path takes the layer's input as `Dense` values or as a `Lookup` (ids into a table). Of a lookup the first two compute
the input gates once a table row, instead of once a character: V products where the window has T·B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.cells import Cell
from chargen.networks.kernels import worth_it
from chargen.networks.kernels.gru import GRUFunction
from chargen.networks.kernels.lstm import LSTMFunction
from chargen.networks.kernels.mgru import MGRUFunction
from chargen.networks.kernels.rnn import RNNFunction

Params = dict[str, Tensor]
State = tuple[Tensor, ...]  #: the parts of a layer's state, each [B, H]


@dataclass(frozen=True)
class Dense:
    """Inputs as they are: [T, B, I]."""

    x: Tensor

    def values(self) -> Tensor:
        return self.x

    def gates(self, cell: Cell, params: Params) -> Tensor:
        """Return the input's part of the gates, [T, B, X·H]."""
        return F.linear(self.x, params["weight_ih"], params["bias_ih"])

    def rows(self, cell: Cell, params: Params) -> tuple[Tensor, Tensor]:
        """Return the same as rows [T·B, X·H], and which of them stands where, [T, B]."""
        T, B = self.x.shape[:2]
        return self.gates(cell, params).flatten(0, 1), torch.arange(T * B).view(T, B)


@dataclass(frozen=True)
class Lookup:
    """Inputs as rows of a table: ids [T, B] into table [V, I]."""

    ids: Tensor
    table: Tensor

    def values(self) -> Tensor:
        return F.embedding(self.ids, self.table)

    def gates(self, cell: Cell, params: Params) -> Tensor:
        """Return the input's part of the gates, [T, B, X·H]."""
        if self.table.shape[0] > self.ids.numel():
            return Dense(self.values()).gates(cell, params)
        return F.embedding(self.ids, cell.input_gates(params, self.table))

    def rows(self, cell: Cell, params: Params) -> tuple[Tensor, Tensor]:
        """Return the same as rows [V, X·H], and which of them stands where, [T, B]."""
        if self.table.shape[0] > self.ids.numel():
            return Dense(self.values()).rows(cell, params)
        return cell.input_gates(params, self.table), self.ids.contiguous()


LayerBackend = Callable[[Cell, Params, Dense | Lookup, State], tuple[Tensor, State]]


def equations(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
    """Run the cell's step at every time: → (outputs [T, B, H], the state after the last)."""
    outputs = []
    for x_gates in inputs.gates(cell, params).unbind(0):
        state = cell.step(torch, params, x_gates, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


_FUNCTIONS = {"rnn": RNNFunction, "lstm": LSTMFunction, "gru": GRUFunction, "mgru": MGRUFunction}
_KERNELS: dict[str, Any] = {"rnn": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}
_STEP_KERNELS: dict[str, Any] = {"rnn": torch.rnn_tanh_cell, "lstm": torch.lstm_cell, "gru": torch.gru_cell}
JIT = ("gru", "mgru")  #: cells whose passes are compiled
MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}  #: of the cells that the library has
ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  #: in which the kernels take parameters


@lru_cache
def bptt(name: str) -> LayerBackend:
    """Return the path by hand-written gradient for a cell that has one."""
    function = _FUNCTIONS[name]

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        outputs, *state_after = function.apply(  # type: ignore[no-untyped-call]
            inputs.gates(cell, params), *state, params["weight_hh"], params["bias_hh"]
        )
        return outputs, tuple(state_after)

    return run


@lru_cache
def jit(name: str) -> LayerBackend:
    """Return the path by hand-written gradient with compiled passes, for float32, for a cell that has them.

    Raises:
        ImportError: the package that compiles them is not installed.
    """
    plain = bptt(name)
    if name == "mgru":
        from chargen.networks.kernels.mgru_numba import MGRUFunction as Function
    else:
        from chargen.networks.kernels.gru_numba import GRUFunction as Function  # type: ignore[assignment]

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        if params["weight_hh"].dtype != torch.float32:
            return plain(cell, params, inputs, state)
        outputs, *state_after = Function.apply(  # type: ignore[no-untyped-call]
            *inputs.rows(cell, params), *state, params["weight_hh"], params["bias_hh"]
        )
        return outputs, tuple(state_after)

    return run


def fused(name: str) -> LayerBackend:
    """Return the path by the library's kernel for a cell that has one."""
    kernel = _KERNELS[name]

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        weights = [params[key] for key in ORDER]
        before = [part.unsqueeze(0) for part in state]
        hx = before if name == "lstm" else before[0]
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        outputs, *after = kernel(inputs.values(), hx, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        return outputs, tuple(part.squeeze(0) for part in after)

    return run


def one_step(name: str) -> LayerBackend:
    """Return the path for windows of one step with the fewest kernels: the library's, of a cell that has one."""
    kernel = _STEP_KERNELS.get(name)
    if kernel is None:
        return equations

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        after = kernel(inputs.values()[0], state if name == "lstm" else state[0], *[params[key] for key in ORDER])
        after = after if name == "lstm" else (after,)
        return after[0].unsqueeze(0), after

    return run


def packed(name: str, params: Params) -> Params:
    """Return a layer's parameters laid end to end in one piece of memory, as the library's own module has them.

    cuDNN wants them so; else it copies all of them at every call.
    """
    if name not in MODULES:
        return params
    weight = params["weight_ih"]
    module = MODULES[name](weight.shape[1], params["weight_hh"].shape[1], device=weight.device, dtype=weight.dtype)
    owned = {key: module.get_parameter(f"{key}_l0") for key in ORDER}
    with torch.no_grad():
        for key, parameter in owned.items():
            parameter.copy_(params[key])
    return owned


def choose_backend(name: str, device: torch.device) -> LayerBackend:
    """Return the fastest path there is for a cell on a device."""
    if device.type == "cpu" and name in JIT and worth_it():
        return jit(name)
    if device.type == "cpu" and name in _FUNCTIONS:
        return bptt(name)
    if device.type == "cuda" and name in _KERNELS:
        return fused(name)
    return equations
