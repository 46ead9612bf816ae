"""The numba back end: compiled loops and draws against generated NumPy code, and the cache of kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.cells.cell import NetworkState
from chargen.engines.interface import log_softmax
from chargen.engines.streams import TracedStream
from chargen.graph.numba_backend import compile_draw_one
from chargen.sampling.logits_rules import draw
from tests.graph.small_engines import (
    SHAPES,
    assert_same_as_steps,
    assert_states_close,
    engine,
    numba,
    random_state,
    traced,
)

B = 5


@numba
@pytest.mark.parametrize(("name", "shape"), [*((name, {}) for name in CELLS.names()), ("gru", SHAPES[3])])
def test_compiled_loops_equal_the_generated_numpy_code(name: str, shape: dict[str, Any]) -> None:
    ours = engine(name, **shape)
    state = random_state(ours, 1)
    stream = ours.stream(state)
    assert isinstance(stream, TracedStream)
    assert stream.compile()
    assert_same_as_steps(ours, stream, np.random.default_rng(2).integers(0, 19, 60).tolist(), state, 1e-5)
    for value in (1e30, -1e30):  # every gate is 0 or 1
        layers = ours.initial_state(1).layers
        state = NetworkState(tuple((np.full_like(layer[0], value), *layer[1:]) for layer in layers))
        plain, compiled = ours.stream(state), ours.stream(state)
        assert isinstance(compiled, TracedStream)
        compiled.compile()
        expected = plain.step(3)
        size = np.abs(expected).max()  # differences of huge numbers are rounded
        np.testing.assert_allclose(compiled.step(3) / size, expected / size, atol=1e-5)


@numba
@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, {}) for name in CELLS.names()), ("gru", SHAPES[3]), ("crossed", {}), ("crossed", SHAPES[1])],
)
def test_compiled_draws_equal_a_draw_before_each_step(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    drawn, stepped = ours.stream(random_state(ours, 1)), ours.stream(random_state(ours, 1))
    assert isinstance(drawn, TracedStream) and isinstance(stepped, TracedStream)
    added, uniforms, expected = np.zeros(19), np.random.default_rng(3).random(40).tolist(), []
    added[[0, 7]] = -np.inf
    assert drawn.draws(added, 0.8) is None  # not before the stream is compiled
    assert drawn.compile() and stepped.compile()
    drawn.step(4)
    logits = stepped.step(4)
    for uniform in uniforms:
        weights = np.exp((logits + added - logits.max()) * 0.8).cumsum()
        expected.append(int((weights > uniform * weights[-1]).argmax()))
        logits = stepped.step(expected[-1])
    draws = drawn.draws(added, 0.8)
    assert draws and [*draws(uniforms[:15]), *draws(uniforms[15:])] == expected
    np.testing.assert_allclose(drawn.step(5), stepped.step(5), atol=1e-5)  # the stream can be stepped afterwards
    assert_states_close(drawn.state(), stepped.state(), 1e-5)


@numba
@pytest.mark.parametrize(
    ("name", "shape"), [*((name, {}) for name in CELLS.names()), ("mgru", SHAPES[5]), ("crossed", SHAPES[1])]
)
def test_the_draws_of_a_batch_equal_those_of_each_stream(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    state, uniforms, added = random_state(ours, 1, B), np.random.default_rng(3).random((20, B)), np.zeros(19)
    added[[0, 7]] = -np.inf
    first_ids = np.arange(B)
    batch = ours.stream_batch(state)
    assert batch.draws(added, 0.8) is None  # not before the batch is compiled
    assert batch.compile()
    batch.step(first_ids)
    draws = batch.draws(added, 0.8)
    assert draws
    together = np.array([ids.copy() for ids in draws(uniforms)])
    assert not np.isin(together, [0, 7]).any()
    for row in range(B):
        stream = ours.stream(ours.select(state, np.array([row])))
        assert stream.compile()  # type: ignore[attr-defined]
        stream.step(int(first_ids[row]))
        alone = stream.draws(added, 0.8)
        assert alone and list(alone(uniforms[:, row].tolist())) == together[:, row].tolist()


@numba
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 5.0))
def test_the_compiled_draw_equals_the_draw_in_numpy(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, 19).astype(np.float32)
    added, buffer = np.zeros(19), np.empty(19)
    added[[0, 7]] = -np.inf
    allowed = logits + added
    found = compile_draw_one()(logits, added, buffer, 1 / temperature, np.random.default_rng(seed).random())
    assert found == draw((allowed - allowed.max()) / temperature, np.random.default_rng(seed).random())
    np.testing.assert_allclose(
        np.diff(buffer / buffer[-1], prepend=0), np.exp(log_softmax(allowed / temperature)), atol=1e-12
    )


COUNT_CACHE_HITS = """
import json
import numpy as np
from chargen.engines import streams
from chargen.graph.numba_backend import compile_draw_one
from tests.graph.small_engines import engine
model = engine("rnn")
stream = model.stream(model.initial_state(1))
assert stream.compile() and stream.draws(np.zeros(19), 1.0)
kernels = [compile_draw_one(), *model.traced.compiled.kernels._kernels.values()]
print(json.dumps([[len(k.stats.cache_hits), len(k.stats.cache_misses)] for k in kernels]))
"""


@numba
def test_a_second_process_takes_the_kernels_from_the_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> list[list[int]]:
        command = [sys.executable, "-c", COUNT_CACHE_HITS]
        hits: list[list[int]] = json.loads(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        )
        return hits

    assert set(map(tuple, run())) == {(0, 1)}
    assert set(map(tuple, run())) == {(1, 0)}
