import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.engines import blas_threads, torch_engine
from chargen.engines.interface import (
    Engine,
    carried_log_probs,
    document_log_probs,
    log_softmax,
    windows_log_probs,
)
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from tests.conftest import random_model

START = np.array([3])
SHAPES = [
    {},
    {"num_layers": 3},
    {"tie_weights": True, "embedding_dim": 12},
    {"ensemble_size": 2, "num_layers": 2},
    {"ensemble_size": 3, "tie_weights": True, "embedding_dim": 12},
    {"ensemble_size": 2, "ngrams": 3, "ngram_rows": 32, "ngram_dim": 5},
    {"ngrams": 3, "ngram_rows": 512, "ngram_dim": 5, "ngram_words": 2, "ngram_index": True},
]


def engines(**shape: object) -> tuple[NumpyEngine, TorchEngine]:
    model = random_model(**shape)  # type: ignore[arg-type]
    return NumpyEngine(model.config, model.weights), TorchEngine.from_weights(model.config, model.weights)


def one_by_one(engine: Engine, start: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return log p by the definition: read one token after another."""
    state = engine.initial_state(1)
    for i in start:
        logits, state = engine.step(np.array([i]), state)
    log_probs = []
    for i in ids:
        log_probs.append(log_softmax(logits)[0, i])
        logits, state = engine.step(np.array([i]), state)
    return np.array(log_probs)


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_and_torch_engines_agree(name: str, shape: dict[str, object]) -> None:
    ours, theirs = engines(cell=name, **shape)
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, ours.vocab_size, (2, 20, 5))
    a, a_state = ours.read(inputs, targets, ours.initial_state(5))
    b, b_state = theirs.read(inputs, targets, theirs.initial_state(5))
    # Other float32 kernels: rounding of 1e-7 grows to about 1e-6 in 20 steps.
    np.testing.assert_allclose(a, b, atol=2e-5)
    again, _ = ours.read(inputs, targets, a_state)
    np.testing.assert_allclose(again, theirs.read(inputs, targets, b_state)[0], atol=2e-5)


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_few_long_streams_are_read_one_by_one_with_the_same_result(
    name: str, shape: dict[str, object], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = engines(cell=name, **shape)
    inputs, targets = np.random.default_rng(0).integers(0, engine.vocab_size, (2, 30, batch_size))
    read: list[np.ndarray] = []
    for min_steps in (10, 1000):
        monkeypatch.setattr(torch_engine, "MIN_STEPS_ONE_BY_ONE", min_steps)
        first, state = engine.read(inputs[:15], targets[:15], engine.initial_state(batch_size))
        again, _ = engine.read(inputs[:15], targets[:15], engine.initial_state(batch_size))  # a state is a value
        np.testing.assert_array_equal(first, again)
        more, _ = engine.read(inputs[15:], targets[15:], state)
        read.append(np.concatenate([first, more]))
    assert "_numpy_engine" in vars(engine)
    np.testing.assert_allclose(*read, atol=2e-5)


def test_reading_stops_when_the_caller_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "MIN_STEPS_ONE_BY_ONE", 2)
    _, engine = engines()
    ids = np.zeros((100_000, 1), dtype=np.int64)
    ended: list[bool] = []

    def read(number: int) -> int:
        if number:  # a long text; item 0 fails after this one has started
            started.set()
            engine.read(ids, ids, engine.initial_state(1))
            ended.append(True)
        started.wait()
        raise KeyboardInterrupt

    threads, started = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(engine.map(read, [0, 1]))
    finally:
        torch.set_num_threads(threads)
    assert not ended
    log_probs, _ = engine.read(ids[:5], ids[:5], engine.initial_state(1))
    assert np.isfinite(log_probs).all()


def test_probabilities_of_all_next_characters_sum_to_one() -> None:
    for engine in engines():
        logits, _ = engine.step(np.arange(engine.vocab_size), engine.initial_state(engine.vocab_size))
        np.testing.assert_allclose(np.exp(log_softmax(logits)).sum(axis=1), 1.0, rtol=1e-12)


def test_a_state_is_a_value_that_can_be_used_twice() -> None:
    for engine in engines(cell="lstm", num_layers=2):
        _, state = engine.step(np.array([4]), engine.initial_state(1))
        first, _ = engine.step(np.array([5]), state)
        engine.step(np.array([6]), state)
        second, _ = engine.step(np.array([5]), state)
        np.testing.assert_array_equal(first, second)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 40), start=st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_one_carried_stream_equals_the_definition(length: int, start: list[int]) -> None:
    engine, _ = engines()
    ids = np.random.default_rng(length).integers(0, engine.vocab_size, length)
    expected = one_by_one(engine, np.array(start), ids)
    np.testing.assert_allclose(carried_log_probs(engine, ids, np.array(start)), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 150), num_parts=st.integers(1, 9), warmup=st.integers(0, 30))
def test_parts_score_every_id_once_and_after_its_warmup(length: int, num_parts: int, warmup: int) -> None:
    engine, _ = engines()
    ids = np.random.default_rng(length).integers(0, engine.vocab_size, length)
    found = carried_log_probs(engine, ids, START, num_parts, warmup)
    # Each id has the value it has after some number of ids before it, at least `warmup` of them or all there are.
    for position in {0, length // 3, length // 2, length - 1}:
        text = np.concatenate([START, ids])
        # The context of an id at `position` starts at some earlier position, or at the start of the text.
        nearest = max(0, position + 1 - warmup - 1)
        values = [
            one_by_one(engine, text[b : position + 1], ids[position : position + 1])[0] for b in range(nearest + 1)
        ]
        assert np.abs(np.array(values) - found[position]).min() < 1e-5


def test_parts_with_a_long_warmup_come_close_to_one_stream() -> None:
    text = "abc" * 400
    model = random_model(text, seed=1)
    engine = NumpyEngine(model.config, {n: w * 0.3 for n, w in model.weights.items()})  # forgets within the warm-up
    ids = model.tokenizer.encode(text)
    one = carried_log_probs(engine, ids, START)
    np.testing.assert_allclose(carried_log_probs(engine, ids, START, num_parts=7, warmup=60), one, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    part_size=st.one_of(st.none(), st.integers(1, 50)),
    batch_size=st.integers(1, 4),
    ends_with_boundary=st.booleans(),
)
def test_documents_are_read_from_the_boundary_in_any_number_of_parts(
    lengths: list[int], part_size: int | None, batch_size: int, ends_with_boundary: bool
) -> None:
    engine, _ = engines()
    rng = np.random.default_rng(sum(lengths))
    documents = [np.append(rng.integers(1, engine.vocab_size, length), BOUNDARY_ID) for length in lengths]
    if not ends_with_boundary:
        documents[-1] = documents[-1][:-1]
    expected = np.concatenate([one_by_one(engine, np.array([BOUNDARY_ID]), ids) for ids in documents])
    found = document_log_probs(engine, np.concatenate(documents), batch_size, part_size, warmup=40)  # a whole document
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_long_document_is_read_in_parts_after_a_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("abc" * 400, seed=1)
    engine = NumpyEngine(model.config, {n: w * 0.3 for n, w in model.weights.items()})  # forgets within the warm-up
    ids = np.concatenate([model.tokenizer.encode("abc" * 400), [BOUNDARY_ID], model.tokenizer.encode("cab")])
    one = document_log_probs(engine, ids)
    shapes = []
    read = engine.read
    monkeypatch.setattr(engine, "read", lambda inputs, *rest: (shapes.append(inputs.shape), read(inputs, *rest))[1])
    np.testing.assert_allclose(document_log_probs(engine, ids, part_size=200, warmup=60), one, atol=1e-5)
    assert sum(steps for steps, _ in shapes) <= 300  # seven parts side by side, not 1,201 steps


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 60), window=st.integers(1, 20), batch_size=st.integers(1, 4))
def test_each_window_starts_from_the_initial_state(length: int, window: int, batch_size: int) -> None:
    engine, _ = engines()
    ids = np.random.default_rng(length).integers(0, engine.vocab_size, length)
    found = windows_log_probs(engine, ids, START, window, batch_size)
    text = np.concatenate([START, ids])
    for begin in range(0, length, window):
        expected = one_by_one(engine, text[begin : begin + 1], ids[begin : begin + window])
        np.testing.assert_allclose(found[begin : begin + window], expected, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_rows_of_a_batch_are_read_by_threads_that_share_no_product(
    monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    model = random_model(cell="mgru", ngrams=3, ngram_rows=64, ngram_dim=4)
    network = TorchEngine.from_weights(model.config, model.weights).network
    engine = TorchEngine(network, frozen)
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, engine.vocab_size, (2, 40, 7))
    state = engine.select(engine.read(inputs, targets, engine.initial_state(7))[1], np.arange(6, -1, -1))
    expected, expected_state = engine.read(inputs, targets, state)
    sizes: list[tuple[int, int]] = []
    read_rows = TorchEngine._read_rows

    def recorded(self: TorchEngine, inputs: np.ndarray, *args: object) -> object:
        sizes.append((inputs.shape[1], torch.get_num_threads()))
        return read_rows(self, inputs, *args)

    monkeypatch.setattr(TorchEngine, "_read_rows", recorded)
    monkeypatch.setattr(torch_engine, "MIN_PART_PRODUCTS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        log_probs, after = engine.read(inputs, targets, state)
        assert torch.get_num_threads() == 3
        assert sorted(sizes) == [(2, 1), (2, 1), (3, 1)]
        sizes.clear()
        monkeypatch.setattr(torch_engine, "MIN_PART_PRODUCTS", 1 << 40)  # a small network: one thread is enough
        engine.read(inputs, targets, state)
        assert sizes == [(7, 1)]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)
    after.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), expected_state)


def test_the_number_of_threads_does_not_change_a_bit_of_a_step() -> None:
    model = random_model(hidden_size=300)
    engine = NumpyEngine(model.config, model.weights)
    one_thread = blas_threads.on_one_thread(engine._step)
    for batch_size in (2, 7, 64):
        inputs = (np.arange(batch_size) % engine.vocab_size, engine.initial_state(batch_size))
        for function in (engine._step, one_thread, engine._fastest_step, engine._fastest_step):
            logits, state = function(inputs)
            expected, expected_state = engine._step(inputs)
            assert np.array_equal(logits, expected)
            state.map(np.testing.assert_array_equal, expected_state)


def test_numpy_computes_on_one_thread_only_inside_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [4]
    monkeypatch.setattr(blas_threads, "_functions", lambda: (numbers.append, lambda: numbers[-1]))

    def fail(argument: object) -> None:
        assert numbers[-1] == 1
        assert blas_threads.num_threads() == 4  # outside of the function
        raise KeyError(argument)

    with pytest.raises(KeyError):
        blas_threads.on_one_thread(fail)("x")
    assert numbers == [4, 1, 4]
