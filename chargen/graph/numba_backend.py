"""A step's elementwise operations as compiled loops, one between two products, made from the same trace.

Where `program.py` has a NumPy call for each operation, and each is a walk through memory, here one loop over the units
of a layer does all of them; a slice of H units is an offset. All numbers of a stream are in its buffer, at offsets that
are known when the loop is compiled, so that the compiler can tell what does not overlap, and makes vector instructions
of it:

    def kernel(table, token_id, buffer):
        row = table[token_id]
        for j in range(H):
            t0 = row[j] + buffer[1024 + j]
            …
            buffer[j] = t9

Of many streams each has its buffer, and the loops are run for one after the other in one call. The products stay with
NumPy, whose threads read a matrix faster than one loop can (`compiled.py`). Wants numba:

    pip install 'chargen[fast]'

A step with compiled loops (`kernel.py`) between its products, and the same from one draw to the next.

From draw to draw the loops at a step's end, the draw and the loops at the next step's beginning are one call:

    … ─▶ product ─▶ │ logits ─▶ draw an id ─▶ its row ─▶ gates ─▶ h' │ ─▶ product ─▶ …
                    └────────────────────── a call ──────────────────┘

The weights push everything else out of the cache once for each character, and every call of Python's then looks for its
own code and data in memory: four calls less save 4 µs of 34, where the product takes 24 (GRU 1×384).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from chargen.graph.graph import INPUT, Node, TraceError
from chargen.graph.memory_plan import Copy, MemoryPlan, Product, whole
from chargen.graph.numpy_backend import Float, InputTable, NGramReader, SourceWriter, Step

Kernel = Callable[..., Any]
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
def numba_installed() -> bool:
    """Tell whether numba is there."""
    return importlib.util.find_spec("numba") is not None


class Kernels:
    """The compiled loops of a network, each compiled when it is first asked for.

    Args:
        plan: a step.
    """

    def __init__(self, plan: MemoryPlan) -> None:
        self._plan = plan
        self._known: dict[Any, Kernel] = {}

    def loops(self, run: list[Node], many: bool = False) -> Kernel:
        """Return the loops of a run of operations.

        (table [V, R], id, buffer [size]) → None, or (table, ids [B], buffers [B, size]) → None.

        Raises:
            TraceError: an operation does not go unit by unit, or numba does not know it.
        """
        key = (tuple(run), many)
        if key not in self._known:
            lines = ["row = table[token_id]", *_Loops(self._plan, run).lines()]
            if many:
                lines = ["token_id, buffer = ids[lane], buffers[lane]", *lines]
            self._known[key] = _compiled("table, ids, buffers" if many else "table, token_id, buffer", lines, many)
        return self._known[key]

    def draw(self, before: list[Node], after: list[Node], many: bool = False) -> Kernel:
        """Return the loops of a run, a draw from the logits, and the loops of a run with the row of what was drawn.

        (table, buffer, added, space, inverse, uniform) → id, the last four as `drawing.py` has them, or
        (table, buffers, added, space, inverse, uniforms, ids) → None.

        Raises:
            TraceError: as above.
        """
        key = (tuple(before), tuple(after), many)
        if key not in self._known:
            place, size = self._plan.place(self._plan.graph.logits), self._plan.graph.logits.width
            lines = [
                *_Loops(self._plan, before).lines(),
                f"token_id = draw_one(buffer[{place} : {place + size}], added, space, inverse, uniform)",
                "row = table[token_id]",
                *_Loops(self._plan, after).lines(),
            ]
            arguments = "table, buffer, added, space, inverse, uniform"
            if many:
                lines = ["buffer, uniform = buffers[lane], uniforms[lane]", *lines, "ids[lane] = token_id"]
                arguments = "table, buffers, added, space, inverse, uniforms, ids"
            self._known[key] = _compiled(arguments, lines if many else [*lines, "return token_id"], many)
        return self._known[key]


def _compiled(arguments: str, lines: list[str], many: bool) -> Kernel:
    """Compile a kernel of a stream's buffer, or of those of many, or take it from numba's cache (`jit.py`).

    The cache tells functions apart by their names and code, but not by the numbers in it: so the name has its hash.
    """
    from chargen.graph.numba_draw import draw_one
    from chargen.jit import NumbaError, float32, float64, int64, njit, tanh

    types = {"table": float32[:, ::1], "token_id": int64, "ids": int64[::1], "buffer": float32[::1]}
    types |= {"buffers": float32[:, ::1], "added": float64[::1], "space": float64[::1], "inverse": float64}
    types |= {"uniform": float64, "uniforms": float64[::1]}
    head = f"def kernel({arguments}):\n" + many * "    for lane in range(buffers.shape[0]):\n"
    source = head + "".join(f"{(1 + many) * '    '}{line}\n" for line in lines)
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    names: dict[str, Any] = {"np": np, "tanh": tanh, "draw_one": draw_one, "float32": np.float32, "__name__": __name__}
    exec(compile(source.replace("kernel", name, 1), __file__, "exec"), names)  # made of a trace, of no model's file
    signature = tuple(types[argument] for argument in arguments.split(", "))
    try:
        kernel: Kernel = njit(signature, fastmath=FASTMATH, error_model="numpy", cache=True)(names[name])
    except NumbaError as error:
        raise TraceError(str(error)) from error
    return kernel


class _Loops:
    """Writes the loops of a run."""

    def __init__(self, plan: MemoryPlan, run: list[Node]) -> None:
        self._plan, self._run = plan, run
        self._lines: list[str] = []
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

    def lines(self) -> list[str]:
        """Return the source: a loop over the units, and others for vectors of other lengths (the logits)."""
        H = self._plan.hidden_size
        for length, group in groupby(self._run, lambda node: node.width if node.width % H else H):
            self._group = list(group)
            self._lines.append(f"for j in range({length}):")
            for node in self._group:
                self._operation(node, length)
        return self._lines

    def _operation(self, node: Node, length: int) -> None:
        place = self._plan.place(node)
        stored = place in self._read_later or not all(reader in self._group for reader in self._readers[node])
        for block in range(0, node.width, length):
            args = [self._argument(arg, block, length) for arg in node.args]
            value = OPERATORS[node.op].format(*args) if node.op in OPERATORS else f"np.{node.op}({args[0]})"
            self._lines.append(f"    {self._local(node, block)} = {value}")
            if stored:
                self._lines.append(f"    buffer[{place + block} + j] = {self._local(node, block)}")

    def _argument(self, arg: Node, block: int, length: int) -> str:
        if not arg.width:
            return f"float32({float(arg.value)!r})"
        if arg.depends == INPUT:
            return f"row[{self._rows[arg] + block} + j]"
        base, begin = whole(arg)
        if base not in self._group:
            return f"buffer[{self._plan.place(arg) + block} + j]"
        if (begin + block) % length:
            raise TraceError("a part that is no whole number of units")
        return self._local(base, begin + block)

    def _local(self, node: Node, block: int) -> str:
        return f"t{self._run.index(node)}_{block}"


Part = list[Node] | Product | Copy  #: of a step: a run of operations that are compiled, or what NumPy does
Draw = Callable[[Any], Any]  #: a random number → an id, or [B] → [B], which the next draw writes over


def compiled_step(
    plan: MemoryPlan,
    buffer: Float,
    rows: InputTable,
    kernels: Kernels,
    split_products: bool = False,
    reader: NGramReader | None = None,
) -> Step:
    """Return a step of a stream, as `numpy_step` does, or of many: ids [B] → logits [B, V].

    Raises:
        TraceError: the loops cannot be compiled.
    """
    writer = _writer(plan, buffer, rows, split_products)
    writer.line("ids[:] = given" if buffer.ndim > 1 else "ids = given")
    writer.read(reader, "ids")
    _write(writer, kernels, _parts(plan), buffer.ndim > 1)
    return writer.finish(writer.logits())


def compiled_draw(
    plan: MemoryPlan,
    buffer: Float,
    rows: InputTable,
    kernels: Kernels,
    added: Any,
    inverse: float,
    split_products: bool = False,
    reader: NGramReader | None = None,
) -> Draw:
    """Return what draws an id by a random number and reads it, or B ids by B numbers.

    Args:
        reader: of n-grams, where there are any.
        added, inverse: to the logits, and 1 / temperature: see `drawing.py`.

    Raises:
        TraceError: as above.
    """
    parts, many = _parts(plan), buffer.ndim > 1
    before: list[Node] = []
    # From the last product to the logits is left to the next draw. After a step it is done a second time, so nothing of
    # the state may be among it.
    if isinstance(parts[-1], list) and not any(plan.place(node) in plan.states for node in parts[-1]):
        before = parts.pop()  # type: ignore[assignment]
    after: list[Node] = parts.pop(0) if isinstance(parts[0], list) else []  # type: ignore[assignment]
    writer = _writer(plan, buffer, rows, split_products)
    if many:
        writer.line("draw(table, buffer, added, space, inverse, given, ids)")
    else:
        writer.line("ids = draw(table, buffer, added, space, inverse, given)")
    space = np.zeros(plan.graph.logits.width)
    writer.names |= {"draw": kernels.draw(before, after, many), "added": added, "space": space, "inverse": inverse}
    writer.read(reader, "ids")
    _write(writer, kernels, parts, many)
    return writer.finish("ids")


def _writer(plan: MemoryPlan, buffer: Float, rows: InputTable, split_products: bool) -> SourceWriter:
    writer = SourceWriter(plan, buffer, split_products)
    writer.names |= {"table": rows.table, "buffer": buffer}
    if buffer.ndim > 1:
        writer.names["ids"] = np.zeros(len(buffer), dtype=np.int64)
    return writer


def _write(writer: SourceWriter, kernels: Kernels, parts: Sequence[Part], many: bool) -> None:
    for number, part in enumerate(parts):
        if isinstance(part, list):
            writer.names[f"k{number}"] = kernels.loops(part, many)
            writer.line(f"k{number}(table, ids, buffer)")
        else:
            writer.steps([part])


def _parts(plan: MemoryPlan) -> list[Part]:
    parts: list[Part] = []
    for step in plan.steps:
        if not isinstance(step, Node):
            parts.append(step)
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(step)
        else:
            parts.append([step])
    return parts
