"""The JavaScript back end: what it generates. `tests/export/test_payload.py` runs it and compares the results."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.graph.graph import BINARY, UNARY, TraceError
from chargen.graph.javascript_backend import EXPRESSIONS, JavaScriptNetwork, build_javascript
from chargen.graph.memory_plan import plan_memory
from tests.graph.small_engines import SHAPES, engine

EMBEDDING = np.zeros((19, 5), dtype=np.float32)


def network(cell: str, **shape: Any) -> JavaScriptNetwork:
    ours = engine(cell, **shape)
    return build_javascript(
        plan_memory(ours.trace(shape.get("embedding_dim", 5)), shape.get("hidden_size", 12)), EMBEDDING
    )


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_every_name_in_the_source_is_defined(name: str, shape: dict[str, Any]) -> None:
    written = network(name, **shape)
    defined = set(re.findall(r"function (\w+)\(", written.source))
    called = set(re.findall(r"^ +(\w+)\(.*\);$", written.source, re.MULTILINE))
    assert called <= defined
    assert set(re.findall(r"\bw\.(\w+)", written.source)) == set(written.weights)
    assert not re.search(r"\b(eval|Function|import|fetch|WebAssembly)\b", written.source)


def test_every_operator_has_code() -> None:
    assert set(EXPRESSIONS) == {*UNARY, *BINARY}


def test_an_operator_without_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(EXPRESSIONS, "tanh")  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="no code for tanh"):
        network("gru")


def test_rows_of_zeros_that_pad_a_product_are_not_stored() -> None:
    rows = sum(len(array) for array in network("gru").weights.values() if array.ndim == 2)
    assert rows == 19 + 3 * 12 + 3 * 12 + 19  # the embedding, the input gates, the recurrent gates and the head


def test_all_members_of_an_ensemble_share_the_embedding() -> None:
    weights = network("gru", ensemble_size=3).weights
    assert sum(array.shape == EMBEDDING.shape for array in weights.values()) == 1
