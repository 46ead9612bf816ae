"""The ONNX back end: one step of a network as an ONNX graph, for other runtimes.

    inputs    token_ids               int64 [B]        outputs   logits                       float32 [B, V]
              state.NAME              float32 [B, H]             next_state.NAME              float32 [B, H]
              ngram_history           int64 [B, N − 1 + W]       next_ngram_history           int64 [B, N − 1 + W]

B is the batch size and may differ from call to call. The n-gram history is there if the network has n-gram features:
the last N − 1 token ids, and the W hashes of the n-grams that start with a word. A graph of the compiler has vectors;
here each of them gets the batch axis in front:

    product [N, K] · [K]     MatMul of [B, K] and the transposed matrix [K, N]
    vectors of a token id    one Gather from `InputTable.table`, [V, R], and a Slice for each vector
    slice, mean, tanh, …     the operators of `OPERATORS` over the last axis

The row numbers of the n-grams are computed inside (`onnx_ngrams.py`).

The graph is written with `onnx.helper`, in an operator set that onnxruntime reads from version 1.12 on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from chargen.errors import ChargenError
from chargen.graph.graph import CONSTANT, TOKEN, Node, TraceError, reachable
from chargen.graph.memory_plan import MemoryPlan
from chargen.graph.ngram_reader import NGramTable
from chargen.graph.numpy_backend import InputTable
from chargen.graph.onnx_ngrams import OnnxNgrams
from chargen.registry import import_extra

OPSET = 17  #: version of the operators; onnxruntime 1.12 and later
IR_VERSION = 8  #: version of the file format that belongs to it
MAX_FILE_BYTES = (1 << 31) - (1 << 20)  #: Protocol Buffers allow 2 GiB; the names and nodes need less than 1 MiB

TOKEN_IDS, LOGITS = "token_ids", "logits"
STATE, HISTORY = "state.", "ngram_history"
NEXT = "next_"  #: an output "next_X" is the input "X" of the next step

#: operator of a node: the operator of ONNX. The others are written by `_GraphWriter.add_node`.
OPERATORS = {
    "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "abs": "Abs",
    "negative": "Neg", "positive": "Identity", "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div",
    "maximum": "Max", "minimum": "Min",
}  # fmt: skip


def build_onnx_model(
    plan: MemoryPlan,
    input_table: InputTable,
    state_names: Sequence[str],
    ngrams: NGramTable | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Return one step of a network as an `onnx.ModelProto`.

    Args:
        plan: The memory plan of the step; its graph and its vectors of the token id are used.
        input_table: The vectors that depend on the token id alone.
        state_names: A name for each part of the state, layer by layer.
        ngrams: The table of the n-gram features; None if the network has none.
        metadata: Texts by name, for the property list of the model.

    Raises:
        ChargenError: If the package onnx is not installed, or the file would be larger than the format allows.
        TraceError: If a node has an operator that ONNX lacks.
    """
    onnx = import_extra("onnx", "onnx", "an ONNX file")
    _check_size(plan, input_table, ngrams)
    helper, writer = onnx.helper, _GraphWriter(onnx, plan)
    V, H = plan.graph.logits.width, plan.hidden_size
    floats, integers = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    state = {f"{STATE}{name}": (floats, ["batch", H]) for name in state_names}
    writer.add_token_rows(input_table)
    if ngrams is not None:
        state[HISTORY] = (integers, ["batch", ngrams.length])
        writer.add_ngrams(ngrams)
    for node in reachable([*plan.graph.states, plan.graph.logits]):
        writer.add_node(node, state_names)
    writer.add("Identity", writer.value(plan.graph.logits), output=LOGITS)
    for name, node in zip(state_names, plan.graph.states, strict=True):
        writer.add("Identity", writer.value(node), output=f"{NEXT}{STATE}{name}")
    inputs = {TOKEN_IDS: (integers, ["batch"]), **state}
    outputs = {LOGITS: (floats, ["batch", V]), **{f"{NEXT}{name}": kind for name, kind in state.items()}}
    graph = helper.make_graph(
        writer.nodes, "step", *([helper.make_tensor_value_info(name, *kind) for name, kind in values.items()]
        for values in (inputs, outputs)), writer.initializers,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="chargen",
        doc_string="One step: token ids and the state before them → logits of the next token ids, and the next state.",
    )  # fmt: skip
    helper.set_model_props(model, dict(metadata or {}))
    return model


def _check_size(plan: MemoryPlan, input_table: InputTable, ngrams: NGramTable | None) -> None:
    """Check that the numbers of a network fit into one file.

    Raises:
        ChargenError: If they do not.
    """
    products = {node.value.ctypes.data: node.value for node in reachable([*plan.graph.states, plan.graph.logits])
                if node.op == "product"}  # fmt: skip
    size = input_table.table.nbytes + sum(matrix.nbytes for matrix in products.values())
    size += 0 if ngrams is None else ngrams.table.nbytes
    if size > MAX_FILE_BYTES:
        raise ChargenError(
            f"the ONNX file would have {size / 1e9:.1f} GB, but the format allows {MAX_FILE_BYTES / 1e9:.1f} GB",
            "Export a smaller network, or one with fewer token ids.",
        )


class _GraphWriter:
    """Writes the nodes and the constants of an ONNX graph. Every value has a name.

    Args:
        onnx: The package onnx.
        plan: The memory plan of the step.
    """

    def __init__(self, onnx: Any, plan: MemoryPlan) -> None:
        self._onnx, self._plan = onnx, plan
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[Any, str] = {}  # names by dtype, shape and content
        self._values: dict[Node, str] = {}  # names of the values of nodes of the compiler's graph

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant; equal constants are stored once."""
        array = np.asarray(value, dtype=dtype, order="C")
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            name = self._constants[key] = f"c{len(self._constants)}"
            self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 vector."""
        return self.constant(values, np.int64)

    def value(self, node: Node) -> str:
        """Return the name of the value of a node."""
        if node.depends_on == CONSTANT:
            return self.constant(node.value)
        return self._values[node]

    def add_token_rows(self, input_table: InputTable) -> None:
        """Add the vectors that depend on the token id alone."""
        nodes = self._plan.token_nodes
        if not nodes:
            return
        rows = self.add("Gather", self.constant(input_table.table), TOKEN_IDS, axis=0)  # [B, R]
        for node, end in zip(nodes, accumulate(node.width for node in nodes), strict=True):
            self._values[node] = self.slice(rows, end - node.width, end)

    def add_ngrams(self, ngrams: NGramTable) -> None:
        """Add the n-gram features of the last token ids, and the next history."""
        self._features = OnnxNgrams(self, ngrams).add_features(TOKEN_IDS, HISTORY, f"{NEXT}{HISTORY}")

    def add_node(self, node: Node, state_names: Sequence[str]) -> None:
        """Add a node of the compiler's graph, whose arguments have been added. Token vectors are in the table already.

        Raises:
            TraceError: If ONNX lacks its operator.
        """
        if node.depends_on in (CONSTANT, TOKEN):
            return
        args = [self.value(arg) for arg in node.args]
        if node.op == "state":
            result = f"{STATE}{state_names[node.index]}"
        elif node.op == "ngrams":
            result = self._features
        elif node.op == "product":
            result = self.add("MatMul", args[0], self.constant(node.value.T))
        elif node.op == "slice":
            result = self.slice(args[0], node.offset, node.offset + node.width)
        elif node.op == "mean":  # a single number for each stream; all elements of the node have this value
            mean = self.add("ReduceMean", args[0], axes=[1], keepdims=1)
            result = self.add("Expand", mean, self.add("Shape", args[0]))
        elif node.op == "square":
            result = self.add("Mul", args[0], args[0])
        elif node.op == "expm1":
            result = self.add("Sub", self.add("Exp", args[0]), self.constant(1.0))
        elif node.op == "log1p":
            result = self.add("Log", self.add("Add", args[0], self.constant(1.0)))
        elif node.op in OPERATORS:
            result = self.add(OPERATORS[node.op], *args)
        else:
            raise TraceError(f"ONNX has no operator for {node.op}")
        self._values[node] = result

    def slice(self, vectors: str, start: int, end: int, output: str = "") -> str:
        """Add the columns from `start` to before `end`."""
        bounds = (self.integers(start), self.integers(end), self.integers(1))
        return self.add("Slice", vectors, *bounds, output=output)
