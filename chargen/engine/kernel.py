"""A step's elementwise operations as compiled loops, one between two products, made from the same trace.

Where `program.py` has a NumPy call for each operation, and each is a walk through memory, here one loop over the units
of a layer does all of them; a slice of H units is an offset. All numbers stand in one array, at places that are known
when the loop is compiled, so that the compiler can tell what does not overlap, and makes vector instructions of it:

    for j in range(H):
        t0 = row[j] + room[1024 + j]
        …
        room[j] = t9

The products stay with NumPy, whose threads read a matrix faster than one loop can. Wants numba:

    pip install 'chargen[fast]'
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from chargen.engine.graph import INPUT, Node, TraceError
from chargen.engine.program import Float, Rows, Step, Writer
from chargen.engine.schedule import Copy, Product, Schedule, whole

Kernel = Callable[[Float, Float], None]  #: of a row and the room
OPERATORS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "maximum": "np.maximum({}, {})",
    "minimum": "np.minimum({}, {})",
    "tanh": "tanh({})",  # our own, which becomes vector instructions
}
#: What changes no result by more than rounding. Not the rest of "fastmath": infinity and NaN are results too.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


@lru_cache(maxsize=1)
def installed() -> bool:
    """Tell whether numba is there."""
    return importlib.util.find_spec("numba") is not None


def compile_kernels(plan: Schedule) -> list[Kernel | None]:
    """Compile the operations between two products, for every such run in a step's order; None where there is but one.

    Raises:
        TraceError: an operation does not go unit by unit, or numba does not know it.
    """
    from numba.core.errors import NumbaError

    try:
        return [_compile(_Loops(plan, run).source()) if len(run) > 1 else None for run in _runs(plan)]
    except NumbaError as error:
        raise TraceError(str(error)) from error


def compiled_step(plan: Schedule, room: Float, rows: Rows, kernels: list[Kernel | None], parted: bool = False) -> Step:
    """Return a step of a stream, as `numpy_step` does, with compiled loops."""
    writer, left = Writer(plan, room, rows, parted), iter(kernels)
    for is_run, steps in groupby(plan.steps, lambda step: isinstance(step, Node)):
        kernel = next(left) if is_run else None
        if kernel is None:
            writer.steps(steps)
        else:
            name = writer.name("k", id(kernel), kernel)
            writer.lines.append(
                f"{name}({'row' if plan.rows else writer.view(0, plan.size)}, {writer.view(0, plan.size)})"
            )
    return writer.finish()


def _runs(plan: Schedule) -> list[list[Node]]:
    runs = groupby(plan.steps, lambda step: isinstance(step, Node))
    return [[step for step in steps if isinstance(step, Node)] for is_run, steps in runs if is_run]


def _compile(source: str) -> Kernel:
    """Compile a kernel, or take it from numba's cache beside this file.

    The cache tells functions apart by their names and code, but not by the numbers in it: so the name has its hash.
    """
    from numba import float32, njit, void

    from chargen.nets.jit.functions import tanh

    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    names: dict[str, Any] = {"np": np, "tanh": tanh, "float32": np.float32, "__name__": __name__}
    exec(compile(source.replace("kernel", name, 1), __file__, "exec"), names)  # made of a trace, of no model's file
    signature = void(float32[::1], float32[::1])
    return njit(signature, fastmath=FASTMATH, error_model="numpy", cache=True)(names[name])


class _Loops:
    """Writes the loops of a run."""

    def __init__(self, plan: Schedule, run: list[Node]) -> None:
        self._plan, self._run = plan, run
        self._lines = ["def kernel(row, room):"]
        self._group: list[Node] = []
        ends = np.cumsum([0, *(node.width for node in plan.rows)]).tolist()
        self._rows = dict(zip(plan.rows, ends, strict=False))
        nodes = [step for step in plan.steps if isinstance(step, Node)]
        self._readers = {node: [n for n in nodes if any(whole(arg)[0] is node for arg in n.args)] for node in run}
        # what a product reads, what is copied, and the state: places that are read by more than these loops
        self._read_later = {plan.place(plan.graph.logits), *plan.states}
        for step in plan.steps:
            if isinstance(step, Product):
                self._read_later.update(range(step.operand, step.operand + step.matrix.shape[1]))
            elif isinstance(step, Copy):
                self._read_later.add(step.begin)

    def source(self) -> str:
        """Return the source: a loop over the units, and others for vectors of other lengths (the logits)."""
        H = self._plan.hidden_size
        for length, group in groupby(self._run, lambda node: node.width if node.width % H else H):
            self._group = list(group)
            self._lines.append(f"    for j in range({length}):")
            for node in self._group:
                self._operation(node, length)
        return "\n".join(self._lines)

    def _operation(self, node: Node, length: int) -> None:
        place = self._plan.place(node)
        stored = place in self._read_later or not all(reader in self._group for reader in self._readers[node])
        for block in range(0, node.width, length):
            args = [self._argument(arg, block, length) for arg in node.args]
            value = OPERATORS[node.op].format(*args) if node.op in OPERATORS else f"np.{node.op}({args[0]})"
            self._lines.append(f"        {self._local(node, block)} = {value}")
            if stored:
                self._lines.append(f"        room[{place + block} + j] = {self._local(node, block)}")

    def _argument(self, arg: Node, block: int, length: int) -> str:
        if not arg.width:
            return f"float32({float(arg.value)!r})"
        if arg.depends == INPUT:
            return f"row[{self._rows[arg] + block} + j]"
        base, begin = whole(arg)
        if base not in self._group:
            return f"room[{self._plan.place(arg) + block} + j]"
        if (begin + block) % length:
            raise TraceError("a part that is no whole number of units")
        return self._local(base, begin + block)

    def _local(self, node: Node, block: int) -> str:
        return f"t{self._run.index(node)}_{block}"
