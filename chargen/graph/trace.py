"""Tracing: find the operator graph of a step by calling the cell's own equations with symbols.

Each operation on a symbol adds a node to the graph. The equations remain in `cells/`, and every back end is generated
from what they compute:

    x_gates[..., :H] + h @ W.T     →     add(slice(x), product(W, h))

An operation that has no operator raises `TraceError`; the step is then run as it is written. Measured, on one thread:
`sample --length 10000` takes 1.2 times as much CPU time without tracing (gru 1×384, mgru 1×480).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from chargen.cells.cell import Cell, Params
from chargen.cells.stack import connect, normalize
from chargen.graph.graph import BINARY, CONSTANT, TOKEN, UNARY, Graph, GraphBuilder, Node, TraceError
from chargen.schema import format_count


class Layer(NamedTuple):
    """A layer: its cell, its weights, where its input comes from, and who reads its output (`cells/stack.py`)."""

    cell: Cell
    params: Params
    table: int | None  #: the number of the table with its input gates; None: its input is the layer below
    head: NDArray[Any] | None  #: the weights of the head that read it, [V, H]; None: the head does not read it
    residual: bool = False  #: whether its output is added to that of the layer below


def trace(
    layers: Sequence[Layer],
    hidden_size: int,
    head_bias: NDArray[Any],
    ngrams_head: NDArray[Any] | None = None,
    embedding_dim: int | None = None,
) -> Graph:
    """Trace one step of a single stream.

    Args:
        layers: The layers of all ensemble members, network by network.
        hidden_size: The hidden size H.
        head_bias: The output bias, [V].
        ngrams_head: The head of the n-gram features, [V, D]; None if the network has none.
        embedding_dim: The size E of a token embedding, if the step starts from the embedding: the input number 0 is
            then the embedding [E], which all ensemble members share. None: the inputs are the input gates of the
            first layers, one for each member.

    Raises:
        TraceError: If a cell uses an operation that has no operator.
    """
    builder = GraphBuilder()
    states: list[Node] = []
    terms: list[tuple[Symbol, NDArray[Any]]] = []  # what the head reads, and the weights for it
    total = read = None
    try:
        for layer in layers:
            cell = layer.cell
            params = {name: Symbol(builder, builder.constant(value)) for name, value in layer.params.items()}
            if layer.table is None:
                x_gates = cell.input_gates(params, read)
            elif embedding_dim is not None:
                x_gates = cell.input_gates(params, Symbol(builder, builder.leaf("input", embedding_dim, 0)))
            else:
                x_gates = Symbol(builder, builder.leaf("input", cell.num_input_gates * hidden_size, layer.table))
            indices = range(len(states), len(states) + len(cell.state_names))
            before = tuple(Symbol(builder, builder.leaf("state", hidden_size, index)) for index in indices)
            after = tuple(_state_part(part, hidden_size) for part in cell.step(Namespace(), params, x_gates, before))
            if len(after) != len(before):
                raise TraceError(
                    f"a step returned a state of {format_count(len(after), 'part')} for a state of {len(before)}"
                )
            states += [part.node for part in after]
            total, read = connect(partial(normalize, Namespace()), params, after[0], total if layer.residual else None)
            if layer.head is not None:
                terms.append((read, layer.head))
    except Exception as error:  # the step of a new cell may raise anything when it meets a symbol
        raise TraceError(f"{type(layer.cell).__name__}: {error}") from error
    logits = Symbol(builder, builder.constant(head_bias))
    if ngrams_head is not None:
        features = Symbol(builder, builder.leaf("ngrams", ngrams_head.shape[1], 0))
        logits = features @ Symbol(builder, builder.constant(ngrams_head.T)) + logits
    for read, head in terms:
        logits = read @ Symbol(builder, builder.constant(head.T)) + logits
    return Graph(logits.node, tuple(states))


def _state_part(part: Any, hidden_size: int) -> Symbol:
    """Return a part of the new state: a vector [H] computed by an elementwise operator, or a copy of another one."""
    if not isinstance(part, Symbol) or part.node.width != hidden_size or part.node.depends_on == CONSTANT:
        raise TraceError("a part of the state that is no vector of H")
    if part.node.depends_on == TOKEN or part.node.op in ("slice", "product"):
        return Symbol(part.builder, part.builder.store(part.node))
    if part.node.op == "state":
        raise TraceError("a part of the state that is kept")
    return part


class Namespace:
    """The array namespace that a cell gets instead of numpy: functions of symbols."""

    def mean(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Symbol:
        """Return a vector of the width of `x` whose elements all are its mean; only of the last axis, which is kept."""
        if axis != -1 or not keepdims:
            raise TraceError("a mean over another axis than the last, or without keepdims=True")
        return _apply("mean", x)

    def clip(self, x: Any, low: float, high: float) -> Symbol:
        """Return the elements of `x`, limited to an interval."""
        return _apply("minimum", _apply("maximum", x, low), high)

    def __getattr__(self, name: str) -> Any:
        if name not in UNARY + BINARY:
            raise TraceError(f"xp.{name}")
        return lambda *args: _apply(name, *args)


class Symbol:
    """A node with arithmetic operators. Operations that it lacks (`+=`, `if`, `len`) cannot be traced."""

    __array_ufunc__ = None  # without this, a NumPy scalar on the left makes an array of objects

    def __init__(self, builder: GraphBuilder, node: Node) -> None:
        self.builder = builder
        self.node = node

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that the symbol replaces."""
        shape: tuple[int, ...] = self.node.value.shape if self.node.op == "constant" else (self.node.width,)
        return shape

    @property
    def T(self) -> Symbol:  # noqa: N802
        """The transpose of a constant matrix."""
        if self.node.op != "constant":
            raise TraceError("a vector is transposed")
        return Symbol(self.builder, self.builder.constant(self.node.value.T))

    def __getitem__(self, key: Any) -> Symbol:
        if self.node.op == "constant":
            return Symbol(self.builder, self.builder.constant(self.node.value[key]))
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] is ... and isinstance(key[1], slice)):
            raise TraceError(f"[{key}]")
        start, stop, step = key[1].indices(self.node.width)
        if step != 1 or stop <= start:
            raise TraceError(f"[{key}]")
        return Symbol(self.builder, self.builder.slice(self.node, start, stop - start))

    def __matmul__(self, other: Any) -> Symbol:
        if not isinstance(other, Symbol) or other.node.op != "constant" or other.node.value.ndim != 2:
            raise TraceError("a product with something that is no matrix of weights")
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

    def _refuse(self, *_: Any) -> Any:
        raise TraceError("an operation that needs the numbers themselves, or changes them in place")

    __bool__ = __len__ = __iter__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = __setitem__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse


def _apply(op: str, *args: Any) -> Symbol:
    """Apply an operator to symbols and numbers."""
    builder = next(arg.builder for arg in args if isinstance(arg, Symbol))
    nodes = (arg.node if isinstance(arg, Symbol) else builder.constant(arg) for arg in args)
    return Symbol(builder, builder.apply(op, *nodes))
