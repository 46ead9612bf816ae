"""A small compiler: from the equations of a cell to code that runs one step of a network.

    cell equations ─▶ trace ─▶ operator graph ─▶ memory plan ─▶ back end
    cells/*.py      trace.py     graph.py      memory_plan.py   numpy_backend.py, numba_backend.py,
                                                                   javascript_backend.py, onnx_backend.py

1. **Trace** (`trace.trace`). `Cell.step` is called with symbols instead of arrays. Each operation on a symbol adds a
   node to the graph. A cell that uses an operation without an operator raises `TraceError`; the engine then calls the
   cell's step directly, which gives the same values more slowly.
2. **Graph** (`graph.Graph`). It is a step of the whole network: nodes of the logits and the new state. The builder
   folds constants, reuses equal nodes, and adds up the terms of a sum that do not depend on the state first, so that
   they can be computed once for each token id.
3. **Memory plan** (`memory_plan.plan_memory`). It states the order of the instructions, the offset of each vector in
   one buffer, and which matrix products are computed as one.
4. **Back end**. It generates code from the plan: `numpy_backend.py`, `numba_backend.py`. `onnx_backend.py` writes a
   file for other runtimes.

A back end gets a `MemoryPlan`:

    instructions        what a step computes, in order: `Node` (an elementwise operator), `Product`, `Copy`
    offset(node)        where the value of a node is in the buffer
    size                length of the buffer, in float32 numbers
    constant_nodes      vectors that are written to the buffer once (`numpy_backend.allocate_buffer`)
    token_nodes         vectors that depend on the token id alone (`numpy_backend.InputTable` has their values)
    state_offsets       where the parts of the state are
    ngram_slice         where the n-gram features are written before a step, or None
    graph.logits        the node of the result

A back end that needs no buffer (`onnx_backend.py`) reads the `Graph` instead: `graph.reachable` lists its nodes so that
each one comes after its arguments.
"""

from __future__ import annotations

from chargen.registry import is_installed


def numba_installed() -> bool:
    """Return whether numba is installed, which `numba_backend.py` needs; neither of them is imported."""
    return is_installed("numba")
