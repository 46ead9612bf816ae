"""Streams: generated NumPy code and compiled loops against the cell's own step, and the choice between variants."""

from __future__ import annotations

import importlib.util
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

from chargen.cells import CELLS, Cell
from chargen.cells.cell import NetworkState, sigmoid
from chargen.cells.lstm import LSTM
from chargen.config import ModelConfig
from chargen.engines import streams
from chargen.engines.interface import Stream, log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import CALLS_BETWEEN_TIMINGS, NUM_TIMED_CALLS, FastestOf, PlainStream, TracedStream
from chargen.lm import LanguageModel
from chargen.sampling import decoding
from chargen.sampling.logits_rules import draw
from tests.conftest import VERSE, random_model, random_weights

SHAPES = [
    {},
    {"num_layers": 3},
    {"ensemble_size": 3, "tie_weights": True, "embedding_dim": 12},
    {"ensemble_size": 2, "num_layers": 2},
    {"hidden_size": 1},
    {"ensemble_size": 2, "ngrams": 4, "ngram_rows": 16, "ngram_dim": 3},
    {"num_layers": 2, "ngrams": 2, "ngram_rows": 1, "ngram_dim": 20},
]
numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def engine(cell: str = "gru", seed: int = 0, scale: float = 0.5, **shape: Any) -> NumpyEngine:
    config = ModelConfig(19, cell, **{"hidden_size": 12, "embedding_dim": 5, **shape})
    return NumpyEngine(config, random_weights(config, seed, scale))


def traced(name: str, monkeypatch: pytest.MonkeyPatch, **shape: Any) -> NumpyEngine:
    """Return an engine with small weights, for a cell of the registry or for the new cell "crossed"."""
    if name == "crossed":
        monkeypatch.setattr(CELLS, "get", lambda _: CustomCell(crossed))
    return engine(name, scale=0.2, **shape)


def assert_same_as_steps(ours: NumpyEngine, stream: Stream, ids: list[int], state: Any, tolerance: float) -> None:
    for token_id in ids:
        expected, state = ours.step(np.array([token_id]), state)
        np.testing.assert_allclose(stream.step(token_id), expected[0], rtol=tolerance, atol=tolerance)
    assert_states_close(stream.state(), state, tolerance)


def assert_states_close(found: NetworkState, expected: NetworkState, tolerance: float) -> None:
    found.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), expected)


def random_state(ours: NumpyEngine, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return ours.initial_state(1).map(lambda part: drawn_like(part, rng))


def drawn_like(part: Any, rng: np.random.Generator) -> Any:
    """Return random numbers for a part of a state: a hidden vector or the n-gram history."""
    return rng.integers(0, 19, part.shape) if part.dtype == np.int64 else rng.normal(size=part.shape).astype(np.float32)


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_equals_the_steps_of_its_engine(name: str, shape: dict[str, Any]) -> None:
    ours = engine(name, **shape)
    state = random_state(ours, 1)
    stream = ours.stream(state)
    assert isinstance(stream, TracedStream)  # every cell of the registry can be traced
    ids = np.random.default_rng(2).integers(0, 19, 60).tolist()
    assert_same_as_steps(ours, stream, ids, state, 1e-5)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(CELLS.names()), exponent=st.integers(-30, 8), seed=st.integers(0, 99))
def test_a_stream_equals_the_steps_for_weights_of_any_size(name: str, exponent: int, seed: int) -> None:
    ours = engine(name, seed, 10.0**exponent)
    ids = np.random.default_rng(seed).integers(0, 19, 3).tolist()
    state, stream = ours.initial_state(1), ours.stream(ours.initial_state(1))
    for token_id in ids:  # each step from the same state: with huge gates, rounding can change a sign
        expected, after = ours.step(np.array([token_id]), state)
        size = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(stream.step(token_id) / size, expected[0] / size, atol=1e-5)
        state, stream = after, ours.stream(after)


@pytest.mark.parametrize("name", CELLS.names())
def test_infinite_and_nan_states_give_the_same_as_the_step(name: str) -> None:
    ours = engine(name)
    for value in (np.inf, -np.inf, np.nan):
        state = ours.initial_state(1).map(lambda part: np.full_like(part, value))  # noqa: B023
        with np.errstate(all="ignore"):
            expected, _ = ours.step(np.array([3]), state)
            np.testing.assert_allclose(ours.stream(state).step(3), expected[0], atol=1e-5)


def test_the_state_of_a_stream_is_a_value() -> None:
    ours = engine("lstm", num_layers=2)
    stream = ours.stream(ours.initial_state(1))
    stream.step(4)
    kept = stream.state()
    first = stream.step(5).copy()
    stream.step(6)
    again, other = ours.stream(kept), ours.stream(kept)
    np.testing.assert_array_equal(again.step(5), first)
    np.testing.assert_array_equal(other.step(5), first)  # streams of one model do not share a buffer
    np.testing.assert_allclose(ours.step(np.array([5]), kept)[0][0], first, atol=1e-6)
    np.testing.assert_array_equal(again.step(7), other.step(7))


def test_one_stream_reads_the_same_alone_and_in_a_batch() -> None:
    ours = engine("mgru", scale=0.2, ensemble_size=2)
    inputs, targets = np.random.default_rng(0).integers(0, 19, (2, 40, 1))
    alone, state = ours.read(inputs, targets, ours.initial_state(1))
    many, states = ours.read(np.tile(inputs, 3), np.tile(targets, 3), ours.initial_state(3))
    np.testing.assert_allclose(np.tile(alone, 3), many, atol=1e-5)
    assert_states_close(state.map(lambda part: np.tile(part, (3, 1))), states, 1e-5)


class CustomCell(Cell):
    """A new cell with the step of a test."""

    num_gates = num_input_gates = 1
    state_names = ("h", "last")

    def __init__(self, step: Any) -> None:
        self.step = step  # type: ignore[method-assign]

    def step(self, xp: Any, params: Any, x_gates: Any, state: Any) -> Any: ...


def rolled(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return xp.tanh(x_gates + xp.roll(h, 1, -1) + params["bias_hh"]), h + last


def in_place(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h = state[0] + 0.0
    kept = h
    h += x_gates
    return xp.tanh(h), xp.tanh(kept)


def kept(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return xp.tanh(x_gates + last), h


def branching(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return (xp.tanh(x_gates), last + 1.0) if (x_gates > 0).any() else (h + 1.0, xp.tanh(last))


def crossed(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    """Both parts of the state read both old parts, and the output is multiplied before the other gates are read."""
    h, last = state
    W, b = params["weight_hh"], params["bias_hh"]
    new = xp.tanh(last @ W.T - x_gates) / (1.5 + sigmoid(xp, h))
    return new, 1 - xp.maximum(h @ W.T + b, -(new @ W)) * 0.1 + xp.exp(-xp.abs(x_gates * b))


@pytest.mark.parametrize("step", [rolled, in_place, kept, branching])
def test_a_cell_that_cannot_be_traced_runs_its_own_step(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: CustomCell(step))
    ours = engine()
    stream = ours.stream(ours.initial_state(1))
    assert isinstance(stream, PlainStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1], ours.initial_state(1), 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_cell_is_traced(shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: CustomCell(crossed))
    ours = engine(scale=0.2, **shape)
    stream = ours.stream(random_state(ours, 1))
    assert isinstance(stream, TracedStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1, 9], random_state(ours, 1), 1e-5)


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
def test_a_long_stream_continues_with_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "COMPILE_AFTER_TOKENS", 5)
    ours, compiled = engine("gru"), []
    monkeypatch.setattr(TracedStream, "compile", _record(TracedStream.compile, compiled))
    stream = ours.stream(ours.initial_state(1))
    assert_same_as_steps(ours, stream, list(range(12)), ours.initial_state(1), 1e-5)
    assert compiled == [True]


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
def test_compiled_draws_do_not_change_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE))
    plain = lm.sample("The ", length=90, seed=3, temperature=0.7)
    monkeypatch.setattr(streams, "COMPILE_AFTER_TOKENS", 30)
    monkeypatch.setattr(decoding, "UNIFORMS_PER_BLOCK", 20)
    assert lm.sample("The ", length=90, seed=3, temperature=0.7) == plain


def test_the_fastest_variant_is_used_until_it_becomes_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now, duration, called = [0.0], {"whole": 1.0, "parts": 2.0}, []
    monkeypatch.setattr(streams.time, "perf_counter", lambda: now[0])

    def variant(name: str) -> Any:
        def call(argument: int) -> int:
            called.append(name)
            now[0] += duration[name]
            return 2 * argument

        return call

    fastest = FastestOf([variant("whole"), variant("parts")])
    num_timed, pause = 2 * NUM_TIMED_CALLS, CALLS_BETWEEN_TIMINGS
    results = [fastest(n) for n in range(num_timed)] + list(fastest.map(range(num_timed, num_timed + pause)))
    assert results == [2 * n for n in range(num_timed + pause)]
    assert sorted(called[:num_timed]) == NUM_TIMED_CALLS * ["parts"] + NUM_TIMED_CALLS * ["whole"]
    assert called[num_timed:] == pause * ["whole"]
    duration["whole"] = 100.0  # another process uses a core
    called.clear()
    list(fastest.map(range(pause)))
    assert called.count("whole") == 1  # one such call is enough to know


def _record(compile_stream: Any, results: list[bool]) -> Any:
    return lambda self: results.append(compile_stream(self))


def test_without_numba_a_stream_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "numba_installed", lambda: False)
    stream = engine(cell="lstm").stream(engine(cell="lstm").initial_state(1))
    assert isinstance(stream, TracedStream)
    assert not stream.compile()
    assert np.isfinite(stream.step(1)).all()


def test_two_streams_that_read_the_same_ids_give_the_same_bits() -> None:
    ours = engine(LSTM.__name__.lower())
    runs = []
    for _ in range(2):
        stream = ours.stream(ours.initial_state(1))
        runs.append([stream.step(token_id).copy() for token_id in (1, 2, 3, 2, 1)])
    np.testing.assert_array_equal(runs[0], runs[1])


@numba
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 5.0))
def test_the_compiled_draw_equals_the_draw_in_numpy(seed: int, temperature: float) -> None:
    from chargen.graph.numba_backend import compile_draw_one

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
from tests.engines.test_streams import engine
model = engine("rnn")
stream = model.stream(model.initial_state(1))
assert stream.compile() and stream.draws(np.zeros(19), 1.0)
kernels = [compile_draw_one(), *model._traced.compiled.kernels._kernels.values()]
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
