"""A step of a network as a graph of operations: what `trace.py` finds, and `program.py` and `kernel.py` run.

Constants (weights, and what is made of weights alone) are worked out at once, and what is the same is one node. In a
sum, what depends on the input alone is put together first, as it is the same whenever the same id is read:

    (x + product(W, h)) + b     →     (x + b) + product(W, h)

This changes a result by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

UNARY = ("tanh", "exp", "expm1", "log", "log1p", "sqrt", "square", "sin", "cos", "abs", "negative")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
CONSTANT, INPUT, STEP = range(3)  #: what a node depends on: weights alone; the id that is read too; the state too


class TraceError(Exception):
    """A cell does something that is not known here."""


@dataclass(frozen=True, eq=False)
class Node:
    """One value of a step.

    `op` is a function of UNARY or BINARY, or one of

        constant    `value`, of any shape; a vector or a scalar where it is an argument
        input       the gates of the id that is read, from the table `begin`
        state       part `begin` of the state before
        ngrams      what the n-grams of the last ids stand for (`ngrams.py`)
        product     `value` [width, args[0].width] times args[0]
        slice       args[0] from `begin` on
    """

    op: str
    args: tuple[Node, ...]
    width: int  #: numbers; 0 for a scalar
    depends: int
    value: Any = None
    begin: int = 0


@dataclass(frozen=True)
class Graph:
    """A step of a whole network."""

    logits: Node
    states: tuple[Node, ...]  #: after the step, part by part, layer by layer


class Builder:
    """Makes nodes, each once."""

    def __init__(self) -> None:
        self._known: dict[Any, Node] = {}

    def leaf(self, op: str, width: int, number: int) -> Node:
        """Return the node of an input, of n-grams, or of a part of the state."""
        return self._node(op, width=width, depends=INPUT if op == "input" else STEP, begin=number)

    def constant(self, value: Any) -> Node:
        """Return the node of an array, or of a number."""
        array = np.asarray(value, dtype=np.float32)
        if array.ndim == 0:
            return self._node("constant", value=array, key=array.tobytes())
        width = len(array) if array.ndim == 1 else 0
        key = (array.__array_interface__["data"][0], array.shape, array.strides)  # the node keeps it alive
        return self._node("constant", width=width, value=array, key=key)

    def product(self, matrix: Node, vector: Node) -> Node:
        """Return the product of a constant [N, K] and a vector [K]."""
        rows = matrix.value
        if vector.depends == CONSTANT:
            return self.constant(rows @ vector.value)
        if vector.width != rows.shape[1]:
            raise TraceError(f"a product of {rows.shape} and {vector.width}")
        return self._node("product", (vector,), len(rows), vector.depends, rows, key=id(matrix))

    def cut(self, node: Node, begin: int, width: int) -> Node:
        """Return a part of a vector."""
        if node.op == "slice":
            return self.cut(node.args[0], node.begin + begin, width)
        if node.op == "constant":
            return node if node.width == 0 else self.constant(node.value[begin : begin + width])
        if (begin, width) == (0, node.width):
            return node
        return self._node("slice", (node,), width, node.depends, begin=begin)

    def apply(self, op: str, *args: Node) -> Node:
        """Return a function of vectors of one width, or scalars."""
        if len(args) != 1 + (op in BINARY):
            raise TraceError(f"{op} of {len(args)}")
        if all(arg.depends == CONSTANT for arg in args):
            return self.constant(getattr(np, op)(*(arg.value for arg in args)))
        widths = {arg.width for arg in args if arg.width}
        if len(widths) != 1 or any(arg.op == "constant" and arg.value.ndim > 1 for arg in args):
            raise TraceError(f"{op} of widths {sorted(widths)}")
        if op == "add":
            terms = self._terms(args[0]) + self._terms(args[1])
            early = [term for term in terms if term.depends < STEP]
            if 1 < len(early) < len(terms):
                return self._add([self._add(early), *(term for term in terms if term.depends == STEP)])
        (width,) = widths
        return self._node(op, args, width, max(arg.depends for arg in args))

    def _add(self, terms: list[Node]) -> Node:
        total = terms[0]
        for term in sorted(terms[1:], key=lambda term: term.depends):  # constants are added to each other
            total = self.apply("add", total, term)
        return total

    def _terms(self, node: Node) -> list[Node]:
        """Take a sum apart, or a part of one. A sum of inputs is left as it is."""
        of, begin = (node.args[0], node.begin) if node.op == "slice" else (node, 0)
        if of.op != "add" or of.depends < STEP:
            return [node]
        return [part for arg in of.args for part in self._terms(self.cut(arg, begin, node.width))]

    def _node(
        self,
        op: str,
        args: tuple[Node, ...] = (),
        width: int = 0,
        depends: int = CONSTANT,
        value: Any = None,
        begin: int = 0,
        key: Any = None,
    ) -> Node:
        """Return the node of this description: the same one for the same."""
        description = (op, tuple(id(arg) for arg in args), width, begin, key)
        if description not in self._known:
            self._known[description] = Node(op, args, width, depends, value, begin)
        return self._known[description]
