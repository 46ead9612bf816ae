"""The memory plan: the order of a step's instructions, and the offset of each vector in the buffer of a stream.

All float32 numbers of a stream are in one array, its buffer. Products with the same vector are computed as one:

          [ W_hh of the next step ]          a new output h' is read once: for the head or the layer above, and for the
    h' ─▶ [ W_ih of the layer above ] · h'   gates of the next step, whose products remain in the buffer until then
          [ head ]

So a layer needs one product per step, with a matrix that is contiguous in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.graph.graph import CONSTANT, STATE, TOKEN, Graph, Node, reachable, resolve_slice

ROW_MULTIPLE = 16  # rows of a matrix are padded to it: a part of the matrix then gives the same bits as the whole
CACHE_LINE_FLOATS = 16  # float32 numbers in a cache line (64 bytes); each vector starts at a multiple of it


@dataclass(frozen=True, eq=False, repr=False)
class Product:
    """A product of stacked matrices with one vector of the buffer."""

    matrix: NDArray[np.float32]  #: [N, K]
    operand: int  #: offset of the vector, [K]
    out: int  #: offset of the result, [N]
    state_part: int | None  #: index of the state part that is the operand, if the next step needs the product

    @cached_property
    def transposed(self) -> NDArray[np.float32]:
        """The transposed matrix [K, N], contiguous: a batch of row vectors [B, K] is multiplied with it."""
        return np.ascontiguousarray(self.matrix.T)


class Copy(NamedTuple):
    """A copy of a new part of the state to the offset where the next step reads it."""

    source: int
    target: int
    width: int


Instruction = Node | Product | Copy  # a node here is an elementwise operator


@dataclass(eq=False, repr=False)
class MemoryPlan:
    """The plan from which a back end generates code; `chargen/graph/__init__.py` describes its fields."""

    graph: Graph
    hidden_size: int
    instructions: list[Instruction] = field(default_factory=list)
    state_offsets: list[int] = field(default_factory=list)
    ngram_slice: slice | None = None
    token_nodes: list[Node] = field(default_factory=list)
    constant_nodes: list[Node] = field(default_factory=list)
    size: int = 0
    _offsets: dict[Node, int] = field(default_factory=dict)

    def offset(self, node: Node) -> int:
        """Return the offset of a vector, or of a slice, in the buffer."""
        base, offset = resolve_slice(node)
        return self._offsets[base] + offset

    def assign(self, node: Node, offset: int | None = None) -> int:
        """Set the offset of a vector, in newly reserved space by default, and return it."""
        self._offsets[node] = self.reserve(node.width) if offset is None else offset
        return self._offsets[node]

    def reserve(self, width: int) -> int:
        """Reserve space for `width` numbers at the end of the buffer and return its offset."""
        offset = self.size
        self.size += _round_up(width, CACHE_LINE_FLOATS)
        return offset


def plan_memory(graph: Graph, hidden_size: int) -> MemoryPlan:
    """Plan one step of a network."""
    planner = _Planner(MemoryPlan(graph, hidden_size))
    planner.run()
    return planner.plan


class _Planner:
    """Schedules a graph from its results backwards: the arguments of a node come before the node."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self.scheduled: set[Node] = set()
        self.products: dict[Node, list[Node]] = {}  # products by their operand
        self.readers: dict[Node, list[Node]] = {}  # the nodes of this step that read a vector
        self.next_step: dict[int, list[Node]] = {}  # products that the next step needs, by part of the state
        self.padded_ends: dict[int, int] = {}  # where a group of products ends → where its padding ends
        self.state_parts = {after: part for part, after in reversed(list(enumerate(plan.graph.states)))}
        plan.state_offsets = [plan.reserve(plan.hidden_size) for _ in plan.graph.states]
        for node in reachable((*plan.graph.states, plan.graph.logits)):
            if node.op == "state":
                plan.assign(node, plan.state_offsets[node.index])
            elif node.op == "ngrams":
                offset = plan.assign(node)
                plan.ngram_slice = slice(offset, offset + node.width)
            elif node.op == "product" and node.depends_on == STATE:
                self.products.setdefault(node.args[0], []).append(node)
                if node.args[0].op == "state":
                    self.next_step.setdefault(node.args[0].index, []).append(node)
                    continue  # the step before has computed it
            if node.op != "slice" and node.depends_on == STATE:
                for arg in node.args:
                    self._add_reader(arg, node)

    def run(self) -> None:
        """Fill in the plan."""
        graph, plan = self.plan.graph, self.plan
        for part, after in enumerate(graph.states):  # all products with a part of the state are next to each other
            of_this_step = self.products.get(after, []) if self.state_parts[after] == part else []
            self._assign_products([*self.next_step.get(part, []), *of_this_step])
        for root in (*graph.states, graph.logits):
            self._schedule(root)
        for part, after in enumerate(graph.states):
            if plan.offset(after) != plan.state_offsets[part]:
                plan.instructions.append(Copy(plan.offset(after), plan.state_offsets[part], plan.hidden_size))
        for part, products in self.next_step.items():
            self._add_product(products, plan.state_offsets[part], part)

    def _add_reader(self, arg: Node, reader: Node) -> None:
        """Record who reads a vector. A constant gets space in the buffer, a vector of the token id a table column."""
        self.readers.setdefault(resolve_slice(arg)[0], []).append(reader)
        if arg.depends_on == CONSTANT and arg.width and arg not in self.plan.constant_nodes:
            self.plan.constant_nodes.append(arg)
            self.plan.assign(arg)
        elif arg.depends_on == TOKEN and arg not in self.plan.token_nodes:
            self.plan.token_nodes.append(arg)

    def _schedule(self, node: Node) -> None:
        """Add the instructions that compute a node, unless they have been added."""
        node = resolve_slice(node)[0]
        if node in self.scheduled or node.depends_on < STATE or node.op in ("state", "ngrams"):
            return
        if node.op != "product":
            for arg in node.args:
                self._schedule(arg)
            part = self.state_parts.get(node)
            # A new state overwrites the old one where this node is the last that reads it.
            in_place = part is not None and self._is_read(self._old_state(part), except_by=node)
            self.plan.assign(node, self.plan.state_offsets[part] if part is not None and in_place else None)
            self.plan.instructions.append(node)
            self.scheduled.add(node)
        elif node.args[0].op != "state":
            (operand,) = node.args
            self._schedule(operand)
            self._schedule_products(operand)

    def _schedule_products(self, operand: Node) -> None:
        """Add the products with a vector, and those of the next step if nothing reads their last results any more."""
        products = self.products[operand]
        part = self.state_parts.get(operand)
        self.scheduled.update(products)
        if part is None:
            self._assign_products(products)
        of_next_step = self.next_step.get(part, []) if part is not None else []
        if part is not None and of_next_step and all(self._is_read(product) for product in of_next_step):
            del self.next_step[part]
            self._add_product([*of_next_step, *products], self.plan.offset(operand), part)
        else:
            self._add_product(products, self.plan.offset(operand), None)

    def _add_product(self, products: list[Node], operand: int, state_part: int | None) -> None:
        """Add one instruction for products that are next to each other in the buffer."""
        start, last = self.plan.offset(products[0]), products[-1]
        end = self.plan.offset(last) + last.width
        num_rows = self.padded_ends.get(end, end) - start  # the weights of the padding are zeros
        matrix = np.zeros((num_rows, products[0].value.shape[1]), dtype=np.float32)
        matrix[: end - start] = np.concatenate([product.value for product in products])
        self.plan.instructions.append(Product(matrix, operand, start, state_part))

    def _assign_products(self, products: list[Node]) -> None:
        """Reserve padded space for products, one after the other."""
        width = sum(product.width for product in products)
        padded = _round_up(width, ROW_MULTIPLE)
        offset = self.plan.reserve(padded)
        self.padded_ends[offset + width] = offset + padded
        for product in products:
            self.plan.assign(product, offset)
            offset += product.width

    def _old_state(self, part: int) -> Node | None:
        return next((node for node in self.readers if node.op == "state" and node.index == part), None)

    def _is_read(self, node: Node | None, except_by: Node | None = None) -> bool:
        """Return whether all nodes that read a vector in this step have been scheduled."""
        readers = self.readers.get(node, []) if node else []
        return all(reader in self.scheduled or reader is except_by for reader in readers)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
