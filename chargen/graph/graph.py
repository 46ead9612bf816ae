"""The operator graph of a step of a network, and the builder that simplifies it while it grows.

The builder applies three simplifications:

- Constant folding: a node whose arguments are all constant is computed at once.
- Common subexpressions: the same operator with the same arguments is one node.
- Reordered sums: the terms of a sum that do not depend on the state are added first. Their sum is the same whenever
  the same token id is read, so it is computed once for each token id. This changes results by rounding only.

      (x + product(W, h)) + b     →     (x + b) + product(W, h)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

UNARY = ("tanh", "exp", "expm1", "log", "log1p", "sqrt", "square", "sin", "cos", "abs", "negative", "positive")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
REDUCTIONS = ("mean",)  # operators that reduce a vector; the result has its width, and all its elements are equal
CONSTANT, TOKEN, STATE = range(3)  # what a value depends on: weights only; also the token id; also the state


class TraceError(Exception):
    """A cell uses an operation that the graph has no operator for."""


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One value of a step: a vector, a scalar, or a constant matrix.

    `op` is an operator of UNARY, BINARY or REDUCTIONS, or one of

        constant    `value`, of any shape; a vector or a scalar where it is an argument
        input       the input gates of the token id, from the table number `index`
        state       part number `index` of the state before the step
        ngrams      the n-gram features of the last token ids (`cells/ngram_features.py`)
        product     the matrix `value` [width, args[0].width] times the vector args[0]
        slice       the elements [offset : offset + width] of args[0]
    """

    op: str
    args: tuple[Node, ...]
    width: int  #: number of elements; 0 for a scalar
    depends_on: int  #: CONSTANT, TOKEN or STATE
    value: Any = None
    index: int = 0  #: number of the input table or of the part of the state
    offset: int = 0  #: first element of a slice


class Graph(NamedTuple):
    """One step of a whole network."""

    logits: Node
    states: tuple[Node, ...]  #: the state after the step, part by part, layer by layer


class GraphBuilder:
    """Creates nodes. Equal descriptions give the same node."""

    def __init__(self) -> None:
        self._nodes: dict[Any, Node] = {}

    def leaf(self, op: str, width: int, index: int) -> Node:
        """Return the node of an input, of the n-gram features, or of a part of the state."""
        return self._node(op, width=width, depends_on=TOKEN if op == "input" else STATE, index=index)

    def constant(self, value: Any) -> Node:
        """Return the node of an array or a number, in float32."""
        array = np.asarray(value, dtype=np.float32)
        if array.ndim == 0:
            return self._node("constant", value=array, key=array.tobytes())
        width = len(array) if array.ndim == 1 else 0
        key = (array.__array_interface__["data"][0], array.shape, array.strides)  # unique: the node keeps the array
        return self._node("constant", width=width, value=array, key=key)

    def product(self, matrix: Node, vector: Node) -> Node:
        """Return the product of a constant matrix [N, K] and a vector [K]."""
        weights = matrix.value
        if vector.depends_on == CONSTANT:
            return self.constant(weights @ vector.value)
        if vector.width != weights.shape[1]:
            raise TraceError(f"a product of {weights.shape} and {vector.width}")
        return self._node("product", (vector,), len(weights), vector.depends_on, weights, key=id(matrix))

    def slice(self, node: Node, offset: int, width: int) -> Node:
        """Return the elements [offset : offset + width] of a vector."""
        if node.op == "slice":
            return self.slice(node.args[0], node.offset + offset, width)
        if node.op == "constant":
            return node if node.width == 0 else self.constant(node.value[offset : offset + width])
        if (offset, width) == (0, node.width):
            return node
        return self._node("slice", (node,), width, node.depends_on, offset=offset)

    def apply(self, op: str, *args: Node) -> Node:
        """Return an operator applied to vectors of equal width, or to vectors and scalars."""
        if len(args) != 1 + (op in BINARY):
            raise TraceError(f"{op} of {len(args)}")
        if all(arg.depends_on == CONSTANT for arg in args):
            return self.constant(compute(op, *(arg.value for arg in args)))
        widths = {arg.width for arg in args if arg.width}
        if len(widths) != 1 or any(arg.op == "constant" and arg.value.ndim > 1 for arg in args):
            raise TraceError(f"{op} of widths {sorted(widths)}")
        if op == "add":
            terms = self._terms(args[0]) + self._terms(args[1])
            known_early = [term for term in terms if term.depends_on < STATE]
            if 1 < len(known_early) < len(terms):
                return self._sum([self._sum(known_early), *(term for term in terms if term.depends_on == STATE)])
        (width,) = widths
        return self._node(op, args, width, max(arg.depends_on for arg in args))

    def store(self, node: Node) -> Node:
        """Return the node that copies a vector: a part of the state has memory of its own."""
        return self._node("positive", (node,), node.width, STATE)

    def _sum(self, terms: list[Node]) -> Node:
        """Return the sum of terms; constants come first, so that they are folded."""
        total = terms[0]
        for term in sorted(terms[1:], key=lambda term: term.depends_on):
            total = self.apply("add", total, term)
        return total

    def _terms(self, node: Node) -> list[Node]:
        """Return the terms of a sum, or of a slice of a sum. A sum that does not depend on the state is one term."""
        base, offset = resolve_slice(node)
        if base.op != "add" or base.depends_on < STATE:
            return [node]
        return [term for arg in base.args for term in self._terms(self.slice(arg, offset, node.width))]

    def _node(
        self,
        op: str,
        args: tuple[Node, ...] = (),
        width: int = 0,
        depends_on: int = CONSTANT,
        value: Any = None,
        index: int = 0,
        offset: int = 0,
        key: Any = None,
    ) -> Node:
        """Return the node of this description; `key` stands for the value, which cannot be compared cheaply."""
        description = (op, tuple(id(arg) for arg in args), width, index, offset, key)
        if description not in self._nodes:
            self._nodes[description] = Node(op, args, width, depends_on, value, index, offset)
        return self._nodes[description]


def compute(op: str, *args: Any) -> Any:
    """Return an operator applied to NumPy arrays, over their last axis."""
    if op in REDUCTIONS:
        (x,) = args
        return np.broadcast_to(getattr(np, op)(x, axis=-1, keepdims=True), np.shape(x))
    return getattr(np, op)(*args)


def resolve_slice(node: Node) -> tuple[Node, int]:
    """Return (the vector that a node is a slice of, the offset in it); any other node is returned with offset 0."""
    return (node.args[0], node.offset) if node.op == "slice" else (node, 0)


def reachable(roots: Iterable[Node]) -> list[Node]:
    """Return all nodes that the roots depend on, and the roots, so that each node comes after its arguments."""
    ordered: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in ordered:
            for arg in node.args:
                visit(arg)
            ordered[node] = None

    for root in roots:
        visit(root)
    return list(ordered)
