"""One stream, fast: programs and compiled loops made from a trace, against the cell's own step."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS, Cell
from chargen.cells.cell import sigmoid
from chargen.cells.lstm import LSTM
from chargen.config import ModelConfig
from chargen.engines import streams as stream_module
from chargen.engines import streams as ways_module
from chargen.engines.interface import Stream, log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import CALLS_BETWEEN_TIMINGS, NUM_TIMED_CALLS, FastestOf, PlainStream, TracedStream
from chargen.lm import LanguageModel
from chargen.sampling import decoding as sampler
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
    """Return an engine whose steps stay small, of a cell by its name or of the one that is written "crossed"."""
    if name == "crossed":
        monkeypatch.setattr(CELLS, "get", lambda _: Odd(crossed))
    return engine(name, scale=0.2, **shape)


def assert_same_as_steps(ours: NumpyEngine, stream: Stream, ids: list[int], state: Any, tolerance: float) -> None:
    for token_id in ids:
        expected, state = ours.step(np.array([token_id]), state)
        np.testing.assert_allclose(stream.step(token_id), expected[0], rtol=tolerance, atol=tolerance)
    for found, layer in zip(stream.state(), state, strict=True):
        np.testing.assert_allclose(np.array(found), np.array(layer), rtol=tolerance, atol=tolerance)


def random_state(ours: NumpyEngine, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    empty = ours.initial_state(1)
    return tuple(tuple(drawn_like(part, rng) for part in layer) for layer in empty)


def drawn_like(part: Any, rng: np.random.Generator) -> Any:
    """Return numbers for a part of a state: a hidden vector, or the ids read last."""
    return rng.integers(0, 19, part.shape) if part.dtype == np.int64 else rng.normal(size=part.shape).astype(np.float32)


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_is_the_engines_steps_one_by_one(name: str, shape: dict[str, Any]) -> None:
    ours = engine(name, **shape)
    state = random_state(ours, 1)
    stream = ours.stream(state)
    assert isinstance(stream, TracedStream)  # all cells of the house can be traced
    ids = np.random.default_rng(2).integers(0, 19, 60).tolist()
    assert_same_as_steps(ours, stream, ids, state, 1e-5)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(CELLS.names()), exponent=st.integers(-30, 8), seed=st.integers(0, 99))
def test_weights_of_any_size_give_the_same(name: str, exponent: int, seed: int) -> None:
    ours = engine(name, seed, 10.0**exponent)
    ids = np.random.default_rng(seed).integers(0, 19, 3).tolist()
    state, stream = ours.initial_state(1), ours.stream(ours.initial_state(1))
    for token_id in ids:  # from the same state each time: huge gates turn a rounding into another sign
        expected, after = ours.step(np.array([token_id]), state)
        size = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(stream.step(token_id) / size, expected[0] / size, atol=1e-5)
        state, stream = after, ours.stream(after)


@pytest.mark.parametrize("name", CELLS.names())
def test_infinite_and_undefined_gates_give_what_the_step_gives(name: str) -> None:
    ours = engine(name)
    for value in (np.inf, -np.inf, np.nan):
        state = tuple(tuple(np.full_like(part, value) for part in layer) for layer in ours.initial_state(1))
        with np.errstate(all="ignore"):
            expected, _ = ours.step(np.array([3]), state)
            np.testing.assert_allclose(ours.stream(state).step(3), expected[0], atol=1e-5)


def test_a_state_taken_from_a_stream_is_a_value() -> None:
    ours = engine("lstm", num_layers=2)
    stream = ours.stream(ours.initial_state(1))
    stream.step(4)
    kept = stream.state()
    first = stream.step(5).copy()
    stream.step(6)
    again, other = ours.stream(kept), ours.stream(kept)
    np.testing.assert_array_equal(again.step(5), first)
    np.testing.assert_array_equal(other.step(5), first)  # two streams of one model do not write into each other
    np.testing.assert_allclose(ours.step(np.array([5]), kept)[0][0], first, atol=1e-6)
    np.testing.assert_array_equal(again.step(7), other.step(7))


def test_reading_one_stream_is_reading_it_among_others() -> None:
    ours = engine("mgru", scale=0.2, ensemble_size=2)
    inputs, targets = np.random.default_rng(0).integers(0, 19, (2, 40, 1))
    alone, state = ours.read(inputs, targets, ours.initial_state(1))
    many, states = ours.read(np.tile(inputs, 3), np.tile(targets, 3), ours.initial_state(3))
    np.testing.assert_allclose(np.tile(alone, 3), many, atol=1e-5)
    np.testing.assert_allclose(np.tile(np.array(state), (1, 1, 3, 1)), np.array(states), atol=1e-5)


class Odd(Cell):
    """A newcomer, whose step `odd` is."""

    num_gates = num_input_gates = 1
    state_names = ("h", "last")

    def __init__(self, odd: Any) -> None:
        self.step = odd  # type: ignore[method-assign]

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


def asked(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    h, last = state
    return (xp.tanh(x_gates), last + 1.0) if (x_gates > 0).any() else (h + 1.0, xp.tanh(last))


def crossed(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    """Both parts need both of the step before, the output is multiplied before the other gates are read."""
    h, last = state
    W, b = params["weight_hh"], params["bias_hh"]
    new = xp.tanh(last @ W.T - x_gates) / (1.5 + sigmoid(xp, h))
    return new, 1 - xp.maximum(h @ W.T + b, -(new @ W)) * 0.1 + xp.exp(-xp.abs(x_gates * b))


@pytest.mark.parametrize("odd", [rolled, in_place, kept, asked])
def test_what_cannot_be_traced_is_stepped_as_it_is_written(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: Odd(odd))
    ours = engine()
    stream = ours.stream(ours.initial_state(1))
    assert isinstance(stream, PlainStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1], ours.initial_state(1), 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_newcomer_is_traced_too(shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda name: Odd(crossed))
    ours = engine(scale=0.2, **shape)
    stream = ours.stream(random_state(ours, 1))
    assert isinstance(stream, TracedStream)
    assert_same_as_steps(ours, stream, [1, 2, 3, 1, 9], random_state(ours, 1), 1e-5)


@numba
@pytest.mark.parametrize(("name", "shape"), [*((name, {}) for name in CELLS.names()), ("gru", SHAPES[3])])
def test_compiled_loops_are_the_numpy_program(name: str, shape: dict[str, Any]) -> None:
    ours = engine(name, **shape)
    state = random_state(ours, 1)
    stream = ours.stream(state)
    assert isinstance(stream, TracedStream)
    assert stream.compile()
    assert_same_as_steps(ours, stream, np.random.default_rng(2).integers(0, 19, 60).tolist(), state, 1e-5)
    for value in (1e30, -1e30):  # every gate shut or open
        state = tuple((np.full_like(layer[0], value), *layer[1:]) for layer in ours.initial_state(1))
        plain, compiled = ours.stream(state), ours.stream(state)
        assert isinstance(compiled, TracedStream)
        compiled.compile()
        expected = plain.step(3)
        size = np.abs(expected).max()  # what is kept of a huge number is huge, and differences of it are rounded
        np.testing.assert_allclose(compiled.step(3) / size, expected / size, atol=1e-5)


@numba
def test_a_long_run_goes_over_to_compiled_loops_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MANY_STEPS", 5)
    ours, compiled = engine("gru"), []
    monkeypatch.setattr(TracedStream, "compile", _noting(TracedStream.compile, compiled))
    stream = ours.stream(ours.initial_state(1))
    assert_same_as_steps(ours, stream, list(range(12)), ours.initial_state(1), 1e-5)
    assert compiled == [True]


@numba
@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, {}) for name in CELLS.names()), ("gru", SHAPES[3]), ("crossed", {}), ("crossed", SHAPES[1])],
)
def test_draws_are_steps_with_a_draw_before_each(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    drawn, stepped = ours.stream(random_state(ours, 1)), ours.stream(random_state(ours, 1))
    assert isinstance(drawn, TracedStream) and isinstance(stepped, TracedStream)
    added, uniforms, expected = np.zeros(19), np.random.default_rng(3).random(40).tolist(), []
    added[[0, 7]] = -np.inf
    assert drawn.draws(added, 0.8) is None  # not before there are compiled loops
    assert drawn.compile() and stepped.compile()
    drawn.step(4)
    logits = stepped.step(4)
    for uniform in uniforms:
        weights = np.exp((logits + added - logits.max()) * 0.8).cumsum()
        expected.append(int((weights > uniform * weights[-1]).argmax()))
        logits = stepped.step(expected[-1])
    draws = drawn.draws(added, 0.8)
    assert draws and [*draws(uniforms[:15]), *draws(uniforms[15:])] == expected
    np.testing.assert_allclose(drawn.step(5), stepped.step(5), atol=1e-5)  # and it can be stepped again
    for found, layer in zip(drawn.state(), stepped.state(), strict=True):
        np.testing.assert_allclose(np.array(found), np.array(layer), atol=1e-5)


@numba
def test_a_text_goes_over_to_compiled_draws_and_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE))
    plain = lm.sample("The ", length=90, seed=3, temperature=0.7)
    monkeypatch.setattr(stream_module, "MANY_STEPS", 30)
    monkeypatch.setattr(sampler, "AT_ONCE", 20)
    assert lm.sample("The ", length=90, seed=3, temperature=0.7) == plain


def test_of_several_ways_the_fastest_is_taken_until_it_is_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now, takes, called = [0.0], {"whole": 1.0, "parts": 2.0}, []
    monkeypatch.setattr(ways_module.time, "perf_counter", lambda: now[0])

    def way(name: str) -> Any:
        def call(given: int) -> int:
            called.append(name)
            now[0] += takes[name]
            return 2 * given

        return call

    ways = FastestOf([way("whole"), way("parts")])
    looks, pause = 2 * NUM_TIMED_CALLS, CALLS_BETWEEN_TIMINGS
    results = [ways(n) for n in range(looks)] + list(ways.map(range(looks, looks + pause)))
    assert results == [2 * n for n in range(looks + pause)]
    assert sorted(called[:looks]) == NUM_TIMED_CALLS * ["parts"] + NUM_TIMED_CALLS * ["whole"]
    assert called[looks:] == pause * ["whole"]
    takes["whole"] = 100.0  # another program has taken a core
    called.clear()
    list(ways.map(range(pause)))
    assert called.count("whole") == 1  # one such call is enough to know


def _noting(compile_stream: Any, results: list[bool]) -> Any:
    return lambda self: results.append(compile_stream(self))


def test_without_numba_a_stream_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "numba_installed", lambda: False)
    stream = engine(cell="lstm").stream(engine(cell="lstm").initial_state(1))
    assert isinstance(stream, TracedStream)
    assert not stream.compile()
    assert np.isfinite(stream.step(1)).all()


def test_the_same_ids_give_the_same_bits() -> None:
    ours = engine(LSTM.__name__.lower())
    runs = []
    for _ in range(2):
        stream = ours.stream(ours.initial_state(1))
        runs.append([stream.step(token_id).copy() for token_id in (1, 2, 3, 2, 1)])
    np.testing.assert_array_equal(runs[0], runs[1])


@numba
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 5.0))
def test_the_compiled_draw_is_the_draw(seed: int, temperature: float) -> None:
    from chargen.graph.numba_draw import draw_one

    logits = np.random.default_rng(seed).normal(0, 3, 19).astype(np.float32)
    added, buffer = np.zeros(19), np.empty(19)
    added[[0, 7]] = -np.inf
    allowed = logits + added
    found = draw_one(logits, added, buffer, 1 / temperature, np.random.default_rng(seed).random())
    assert found == draw((allowed - allowed.max()) / temperature, np.random.default_rng(seed))
    np.testing.assert_allclose(
        np.diff(buffer / buffer[-1], prepend=0), np.exp(log_softmax(allowed / temperature)), atol=1e-12
    )
