"""The readers of n-gram features: of a single stream, compiled and not, against the features of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chargen.cells.ngram_index import find_indexed_rows
from chargen.config import ModelConfig
from chargen.graph.ngram_reader import NGramReader, NGramTable
from chargen.storage.packed_rows import PackedRows
from tests.graph.small_engines import indexed_ngrams, numba

NUM_WORDS = [0, 1, 2, 4]


def plain_ngrams() -> tuple[NGramTable, Any]:
    """Return a table without an index, and token ids."""
    config, rng = ModelConfig(500, ngrams=5, ngram_rows=64, ngram_dim=3), np.random.default_rng(0)
    table = rng.normal(size=(4 * 64, 3)).astype(np.float32)
    return NGramTable(config, table[:0], table), rng.integers(0, 500, 200)


def packed(ngrams: NGramTable) -> NGramTable:
    """Return the table with rows of int8, of which a third is not stored."""
    num_rows, width = ngrams.table.shape
    rng, is_stored = np.random.default_rng(0), np.arange(num_rows) % 3 > 0
    stored = rng.integers(-127, 128, (int(is_stored.sum()), width), dtype=np.int8)
    scales = rng.uniform(0.01, 0.1, len(stored)).astype(np.float16)
    rows = PackedRows(stored, scales, np.packbits(is_stored, bitorder="little"), num_rows)
    if ngrams.index is None:
        return NGramTable(ngrams.config, ngrams.head, rows)
    return NGramTable(ngrams.config, ngrams.head, rows, ngrams.index.tags.ravel(), ngrams.index.words.astype(np.uint8))


def tables() -> list[tuple[NGramTable, Any]]:
    """Return tables of all kinds, each with token ids."""
    found = [plain_ngrams(), *(indexed_ngrams(num_words, 1 << 12, 500) for num_words in NUM_WORDS)]
    return [*found, *((packed(ngrams), ids) for ngrams, ids in found)]


def read_all(ngrams: NGramTable, ids: Any, compile_at: int = -1) -> tuple[Any, Any]:
    """Return the features of all token ids that a single stream reads, and the history after them."""
    out = np.zeros(ngrams.config.ngram_dim, dtype=np.float32)
    reader, features = NGramReader(ngrams, ngrams.initial_history(1), out), []
    for position, token_id in enumerate(ids.tolist()):
        if position == compile_at:
            reader.compile()
        reader.read(token_id)
        features.append(out.copy())
    return np.array(features), reader.history()


@pytest.mark.parametrize("number", range(len(tables())))
def test_a_single_stream_reads_the_features_of_a_batch(number: int) -> None:
    ngrams, ids = tables()[number]
    history, expected = ngrams.initial_history(1), []
    for token_id in ids:
        features, history = ngrams.read(np.array([token_id]), history)
        expected.append(features[0])
    found, history_after = read_all(ngrams, ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(history_after, history)


@pytest.mark.parametrize("num_words", NUM_WORDS)
def test_the_token_ids_of_these_tests_have_n_grams_with_and_without_rows(num_words: int) -> None:
    ngrams, ids = indexed_ngrams(num_words, 1 << 12, 500)
    assert ngrams.index is not None
    _, is_found, _ = find_indexed_rows(np, ids[:, None], ngrams.initial_history(1), ngrams.index)
    assert is_found.any(axis=(0, 1)).all() and not is_found.all(axis=(0, 1)).any()


@numba
@pytest.mark.parametrize("number", range(len(tables())))
@pytest.mark.parametrize("compile_at", [0, 77])
def test_a_compiled_stream_reads_the_same_features(number: int, compile_at: int) -> None:
    ngrams, ids = tables()[number]
    expected, history = read_all(ngrams, ids)
    found, history_after = read_all(ngrams, ids, compile_at)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(history_after, history)


@numba
@pytest.mark.parametrize("number", range(len(tables())))
def test_a_compiled_batch_reads_the_features_of_each_stream_and_can_be_reset(number: int) -> None:
    ngrams, ids = tables()[number]
    B, T, reset = 5, 40, np.array([1, 3])
    buffer = np.zeros((B, ngrams.config.ngram_dim + 3), dtype=np.float32)  # the rows of the features are not adjacent
    reader = NGramReader(ngrams, ngrams.initial_history(B), buffer[:, 2:-1])
    reader.compile()
    histories = ngrams.initial_history(B)
    for t in range(T):
        if t == 20:
            before = reader.history()
            reader.reset(reset)
            histories[reset] = 0
            assert before[reset].any() and not reader.history()[reset].any()  # a history is a value
        row = ids[t : t + 7 * B : 7].astype(np.int64)
        expected, histories = ngrams.read(row, histories)
        reader.read(row)
        np.testing.assert_allclose(buffer[:, 2:-1], expected, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(reader.history(), histories)
    assert not buffer[:, :2].any() and not buffer[:, -1].any()


@numba
def test_arrays_of_a_file_that_cannot_be_written_are_compiled() -> None:
    ngrams, ids = indexed_ngrams(2, 1 << 12, 500)
    expected, _ = read_all(ngrams, ids)
    assert ngrams.index is not None and isinstance(ngrams.rows, np.ndarray)
    ngrams.rows.flags.writeable = ngrams.index.tags.flags.writeable = False
    np.testing.assert_allclose(read_all(ngrams, ids, 0)[0], expected, rtol=0, atol=2e-6)
