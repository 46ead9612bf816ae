"""Many streams side by side: compiled loops against the engine's own steps, and the texts that they write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen import lm as lm_module
from chargen.cells import CELLS
from chargen.engines import streams as lanes_module
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import PlainStreamBatch
from chargen.engines.torch_engine import TorchEngine
from chargen.lm import LanguageModel
from tests.conftest import VERSE, random_model
from tests.engines.test_streams import SHAPES, drawn_like, engine, numba, traced

B = 5


def random_states(ours: NumpyEngine, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return tuple(tuple(drawn_like(part, rng) for part in layer) for layer in ours.initial_state(B))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each attempt to compile adds whether it was possible."""
    results: list[bool] = []
    compile_lanes = PlainStreamBatch.compile
    monkeypatch.setattr(PlainStreamBatch, "compile", lambda self: results.append(compile_lanes(self)))
    return results


@numba
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, {}) for name in CELLS.names()),
        ("gru", SHAPES[3]),
        ("lstm", SHAPES[2]),
        ("mgru", SHAPES[5]),
        ("crossed", SHAPES[1]),
    ],
)
def test_lanes_with_compiled_loops_are_the_engines_steps(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    state, rng = random_states(ours, 1), np.random.default_rng(2)
    lanes = ours.stream_batch(state)
    for turn in range(30):
        if turn == 3:
            assert lanes.compile()
        if turn == 8:  # two texts end
            rows = np.array([0, 2, 4])
            lanes, state = lanes.select(rows), ours.select(state, rows)
        if turn == 12:  # a document ends
            rows = np.array([1])
            lanes.reset(rows)
            state = ours.reset(state, rows)
        ids = rng.integers(0, 19, len(state[0][0]))
        expected, state = ours.step(ids, state)
        np.testing.assert_allclose(lanes.step(ids), expected, rtol=1e-5, atol=1e-5)


@numba
@pytest.mark.parametrize(
    ("name", "shape"), [*((name, {}) for name in CELLS.names()), ("mgru", SHAPES[5]), ("crossed", SHAPES[1])]
)
def test_draws_of_lanes_are_those_of_each_stream(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    state, uniforms, added = random_states(ours, 1), np.random.default_rng(3).random((20, B)), np.zeros(19)
    added[[0, 7]] = -np.inf
    begun = np.arange(B)
    lanes = ours.stream_batch(state)
    assert lanes.draws(added, 0.8) is None  # not before there are compiled loops
    assert lanes.compile()
    lanes.step(begun)
    draws = lanes.draws(added, 0.8)
    assert draws
    together = np.array([ids.copy() for ids in draws(uniforms)])
    assert not np.isin(together, [0, 7]).any()
    for lane in range(B):
        stream = ours.stream(ours.select(state, np.array([lane])))
        assert stream.compile()  # type: ignore[attr-defined]
        stream.step(int(begun[lane]))
        alone = stream.draws(added, 0.8)
        assert alone and list(alone(uniforms[:, lane].tolist())) == together[:, lane].tolist()


@numba
@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"temperature": 0.0}, {"until": "newline"}, {"length": 1}])
def test_many_ids_do_not_change_what_is_written(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE * 3))
    settings = {"length": 60, "seed": 5, "temperature": 0.8, **settings}
    plain = lm.samples(9, "The ", **settings)
    compiled = counted(monkeypatch)
    monkeypatch.setattr(lanes_module, "MANY_IDS", 9)  # that are known to come, or that have come
    assert lm.samples(9, "The ", **settings) == plain
    assert compiled == [True]


@numba
def test_a_model_of_documents_goes_on_behind_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model("ab\n", documents="line"))
    plain = lm.samples(9, length=80, seed=0)
    assert sum(sample.text.count("\n") for sample in plain) > 50
    compiled = counted(monkeypatch)
    monkeypatch.setattr(lanes_module, "MANY_IDS", 40)
    assert lm.samples(9, length=80, seed=0) == plain
    assert compiled == [True]


def test_without_numba_lanes_go_on_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "numba_installed", lambda: False)
    ours = engine("gru")
    lanes, ids = ours.stream_batch(ours.initial_state(B), 10**9), np.arange(B)
    np.testing.assert_array_equal(lanes.step(ids), ours.step(ids, ours.initial_state(B))[0])
    assert lanes.draws(np.zeros(19), 1.0) is None and not lanes.compile()


def test_lanes_of_torch_are_its_steps() -> None:
    model = random_model(VERSE, cell="lstm", num_layers=2)
    theirs = TorchEngine.from_weights(model.config, model.weights)
    state, ids, rows = theirs.initial_state(B), np.arange(2, 2 + B), np.array([3, 1])
    lanes = theirs.stream_batch(state)
    logits, state = theirs.step(ids, state)
    np.testing.assert_array_equal(lanes.step(ids), logits)
    lanes, state = lanes.select(rows), theirs.select(state, rows)
    lanes.reset(np.array([0]))
    expected, _ = theirs.step(ids[:2], theirs.reset(state, np.array([0])))
    np.testing.assert_array_equal(lanes.step(ids[:2]), expected)


def test_very_many_texts_are_written_with_compiled_loops_or_else_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE), device="cpu")
    monkeypatch.setattr(lm_module, "numba_installed", lambda: False)
    assert isinstance(lm.writing(num_texts=9, length=100)._engine, NumpyEngine)
    monkeypatch.setattr(lm_module, "MAX_NUMPY_TOKENS", 800)
    assert isinstance(lm.writing(num_texts=9, length=100)._engine, TorchEngine)
    monkeypatch.setattr(lm_module, "numba_installed", lambda: True)
    assert isinstance(lm.writing(num_texts=9, length=100)._engine, NumpyEngine)
