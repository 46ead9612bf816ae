"""Weights in files with fewer bits: bounds of the rounding, sizes, rows that are left out, and hostile headers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from chargen.cells import CELLS
from chargen.cells.weights import NGRAM_TABLE, parameter_shapes, table_rows
from chargen.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint, save_tensors
from chargen.config import WEIGHT_STORAGES, ModelConfig
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import ConfigError, ModelError
from chargen.graph.ngram_reader import NGramReader
from chargen.lm import LanguageModel
from chargen.storage.rounding import choose_kind
from chargen.storage.stored_weights import (
    StoredWeights,
    TensorInfo,
    count_stored_rows,
    describe_weights,
    find_storage,
    first_values,
    is_expandable,
    pack_weights,
    round_weights,
)
from tests.conftest import random_model, random_weights
from tests.graph.small_engines import numba

DTYPE_NAMES = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "float64": "F64"}


def format_version(path: Path) -> int:
    with safe_open(path, framework="numpy") as file:
        return int(json.loads(file.metadata()["chargen"])["format_version"])


def infos(tensors: dict[str, np.ndarray]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(DTYPE_NAMES[t.dtype.name], t.shape) for name, t in tensors.items()}


def sparse_model(rows: list[int], num_rows: int = 64, **shape: object) -> Checkpoint:
    """Return a random model in which training has changed only these rows of the n-gram table."""
    model = random_model(ngrams=4, ngram_rows=num_rows, ngram_dim=6, **shape)
    table = np.zeros_like(model.weights[NGRAM_TABLE])
    table[rows] = model.weights[NGRAM_TABLE][rows]
    return Checkpoint(model.config, model.tokenizer, {**model.weights, NGRAM_TABLE: table}, model.about)


def check_bound(exact: np.ndarray, read: np.ndarray, kind: str) -> None:
    """Check that no weight differs by more than the rounding of its storage allows."""
    assert read.dtype == np.float32 and read.shape == exact.shape
    largest = np.abs(exact).max(axis=-1, keepdims=True, initial=0.0)
    bound = {"float32": 0.0, "float16": np.abs(exact) * 2**-11 + 2**-25, "int8": largest / 254 * 1.002 + 2**-25}[kind]
    assert (np.abs(read - exact) <= bound).all()


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS.names()),
    storage=st.sampled_from(WEIGHT_STORAGES),
    seed=st.integers(0, 1 << 16),
    exponent=st.integers(-4, 3),
    shape=st.sampled_from([{}, {"ngrams": 3, "ngram_rows": 8}, {"num_layers": 2, "layer_norm": True, "skip": True},
                           {"ensemble_size": 2, "tie_weights": True, "embedding_dim": 6}]),
)  # fmt: skip
def test_every_weight_of_every_cell_is_within_the_bound_of_its_storage(
    cell: str, storage: str, seed: int, exponent: int, shape: dict[str, object]
) -> None:
    config = ModelConfig(11, cell, **{"hidden_size": 6, "embedding_dim": 4, **shape})  # type: ignore[arg-type]
    exact = random_weights(config, seed, 10.0**exponent)
    tables = table_rows(config)
    tensors = pack_weights(exact, storage, tables)
    described = describe_weights(infos(tensors), tables)
    assert described == {name: TensorInfo("F32", each) for name, each in parameter_shapes(config).items()}
    weights = StoredWeights(tensors, tables)
    assert set(weights) == set(exact) and len(weights) == len(exact)
    for name, weight in exact.items():
        wanted = "int8" if name in tables and storage != "float32" else storage
        check_bound(weight, weights[name], choose_kind(weight, wanted))
    rounded = round_weights(exact, storage, tables)
    assert all(np.array_equal(rounded[name], weights[name]) for name in exact)
    again = pack_weights(weights, storage, tables)
    assert all(np.array_equal(again[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("storage", WEIGHT_STORAGES)
@pytest.mark.parametrize("rows", [[], [5], [0, 191], list(range(192))], ids=["none", "one", "ends", "all"])
def test_a_model_is_read_as_it_was_rounded_by_every_engine(tmp_path: Path, storage: str, rows: list[int]) -> None:
    model = sparse_model(rows)
    save_checkpoint(tmp_path / "m", model, storage)
    read = load_checkpoint(tmp_path / "m")
    rounded = round_weights(model.weights, storage, [NGRAM_TABLE])
    assert read.weight_storage == storage
    assert count_stored_rows(read.weights, NGRAM_TABLE) == (None if storage == "float32" else len(rows))
    for name, weight in rounded.items():
        np.testing.assert_array_equal(read.weights[name], weight)
    exact = LanguageModel(Checkpoint(model.config, model.tokenizer, rounded, model.about), "cpu")
    for lm in (LanguageModel(read, "cpu"), exact):
        assert lm.sample(length=40, seed=3) == exact.sample(length=40, seed=3)
        assert lm.score("Trăm năm").log_prob_nats == exact.score("Trăm năm").log_prob_nats
    ids = np.tile(model.tokenizer.encode("Trăm năm")[:, None], 3)
    engines = [NumpyEngine(read.config, read.weights), TorchEngine.from_weights(read.config, read.weights)]
    log_probs = [engine.read(ids[:-1], ids[1:], engine.initial_state(3))[0] for engine in engines]
    np.testing.assert_allclose(log_probs[0], log_probs[1], atol=1e-5)
    dense = NumpyEngine(read.config, rounded)
    np.testing.assert_array_equal(log_probs[0], dense.read(ids[:-1], ids[1:], dense.initial_state(3))[0])


def test_a_file_without_unused_rows_is_small(tmp_path: Path) -> None:
    model = sparse_model(list(range(0, 300, 3)), num_rows=4096, hidden_size=64, embedding_dim=32)
    sizes = {}
    for storage in WEIGHT_STORAGES:
        save_checkpoint(tmp_path / storage, model, storage)
        sizes[storage] = (tmp_path / storage).stat().st_size
    counts = {name: weight.size for name, weight in model.weights.items()}
    num_matrix = sum(count for name, count in counts.items() if model.weights[name].ndim > 1) - counts[NGRAM_TABLE]
    num_vector = sum(counts.values()) - num_matrix - counts[NGRAM_TABLE]
    table_bytes, header_bytes = 100 * (6 + 2) + 3 * 4096 // 8, 4096
    assert sizes["float32"] > 4 * sum(counts.values())
    assert sizes["float16"] < 2 * num_matrix + 4 * num_vector + table_bytes + header_bytes
    num_scales = sum(len(w) for name, w in model.weights.items() if w.ndim > 1 and name != NGRAM_TABLE)
    assert sizes["int8"] < num_matrix + 2 * num_scales + 4 * num_vector + table_bytes + header_bytes


def test_float32_files_have_the_earlier_version_and_plain_arrays(tmp_path: Path) -> None:
    model = sparse_model([3])
    for storage, version in (("float32", 1), ("float16", 3), ("int8", 3)):
        save_checkpoint(tmp_path / storage, model, storage)
        assert format_version(tmp_path / storage) == version
    plain = load_file(tmp_path / "float32")
    assert all(np.array_equal(plain[name], weight) for name, weight in model.weights.items())
    stack = random_model(cell="gru", num_layers=2, residual=True)
    save_checkpoint(tmp_path / "stack", stack)
    assert format_version(tmp_path / "stack") == 2


def test_another_program_can_read_the_arrays_as_the_guide_describes_them(tmp_path: Path) -> None:
    model = sparse_model([1, 100, 190])
    save_checkpoint(tmp_path / "m", model, "int8")
    tensors = load_file(tmp_path / "m")
    is_stored = np.unpackbits(tensors["ngrams.weight.stored_rows"], bitorder="little").astype(bool)
    table = np.zeros((len(is_stored), 6), np.float32)
    table[is_stored] = tensors["ngrams.weight"] * tensors["ngrams.weight.int8_scales"].astype(np.float32)[:, None]
    read = load_checkpoint(tmp_path / "m").weights
    np.testing.assert_array_equal(table, read["ngrams.weight"])
    head = tensors["head.weight"] * tensors["head.weight.int8_scales"].astype(np.float32)[:, None]
    np.testing.assert_array_equal(head, read["head.weight"])


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_model_that_is_saved_again_keeps_its_bytes(tmp_path: Path, storage: str) -> None:
    model = sparse_model([1, 2])
    tiny = {**model.weights, "head.weight": model.weights["head.weight"] * np.float32(1e-3)}
    tiny["head.weight"][0] = 1.0  # the scales of the other rows have fewer bits
    save_checkpoint(tmp_path / "a", Checkpoint(model.config, model.tokenizer, tiny, model.about), storage)
    LanguageModel(load_checkpoint(tmp_path / "a")).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    LanguageModel(load_checkpoint(tmp_path / "a")).save(tmp_path / "c", "float32")
    exact, read = load_checkpoint(tmp_path / "c"), load_checkpoint(tmp_path / "a")
    assert exact.weight_storage == "float32"
    assert all(np.array_equal(exact.weights[name], read.weights[name]) for name in read.weights)
    with pytest.raises(ConfigError, match="weight_storage"):
        LanguageModel(read).save(tmp_path / "d", "int4")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("values", "float16", "int8"),
    [
        ([0.5, -2.0], "float16", "int8"), ([0.0, 0.0], "float16", "int8"), ([65504.0, 0.1], "float16", "int8"),
        ([65505.0, 0.1], "float32", "float32"), ([1e6, 1.0], "float32", "float32"),
        ([7e-5, 1e-6], "float16", "float32"), ([6e-5, 1e-6], "float32", "float32"), ([8e-3, 0.0], "float16", "int8"),
        ([7e-3, 0.0], "float16", "float32"), ([np.nan, 1.0], "float32", "float32"),
        ([np.inf, 1.0], "float32", "float32"),
    ],
)  # fmt: skip
def test_an_array_that_would_lose_more_than_others_stays_exact(values: list[float], float16: str, int8: str) -> None:
    matrix = np.array([values], dtype=np.float32)
    for wanted, kind in (("float16", float16), ("int8", int8), ("float32", "float32")):
        assert choose_kind(matrix, wanted) == kind
        tensors = pack_weights({"w": matrix}, wanted)
        assert tensors["w"].dtype == kind
        assert choose_kind(matrix[0], wanted) == "float32"
        if kind == "float32":
            np.testing.assert_array_equal(tensors["w"], matrix)


def test_a_table_of_tiny_numbers_is_exact_but_still_sparse() -> None:
    table = np.zeros((20, 3), dtype=np.float32)
    table[4] = 1e-7
    tensors = pack_weights({NGRAM_TABLE: table}, "float16", [NGRAM_TABLE])
    assert tensors[NGRAM_TABLE].dtype == np.float32 and tensors[NGRAM_TABLE].shape == (1, 3)
    weights = StoredWeights(tensors, {NGRAM_TABLE: 20})
    np.testing.assert_array_equal(weights[NGRAM_TABLE], table)
    assert weights.find_invalid() == ""


def test_a_table_that_is_too_large_for_its_rows_is_stored_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_expandable(1 << 22, 0, 16) and not is_expandable(1 << 23, 0, 16)
    assert is_expandable(1 << 23, 1 << 18, 16)
    monkeypatch.setattr("chargen.storage.stored_weights.ALWAYS_ALLOWED_BYTES", 0)
    table = np.zeros((200, 3), dtype=np.float32)
    table[4] = 127.0
    tensors = pack_weights({NGRAM_TABLE: table}, "float16", [NGRAM_TABLE])
    assert tensors[NGRAM_TABLE].shape == (200, 3)
    weights = StoredWeights(tensors, {NGRAM_TABLE: 200})
    assert weights.table(NGRAM_TABLE) is None
    np.testing.assert_array_equal(weights[NGRAM_TABLE], table)
    with pytest.raises(ConfigError, match="stored rows"):
        describe_weights(infos(pack_weights_of_one_row(200)), {NGRAM_TABLE: 200})


def pack_weights_of_one_row(num_rows: int) -> dict[str, np.ndarray]:
    """Return the tensors of a table of which one row is stored."""
    bitmap = np.packbits(np.arange(num_rows) == 4, bitorder="little")
    return {
        NGRAM_TABLE: np.ones((1, 3), np.int8),
        f"{NGRAM_TABLE}.int8_scales": np.ones(1, np.float16),
        f"{NGRAM_TABLE}.stored_rows": bitmap,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w.int8_scales": None}, "scales of 'w'"), ({"w.int8_scales": np.ones(3, np.float16)}, "scales of 'w'"),
        ({"w.int8_scales": np.ones(2, np.float32)}, "scales of 'w'"),
        ({"w": np.ones((2, 3), np.float32)}, "scales of 'w'"), ({"w": np.ones((), np.int8)}, "scales of 'w'"),
        ({"v.int8_scales": np.ones(2, np.float16)}, "belong to no array"),
        ({"w.int8_scales.int8_scales": np.ones(2, np.float16)}, "belong to no array"),
        ({"w.stored_rows": np.ones(1, np.uint8)}, "stored rows of 'w'"),
        ({f"{NGRAM_TABLE}.stored_rows": np.ones(4, np.uint8)}, "stored rows of"),
        ({f"{NGRAM_TABLE}.stored_rows": np.ones(3, np.float32)}, "stored rows of"),
        ({NGRAM_TABLE: np.ones((1, 3), np.float16), f"{NGRAM_TABLE}.int8_scales": None}, "stored rows of"),
        ({NGRAM_TABLE: np.ones((21, 3), np.int8), f"{NGRAM_TABLE}.int8_scales": np.ones(21, np.float16)},
         "stored rows of"),
        ({NGRAM_TABLE: np.ones(1, np.int8)}, "stored rows of"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_each_other_are_refused(change: dict[str, np.ndarray | None], words: str) -> None:
    good = {"w": np.ones((2, 3), np.int8), "w.int8_scales": np.ones(2, np.float16), **pack_weights_of_one_row(20)}
    assert describe_weights(infos(good), {NGRAM_TABLE: 20})[NGRAM_TABLE] == ("F32", (20, 3))
    changed = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    with pytest.raises(ConfigError, match=words):
        describe_weights(infos(changed), {NGRAM_TABLE: 20})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 60000.0])
@pytest.mark.parametrize("name", [f"{NGRAM_TABLE}.int8_scales", "head.weight.int8_scales"])
def test_a_file_with_an_invalid_scale_is_refused(tmp_path: Path, name: str, value: float) -> None:
    save_checkpoint(tmp_path / "m", sparse_model([2, 3]), "int8")
    tensors, described = load_tensors(tmp_path / "m")
    scales = tensors[name].copy()
    scales[1] = value
    save_tensors(tmp_path / "m", {**tensors, name: scales}, described, 3)
    with pytest.raises(ModelError, match=r"weight '(ngrams|head).weight' holds"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("version", [1, 2])
def test_earlier_versions_have_no_rounded_weights(tmp_path: Path, version: int) -> None:
    save_checkpoint(tmp_path / "m", sparse_model([2]), "float16")
    tensors, described = load_tensors(tmp_path / "m")
    save_tensors(tmp_path / "m", tensors, described, version)
    with pytest.raises(ModelError, match="has the type '(F16|I8)'"):
        load_checkpoint(tmp_path / "m")


def test_the_storage_of_a_file_is_that_of_most_weights() -> None:
    half, whole = np.ones((9, 9), np.float16), np.ones((99, 9), np.float32)
    assert find_storage({"a": whole}, []) == "float32"
    assert find_storage({"a": whole, "b": half}, []) == "float16"
    assert find_storage({"a": half, "b": np.ones((2, 2), np.int8), "b.int8_scales": np.ones(200, np.float16)}, []) == (
        "float16"
    )
    assert find_storage({"a": half, "t": np.ones((99, 9), np.int8)}, ["t"]) == "float16"


@numba
def test_a_stream_reads_the_same_rows_before_and_after_it_is_compiled(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", sparse_model(list(range(0, 192, 2))), "float16")
    read = load_checkpoint(tmp_path / "m")
    engine = NumpyEngine(read.config, read.weights)
    traced = engine.traced
    assert traced is not None
    readers = []
    for _ in range(2):
        out = np.zeros(6, dtype=np.float32)
        readers.append((NGramReader(traced.ngrams, engine.initial_state(1).ngram_history, out), out))  # type: ignore[arg-type]
    (packed, first), (compiled, second) = readers
    for number, token_id in enumerate(np.random.default_rng(0).integers(2, 40, 50).tolist()):
        if number == 10:
            compiled.compile()
        packed.read(token_id)
        compiled.read(token_id)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(packed.history(), compiled.history())


@pytest.mark.parametrize("count", [1, 7, 64, 10_000])
def test_the_first_values_of_a_table_are_those_of_the_expanded_table(tmp_path: Path, count: int) -> None:
    save_checkpoint(tmp_path / "m", sparse_model([0, 1, 5, 190]), "int8")
    weights = load_checkpoint(tmp_path / "m").weights
    for name in weights:
        np.testing.assert_array_equal(first_values(weights, name, count), weights[name].ravel()[:count])
