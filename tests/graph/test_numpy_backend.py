"""The NumPy back end: generated code against the cell's own step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.engines.streams import TracedStream
from chargen.graph import numpy_backend
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


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize(("hidden_size", "weights_per_part"), [(40, 1), (40, 1000), (37, 2000)])
def test_products_in_parts_have_the_same_bits(
    name: str, hidden_size: int, weights_per_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the parts is reversed after each step."""
    ids = np.random.default_rng(2).integers(0, 19, 12).tolist()

    def read() -> list[np.ndarray]:
        ours = engine(name, hidden_size=hidden_size, ensemble_size=2, ngrams=4, ngram_rows=16, ngram_dim=3)
        stream = ours.stream(random_state(ours, 1))
        return [stream.step(token_id).copy() for token_id in ids]

    whole, split = read(), numpy_backend.SourceWriter._is_split
    num_split = []

    def counted(writer: Any, matrix: np.ndarray) -> bool:
        num_split.append(split(writer, matrix))
        return num_split[-1]

    monkeypatch.setattr(numpy_backend.SourceWriter, "_is_split", counted)
    monkeypatch.setattr(numpy_backend, "MAX_CACHED_WEIGHTS", 0)
    monkeypatch.setattr(numpy_backend, "WEIGHTS_PER_PART", weights_per_part)
    np.testing.assert_array_equal(read(), whole)
    assert any(num_split) or not CELLS.get(name).recurrent_names


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
