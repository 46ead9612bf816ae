"""Batches of streams: compiled loops against the steps of the engine, and the generated texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen import lm as lm_module
from chargen.cells import CELLS
from chargen.engines import streams
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import PlainStreamBatch
from chargen.engines.torch_engine import TorchEngine
from chargen.lm import LanguageModel
from tests.conftest import VERSE, random_model
from tests.graph.small_engines import SHAPES, engine, numba, random_state, traced

B = 5


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each attempt to compile adds whether it was possible."""
    results: list[bool] = []
    compile_batch = PlainStreamBatch.compile
    monkeypatch.setattr(PlainStreamBatch, "compile", lambda self: results.append(compile_batch(self)))
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
def test_a_compiled_batch_equals_the_steps_of_its_engine(
    name: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced(name, monkeypatch, **shape)
    state, rng = random_state(ours, 1, B), np.random.default_rng(2)
    batch = ours.stream_batch(state)
    for turn in range(30):
        if turn == 3:
            assert batch.compile()
        if turn == 8:  # two texts end
            rows = np.array([0, 2, 4])
            batch, state = batch.select(rows), ours.select(state, rows)
        if turn == 12:  # a document ends
            rows = np.array([1])
            batch.reset(rows)
            state = ours.reset(state, rows)
        ids = rng.integers(0, 19, state.batch_size)
        expected, state = ours.step(ids, state)
        np.testing.assert_allclose(batch.step(ids), expected, rtol=1e-5, atol=1e-5)


@numba
@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"temperature": 0.0}, {"until": "newline"}, {"length": 1}])
def test_compiled_loops_do_not_change_the_texts(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE * 3))
    settings = {"length": 60, "seed": 5, "temperature": 0.8, **settings}
    plain = lm.samples(9, "The ", **settings)
    compiled = counted(monkeypatch)
    monkeypatch.setattr(streams, "COMPILE_BATCH_AFTER_TOKENS", 9)  # that are expected, or that have been read
    assert lm.samples(9, "The ", **settings) == plain
    assert compiled == [True]


@numba
@pytest.mark.parametrize(
    ("num_expected", "num_steps", "compiled_after"),
    [
        (0, 4, [4]),  # unknown: compiled when the limit of 20 ids has been read
        (0, 3, []),
        (15, 3, []),  # fewer are expected than the limit, and no more are read
        (19, 3, []),
        (20, 4, [0]),
    ],
)
def test_a_batch_counts_each_id_once(
    num_expected: int, num_steps: int, compiled_after: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = traced("gru", monkeypatch)
    monkeypatch.setattr(streams, "COMPILE_BATCH_AFTER_TOKENS", 4 * B)
    compiled, found = counted(monkeypatch), []
    batch = ours.stream_batch(ours.initial_state(B), num_expected)
    for num_read in range(num_steps + 1):
        if len(compiled) > len(found):
            found.append(num_read)
        if num_read < num_steps:
            batch.step(np.arange(B))
    assert found == compiled_after


@numba
@pytest.mark.parametrize(("length", "expected"), [(40, []), (59, []), (60, [True])])
def test_samples_are_compiled_from_the_start_or_not_at_all(
    length: int, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "COMPILE_BATCH_AFTER_TOKENS", 9 * 60)
    compiled = counted(monkeypatch)
    LanguageModel(random_model(VERSE)).samples(9, "The ", length=length, seed=5)
    assert compiled == expected


@numba
def test_a_batch_of_a_document_model_continues_after_each_document(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model("ab\n", documents="line"))
    plain = lm.samples(9, length=80, seed=0, until="length")
    assert sum(sample.text.count("\n") for sample in plain) > 50
    compiled = counted(monkeypatch)
    monkeypatch.setattr(streams, "COMPILE_BATCH_AFTER_TOKENS", 40)
    assert lm.samples(9, length=80, seed=0, until="length") == plain
    assert compiled == [True]


def test_without_numba_a_batch_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "numba_installed", lambda: False)
    ours = engine("gru")
    batch, ids = ours.stream_batch(ours.initial_state(B), 10**9), np.arange(B)
    np.testing.assert_array_equal(batch.step(ids), ours.step(ids, ours.initial_state(B))[0])
    assert batch.draws(np.zeros(19), 1.0) is None and not batch.compile()


def test_a_torch_batch_equals_the_steps_of_its_engine() -> None:
    model = random_model(VERSE, cell="lstm", num_layers=2)
    theirs = TorchEngine.from_weights(model.config, model.weights)
    state, ids, rows = theirs.initial_state(B), np.arange(2, 2 + B), np.array([3, 1])
    batch = theirs.stream_batch(state)
    logits, state = theirs.step(ids, state)
    np.testing.assert_array_equal(batch.step(ids), logits)
    batch, state = batch.select(rows), theirs.select(state, rows)
    batch.reset(np.array([0]))
    expected, _ = theirs.step(ids[:2], theirs.reset(state, np.array([0])))
    np.testing.assert_array_equal(batch.step(ids[:2]), expected)


def test_many_long_texts_use_compiled_loops_or_else_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LanguageModel(random_model(VERSE), device="cpu")
    monkeypatch.setattr(lm_module, "numba_installed", lambda: False)
    assert isinstance(lm.generator(num_texts=9, length=100).engine, NumpyEngine)
    monkeypatch.setattr(lm_module, "MAX_NUMPY_TOKENS", 800)
    assert isinstance(lm.generator(num_texts=9, length=100).engine, TorchEngine)
    monkeypatch.setattr(lm_module, "numba_installed", lambda: True)
    assert isinstance(lm.generator(num_texts=9, length=100).engine, NumpyEngine)
