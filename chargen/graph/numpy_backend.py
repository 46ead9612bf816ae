"""Where a program's numbers stand: the buffer of a stream, [size], those of many, [B, size], and the rows of the table.

What is at a place of a buffer is `buffer[..., place : place + width]`, of one stream or of many.

A step as a program of NumPy calls that allocate nothing, made from a trace of the cell's equations.

The program is Python source, a line an operation, on views of one array, the stream's buffer (`plan_memory.py`):

    def step(given):
        r0, = rows[given]
        add(r0, p0, b0)
        multiply(c0, b0a, b1)
        ...
        dot(m0, b9, p0)
        return b10

Constants of an equation are arrays of one number: NumPy takes half a microsecond to make one of a Python number.

The n-grams that a head reads beside its layers, in NumPy: of many streams at once, or of one with little work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import State
from chargen.cells.ngram_features import find_ngram_rows, get_hash_shift, make_hash_parameters
from chargen.config import ModelConfig
from chargen.graph.graph import CONSTANT, INPUT, Node
from chargen.graph.memory_plan import ALIGNED, FILLED, Copy, MemoryPlan, Product

Float = NDArray[np.float32]


def new_buffer(plan: MemoryPlan, count: int | None = None) -> Float:
    """Return a stream's buffer, or those of many, with the constants in them."""
    buffer = _aligned(plan.size) if count is None else _aligned(count, _odd(plan.size))
    for node in plan.constants:
        buffer[..., plan.place(node) : plan.place(node) + node.width] = node.value
    return buffer


def load_state(plan: MemoryPlan, buffer: Float, state: Iterable[State]) -> None:
    """Put a state into a buffer, and make the products that the first step needs."""
    H = plan.hidden_size
    for place, part in zip(plan.states, (part for layer in state for part in layer), strict=True):
        buffer[..., place : place + H] = part
    for product in plan.steps:
        if isinstance(product, Product) and product.state is not None:
            at = plan.states[product.state]
            operand, out = buffer[..., at : at + H], buffer[..., product.begin : product.begin + len(product.matrix)]
            if buffer.ndim == 1:
                np.dot(product.matrix, operand, out)
            else:
                np.matmul(operand, product.columns, out)


def store_state(plan: MemoryPlan, buffer: Float, like: Iterable[State]) -> tuple[State, ...]:
    """Return the state in a buffer as a value, [1, H] or [B, H], in the form of another."""
    parts = (np.atleast_2d(buffer[..., place : place + plan.hidden_size]).copy() for place in plan.states)
    return tuple(tuple(next(parts) for _ in layer) for layer in like)


class InputTable(dict[int, tuple[Float, ...]]):
    """What depends on the id alone, in parts, worked out when an id is first read.

    Args:
        plan: a network's step.
        tables: the input gates of every id, a table [V, X·H] for each member.
    """

    def __init__(self, plan: MemoryPlan, tables: Sequence[Float]) -> None:
        super().__init__()
        self._plan, self._tables = plan, tables

    def __missing__(self, token_id: int) -> tuple[Float, ...]:
        self[token_id] = self._parts([table[token_id] for table in self._tables])
        return self[token_id]

    @cached_property
    def table(self) -> Float:
        """Those of all ids, the parts of each behind one another, [V, R]."""
        return np.concatenate([self._tables[0][:, :0], *self._parts(self._tables)], axis=1)

    def _parts(self, inputs: Sequence[Float]) -> tuple[Float, ...]:
        return tuple(_value(node, inputs) for node in self._plan.rows)


def _value(node: Node, inputs: Sequence[Float]) -> Float:
    """Work out what depends on the id alone, of one id or of all."""
    if node.op == "constant":
        return node.value  # type: ignore[no-any-return]
    if node.op == "input":
        return inputs[node.begin]
    args = [_value(arg, inputs) for arg in node.args]
    if node.op == "slice":
        return args[0][..., node.begin : node.begin + node.width]
    if node.op == "product":
        return args[0] @ node.value.T  # type: ignore[no-any-return]
    return getattr(np, node.op)(*args)  # type: ignore[no-any-return]


def _aligned(*shape: int) -> Float:
    """Return zeros that begin at a line of the cache."""
    size = int(np.prod(shape))
    memory = np.zeros(size + ALIGNED, dtype=np.float32)
    skipped = -(memory.ctypes.data // memory.itemsize) % ALIGNED
    return memory[skipped : skipped + size].reshape(shape)


def _odd(size: int) -> int:
    """Return at least this size, an odd number of the cache's lines.

    In an array of another width what stands under each other finds its way to the same few places of the cache.
    """
    return (-(-size // ALIGNED) | 1) * ALIGNED


MAX_SERIAL_WEIGHTS = 400_000  #: weights: of 460,800 and more OpenBLAS makes a product on several threads

Step = Callable[[Any], Float]  #: an id → logits [V], or ids [B] → [B, V]; the next step writes over them


def threaded(plan: MemoryPlan) -> bool:
    """Tell whether a product of a step is so large that NumPy makes it on several threads, and parts would do too."""
    products = [step.matrix for step in plan.steps if isinstance(step, Product)]
    large = [matrix for matrix in products if matrix.size > MAX_SERIAL_WEIGHTS]
    return bool(large) and all(len(matrix) % FILLED == 0 for matrix in large)


class SourceWriter:
    """Writes the source of a program, line by line, and keeps what its names stand for.

    Args:
        plan: the step.
        buffer: the stream's, or those of many.
        parted: whether large products are made in parts, which one thread makes each, to the same bits.
    """

    def __init__(self, plan: MemoryPlan, buffer: Float, split_products: bool = False) -> None:
        self._plan, self._buffer, self._parted = plan, buffer, split_products
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

    def read(self, reader: NGramReader | None, ids: str) -> None:
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
        if self._buffer.ndim > 1:
            columns = self.name("m", id(product), product.columns)
            self.call(np.matmul, operand, columns, self.view(product.begin, len(matrix)))
            return
        if self._parted and matrix.size > MAX_SERIAL_WEIGHTS:
            at_once = MAX_SERIAL_WEIGHTS // width // FILLED * FILLED
        for begin in range(0, len(matrix), at_once):
            part = matrix[begin : begin + at_once]
            # the method: numpy.dot first asks whether another library's arrays are among its arguments
            dot = self.name("m", (id(product), begin), part.dot)
            self.line(f"{dot}({operand}, {self.view(product.begin + begin, len(part))})")

    def copy(self, copy: Copy) -> None:
        """Write that a vector is copied."""
        self.call(np.copyto, self.view(copy.end, copy.width), self.view(copy.begin, copy.width))

    def view(self, place: int, width: int) -> str:
        """Return the name of a part of the buffer."""
        return self.name("b", (place, width), self._buffer[..., place : place + width])

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


def numpy_step(
    plan: MemoryPlan, buffer: Float, rows: InputTable, split_products: bool = False, reader: NGramReader | None = None
) -> Step:
    """Return a step of a stream, by NumPy alone; `reader` puts an id's n-grams into the buffer."""
    writer = SourceWriter(plan, buffer, split_products)
    writer.read(reader, "given")
    if plan.rows:
        writer.names["rows"] = rows
        writer.line("".join(f"r{n}, " for n in range(len(plan.rows))) + "= rows[given]")
    writer.steps(plan.steps)
    return writer.finish(writer.logits())


History = NDArray[np.int64]  #: the last ids, [B, N − 1], the newest last


class NGramTable:
    """The table and its head.

    Args:
        config: of a network that has them.
        weights: its weights in float32.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Float]) -> None:
        self.head, self.table = weights["ngrams.head"], weights["ngrams.weight"]  # [V, D], [(N − 1)·R, D]
        self.rows, self.length = config.ngram_rows, config.ngrams - 1
        self.hashed_by = make_hash_parameters(config.ngrams, config.ngram_rows)

    def history(self, batch_size: int) -> History:
        """Return what there was before the first id."""
        return np.zeros((batch_size, self.length), dtype=np.int64)

    def read(self, ids: NDArray[Any], history: History) -> tuple[Float, History]:
        """Read an id of each stream, [B]: → (the sum of the rows that its n-grams stand for [B, D], the history)."""
        rows, history = find_ngram_rows(np, ids[None].astype(np.int64), history, self.hashed_by, self.rows)
        found: Float = self.table[rows[0]].sum(1)
        return found, np.ascontiguousarray(history)


class NGramReader:
    """Streams whose n-grams are read, id by id, and put where a step looks for them.

    Args:
        ngrams: the table.
        history: the ids before, [B, N − 1].
        out: where the sums of the rows go, [B, D], or [D] of one stream.
    """

    def __init__(self, ngrams: NGramTable, history: History, out: Float) -> None:
        self._ngrams, self._out, self._history = ngrams, out, history.copy()
        self._last = np.append(history[0, ::-1], 0)  # of one stream: the newest first
        self.read = self._one() if out.ndim == 1 else self._read_many

    def _one(self) -> Callable[[int], None]:
        """Return what does as `find_ngram_rows` and a sum, in calls that allocate nothing."""
        ngrams, last, out = self._ngrams, self._last, self._out
        (multipliers, first), take = ngrams.hashed_by, ngrams.table.take
        bits, mask = np.array(get_hash_shift(ngrams.rows)), np.array(ngrams.rows - 1)
        places, found = np.zeros_like(first), np.zeros((len(first), len(out)), dtype=np.float32)
        older, newer, dot, moved = last[1:], last[:-1].copy(), multipliers.dot, np.copyto
        add_up = np.ones(len(first), dtype=np.float32).dot

        def read(token_id: int) -> None:
            moved(newer, last[:-1])
            moved(older, newer)
            last[0] = token_id
            dot(last, places)
            np.right_shift(places, bits, places)
            np.bitwise_and(places, mask, places)
            np.add(places, first, places)
            take(places, 0, found, "clip")
            add_up(found, out)

        return read

    def _read_many(self, ids: NDArray[Any]) -> None:
        self._out[:], self._history = self._ngrams.read(ids, self._history)

    def history(self) -> History:
        """Return the ids read last, [B, N − 1]."""
        last: History = self._last[None, -2::-1].copy() if self._out.ndim == 1 else self._history
        return last

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Put these of many streams back to the beginning."""
        self._history[rows] = 0
