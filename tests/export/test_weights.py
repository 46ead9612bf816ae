"""Weights as a page stores them: how far they are from the exact ones, and which rows are left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.export.weights import join_arrays, store_array
from chargen.storage.rounding import MAX_NOISE_NATS, find_ngram_scale


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), exponent=st.integers(-12, 5), rows_per_scale=st.sampled_from([1, 4, 64]))
def test_int8_differs_by_half_a_step_at_most(seed: int, exponent: int, rows_per_scale: int) -> None:
    matrix = (np.random.default_rng(seed).normal(size=(10, 7)) * 10.0**exponent).astype(np.float32)
    stored = store_array("m", matrix, "int8", rows_per_scale)
    for start in range(0, 10, rows_per_scale):
        group = slice(start, start + rows_per_scale)
        step = np.abs(matrix[group]).max() / 127 * 1.001 + 2**-24  # the smallest float16
        assert np.abs(stored.values[group] - matrix[group]).max() <= step / 2 * 1.001


def test_float16_has_eleven_bits_and_float32_is_exact() -> None:
    matrix = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    half = store_array("m", matrix, "float16")
    assert len(half.data) == 60
    np.testing.assert_allclose(half.values, matrix, rtol=2**-11)
    exact = store_array("m", matrix, "float32")
    assert exact.data == matrix.tobytes()


@pytest.mark.parametrize("kind", ["int8", "float16", "float32"])
def test_vectors_are_exact_and_so_is_what_float16_cannot_hold(kind: str) -> None:
    bias = np.array([-1e30, 0.1, 3.0], dtype=np.float32)
    assert store_array("v", bias, kind).data == bias.tobytes()
    large = np.array([[1e5, 0.1]], dtype=np.float32)
    assert store_array("m", large, "float16").data == large.tobytes()


@pytest.mark.parametrize("kind", ["int8", "float16", "float32"])
def test_rows_of_zeros_are_left_out_of_a_sparse_array(kind: str) -> None:
    table = np.zeros((20, 3), dtype=np.float32)
    table[[2, 11]] = [[1, 2, 3], [-1, 0, 4]]
    stored = store_array("t", table, kind, 4, is_sparse=True)
    assert stored.num_rows == 2
    assert stored.data[:3] == bytes([0b100, 0b1000, 0])
    np.testing.assert_allclose(stored.values, table, atol=0.02)
    descriptions, data = join_arrays([stored, stored])
    assert (len(descriptions), data) == (2, stored.data * 2)


@pytest.mark.parametrize("kind", ["int8", "float16", "float32"])
def test_a_matrix_of_zeros_is_stored(kind: str) -> None:
    stored = store_array("m", np.zeros((3, 2), dtype=np.float32), kind)
    assert not stored.values.any()


def test_the_scale_of_the_n_gram_table_adds_noise_of_the_given_size_to_the_logits() -> None:
    rng = np.random.default_rng(0)
    head, table = rng.normal(size=(50, 16)).astype(np.float32), rng.normal(0, 0.1, (4000, 16)).astype(np.float32)
    scale = find_ngram_scale(head, 5)
    stored = store_array("t", table, "int8", len(table), is_sparse=True, min_scale=scale)
    error = (stored.values - table)[rng.integers(0, 4000, (1000, 5))].sum(1) @ head.T
    assert error.std() == pytest.approx(MAX_NOISE_NATS, rel=0.05)


def test_a_head_of_zeros_or_of_huge_numbers_has_a_scale() -> None:
    table = np.array([[0.5, -300.0]], dtype=np.float32)
    for head in (np.zeros((3, 2), dtype=np.float32), np.full((3, 2), 1e6, dtype=np.float32)):
        stored = store_array("t", table, "int8", 1, is_sparse=True, min_scale=find_ngram_scale(head, 2))
        assert np.isfinite(stored.values).all()
