"""The JavaScript back end: a step as the source of a JavaScript function, for a page that runs a model in a browser.

The source is one function. It gets the weights as `Float32Array`s by name, and returns a network:

    function createNetwork(w) {
      const b = new Float32Array(272), t = new Float32Array(48);     // the buffer, and the vectors of a token id
      …
      return {load, store, step, logits: b.subarray(256, 262), ngrams: null, stateSize: 4};
    }

    load(values)      write a state to the buffer, and compute the products that the next step needs
    step(id)          read a token id; `logits` then has the logits of the next token
    store(values)     read the state from the buffer
    ngrams            the part of the buffer to which the n-gram features are written before a step; null without them

Each instruction of the memory plan (`memory_plan.py`) is a call of a short function with a loop over `Float32Array`s,
because an engine of JavaScript optimizes short functions and gives up on very long ones. The functions are generated
too, one for each operator and kind of arguments. So the source has no library and needs no WebAssembly, and evaluates
no text as code.

What depends on the token id alone is computed when a token id is first read, and kept, as `InputTable` does. Here it
starts from the embedding, whose matrix and those of the input gates are stored instead of their product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.graph.graph import CONSTANT, REDUCTIONS, TOKEN, Node, TraceError, reachable, resolve_slice
from chargen.graph.memory_plan import Copy, Instruction, MemoryPlan, Product

Float = NDArray[np.float32]

EMBEDDING = "embedding"  #: name of the embedding among the weights
MAX_ROWS = 2048  #: token ids whose vectors are kept; a large vocabulary would need too much memory
EXPRESSIONS: Mapping[str, str] = {  # what a loop computes for each element
    "tanh": "tanh({x})",
    "exp": "Math.exp({x})",
    "expm1": "Math.expm1({x})",
    "log": "Math.log({x})",
    "log1p": "Math.log1p({x})",
    "sqrt": "Math.sqrt({x})",
    "square": "{x} * {x}",
    "sin": "Math.sin({x})",
    "cos": "Math.cos({x})",
    "abs": "Math.abs({x})",
    "negative": "-{x}",
    "positive": "{x}",
    "add": "{x} + {y}",
    "subtract": "{x} - {y}",
    "multiply": "{x} * {y}",
    "divide": "{x} / {y}",
    "maximum": "Math.max({x}, {y})",
    "minimum": "Math.min({x}, {y})",
}
TANH = """
// Math.tanh takes three times as long. The result differs from it by 1e-16 at most.
function tanh(x) {
  return 1 - 2 / (Math.exp(2 * x) + 1);
}
"""
MEAN = """
function mean(out, o, x, i, n) {
  let sum = 0;
  for (let k = 0; k < n; k++) sum += x[i + k];
  out.fill(sum / n, o, o + n);
}
"""
#: Eight rows are multiplied at once, with a sum of its own for each, so that an element of the vector is read once for
#: eight weights; `interleave` puts these weights next to each other: 1.7 times as fast. Sums are in float64, because
#: an engine of JavaScript needs more time for float32 (`Math.fround`).
PRODUCT = """
const BLOCK = 8;
function interleave(m, rows, width) {
  const blocks = new Float32Array(Math.ceil(rows / BLOCK) * BLOCK * width);
  for (let r = 0; r < rows; r++) {
    const start = (r - (r % BLOCK)) * width + (r % BLOCK);
    for (let k = 0; k < width; k++) blocks[start + k * BLOCK] = m[r * width + k];
  }
  return blocks;
}
function product(out, o, m, x, i, rows, width) {
  for (let r = 0, p = 0; r < rows; r += BLOCK) {
    let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    for (let k = i; k < i + width; k++, p += BLOCK) {
      const v = x[k];
      a += m[p] * v;
      b += m[p + 1] * v;
      c += m[p + 2] * v;
      d += m[p + 3] * v;
      e += m[p + 4] * v;
      f += m[p + 5] * v;
      g += m[p + 6] * v;
      h += m[p + 7] * v;
    }
    const last = o + rows - 1, q = o + r;
    out[q] = a;
    if (q + 1 <= last) out[q + 1] = b;
    if (q + 2 <= last) out[q + 2] = c;
    if (q + 3 <= last) out[q + 3] = d;
    if (q + 4 <= last) out[q + 4] = e;
    if (q + 5 <= last) out[q + 5] = f;
    if (q + 6 <= last) out[q + 6] = g;
    if (q + 7 <= last) out[q + 7] = h;
  }
}
"""
MOVE = """
function move(out, o, x, i, n) {
  for (let k = 0; k < n; k++) out[o + k] = x[i + k];
}
"""


@dataclass(frozen=True)
class JavaScriptNetwork:
    """A step of a network as JavaScript.

    Attributes:
        source: The source of the function `createNetwork`, and of the functions that it calls.
        weights: The arrays that `createNetwork` gets, by name: matrices [N, K] and vectors [N], in float32. The
            embedding [V, E] is one of them.
    """

    source: str
    weights: dict[str, Float]


def build_javascript(plan: MemoryPlan, embedding: Float) -> JavaScriptNetwork:
    """Return a step of a network as JavaScript.

    Args:
        plan: The memory plan of a step whose only input is the embedding of the token id.
        embedding: The embedding, [V, E].

    Raises:
        TraceError: If the back end has no code for an operator.
    """
    writer = _Writer(plan, embedding)
    return JavaScriptNetwork(writer.write(), writer.weights)


class _Writer:
    """Generates the source, and collects the weights that it names."""

    def __init__(self, plan: MemoryPlan, embedding: Float) -> None:
        self.weights: dict[str, Float] = {EMBEDDING: embedding}
        self._names: dict[int, str] = {}  # names of weights, by the id of the array or product
        self._plan = plan
        self._functions: dict[str, str] = {"move": MOVE}
        self._token_nodes = [
            node for node in reachable(plan.token_nodes) if node.op != "slice" and node.depends_on == TOKEN
        ]
        self._token_size = 0
        self._token_offsets: dict[Node, int] = {}  # offsets in buffer t of vectors of a token id alone
        for node in self._token_nodes:
            self._reserve(node)
        self._row_offsets: dict[Node, int] = {}  # offsets of those that a step reads, in the row r of the token id
        self._row_size = 0
        for node in plan.token_nodes:
            self._row_offsets[node] = self._row_size
            self._row_size += node.width

    def write(self) -> str:
        """Return the source."""
        token_lines = [self._token_line(node) for node in self._token_nodes]
        row_lines = [
            f"move(row, {self._row_offsets[node]}, t, {self._token_offset(node)}, {node.width});"
            for node in self._plan.token_nodes
        ]
        step_lines = [self._line(instruction) for instruction in self._plan.instructions]
        load_lines, store_lines = self._state_lines()
        constants = [
            f"b.set(w.{self._weight('v', node.value)}, {self._plan.offset(node)});"
            for node in self._plan.constant_nodes
        ]
        constants += [
            f"t.set(w.{self._weight('v', node.value)}, {offset});"
            for node, offset in self._token_offsets.items()
            if node.depends_on == CONSTANT
        ]
        matrices = [f"{EMBEDDING} = w.{EMBEDDING}"]
        matrices += [
            f"{name} = interleave(w.{name}, {len(array)}, {array.shape[1]})"
            for name, array in self.weights.items()
            if array.ndim == 2 and name != EMBEDDING
        ]
        logits = self._plan.offset(self._plan.graph.logits)
        ngrams = self._plan.ngram_slice
        lines = [
            "function createNetwork(w) {",
            f"  const b = new Float32Array({self._plan.size}), t = new Float32Array({self._token_size});",
            "  const rows = new Map();",
            *(f"  const {matrix};" for matrix in matrices),
            *_indented(constants),
            "  function computeRow(id) {",
            *_indented(token_lines, 2),
            f"    const row = new Float32Array({self._row_size});",
            *_indented(row_lines, 2),
            f"    if (rows.size === {MAX_ROWS}) rows.clear();",
            "    rows.set(id, row);",
            "    return row;",
            "  }",
            "  return {",
            f"    stateSize: {len(self._plan.state_offsets) * self._plan.hidden_size},",
            f"    logits: b.subarray({logits}, {logits + self._plan.graph.logits.width}),",
            "    ngrams: " + (f"b.subarray({ngrams.start}, {ngrams.stop})," if ngrams else "null,"),
            *_function("load(s)", load_lines),
            *_function("store(s)", store_lines),
            *_function("step(id)", ["const r = rows.get(id) || computeRow(id);", *step_lines]),
            "  };",
            "}",
        ]
        return "".join(text.lstrip("\n") for text in self._functions.values()) + "\n".join(lines) + "\n"

    def _state_lines(self) -> tuple[list[str], list[str]]:
        """Return the lines that write a state to the buffer, and those that read it."""
        H = self._plan.hidden_size
        offsets = list(enumerate(self._plan.state_offsets))
        load = [f"move(b, {offset}, s, {part * H}, {H});" for part, offset in offsets]
        load += [
            self._product(product, self._plan.state_offsets[product.state_part])
            for product in self._plan.instructions
            if isinstance(product, Product) and product.state_part is not None
        ]
        return load, [f"move(s, {part * H}, b, {offset}, {H});" for part, offset in offsets]

    def _line(self, instruction: Instruction) -> str:
        """Return the call for an instruction of a step."""
        if isinstance(instruction, Product):
            return self._product(instruction, instruction.operand)
        if isinstance(instruction, Copy):
            return f"move(b, {instruction.target}, b, {instruction.source}, {instruction.width});"
        operands = [self._operand(arg) for arg in instruction.args]
        return self._call(instruction.op, f"b, {self._plan.offset(instruction)}", operands, instruction.width)

    def _product(self, product: Product, operand: int) -> str:
        matrix = product.matrix
        num_rows = int(np.flatnonzero(matrix.any(axis=1)).max(initial=0)) + 1  # the rest is padding
        name = self._weight("m", matrix[:num_rows], key=id(product))
        self._functions.setdefault("product", PRODUCT)
        return f"product(b, {product.out}, {name}, b, {operand}, {num_rows}, {matrix.shape[1]});"

    def _operand(self, node: Node) -> str:
        """Return an argument of an operator of a step: a number, or an array and an offset."""
        if node.depends_on == CONSTANT and not node.width:
            return _number(node.value)
        if node.depends_on == TOKEN:
            return f"r, {self._row_offsets[node]}"
        return f"b, {self._plan.offset(node)}"

    def _reserve(self, node: Node) -> None:
        """Reserve space in the buffer of the token vectors for a node, and for its constant arguments."""
        for arg in (node, *node.args):
            base = resolve_slice(arg)[0]
            if base not in self._token_offsets and base.width:
                self._token_offsets[base] = self._token_size
                self._token_size += base.width

    def _token_offset(self, node: Node) -> int:
        base, offset = resolve_slice(node)
        return self._token_offsets[base] + offset

    def _token_line(self, node: Node) -> str:
        """Return the call that computes a vector which depends on the token id alone."""
        out = f"t, {self._token_offset(node)}"
        if node.op == "input":
            return f"move({out}, {EMBEDDING}, id * {node.width}, {node.width});"
        if node.op == "product":
            name = self._weight("m", node.value)
            self._functions.setdefault("product", PRODUCT)
            operand = self._token_offset(node.args[0])
            return f"product({out}, {name}, t, {operand}, {node.width}, {node.value.shape[1]});"
        operands = [
            f"t, {self._token_offset(arg)}" if arg.width else _number(arg.value) for arg in node.args
        ]  # a scalar is a constant
        return self._call(node.op, out, operands, node.width)

    def _call(self, op: str, out: str, operands: list[str], width: int) -> str:
        """Return the call of the function of an operator, which is added to the source."""
        if op in REDUCTIONS:
            self._functions.setdefault("mean", MEAN)
            return f"mean({out}, {operands[0]}, {width});"
        if op not in EXPRESSIONS:
            raise TraceError(f"the JavaScript back end has no code for {op}")
        is_vector = ["," in operand for operand in operands]
        name = op + "".join("V" if vector else "S" for vector in is_vector)
        if op == "tanh":
            self._functions.setdefault("tanh", TANH)
        if name not in self._functions:
            arrays, indices = "xy", "ij"
            parameters, values = [], {}
            for vector, array, index in zip(is_vector, arrays, indices, strict=False):
                parameters.append(f"{array}, {index}" if vector else array)
                values[array] = f"{array}[{index} + k]" if vector else array
            expression = EXPRESSIONS[op].format(**values)
            self._functions[name] = (
                f"function {name}(out, o, {', '.join(parameters)}, n) {{\n"
                f"  for (let k = 0; k < n; k++) out[o + k] = {expression};\n}}\n"
            )
        return f"{name}({out}, {', '.join(operands)}, {width});"

    def _weight(self, letter: str, array: Float, key: int | None = None) -> str:
        """Return the name of a weight: one name for each array."""
        key = id(array) if key is None else key
        if key not in self._names:
            self._names[key] = f"{letter}{len(self._names)}"
            self.weights[self._names[key]] = array
        return self._names[key]


def _indented(lines: Iterable[str], levels: int = 1) -> list[str]:
    return ["  " * levels + line for line in lines]


def _function(head: str, lines: list[str]) -> list[str]:
    """Return a method of an object, as lines."""
    return [f"    {head} {{", *_indented(lines, 3), "    },"]


def _number(value: Any) -> str:
    """Return a number as JavaScript."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    return repr(number) if math.isfinite(number) else f"{'-' * (number < 0)}Infinity"
