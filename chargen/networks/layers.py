"""Layer back ends: functions that run one recurrent layer over a window.

All of them compute the same function of the same parameters:

    run_equations    the cell's own step in a loop, gradients by autograd: any cell, any device, slow; the reference
    run_scan         all steps of a linear recurrence by a parallel scan: any cell of `cells/linear/`, any device
    run_windows      all steps of a cell without recurrence as shifted sums: any cell of `cells/windows/`, any device
    bptt             hand-written back-propagation through time (`kernels/`): the fastest without numba on a CPU
    numba            the same with compiled passes: faster still, where numba is installed
    single_step      the library's kernel for one step, without a gradient: for generating text on a GPU
    together         hand-written back-propagation for all members of an ensemble at once: for a GPU

A back end takes the layer's input as `Dense` values or as a `Lookup` (token ids into a table). For a lookup, the first
five compute the input gates once for each row of the table instead of once for each token: V products instead of T·B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from chargen.cells import CELLS, Cell
from chargen.cells.linear.linear import LinearCell
from chargen.cells.stack import EPSILON, NORM_BIAS, NORM_WEIGHT
from chargen.cells.windows.window import WindowCell
from chargen.networks.kernels import members, use_numba
from chargen.networks.kernels.gru import GRUFunction
from chargen.networks.kernels.lstm import LSTMFunction
from chargen.networks.kernels.mgru import MGRUFunction
from chargen.networks.kernels.rnn import RNNFunction
from chargen.networks.kernels.scan import LinearScan
from chargen.networks.kernels.windows import WindowSums

Params = dict[str, Tensor]
State = tuple[Tensor, ...]  #: the parts of a layer's state, each [B, H]


class InputRows(NamedTuple):
    """The input gates of a layer as rows, of which each step and stream reads one."""

    rows: Tensor  #: [R, X·H]
    ids: Tensor  #: the row of each step and stream, [T, B]
    is_shared: bool  #: whether several of them may read the same row


@dataclass(frozen=True)
class Dense:
    """A layer's input as values, [T, B, I]."""

    x: Tensor

    def values(self) -> Tensor:
        """Return the input, [T, B, I]."""
        return self.x

    def input_gates(self, cell: Cell, params: Params) -> Tensor:
        """Return the input gates, [T, B, X·H]."""
        if type(cell).input_gates is not Cell.input_gates:
            gates: Tensor = cell.input_gates(params, self.x)
            return gates.to(self.x.dtype)
        gates = F.linear(self.x, params["weight_ih"], params["bias_ih"])  # one kernel for the product and the bias
        return gates.to(self.x.dtype)  # a product in bf16 does not change the precision of the state

    def input_gate_rows(self, cell: Cell, params: Params, product_dtype: torch.dtype = torch.float32) -> InputRows:
        """Return the input gates as rows [T·B, X·H], with the product in float32 or bf16."""
        T, B = self.x.shape[:2]
        if product_dtype == torch.bfloat16:
            product = F.linear(self.x.to(product_dtype), params["weight_ih"].to(product_dtype))
            gates = product.to(self.x.dtype) + params["bias_ih"]
        else:
            gates = self.input_gates(cell, params)
        return InputRows(gates.flatten(0, 1), torch.arange(T * B, device=self.x.device).view(T, B), is_shared=False)


@dataclass(frozen=True)
class Lookup:
    """A layer's input as token ids, [T, B], into the rows of a table, [V, I]."""

    ids: Tensor
    table: Tensor

    def values(self) -> Tensor:
        """Return the input, [T, B, I]."""
        return F.embedding(self.ids, self.table)

    def input_gates(self, cell: Cell, params: Params) -> Tensor:
        """Return the input gates, [T, B, X·H]."""
        if self.table.shape[0] > self.ids.numel():
            return Dense(self.values()).input_gates(cell, params)
        return F.embedding(self.ids, self._table_gates(cell, params))

    def _table_gates(self, cell: Cell, params: Params) -> Tensor:
        """Return the input gates of each row of the table, [V, X·H]."""
        gates: Tensor = cell.input_gates(params, self.table)
        return gates.to(self.table.dtype)

    def input_gate_rows(self, cell: Cell, params: Params, product_dtype: torch.dtype = torch.float32) -> InputRows:
        """Return the input gates as rows [V, X·H]; their product is small, and always in float32."""
        if self.table.shape[0] > self.ids.numel():
            return Dense(self.values()).input_gate_rows(cell, params, product_dtype)
        return InputRows(self._table_gates(cell, params), self.ids.contiguous(), is_shared=True)


LayerBackend = Callable[[Cell, Params, Dense | Lookup, State], tuple[Tensor, State]]


def run_equations(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
    """Run the cell's equations at every step: → (outputs [T, B, H], the state after the last)."""
    outputs = []
    for x_gates in inputs.input_gates(cell, params).unbind(0):
        state = cell.step(torch, params, x_gates, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def run_scan(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
    """Run a linear recurrence over a window by a parallel scan: → (outputs [T, B, H], the state after the last step).

    The coefficients are computed once for each row of a table. A recurrence with a real and an imaginary part is
    scanned in complex numbers.
    """
    assert isinstance(cell, LinearCell)
    rows, ids, _ = inputs.input_gate_rows(cell, params)
    coefficients = cell.coefficients(torch, params, rows)
    if len(state) == 1 and rows.device.type == "cpu" and rows.dtype == torch.float32 and use_numba():
        from chargen.networks.kernels.scan_numba import RowScan

        (decay,), (update,) = coefficients
        outputs: Tensor = RowScan.apply(decay, update, ids, *state)  # type: ignore[no-untyped-call]
        return outputs, (outputs[-1],)

    def of_each_step(part: Tensor) -> Tensor:
        if part.ndim == 1:  # a decay that does not depend on the input
            return part
        return part.view(*ids.shape, -1) if isinstance(inputs, Dense) else F.embedding(ids, part)

    decays, updates = (tuple(map(of_each_step, parts)) for parts in coefficients)
    is_complex = len(updates) == 2
    a, b, h = (torch.complex(*parts) if is_complex else parts[0] for parts in (decays, updates, state))
    states: Tensor = LinearScan.apply(a.expand_as(b), b, h)  # type: ignore[no-untyped-call]
    parts = (states.real, states.imag) if is_complex else (states,)
    return parts[0].contiguous(), tuple(part[-1] for part in parts)


def run_windows(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
    """Run a cell without recurrence over a window: → (outputs [T, B, H], the state after the last step)."""
    assert isinstance(cell, WindowCell)
    gates = inputs.input_gates(cell, params)
    T, (h, *sums) = len(gates), state
    earlier = torch.stack(sums) if sums else gates.new_empty(0, *h.shape)
    totals: Tensor = WindowSums.apply(gates, earlier)  # type: ignore[no-untyped-call]
    outputs = cell.activation(torch, totals[:T] + params["bias"])
    return outputs, (outputs[-1], *totals[T:].unbind())


#: Hand-written gradients, for the cells that have one; other cells are trained by automatic differentiation.
FUNCTIONS = {"rnn": RNNFunction, "lstm": LSTMFunction, "gru": GRUFunction, "mgru": MGRUFunction}
_STEP_KERNELS: dict[str, Any] = {"rnn": torch.rnn_tanh_cell, "lstm": torch.lstm_cell, "gru": torch.gru_cell}
NUMBA_CELLS = ("gru", "mgru")  #: cells with compiled passes
ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  #: the order in which the kernels take parameters


@lru_cache
def bptt_backend(name: str) -> LayerBackend:
    """Return the back end with the hand-written gradient of a cell."""
    function = FUNCTIONS[name]

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        outputs, *state_after = function.apply(  # type: ignore[no-untyped-call]
            inputs.input_gates(cell, params), *state, params["weight_hh"], params["bias_hh"]
        )
        return outputs, tuple(state_after)

    return run


@lru_cache
def numba_backend(name: str, product_dtype: torch.dtype = torch.float32) -> LayerBackend:
    """Return the back end with compiled passes of a cell of NUMBA_CELLS; other dtypes than float32 use the plain one.

    Args:
        name: The cell.
        product_dtype: The type of the products with float32 weights: float32, or bf16.

    Raises:
        ImportError: If numba is not installed.
    """
    plain = bptt_backend(name)
    if name == "mgru":
        from chargen.networks.kernels.mgru_numba import MGRUFunction as Function
    else:
        from chargen.networks.kernels.gru_numba import GRUFunction as Function  # type: ignore[assignment]

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        if params["weight_hh"].dtype != torch.float32:
            return plain(cell, params, inputs, state)
        rows, ids, is_shared = inputs.input_gate_rows(cell, params, product_dtype)
        outputs, *state_after = Function.apply(  # type: ignore[no-untyped-call]
            rows, ids, *state, params["weight_hh"], params["bias_hh"], is_shared, product_dtype
        )
        return outputs, tuple(state_after)

    return run


def single_step_backend(name: str) -> LayerBackend:
    """Return the back end with the fewest kernels for one step; the cell's equations if the library has none."""
    kernel = _STEP_KERNELS.get(name)
    if kernel is None:
        return run_equations

    def run(cell: Cell, params: Params, inputs: Dense | Lookup, state: State) -> tuple[Tensor, State]:
        after = kernel(inputs.values()[0], state if name == "lstm" else state[0], *[params[key] for key in ORDER])
        after = after if name == "lstm" else (after,)
        return after[0].unsqueeze(0), after

    return run


def choose_backend(name: str, device: torch.device, product_dtype: torch.dtype = torch.float32) -> LayerBackend:
    """Return the fastest back end for a cell on a device.

    Args:
        name: The cell.
        device: The device.
        product_dtype: The type of the products with float32 weights. bf16 is for the cells of NUMBA_CELLS on a CPU.
    """
    if product_dtype == torch.bfloat16:
        return numba_backend(name, product_dtype)
    if device.type == "cpu" and name in NUMBA_CELLS and use_numba():
        return numba_backend(name)
    if device.type == "cpu" and name in FUNCTIONS:
        return bptt_backend(name)
    cell = CELLS.get(name) if name.partition(":")[0] in CELLS.names() else None
    if isinstance(cell, LinearCell):
        return run_scan
    return run_windows if isinstance(cell, WindowCell) else run_equations


def layer_norm(params: Params, x: Tensor) -> Tensor:
    """Return what `cells.stack.normalize` returns, with a single kernel for each pass.

    Args:
        params: The parameters of the layer; with a first axis of M for all ensemble members.
        x: The vectors to normalize, [T, B, H] or [M, T, B, H].
    """
    weight, bias = params[NORM_WEIGHT], params[NORM_BIAS]
    if weight.ndim == 1:
        return F.layer_norm(x, weight.shape, weight, bias, EPSILON)
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * weight[:, None, None] + bias[:, None, None]


def can_run_together(name: str, device: torch.device) -> bool:
    """Return whether `run_together` is the fastest for a cell on a device."""
    return device.type == "cuda" and name in members.FUNCTIONS


def run_together(name: str, params: Params, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """Run a layer of all M ensemble members over a window.

    Args:
        name: The cell, one of those of `kernels/members.py`.
        params: The parameters of the members, each with a first axis of M.
        x: The input of each member, [M, T, B, I].
        state: The parts of the members' state, each [M, B, H].

    Returns:
        (outputs [M, T, B, H], *the parts of the state after the last step).
    """
    flat = torch.baddbmm(params["bias_ih"][:, None], x.flatten(1, 2), params["weight_ih"].transpose(1, 2))
    gates = flat.view(*x.shape[:3], -1).to(x.dtype)
    results: tuple[Tensor, ...] = members.FUNCTIONS[name].apply(  # type: ignore[no-untyped-call]
        gates, *state, params["weight_hh"], params["bias_hh"]
    )
    return results
