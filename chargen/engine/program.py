"""A step as a program of NumPy calls that allocate nothing, made from a trace of the cell's equations.

The program is Python source, a line an operation, on views of one array, the stream's room (`schedule.py`):

    def step(given):
        r0, = rows[given]
        add(r0, p0, b0)
        multiply(c0, b0a, b1)
        ...
        dot(m0, b9, p0)
        return b10

Constants of an equation are arrays of one number: NumPy takes half a microsecond to make one of a Python number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from chargen.engine.graph import CONSTANT, INPUT, Node
from chargen.engine.ngrams import Reader
from chargen.engine.room import Float, Rows
from chargen.engine.schedule import FILLED, Copy, Product, Schedule

MOST_OF_A_PART = 400_000  #: weights: of 460,800 and more OpenBLAS makes a product on several threads

Step = Callable[[Any], Float]  #: an id → logits [V], or ids [B] → [B, V]; the next step writes over them


def threaded(plan: Schedule) -> bool:
    """Tell whether a product of a step is so large that NumPy makes it on several threads, and parts would do too."""
    products = [step.matrix for step in plan.steps if isinstance(step, Product)]
    large = [matrix for matrix in products if matrix.size > MOST_OF_A_PART]
    return bool(large) and all(len(matrix) % FILLED == 0 for matrix in large)


class Writer:
    """Writes the source of a program, line by line, and keeps what its names stand for.

    Args:
        plan: the step.
        room: the stream's, or those of many.
        parted: whether large products are made in parts, which one thread makes each, to the same bits.
    """

    def __init__(self, plan: Schedule, room: Float, parted: bool = False) -> None:
        self._plan, self._room, self._parted = plan, room, parted
        self.names: dict[str, Any] = {}  #: what stands in the lines
        self._known: dict[Any, str] = {}
        self._lines: list[str] = []

    def line(self, line: str) -> None:
        """Write a line."""
        self._lines.append(line)

    def call(self, function: Any, *args: str) -> None:
        """Write a call of a function with names."""
        self.names[function.__name__] = function
        self.line(f"{function.__name__}({', '.join(args)})")

    def read(self, reader: Reader | None, ids: str) -> None:
        """Write that the n-grams of these ids are read, where there are n-grams."""
        if reader is not None:
            self.names["read"] = reader.read
            self.line(f"read({ids})")

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
        """Write a product of a matrix and a vector, or those of many streams."""
        matrix, width = product.matrix, product.matrix.shape[1]
        operand, at_once = self.view(product.operand, width), len(matrix)
        if self._room.ndim > 1:
            columns = self.name("m", id(product), product.columns)
            self.call(np.matmul, operand, columns, self.view(product.begin, len(matrix)))
            return
        if self._parted and matrix.size > MOST_OF_A_PART:
            at_once = MOST_OF_A_PART // width // FILLED * FILLED
        for begin in range(0, len(matrix), at_once):
            part = matrix[begin : begin + at_once]
            # the method: numpy.dot first asks whether another library's arrays are among its arguments
            dot = self.name("m", (id(product), begin), part.dot)
            self.line(f"{dot}({operand}, {self.view(product.begin + begin, len(part))})")

    def copy(self, copy: Copy) -> None:
        """Write that a vector is copied."""
        self.call(np.copyto, self.view(copy.end, copy.width), self.view(copy.begin, copy.width))

    def view(self, place: int, width: int) -> str:
        """Return the name of a part of the room."""
        return self.name("b", (place, width), self._room[..., place : place + width])

    def name(self, letter: str, key: Any, value: Any) -> str:
        """Return the name of a value, the same for the same key."""
        if key not in self._known:
            self._known[key] = f"{letter}{len(self._known)}"
            self.names[self._known[key]] = value
        return self._known[key]

    def logits(self) -> str:
        """Return the name of the logits."""
        return self._vector(self._plan.graph.logits)

    def finish(self, result: str) -> Callable[[Any], Any]:
        """Return the function of `given`."""
        source = "\n".join(
            [
                f"def make({', '.join(self.names)}):",
                "    def step(given):",
                *(f"        {line}" for line in self._lines),
                f"        return {result}",
                "    return step",
            ]
        )
        made: dict[str, Any] = {}
        exec(_code(source), made)  # names and numbers of this module's making: nothing of a model's file stands in it
        return made["make"](**self.names)  # type: ignore[no-any-return]

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


def numpy_step(plan: Schedule, room: Float, rows: Rows, parted: bool = False, reader: Reader | None = None) -> Step:
    """Return a step of a stream, by NumPy alone; `reader` puts an id's n-grams into the room."""
    writer = Writer(plan, room, parted)
    writer.read(reader, "given")
    if plan.rows:
        writer.names["rows"] = rows
        writer.line("".join(f"r{n}, " for n in range(len(plan.rows))) + "= rows[given]")
    writer.steps(plan.steps)
    return writer.finish(writer.logits())
