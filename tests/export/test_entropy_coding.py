"""Entropy coding: what is decoded, how many bytes it takes, and bytes of any distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.export.entropy_coding import MAX_CHUNK_BYTES, TOTAL, encode, find_frequencies, split


def decode(data: bytes, count: int, frequencies: np.ndarray) -> bytes:
    """Return the bytes that `encode` coded, by the equations of the module, one after the other."""
    symbols, starts = np.repeat(np.arange(256), frequencies).tolist(), (np.cumsum(frequencies) - frequencies).tolist()
    values, position, x = [], 0, 0
    num_chunks, size = split(count)
    for number in range(num_chunks * size):
        if number % size == 0:
            x, position = int.from_bytes(data[position : position + 4], "big"), position + 4
        symbol = symbols[x % TOTAL]
        x = int(frequencies[symbol]) * (x // TOTAL) + x % TOTAL - starts[symbol]
        while x < 1 << 23:
            x, position = x << 8 | data[position], position + 1
        values.append(symbol)
    assert position == len(data)
    return bytes(values[:count])


@settings(max_examples=20, deadline=None)
@given(values=st.binary(min_size=1, max_size=300))
def test_any_bytes_are_decoded(values: bytes) -> None:
    array = np.frombuffer(values, dtype=np.uint8)
    frequencies = find_frequencies(array)
    assert frequencies.sum() == TOTAL
    assert decode(encode(array, frequencies), len(array), frequencies) == values


@pytest.mark.parametrize("std", [0.01, 3.0, 40.0])
def test_the_size_is_close_to_the_entropy(std: float) -> None:
    rng = np.random.default_rng(0)
    array = np.clip(np.rint(rng.normal(0, std, 3 * MAX_CHUNK_BYTES + 17)), -127, 127).astype(np.int8).view(np.uint8)
    frequencies = find_frequencies(array)
    data = encode(array, frequencies)
    assert decode(data, len(array), frequencies) == array.tobytes()
    shares = np.bincount(array, minlength=256) / len(array)
    entropy_bytes = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() / 8 * len(array)
    assert len(data) < 1.01 * entropy_bytes + 40


def test_frequencies_of_rare_bytes_are_not_zero() -> None:
    array = np.concatenate([np.zeros(1_000_000, dtype=np.uint8), np.arange(256, dtype=np.uint8)])
    frequencies = find_frequencies(array)
    assert frequencies.min() == 1 and frequencies.sum() == TOTAL
