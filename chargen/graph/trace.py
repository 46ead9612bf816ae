"""A step of a network as a graph, found by running the cell's own equations on symbols.

A cell is given symbols in the place of its state and its input. Each operation on a symbol makes a node of the graph.
So the equations stay where they are (`cells/`), and faster programs are made from what they turned out to do:

    x_gates[..., :H] + h @ W.T     →     add(slice(x), product(W, h))

What is not known here raises `TraceError`, and the step is then run as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from chargen.cells.cell import Cell, Params
from chargen.graph.graph import BINARY, STEP, UNARY, Builder, Graph, Node, TraceError


@dataclass(frozen=True)
class Layer:
    """A layer's weights, and what it reads."""

    params: Params
    table: int | None  #: the number of the table of its input gates; None: the layer below


def trace(
    cell: Cell,
    layers: Sequence[Layer],
    hidden_size: int,
    heads: Sequence[NDArray[Any]],
    head_bias: NDArray[Any],
    ngrams_head: NDArray[Any] | None = None,
) -> Graph:
    """Trace a step of one stream.

    Args:
        cell: the recurrence.
        layers: of all members, one member's after the other's.
        hidden_size: H.
        heads: the head of each member, [V, H].
        head_bias: [V].
        ngrams_head: of the n-grams, [V, D], if there are any.

    Raises:
        TraceError: the cell does something that is not known here.
    """
    builder = Builder()
    states: list[Node] = []
    tops: list[Symbol] = []
    try:
        for layer in layers:
            params = {name: Symbol(builder, builder.constant(value)) for name, value in layer.params.items()}
            if layer.table is None:
                x_gates = cell.input_gates(params, tops.pop())
            else:
                x_gates = Symbol(builder, builder.leaf("input", cell.num_input_gates * hidden_size, layer.table))
            numbers = range(len(states), len(states) + len(cell.state_names))
            before = tuple(Symbol(builder, builder.leaf("state", hidden_size, number)) for number in numbers)
            after = tuple(_checked(part, hidden_size) for part in cell.step(Functions(), params, x_gates, before))
            if len(after) != len(before):
                raise TraceError(f"{len(after)} parts of a state of {len(before)}")
            tops.append(after[0])
            states += [part.node for part in after]
    except Exception as error:  # a newcomer's step may do anything that a symbol cannot: that is no fault of its
        raise TraceError(f"{type(cell).__name__}: {error}") from error
    logits = Symbol(builder, builder.constant(head_bias))
    if ngrams_head is not None:
        found = Symbol(builder, builder.leaf("ngrams", ngrams_head.shape[1], 0))
        logits = found @ Symbol(builder, builder.constant(ngrams_head.T)) + logits
    for top, head in zip(tops, heads, strict=True):
        logits = top @ Symbol(builder, builder.constant(head.T)) + logits
    return Graph(logits.node, tuple(states))


def _checked(part: Any, hidden_size: int) -> Symbol:
    """Check that a part of the state after is a vector that was worked out from the state before."""
    if not isinstance(part, Symbol) or part.node.width != hidden_size or part.node.depends != STEP:
        raise TraceError("a part of the state that is no vector of H")
    if part.node.op in ("state", "slice", "product"):
        raise TraceError("a part of the state that is kept, cut or a product alone")
    return part


class Functions:
    """What a cell gets in the place of numpy: functions of symbols."""

    def __getattr__(self, name: str) -> Any:
        if name not in UNARY + BINARY:
            raise TraceError(f"xp.{name}")
        return lambda *args: _apply(name, *args)


class Symbol:
    """A node, in a form that arithmetic can be done with. What it cannot do (`+=`, `if`, `len`) cannot be traced."""

    __array_ufunc__ = None  # or a NumPy scalar on the left would make an array of objects

    def __init__(self, builder: Builder, node: Node) -> None:
        self.builder, self.node = builder, node

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.node.value.shape if self.node.op == "constant" else (self.node.width,)
        return shape

    @property
    def T(self) -> Symbol:  # noqa: N802
        if self.node.op != "constant":
            raise TraceError("a vector is transposed")
        return Symbol(self.builder, self.builder.constant(self.node.value.T))

    def __getitem__(self, key: Any) -> Symbol:
        if self.node.op == "constant":
            return Symbol(self.builder, self.builder.constant(self.node.value[key]))
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] is ... and isinstance(key[1], slice)):
            raise TraceError(f"[{key}]")
        begin, end, step = key[1].indices(self.node.width)
        if step != 1 or end <= begin:
            raise TraceError(f"[{key}]")
        return Symbol(self.builder, self.builder.cut(self.node, begin, end - begin))

    def __matmul__(self, other: Any) -> Symbol:
        if not isinstance(other, Symbol) or other.node.op != "constant" or other.node.value.ndim != 2:
            raise TraceError("a product with what is no matrix of weights")
        matrix = self.builder.constant(other.node.value.T)  # [N, K]
        return Symbol(self.builder, self.builder.product(matrix, self.node))

    def __neg__(self) -> Symbol:
        return _apply("negative", self)

    def __add__(self, other: Any) -> Symbol:
        return _apply("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return _apply("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return _apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return _apply("subtract", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return _apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return _apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return _apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return _apply("divide", other, self)

    def _no(self, *_: Any) -> Any:
        raise TraceError("an operation that asks for numbers, or changes them in place")

    __bool__ = __len__ = __iter__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = __setitem__ = _no
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _no


def _apply(op: str, *args: Any) -> Symbol:
    """Apply a function to symbols and numbers."""
    builder = next(arg.builder for arg in args if isinstance(arg, Symbol))
    return Symbol(
        builder, builder.apply(op, *(arg.node if isinstance(arg, Symbol) else builder.constant(arg) for arg in args))
    )
