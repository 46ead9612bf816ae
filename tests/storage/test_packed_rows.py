"""A table that is read as a file stores it: every row has the bits of the expanded table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.storage.packed_rows import PackedRows
from chargen.storage.rounding import round_matrix


def packed(table: np.ndarray, is_stored: np.ndarray, kind: str = "int8") -> PackedRows:
    """Return a table of which the given rows are stored."""
    rounded = round_matrix(table[is_stored], kind)
    scales = rounded.scales if rounded.kind == "int8" else None
    return PackedRows(rounded.stored, scales, np.packbits(is_stored, bitorder="little"), len(table))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    num_rows=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    kind=st.sampled_from(["int8", "float32"]),
)
def test_rows_and_the_expanded_table_have_the_same_bits(seed: int, num_rows: int, share: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(num_rows, 5)).astype(np.float32)
    is_stored = rng.random(num_rows) < share
    table[~is_stored] = 0
    rows = packed(table, is_stored, kind)
    expanded = rows.expand()
    assert rows.num_stored == is_stored.sum()
    assert expanded.dtype == np.float32 and expanded.shape == rows.shape == table.shape
    np.testing.assert_allclose(expanded, table, atol=np.abs(table).max() / 254 * 1.002 if kind == "int8" else 0)
    assert not expanded[~is_stored].any()
    np.testing.assert_array_equal(rows[np.arange(num_rows)], expanded)
    chosen = rng.integers(0, num_rows, (2, 3))
    np.testing.assert_array_equal(rows[chosen], expanded[chosen])
    numbers, out = np.zeros(4, dtype=np.int64), np.full(5, np.nan, dtype=np.float32)
    read = rows.sum_reader(numbers, out)
    for _ in range(3):
        numbers[:] = rng.integers(0, num_rows, 4)
        read()
        np.testing.assert_array_equal(out, np.ones(4, dtype=np.float32).dot(expanded[numbers]))


@pytest.mark.parametrize("stored", [[], [0], [7], [8], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_none_one_and_all_rows_can_be_stored(stored: list[int]) -> None:
    table = np.zeros((9, 2), dtype=np.float32)
    table[stored] = 127.0
    rows = packed(table, table.any(axis=1))
    np.testing.assert_array_equal(rows.expand(), table)
    np.testing.assert_array_equal(rows[np.array([8, 0, 7])], table[[8, 0, 7]])


@pytest.mark.parametrize("bits", [[], [0, 1], [0, 1, 2, 3], [0, 1, 9]])
def test_a_bitmap_with_other_rows_than_are_stored_is_refused(bits: list[int]) -> None:
    is_stored = np.isin(np.arange(16), bits)  # bits 9 to 15 are after the last of 9 rows
    with pytest.raises(ConfigError, match="bitmap"):
        PackedRows(np.ones((3, 2), np.int8), np.ones(3, np.float16), np.packbits(is_stored, bitorder="little"), 9)
