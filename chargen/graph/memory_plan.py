"""In which order a step's operations are run, and where in memory its numbers stand.

All numbers of a stream stand in one array, its buffer. What is multiplied with the same vector is one product:

          [ W_hh of the next step ]          a new output is read once, for the head or the layer above, and for the
    h' ─▶ [ W_ih of the layer above ] · h'   gates of the next step, which wait in the buffer until then
          [ head ]

So a layer costs one product a step, with a matrix that stands in memory in one piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chargen.graph.graph import CONSTANT, INPUT, STEP, Graph, Node

FILLED = 16  #: rows of a matrix: so that parts of it, on few threads, give the very numbers of the whole
ALIGNED = 16  #: float32 numbers of a line of the cache, at whose beginning each vector stands


@dataclass(frozen=True, eq=False)
class Product:
    """A product of matrices under each other with one vector, whose place is `operand`."""

    matrix: NDArray[np.float32]
    operand: int
    begin: int
    state: int | None  #: the part of the state that the operand is, where the next step needs the product

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """The matrix with its columns as rows: so it is multiplied with many vectors, of which each is a row."""
        return np.ascontiguousarray(self.matrix.T)


@dataclass(frozen=True, eq=False)
class Copy:
    """A new part of the state is put where the next step looks for it."""

    begin: int
    end: int
    width: int


@dataclass
class MemoryPlan:
    """The order of a step, and the places of its numbers in the buffer."""

    graph: Graph
    hidden_size: int
    steps: list[Node | Product | Copy] = field(default_factory=list)
    states: list[int] = field(default_factory=list)  #: places of the parts of the state
    ngrams: slice | None = None  #: the place of what the n-grams stand for, before a step
    rows: list[Node] = field(default_factory=list)  #: vectors that depend on the id alone
    constants: list[Node] = field(default_factory=list)  #: vectors of weights
    size: int = 0  #: of the buffer
    _places: dict[Node, int] = field(default_factory=dict)

    def place(self, node: Node) -> int:
        """Return where a vector, or a part of one, stands in the buffer."""
        base, begin = whole(node)
        return self._places[base] + begin

    def put(self, node: Node, begin: int | None = None) -> int:
        """Give a vector its place: a new one, if none is given."""
        self._places[node] = self.reserve(node.width) if begin is None else begin
        return self._places[node]

    def reserve(self, width: int) -> int:
        """Return the beginning of a new place in the buffer."""
        begin = self.size
        self.size += -(-width // ALIGNED) * ALIGNED
        return begin


def whole(node: Node) -> tuple[Node, int]:
    """Return the vector that a part is of, and where the part begins."""
    return (node.args[0], node.begin) if node.op == "slice" else (node, 0)


def plan_memory(graph: Graph, hidden_size: int) -> MemoryPlan:
    """Lay out a step."""
    planner = _Planner(MemoryPlan(graph, hidden_size))
    planner.run()
    return planner.plan


class _Planner:
    """Walks a graph from its ends, arguments first."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self.run_already: set[Node] = set()
        self.products: dict[Node, list[Node]] = {}  # by what they are made of
        self.readers: dict[Node, list[Node]] = {}  # of a vector's numbers, in this step
        self.waiting: dict[int, list[Node]] = {}  # products that the next step needs, by the part of the state
        self.ends: dict[int, int] = {}  # of products that stand together: with what fills up their place
        self.numbers = {after: number for number, after in reversed(list(enumerate(plan.graph.states)))}
        plan.states = [plan.reserve(plan.hidden_size) for _ in plan.graph.states]
        for node in reachable((*plan.graph.states, plan.graph.logits)):
            if node.op == "state":
                plan.put(node, plan.states[node.begin])
            elif node.op == "ngrams":
                plan.ngrams = slice(plan.put(node), plan.place(node) + node.width)
            elif node.op == "product" and node.depends == STEP:
                self.products.setdefault(node.args[0], []).append(node)
                if node.args[0].op == "state":
                    self.waiting.setdefault(node.args[0].begin, []).append(node)
                    continue  # it was made at the end of the step before
            if node.op != "slice" and node.depends == STEP:
                for arg in node.args:
                    self._read(arg, node)

    def run(self) -> None:
        """Make the plan."""
        graph, plan = self.plan.graph, self.plan
        for number, after in enumerate(graph.states):  # what is multiplied with it stands together
            mine = self.products.get(after, []) if self.numbers[after] == number else []
            self._stand([*self.waiting.get(number, []), *mine])
        for end in (*graph.states, graph.logits):
            self._visit(end)
        for number, after in enumerate(graph.states):
            if plan.place(after) != plan.states[number]:
                plan.steps.append(Copy(plan.place(after), plan.states[number], plan.hidden_size))
        for number, products in self.waiting.items():
            self._multiply(products, plan.states[number], number)

    def _read(self, arg: Node, reader: Node) -> None:
        """Note who reads a vector; a constant gets a place in the buffer, what depends on the id one in its row."""
        self.readers.setdefault(whole(arg)[0], []).append(reader)
        if arg.depends == CONSTANT and arg.width and arg not in self.plan.constants:
            self.plan.constants.append(arg)
            self.plan.put(arg)
        elif arg.depends == INPUT and arg not in self.plan.rows:
            self.plan.rows.append(arg)

    def _visit(self, node: Node) -> None:
        node = whole(node)[0]
        if node in self.run_already or node.depends < STEP or node.op in ("state", "ngrams"):
            return
        if node.op != "product":
            for arg in node.args:
                self._visit(arg)
            number = self.numbers.get(node)
            unread = number is not None and self._all_read(self._leaf(number), node)
            self.plan.put(node, self.plan.states[number] if number is not None and unread else None)
            self.plan.steps.append(node)
            self.run_already.add(node)
        elif node.args[0].op != "state":
            (operand,) = node.args
            self._visit(operand)
            self._multiply_all(operand)

    def _multiply_all(self, operand: Node) -> None:
        """Make the products with a vector, and those that the next step needs if the last ones have been read."""
        products, number = self.products[operand], self.numbers.get(operand)
        self.run_already.update(products)
        if number is None:
            self._stand(products)
        late = self.waiting.get(number, []) if number is not None else []
        if number is not None and late and all(self._all_read(product) for product in late):
            del self.waiting[number]
            self._multiply([*late, *products], self.plan.place(operand), number)
        else:
            self._multiply(products, self.plan.place(operand), None)

    def _multiply(self, products: list[Node], operand: int, state: int | None) -> None:
        begin, last = self.plan.place(products[0]), products[-1]
        end = self.plan.place(last) + last.width
        rows = self.ends.get(end, end) - begin  # with those that fill up the place, whose weights are zeros
        matrix = np.zeros((rows, products[0].value.shape[1]), dtype=np.float32)
        matrix[: end - begin] = np.concatenate([product.value for product in products])
        self.plan.steps.append(Product(matrix, operand, begin, state))

    def _stand(self, products: list[Node]) -> None:
        """Give products a place, one behind the other."""
        width = sum(product.width for product in products)
        filled = -(-width // FILLED) * FILLED
        begin = self.plan.reserve(filled)
        self.ends[begin + width] = begin + filled
        for product in products:
            self.plan.put(product, begin)
            begin += product.width

    def _leaf(self, number: int) -> Node | None:
        return next((node for node in self.readers if node.op == "state" and node.begin == number), None)

    def _all_read(self, node: Node | None, but: Node | None = None) -> bool:
        """Tell whether all that read a vector in this step have been run."""
        readers = self.readers.get(node, []) if node else []
        return all(reader in self.run_already or reader is but for reader in readers)


def reachable(ends: Iterable[Node]) -> list[Node]:
    """Return what the ends are made of and the ends, arguments first, each once."""
    found: dict[Node, None] = {}

    def walk(node: Node) -> None:
        if node not in found:
            for arg in node.args:
                walk(arg)
            found[node] = None

    for end in ends:
        walk(end)
    return list(found)
