"""The numba back end: the elementwise operators between two products as one compiled loop.

The NumPy back end makes a call for each operator, and each call is a pass through memory. Here one loop over the units
of a layer computes all of them. A slice of H units is an offset. The offsets in the buffer are known when the loop is
compiled, so the compiler can tell that nothing overlaps and generates vector instructions:

    def kernel(table, token_id, buffer):
        row = table[token_id]
        for j in range(H):
            t0 = row[j] + buffer[1024 + j]
            …
            buffer[j] = t9

A mean needs a loop of its own before the loop that uses it; its result is a number.

For many streams, each with its own buffer, one call runs the loops for one stream after the other. NumPy computes the
products, because its threads read a matrix faster than one loop can.

When tokens are drawn one after another, the loops at the end of a step, the draw, and the loops at the start of the
next step are one call:

    … ─▶ product ─▶ │ logits ─▶ draw a token id ─▶ its row ─▶ gates ─▶ h' │ ─▶ product ─▶ …
                    └───────────────────── one call ──────────────────────┘

The weights evict everything else from the cache at each step, so every Python call then has to load its own code and
data from memory. Four calls fewer save 4 µs of 34 µs, of which the product takes 24 µs (GRU 1×384).

This back end needs numba: pip install 'chargen[fast]'. It takes 0.5 s to import and is for long runs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.graph.graph import REDUCTIONS, TOKEN, Node, TraceError, resolve_slice
from chargen.graph.memory_plan import Copy, MemoryPlan, Product
from chargen.graph.ngram_reader import NGramReader
from chargen.graph.numpy_backend import Float, InputTable, SourceWriter, Step

Kernel = Callable[..., Any]
Draw = Callable[[Any], Any]  #: a random number → a token id, or [B] → [B], which the next draw overwrites
Segment = list[Node] | Product | Copy  # consecutive operators, which are compiled, or one instruction for NumPy

OPERATORS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "positive": "{}",
    "maximum": "np.maximum({}, {})",
    "minimum": "np.minimum({}, {})",
    "tanh": "tanh({})",  # `jit.tanh`, which compiles to vector instructions
}
# These flags change results by rounding only. The rest of "fastmath" assumes that infinity and NaN do not occur.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


@dataclass(frozen=True)
class CompiledModel:
    """The parts of a model that the compiled steps of all its streams share."""

    plan: MemoryPlan
    input_table: InputTable
    kernels: Kernels


class Kernels:
    """The compiled kernels of a network, each compiled when it is first needed.

    Args:
        plan: The memory plan of a step of the network.
    """

    def __init__(self, plan: MemoryPlan) -> None:
        self._plan = plan
        self._kernels: dict[Any, Kernel] = {}

    def elementwise(self, operators: list[Node], batched: bool = False) -> Kernel:
        """Return the kernel of consecutive operators.

        Its arguments are (table [V, R], token_id, buffer [size]), or (table, ids [B], buffers [B, size]) if it is
        batched. It returns nothing.

        Raises:
            TraceError: If an operator is not elementwise over the units, or numba cannot compile it.
        """
        key = (tuple(operators), batched)
        if key not in self._kernels:
            lines = ["row = table[token_id]", *_LoopWriter(self._plan, operators).lines()]
            if batched:
                lines = ["token_id, buffer = ids[b], buffers[b]", *lines]
            arguments = "table, ids, buffers" if batched else "table, token_id, buffer"
            self._kernels[key] = _compile_kernel(arguments, lines, batched)
        return self._kernels[key]

    def draw(self, before: list[Node], after: list[Node], batched: bool = False) -> Kernel:
        """Return the kernel of operators, a draw from the logits, and operators that use the row of the drawn token id.

        Its arguments are (table, buffer, added, cumulative, inverse_temperature, uniform), and it returns the token
        id; see `draw_one` for the last four. If it is batched, they are (table, buffers, added, cumulative,
        inverse_temperature, uniforms [B], ids [B]), and it writes to `ids`.

        Raises:
            TraceError: As `elementwise`.
        """
        key = (tuple(before), tuple(after), batched)
        if key not in self._kernels:
            start, size = self._plan.offset(self._plan.graph.logits), self._plan.graph.logits.width
            logits = f"buffer[{start} : {start + size}]"
            lines = [
                *_LoopWriter(self._plan, before).lines(),
                f"token_id = draw_one({logits}, added, cumulative, inverse_temperature, uniform)",
                "row = table[token_id]",
                *_LoopWriter(self._plan, after).lines(),
            ]
            if batched:
                lines = ["buffer, uniform = buffers[b], uniforms[b]", *lines, "ids[b] = token_id"]
                arguments = "table, buffers, added, cumulative, inverse_temperature, uniforms, ids"
            else:
                lines = [*lines, "return token_id"]
                arguments = "table, buffer, added, cumulative, inverse_temperature, uniform"
            self._kernels[key] = _compile_kernel(arguments, lines, batched)
        return self._kernels[key]


def _compile_kernel(arguments: str, lines: list[str], batched: bool) -> Kernel:
    """Compile a kernel, or load it from numba's cache on disk (`jit.py`).

    The cache tells functions apart by name and code but not by the numbers in the code, so the name has their hash.
    """
    from chargen.jit import NumbaError, float32, float64, int64, njit, tanh

    types = {"table": float32[:, ::1], "token_id": int64, "ids": int64[::1], "buffer": float32[::1]}
    types |= {"buffers": float32[:, ::1], "added": float64[::1], "cumulative": float64[::1]}
    types |= {"inverse_temperature": float64, "uniform": float64, "uniforms": float64[::1]}
    head = f"def kernel({arguments}):\n" + batched * "    for b in range(buffers.shape[0]):\n"
    source = head + "".join(f"{(1 + batched) * '    '}{line}\n" for line in lines)
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    names: dict[str, Any] = {"np": np, "tanh": tanh, "draw_one": compile_draw_one(), "float32": np.float32}
    names["__name__"] = __name__
    exec(compile(source.replace("kernel", name, 1), __file__, "exec"), names)  # from a trace, not from a model file
    signature = tuple(types[argument] for argument in arguments.split(", "))
    try:
        kernel: Kernel = njit(signature, fastmath=FASTMATH, error_model="numpy", cache=True)(names[name])
    except NumbaError as error:
        raise TraceError(str(error)) from error
    return kernel


def draw_one(logits: Any, added: Any, cumulative: Any, inverse_temperature: float, uniform: float) -> int:
    """Draw a token id with probability softmax((logits + added) · inverse_temperature).

    It is the draw of `sampling/logits_rules.py` as one loop instead of eight NumPy calls: in float64, in the order of
    NumPy's `cumsum`. The same `uniform` draws the same token id, except for differences in the last bit of exp.

    Args:
        logits: The logits, float32, [V].
        added: Numbers that are added to the logits, float64, [V]; -inf forbids a token id. At least one token id must
            be allowed.
        cumulative: A buffer, float64, [V]; afterwards it contains the cumulative sum of the exponentials.
        inverse_temperature: 1 / temperature, above 0.
        uniform: A random number in [0, 1).
    """
    V = logits.shape[0]
    largest = -np.inf
    for i in range(V):
        largest = max(largest, logits[i] + added[i])
    total = 0.0
    for i in range(V):
        total += math.exp((logits[i] + added[i] - largest) * inverse_temperature)
        cumulative[i] = total
    threshold = uniform * total
    for i in range(V):
        if cumulative[i] > threshold:
            return i
    return int(V - 1)


@lru_cache(maxsize=1)
def compile_draw_one() -> Kernel:
    """Return `draw_one` compiled, or loaded from numba's cache on disk."""
    from chargen.jit import float32, float64, int64, njit

    signature = int64(float32[::1], float64[::1], float64[::1], float64, float64)
    kernel: Kernel = njit(signature, error_model="numpy", cache=True)(draw_one)
    return kernel


class _LoopWriter:
    """Generates the loops of consecutive operators."""

    def __init__(self, plan: MemoryPlan, operators: list[Node]) -> None:
        self._plan, self._operators = plan, operators
        self._lines: list[str] = []
        self._group: list[Node] = []  # the operators of the current loop
        starts = np.cumsum([0, *(node.width for node in plan.token_nodes)]).tolist()
        self._row_offsets = dict(zip(plan.token_nodes, starts, strict=False))
        nodes = [node for node in plan.instructions if isinstance(node, Node)]
        self._readers = {
            node: [reader for reader in nodes if any(resolve_slice(arg)[0] is node for arg in reader.args)]
            for node in operators
        }
        # Offsets that products, copies or later steps read: their values must be written to the buffer.
        self._read_elsewhere = {plan.offset(plan.graph.logits), *plan.state_offsets}
        for instruction in plan.instructions:
            if isinstance(instruction, Product):
                end = instruction.operand + instruction.matrix.shape[1]
                self._read_elsewhere.update(range(instruction.operand, end))
            elif isinstance(instruction, Copy):
                self._read_elsewhere.add(instruction.source)

    def lines(self) -> list[str]:
        """Return the source: a loop over the units, one for vectors of another length (the logits), one for a mean."""
        for (length, mean), group in groupby(self._operators, self._loop_of):
            self._group = list(group)
            if mean is not None:
                self._add_mean(mean)
                continue
            self._lines.append(f"for j in range({length}):")
            for node in self._group:
                self._add_operator(node, length)
        return self._lines

    def _loop_of(self, node: Node) -> tuple[int, Node | None]:
        """Return (the length of the loop that computes an operator, the operator itself if the loop is its own)."""
        H = self._plan.hidden_size
        return node.width if node.width % H else H, node if node.op in REDUCTIONS else None

    def _add_mean(self, node: Node) -> None:
        """Add the loop of a mean. Its result is written to the buffer only if code of another kernel reads it there."""
        number = self._local(node, 0)
        self._lines.append(f"{number} = float32(0.0)")
        self._lines.append(f"for j in range({node.width}):")
        self._lines.append(f"    {number} += {self._argument(node.args[0], 0, node.width)}")
        self._lines.append(f"{number} /= float32({node.width})")
        if self._is_read_outside(node, self._operators):
            offset = self._plan.offset(node)
            self._lines.append(f"buffer[{offset} : {offset + node.width}] = {number}")

    def _is_read_outside(self, node: Node, operators: list[Node]) -> bool:
        """Return whether anything but these operators reads the value of a node."""
        is_read = self._plan.offset(node) in self._read_elsewhere
        return is_read or not all(reader in operators for reader in self._readers[node])

    def _add_operator(self, node: Node, length: int) -> None:
        offset = self._plan.offset(node)
        is_stored = self._is_read_outside(node, self._group)
        for block in range(0, node.width, length):
            args = [self._argument(arg, block, length) for arg in node.args]
            value = OPERATORS[node.op].format(*args) if node.op in OPERATORS else f"np.{node.op}({args[0]})"
            self._lines.append(f"    {self._local(node, block)} = {value}")
            if is_stored:
                self._lines.append(f"    buffer[{offset + block} + j] = {self._local(node, block)}")

    def _argument(self, arg: Node, block: int, length: int) -> str:
        if not arg.width:
            return f"float32({float(arg.value)!r})"
        if arg.depends_on == TOKEN:
            return f"row[{self._row_offsets[arg] + block} + j]"
        base, offset = resolve_slice(arg)
        if base.op in REDUCTIONS and base in self._operators:
            return self._local(base, 0)
        if base not in self._group:
            return f"buffer[{self._plan.offset(arg) + block} + j]"
        if (offset + block) % length:
            raise TraceError("a slice that does not start at a multiple of the loop's length")
        return self._local(base, offset + block)

    def _local(self, node: Node, block: int) -> str:
        return f"t{self._operators.index(node)}_{block}"


def build_compiled_step(
    model: CompiledModel, buffer: Float, split_products: bool = False, reader: NGramReader | None = None
) -> Step:
    """Return the step function of a stream, or of a batch: token ids [B] → logits [B, V]; see `build_numpy_step`.

    Raises:
        TraceError: If the loops cannot be compiled.
    """
    writer, batched = _new_writer(model, buffer, split_products), buffer.ndim > 1
    writer.add_line("ids[:] = token_ids" if batched else "ids = token_ids")
    writer.add_ngram_reader(reader, "ids")
    _add_segments(writer, model.kernels, _segments(model.plan), batched)
    return writer.build("token_ids", writer.logits())


def build_compiled_draw(
    model: CompiledModel,
    buffer: Float,
    added: NDArray[np.float64],
    inverse_temperature: float,
    split_products: bool = False,
    reader: NGramReader | None = None,
) -> Draw:
    """Return a function that draws a token id by a random number and reads it, or B token ids by B numbers.

    Args:
        model: The compiled model.
        buffer: The buffer of a single stream or of a batch of streams.
        added, inverse_temperature: The arguments of `draw_one`.
        split_products: Whether large products are computed in parts, each on one thread.
        reader: The reader of the n-gram features; None if the network has none.

    Raises:
        TraceError: If the loops cannot be compiled.
    """
    plan, segments, batched = model.plan, _segments(model.plan), buffer.ndim > 1
    before: list[Node] = []
    # The operators between the last product and the logits are left to the next draw. After a plain step they are
    # computed twice, so none of them may write the state.
    if isinstance(segments[-1], list) and not any(plan.offset(node) in plan.state_offsets for node in segments[-1]):
        before = segments.pop()  # type: ignore[assignment]
    after: list[Node] = segments.pop(0) if isinstance(segments[0], list) else []  # type: ignore[assignment]
    writer = _new_writer(model, buffer, split_products)
    writer.names |= {"draw": model.kernels.draw(before, after, batched), "added": added}
    writer.names |= {"cumulative": np.zeros(plan.graph.logits.width), "inverse_temperature": inverse_temperature}
    arguments = "table, buffer, added, cumulative, inverse_temperature, uniform"
    writer.add_line(f"draw({arguments}, ids)" if batched else f"ids = draw({arguments})")
    writer.add_ngram_reader(reader, "ids")
    _add_segments(writer, model.kernels, segments, batched)
    return writer.build("uniform", "ids")


def _new_writer(model: CompiledModel, buffer: Float, split_products: bool) -> SourceWriter:
    writer = SourceWriter(model.plan, buffer, split_products)
    writer.names |= {"table": model.input_table.table, "buffer": buffer}
    if buffer.ndim > 1:
        writer.names["ids"] = np.zeros(len(buffer), dtype=np.int64)
    return writer


def _add_segments(writer: SourceWriter, kernels: Kernels, segments: Sequence[Segment], batched: bool) -> None:
    for number, segment in enumerate(segments):
        if isinstance(segment, list):
            writer.names[f"k{number}"] = kernels.elementwise(segment, batched)
            writer.add_line(f"k{number}(table, ids, buffer)")
        else:
            writer.add_instructions([segment])


def _segments(plan: MemoryPlan) -> list[Segment]:
    segments: list[Segment] = []
    for instruction in plan.instructions:
        if not isinstance(instruction, Node):
            segments.append(instruction)
        elif segments and isinstance(segments[-1], list):
            segments[-1].append(instruction)
        else:
            segments.append([instruction])
    return segments
