"""Streams: their state, when they continue with compiled loops, and the choice between variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen.cells.lstm import LSTM
from chargen.engines import streams
from chargen.engines.streams import CALLS_BETWEEN_TIMINGS, NUM_TIMED_CALLS, FastestOf, TracedStream
from chargen.lm import LanguageModel
from chargen.sampling import decoding
from tests.conftest import VERSE, random_model
from tests.graph.small_engines import assert_same_as_steps, assert_states_close, engine, numba


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


@numba
def test_a_long_stream_continues_with_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "COMPILE_AFTER_TOKENS", 5)
    ours, compiled = engine("gru"), []
    monkeypatch.setattr(TracedStream, "compile", _record(TracedStream.compile, compiled))
    stream = ours.stream(ours.initial_state(1))
    assert_same_as_steps(ours, stream, list(range(12)), ours.initial_state(1), 1e-5)
    assert compiled == [True]


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
