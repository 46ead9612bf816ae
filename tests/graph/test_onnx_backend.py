"""The ONNX back end: onnxruntime against the steps of the NumPy engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.cells.cell import NetworkState
from chargen.cells.ngram_features import find_ngram_rows
from chargen.cells.ngram_index import find_indexed_rows
from chargen.config import ModelConfig
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ChargenError
from chargen.graph import onnx_backend
from chargen.graph.graph import BINARY, UNARY
from chargen.graph.ngram_reader import NGramTable
from chargen.graph.onnx_backend import HISTORY, NEXT, STATE, TOKEN_IDS, build_onnx_model
from tests.graph.small_engines import SHAPES, CustomCell, crossed, engine, indexed_ngrams, random_state, traced

onnx = pytest.importorskip("onnx", reason="the extra chargen[onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra chargen[onnx] is not installed")

STACKS = [
    {"num_layers": 3, "residual": True},
    {"num_layers": 2, "skip": True, "layer_norm": True, "ensemble_size": 2},
    {"num_layers": 2, "residual": True, "skip": True, "layer_norm": True, "ngrams": 3, "ngram_rows": 8},
    {"num_layers": 2, "skip": True, "ngrams": 3, "ngram_rows": 256, "ngram_words": 3, "ngram_index": True},
]


def build(ours: NumpyEngine) -> tuple[Any, list[str]]:
    """Return the ONNX model of an engine, and the names of the parts of its state."""
    model = ours.traced
    assert model is not None
    names = [
        f"{layer}.{part}" for layer, parts in enumerate(ours.initial_state(1).layers) for part in range(len(parts))
    ]
    return build_onnx_model(model.plan, model.input_table, names, model.ngrams), names


class Runner:
    """Runs a model with onnxruntime, from a state of the engine."""

    def __init__(self, ours: NumpyEngine) -> None:
        model, self.names = build(ours)
        onnx.checker.check_model(model, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def step(self, ids: Any, state: NetworkState) -> tuple[Any, NetworkState]:
        parts = iter(self.names)
        inputs = {f"{STATE}{next(parts)}": part for layer in state.layers for part in layer}
        if state.ngram_history is not None:
            inputs[HISTORY] = state.ngram_history
        logits, *after = self.session.run(None, {TOKEN_IDS: np.asarray(ids, dtype=np.int64), **inputs})
        found = iter(after)
        layers = tuple(tuple(next(found) for _ in layer) for layer in state.layers)
        return logits, NetworkState(layers, next(found, None))


def assert_same_as_engine(ours: NumpyEngine, num_steps: int, batch_size: int, seed: int = 0) -> None:
    """Compare all logits and the last state; each side carries its own state."""
    runner, rng = Runner(ours), np.random.default_rng(seed)
    expected_state = found_state = random_state(ours, seed, batch_size)
    all_expected, all_found = (np.empty((num_steps, batch_size, ours.vocab_size)) for _ in range(2))
    for t, ids in enumerate(rng.integers(0, ours.vocab_size, (num_steps, batch_size))):
        all_expected[t], expected_state = ours.step(ids, expected_state)
        all_found[t], found_state = runner.step(ids, found_state)
    size = np.maximum(1.0, np.abs(all_expected).max(axis=(1, 2), keepdims=True))  # of the logits of each step
    np.testing.assert_allclose(all_found / size, all_expected / size, rtol=0, atol=1e-4)
    if expected_state.ngram_history is not None:
        np.testing.assert_array_equal(found_state.ngram_history, expected_state.ngram_history)
    found_state.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), expected_state)


@pytest.mark.parametrize("name", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_onnxruntime_equals_the_steps_of_the_engine(name: str, shape: dict[str, Any]) -> None:
    assert_same_as_engine(engine(name, scale=0.2, **shape), num_steps=40, batch_size=3)


@pytest.mark.parametrize("name", [*CELLS.names(), "lstm,gru,mlp:3"])
@pytest.mark.parametrize("shape", STACKS)
def test_stacks_equal_the_steps_of_the_engine(name: str, shape: dict[str, Any]) -> None:
    sizes = {**shape, "num_layers": name.count(",") + 1} if "," in name else shape
    assert_same_as_engine(engine(name, scale=0.2, **sizes), num_steps=20, batch_size=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS.names())
def test_onnxruntime_equals_the_engine_over_10000_tokens(name: str) -> None:
    ours = engine(name, scale=0.15, num_layers=2, ngrams=5, ngram_rows=64, hidden_size=32)  # no chaos: radius 0.85
    assert_same_as_engine(ours, num_steps=10_000, batch_size=1)


@pytest.mark.parametrize("name", CELLS.names())
def test_a_batch_equals_single_streams(name: str) -> None:
    ours = engine(name, scale=0.3, num_layers=2, ngrams=4, ngram_rows=16, ngram_dim=3)
    runner, ids = Runner(ours), np.random.default_rng(1).integers(0, 19, (20, 5))
    state = ours.initial_state(5)
    singles = [ours.initial_state(1) for _ in range(5)]
    for row in ids:
        together, state = runner.step(row, state)
        for stream in range(5):
            alone, singles[stream] = runner.step(row[stream : stream + 1], singles[stream])
            np.testing.assert_allclose(together[stream], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_n", [2, 7, 16])
@pytest.mark.parametrize("num_rows", [1, 2, 4096])
def test_the_row_numbers_of_ngrams_are_exact_for_every_token_id(max_n: int, num_rows: int) -> None:
    """Feature number n of this table is the row of the n-gram; token ids have up to 20 bits."""
    config = ModelConfig(1 << 20, ngrams=max_n, ngram_rows=num_rows, ngram_dim=max_n - 1)
    table = np.kron(np.eye(max_n - 1), np.arange(num_rows)[:, None]).astype(np.float32)
    ngrams = NGramTable(config, table[:0], table)
    session = onnxruntime.InferenceSession(features_model(ngrams), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(max_n)
    ids, history = rng.integers(0, 1 << 20, 3000), rng.integers(0, 1 << 20, (3000, max_n - 1))
    ids[0], history[0] = (1 << 20) - 1, (1 << 20) - 1
    ids[1], history[1] = 0, 0
    features, after = session.run(None, {TOKEN_IDS: ids, HISTORY: history})
    rows, expected_history = find_ngram_rows(np, ids[None], history, ngrams.hashing, num_rows)
    np.testing.assert_array_equal(features, rows[0] - ngrams.hashing[1])
    np.testing.assert_array_equal(after, expected_history)


def features_model(ngrams: NGramTable) -> bytes:
    """Return an ONNX model that computes the n-gram features of token ids and the history after them."""
    writer = onnx_backend._GraphWriter(onnx, None)  # type: ignore[arg-type]
    writer.add_ngrams(ngrams)
    writer.add("Identity", writer._features, output="features")
    make, int64 = onnx.helper.make_tensor_value_info, onnx.TensorProto.INT64
    inputs = [make(TOKEN_IDS, int64, ["batch"]), make(HISTORY, int64, ["batch", ngrams.length])]
    outputs = [make("features", onnx.TensorProto.FLOAT, None), make(f"{NEXT}{HISTORY}", int64, None)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(writer.nodes, "features", inputs, outputs, writer.initializers),
        opset_imports=[onnx.helper.make_opsetid("", onnx_backend.OPSET)], ir_version=onnx_backend.IR_VERSION,
    )  # fmt: skip
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("num_words", "num_rows"), [(0, 16), (1, 1 << 21), (2, 1 << 12), (4, 1 << 12)])
def test_the_features_of_an_index_are_those_of_numpy_for_every_token_id_and_hash(num_words: int, num_rows: int) -> None:
    """Half of the positions continue n-grams of the index; the others have any token ids and hashes before them."""
    ngrams, ids = indexed_ngrams(num_words, num_rows, vocab_size=1 << 20)
    assert ngrams.index is not None
    history, rng = ngrams.initial_history(1), np.random.default_rng(num_rows)
    known = []
    for token_id in ids:
        known.append(history)
        history = ngrams.read(np.array([token_id]), history)[1]
    unknown = rng.integers(-(1 << 63), 1 << 63, (len(ids), ngrams.length))
    unknown[:, :2] %= 1 << 20
    unknown[:3, 2:] = np.array([[-(1 << 63)], [(1 << 63) - 1], [-1]])
    histories, ids = np.concatenate([*known, unknown]), np.tile(ids, 2)
    session = onnxruntime.InferenceSession(features_model(ngrams), providers=["CPUExecutionProvider"])
    features, after = session.run(None, {TOKEN_IDS: ids, HISTORY: histories})
    expected, expected_history = ngrams.read(ids, histories)
    np.testing.assert_array_equal(after, expected_history)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)
    is_found = find_indexed_rows(np, ids[None], histories, ngrams.index)[1][0]
    assert is_found.any(axis=0).all() and not is_found.all(axis=0).any()


def every_operator(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    """A step with every operator that the graph compiler has."""
    h, last = state
    total = h @ params["weight_hh"].T + x_gates
    for name in UNARY:
        small = xp.tanh(total) * 0.5
        operand = 1.5 + small if name in ("log", "sqrt", "log1p") else small
        total = 0.1 * getattr(xp, name)(operand) + total * 0.5
    for name in BINARY:
        total = 0.2 * getattr(xp, name)(xp.tanh(total), 2.0 + last * last) + total * 0.5
    return xp.tanh(total - xp.mean(total, axis=-1, keepdims=True)), xp.clip(h + 0.25, -0.5, 0.5)


@pytest.mark.parametrize("step", [every_operator, crossed])
def test_a_new_cell_with_every_operator_is_written(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "get", lambda _: CustomCell(step))
    assert_same_as_engine(engine("new", scale=0.2, num_layers=2), num_steps=30, batch_size=3)
    assert_same_as_engine(traced("crossed", monkeypatch, ensemble_size=2), num_steps=30, batch_size=1)


def test_a_network_that_is_too_large_for_the_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ChargenError, match=r"the ONNX file would have 0\.0 GB, but the format allows"):
        build(engine("gru", hidden_size=64))
