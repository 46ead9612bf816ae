"""The NumPy back end: a step as a sequence of NumPy calls that allocate nothing.

The generated code is Python source with one line for each instruction. Its names are views of a single array, the
buffer of the stream (`memory_plan.py`), [size], or of the buffers of many streams, [B, size]:

    def step(token_ids):
        r0, = input_table[token_ids]
        add(r0, b0, b1)
        multiply(c0, b2, b3)
        ...
        m0(b4, b0)                 # a product: the bound method matrix.dot
        for dot, out in p0: dot(b5, out)   # the product with a large matrix, in parts
        p0.reverse()
        return b6

Constants of an equation are arrays with a single number, because NumPy needs 0.5 µs to convert a Python number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import State
from chargen.graph.graph import CONSTANT, REDUCTIONS, TOKEN, Node, compute
from chargen.graph.memory_plan import CACHE_LINE_FLOATS, ROW_MULTIPLE, Copy, Instruction, MemoryPlan, Product
from chargen.graph.ngram_reader import NGramReader

Float = NDArray[np.float32]
Step = Callable[
    [Any], Float
]  #: token id → logits [V], or token ids [B] → logits [B, V], which the next step overwrites

MAX_SERIAL_WEIGHTS = 400_000  # OpenBLAS computes products of 460,800 and more weights on several threads
MAX_CACHED_WEIGHTS = 1 << 18  # weights of a matrix that stays in the L2 cache of a core from step to step
WEIGHTS_PER_PART = 1 << 17  # weights of the parts of a larger one


def allocate_buffer(plan: MemoryPlan, batch_size: int | None = None) -> Float:
    """Return a buffer that contains the constants: [size] for a single stream, [B, size or more] for a batch."""
    buffer = _aligned_zeros(plan.size) if batch_size is None else _aligned_zeros(batch_size, _odd_lines(plan.size))
    for node in plan.constant_nodes:
        buffer[..., plan.offset(node) : plan.offset(node) + node.width] = node.value
    return buffer


def load_state(plan: MemoryPlan, buffer: Float, layers: Iterable[State]) -> None:
    """Write the states of the layers to a buffer, and compute the products that the first step needs."""
    H = plan.hidden_size
    for offset, part in zip(plan.state_offsets, (part for layer in layers for part in layer), strict=True):
        buffer[..., offset : offset + H] = part
    for product in plan.instructions:
        if isinstance(product, Product) and product.state_part is not None:
            offset = plan.state_offsets[product.state_part]
            operand = buffer[..., offset : offset + H]
            out = buffer[..., product.out : product.out + len(product.matrix)]
            if buffer.ndim == 1:
                np.dot(product.matrix, operand, out)
            else:
                np.matmul(operand, product.transposed, out)


def store_state(plan: MemoryPlan, buffer: Float, like: Iterable[State]) -> tuple[State, ...]:
    """Return a copy of the states in a buffer, each part [1, H] or [B, H], with as many parts as `like` has."""
    parts = (np.atleast_2d(buffer[..., start : start + plan.hidden_size]).copy() for start in plan.state_offsets)
    return tuple(tuple(next(parts) for _ in layer) for layer in like)


class InputTable(dict[int, tuple[Float, ...]]):
    """The vectors that depend on the token id alone; each is computed when its token id is first read.

    Measured: `sample --length 10000` takes 1.05 (gru 1×384) to 1.16 (mgru 1×480) times as much CPU time without it.

    Args:
        plan: The memory plan of a step of the network.
        tables: The input gates of every token id: one table, [V, X·H], for each ensemble member.
    """

    def __init__(self, plan: MemoryPlan, tables: Sequence[Float]) -> None:
        super().__init__()
        self._plan, self._tables = plan, tables

    def __missing__(self, token_id: int) -> tuple[Float, ...]:
        self[token_id] = self._compute([table[token_id] for table in self._tables])
        return self[token_id]

    @cached_property
    def table(self) -> Float:
        """The vectors of all token ids; the vectors of a token id are concatenated, [V, R]."""
        return np.concatenate([self._tables[0][:, :0], *self._compute(self._tables)], axis=1)

    def _compute(self, inputs: Sequence[Float]) -> tuple[Float, ...]:
        return tuple(_evaluate(node, inputs) for node in self._plan.token_nodes)


def _evaluate(node: Node, inputs: Sequence[Float]) -> Float:
    """Compute a vector that depends on the token id alone, for one token id or for all."""
    if node.op == "constant":
        return node.value  # type: ignore[no-any-return]
    if node.op == "input":
        return inputs[node.index]
    args = [_evaluate(arg, inputs) for arg in node.args]
    if node.op == "slice":
        return args[0][..., node.offset : node.offset + node.width]
    if node.op == "product":
        return args[0] @ node.value.T  # type: ignore[no-any-return]
    return compute(node.op, *args)  # type: ignore[no-any-return]


def _aligned_zeros(*shape: int) -> Float:
    """Return zeros that start at a cache line."""
    size = int(np.prod(shape))
    memory = np.zeros(size + CACHE_LINE_FLOATS, dtype=np.float32)
    skipped = -(memory.ctypes.data // memory.itemsize) % CACHE_LINE_FLOATS
    return memory[skipped : skipped + size].reshape(shape)


def _odd_lines(size: int) -> int:
    """Return the size rounded up to an odd number of cache lines.

    With an even number the same offset of many rows would map to a few sets of the cache, which evict each other.
    """
    return (-(-size // CACHE_LINE_FLOATS) | 1) * CACHE_LINE_FLOATS


def uses_threads(plan: MemoryPlan) -> bool:
    """Return whether NumPy computes a product of the step on several threads, and each such product can be split."""
    large = large_matrices(plan)
    return bool(large) and all(len(matrix) % ROW_MULTIPLE == 0 for matrix in large)


def large_matrices(plan: MemoryPlan) -> list[Float]:
    """Return the matrices whose products with a vector NumPy computes on several threads."""
    matrices = [product.matrix for product in plan.instructions if isinstance(product, Product)]
    return [matrix for matrix in matrices if matrix.size > MAX_SERIAL_WEIGHTS]


def _write_mean(x: Float, out: Float) -> None:
    """Write the mean of a vector, or of each row, to all elements of another one."""
    np.divide(np.add.reduce(x, axis=-1, keepdims=True), x.shape[-1], out)


REDUCTION_CALLS = {"mean": _write_mean}


class SourceWriter:
    """Generates the source of a step line by line, and collects the values of its names.

    Args:
        plan: The memory plan of the step.
        buffer: The buffer of a single stream or of a batch of streams.
        split_products: Whether products that NumPy would compute on several threads are computed in parts, each on one
            thread. The result has the same bits.
    """

    def __init__(self, plan: MemoryPlan, buffer: Float, split_products: bool = False) -> None:
        self.names: dict[str, Any] = {}  #: the values of the names in the source
        self._plan, self._buffer, self._split_products = plan, buffer, split_products
        self._name_of: dict[Any, str] = {}
        self._lines: list[str] = []

    def add_line(self, line: str) -> None:
        """Add a line of source."""
        self._lines.append(line)

    def add_call(self, function: Any, *args: str) -> None:
        """Add a call of a function with names as arguments."""
        self.names[function.__name__] = function
        self.add_line(f"{function.__name__}({', '.join(args)})")

    def add_ngram_reader(self, reader: NGramReader | None, token_ids: str) -> None:
        """Add the computation of the n-gram features of token ids, if there is a reader."""
        if reader is not None:
            self.names["read_ngrams"] = reader.read
            self.add_line(f"read_ngrams({token_ids})")

    def add_instructions(self, instructions: Iterable[Instruction]) -> None:
        """Add a NumPy call for each instruction."""
        for instruction in instructions:
            if isinstance(instruction, Product):
                self._add_product(instruction)
            elif isinstance(instruction, Copy):
                source = self._view(instruction.source, instruction.width)
                self.add_call(np.copyto, self._view(instruction.target, instruction.width), source)
            else:
                self._add_operator(instruction)

    def logits(self) -> str:
        """Return the name of the logits."""
        return self._vector(self._plan.graph.logits)

    def build(self, parameter: str, result: str) -> Callable[[Any], Any]:
        """Compile the source to a function with a single parameter that returns the value of the name `result`."""
        source = "\n".join(
            [
                f"def make({', '.join(self.names)}):",
                f"    def step({parameter}):",
                *(f"        {line}" for line in self._lines),
                f"        return {result}",
                "    return step",
            ]
        )
        namespace: dict[str, Any] = {}
        exec(_compile_source(source), namespace)  # this module chose every name and number; none is from a model file
        return namespace["make"](**self.names)  # type: ignore[no-any-return]

    def _add_operator(self, node: Node) -> None:
        out = self._vector(node)
        if node.op in REDUCTIONS:
            self.add_call(REDUCTION_CALLS[node.op], self._vector(node.args[0]), out)
            return
        if node.op in ("maximum", "minimum"):  # NumPy reserves their third positional argument
            out = f"out={out}"
        self.add_call(getattr(np, node.op), *(self._vector(arg) for arg in node.args), out)

    def _add_product(self, product: Product) -> None:
        matrix = product.matrix
        num_rows, width = matrix.shape
        operand = self._view(product.operand, width)
        if self._buffer.ndim > 1:
            transposed = self._name("m", id(product), product.transposed)
            self.add_call(np.matmul, operand, transposed, self._view(product.out, num_rows))
        elif self._is_split(matrix):
            # The next step begins with the parts that this one has read last, which are still in the cache.
            size = max(1, WEIGHTS_PER_PART // width // ROW_MULTIPLE) * ROW_MULTIPLE
            result = self._buffer[product.out : product.out + num_rows]
            parts = [(matrix[i : i + size].dot, result[i : i + size]) for i in range(0, num_rows, size)]
            name = self._name("p", id(product), parts)
            self.add_line(f"for dot, out in {name}: dot({operand}, out)")
            self.add_line(f"{name}.reverse()")
        else:
            # The method is faster than numpy.dot, which first checks whether an argument overrides it.
            dot = self._name("m", id(product), matrix.dot)
            self.add_line(f"{dot}({operand}, {self._view(product.out, num_rows)})")

    def _is_split(self, matrix: Float) -> bool:
        """Return whether the product with a matrix is computed in parts, each on one thread."""
        is_threaded = matrix.size > MAX_SERIAL_WEIGHTS and not self._split_products
        return matrix.size > MAX_CACHED_WEIGHTS and len(matrix) % ROW_MULTIPLE == 0 and not is_threaded

    def _vector(self, node: Node) -> str:
        """Return the name of the value of a node."""
        if node.depends_on == CONSTANT and not node.width:
            return self._name("c", node, node.value)
        if node.depends_on == TOKEN:
            return f"r{self._plan.token_nodes.index(node)}"
        return self._view(self._plan.offset(node), node.width)

    def _view(self, offset: int, width: int) -> str:
        """Return the name of a part of the buffer."""
        return self._name("b", (offset, width), self._buffer[..., offset : offset + width])

    def _name(self, letter: str, key: Any, value: Any) -> str:
        """Return the name of a value: one name for each key."""
        if key not in self._name_of:
            self._name_of[key] = f"{letter}{len(self._name_of)}"
            self.names[self._name_of[key]] = value
        return self._name_of[key]


@lru_cache(maxsize=64)
def _compile_source(source: str) -> CodeType:
    """Compile source code. It is cached, because compiling takes most of the time that a new stream needs."""
    return compile(source, "<a traced step>", "exec")


def build_numpy_step(
    plan: MemoryPlan,
    buffer: Float,
    input_table: InputTable,
    split_products: bool = False,
    reader: NGramReader | None = None,
) -> Step:
    """Return the step function of a single stream; `reader` writes the n-gram features of a token id to the buffer."""
    writer = SourceWriter(plan, buffer, split_products)
    writer.add_ngram_reader(reader, "token_id")
    if plan.token_nodes:
        writer.names["input_table"] = input_table
        writer.add_line("".join(f"r{n}, " for n in range(len(plan.token_nodes))) + "= input_table[token_id]")
    writer.add_instructions(plan.instructions)
    return writer.build("token_id", writer.logits())
