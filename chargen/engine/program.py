"""A step as a program of NumPy calls that allocate nothing, made from a trace of the cell's equations.

The program is Python source, a line an operation, on views of one array, the stream's room (`schedule.py`):

    def step(token_id):
        _, r0 = rows[token_id]
        add(r0, p0, b0)
        multiply(c0, b0a, b1)
        ...
        dot(m0, b9, p0)
        return b10

Constants of an equation are arrays of one number: NumPy takes half a microsecond to make one of a Python number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.graph import CONSTANT, INPUT, Node
from chargen.engine.schedule import ALIGNED, FILLED, Copy, Product, Schedule

MOST_OF_A_PART = 400_000  #: weights: of 460,800 and more OpenBLAS makes a product on several threads

Float = NDArray[np.float32]
Step = Callable[[int], Float]


class Rows(dict[int, tuple[Float, ...]]):
    """What depends on the id alone, worked out when an id is first read: all of it, and its parts.

    Args:
        plan: a network's step.
        tables: the input gates of every id, a table [V, X·H] for each member.
    """

    def __init__(self, plan: Schedule, tables: Sequence[Float]) -> None:
        super().__init__()
        self._plan, self._tables = plan, tables

    def __missing__(self, token_id: int) -> tuple[Float, ...]:
        parts = [_value(node, [table[token_id] for table in self._tables]) for node in self._plan.rows]
        row = np.concatenate([np.empty(0, np.float32), *parts])
        ends = np.cumsum([len(part) for part in parts]).tolist()
        self[token_id] = (row, *(row[end - len(part) : end] for end, part in zip(ends, parts, strict=True)))
        return self[token_id]


def _value(node: Node, inputs: Sequence[Float]) -> Float:
    """Work out what depends on the id alone."""
    if node.op == "constant":
        return node.value  # type: ignore[no-any-return]
    if node.op == "input":
        return inputs[node.begin]
    args = [_value(arg, inputs) for arg in node.args]
    if node.op == "slice":
        return args[0][node.begin : node.begin + node.width]
    if node.op == "product":
        return node.value @ args[0]  # type: ignore[no-any-return]
    return getattr(np, node.op)(*args)  # type: ignore[no-any-return]


def new_room(plan: Schedule) -> Float:
    """Return a stream's room, with the constants in it."""
    memory = np.zeros(plan.size + ALIGNED, dtype=np.float32)
    skipped = -(memory.ctypes.data // memory.itemsize) % ALIGNED
    room = memory[skipped : skipped + plan.size]
    for node in plan.constants:
        room[plan.place(node) : plan.place(node) + node.width] = node.value
    return room


def prime(plan: Schedule, room: Float) -> None:
    """Make the products that the first step needs; the room holds the state."""
    H = plan.hidden_size
    for product in plan.steps:
        if isinstance(product, Product) and product.state is not None:
            at = plan.states[product.state]
            np.dot(product.matrix, room[at : at + H], out=room[product.begin : product.begin + len(product.matrix)])


def threaded(plan: Schedule) -> bool:
    """Tell whether a product of a step is so large that NumPy makes it on several threads, and parts would do too."""
    products = [step.matrix for step in plan.steps if isinstance(step, Product)]
    large = [matrix for matrix in products if matrix.size > MOST_OF_A_PART]
    return bool(large) and all(len(matrix) % FILLED == 0 for matrix in large)


class Writer:
    """Writes the source of a step, line by line, and keeps what its names stand for.

    Args:
        plan: the step.
        room: the stream's.
        rows: those of its network.
        parted: whether large products are made in parts, which one thread makes each, to the same bits.
    """

    def __init__(self, plan: Schedule, room: Float, rows: Rows, parted: bool = False) -> None:
        self._plan, self._room, self._parted = plan, room, parted
        self._names: dict[str, Any] = {"rows": rows, "dot": np.dot, "copyto": np.copyto}
        self._known: dict[Any, str] = {}
        self.lines = ["row" + "".join(f", r{n}" for n in range(len(plan.rows))) + " = rows[token_id]"]
        if not plan.rows:
            self.lines = []

    def call(self, function: Any, *args: str) -> None:
        """Write a call of a function with names."""
        name = function.__name__
        self._names[name] = function
        self.lines.append(f"{name}({', '.join(args)})")

    def steps(self, steps: Iterable[Node | Product | Copy]) -> None:
        """Write a NumPy call for each of these."""
        for step in steps:
            if isinstance(step, Product):
                self.product(step)
            elif isinstance(step, Copy):
                self.copy(step)
            else:
                self.operation(step)

    def operation(self, node: Node) -> None:
        """Write an operation on vectors."""
        out = self._vector(node)
        if node.op in ("maximum", "minimum"):  # whose third argument has a meaning of its own to come
            out = f"out={out}"
        self.call(getattr(np, node.op), *(self._vector(arg) for arg in node.args), out)

    def product(self, product: Product) -> None:
        """Write a matrix–vector product."""
        size, width = product.matrix.shape
        at_once = size
        if self._parted and product.matrix.size > MOST_OF_A_PART:
            at_once = MOST_OF_A_PART // width // FILLED * FILLED
        for begin in range(0, size, at_once):
            matrix = product.matrix[begin : begin + at_once]
            out = self.view(product.begin + begin, len(matrix))
            self.call(np.dot, self.name("m", (id(product), begin), matrix), self.view(product.operand, width), out)

    def copy(self, copy: Copy) -> None:
        """Write that a vector is copied."""
        self.call(np.copyto, self.view(copy.end, copy.width), self.view(copy.begin, copy.width))

    def view(self, place: int, width: int) -> str:
        """Return the name of a part of the room."""
        return self.name("b", (place, width), self._room[place : place + width])

    def name(self, letter: str, key: Any, value: Any) -> str:
        """Return the name of a value, the same for the same key."""
        if key not in self._known:
            self._known[key] = f"{letter}{len(self._known)}"
            self._names[self._known[key]] = value
        return self._known[key]

    def finish(self) -> Step:
        """Return the function."""
        logits = self._vector(self._plan.graph.logits)
        source = "\n".join(
            [
                f"def make({', '.join(self._names)}):",
                "    def step(token_id):",
                *(f"        {line}" for line in self.lines),
                f"        return {logits}",
                "    return step",
            ]
        )
        made: dict[str, Any] = {}
        exec(_code(source), made)  # names and numbers of this module's making: nothing of a model's file stands in it
        return made["make"](**self._names)  # type: ignore[no-any-return]

    def _vector(self, node: Node) -> str:
        if node.depends == CONSTANT and not node.width:
            return self.name("c", node, node.value)
        if node.depends == INPUT:
            return f"r{self._plan.rows.index(node)}"
        return self.view(self._plan.place(node), node.width)


@lru_cache(maxsize=64)
def _code(source: str) -> CodeType:
    """Compile a source, which is the same for all streams of a model: most of what it takes to make one."""
    return compile(source, "<a traced step>", "exec")


def numpy_step(plan: Schedule, room: Float, rows: Rows, parted: bool = False) -> Step:
    """Return a step of a stream: id → logits [V], which the next step writes over."""
    writer = Writer(plan, room, rows, parted)
    writer.steps(plan.steps)
    return writer.finish()
