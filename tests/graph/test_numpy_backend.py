"""The NumPy back end: generated code against the cell's own step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.engines.streams import TracedStream
from tests.graph.small_engines import SHAPES, assert_same_as_steps, engine, random_state


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
