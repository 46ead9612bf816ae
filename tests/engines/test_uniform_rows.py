"""The random numbers of many texts are those of single texts, from NumPy's generators and as arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chargen.config import MAX_SEED
from chargen.engines import uniform_rows
from chargen.engines.cuda_graphs import DeviceUniforms
from chargen.engines.uniform_rows import MASK_128, MULTIPLIER, UniformRows, jump_table, make_rngs

on_gpu = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")],
)
WIDE = st.one_of(st.integers(0, MASK_128), st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64, 2**127, MASK_128]))


@given(
    st.integers(0, MAX_SEED),
    st.lists(st.one_of(st.integers(0, 5000), st.integers(0, 2**32 - 1)), min_size=3, max_size=9),
    st.integers(0, 1),
)
def test_generators_of_many_texts_are_those_of_single_texts(seed: int, numbers: list[int], excess: int) -> None:
    numbers = [*numbers, 2**32 - 1 + excess]  # a larger number has two words of entropy
    found = make_rngs(seed, numbers)
    for rng, number in zip(found, numbers, strict=True):
        assert rng.bit_generator.state == np.random.default_rng([seed, number]).bit_generator.state


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, MAX_SEED])
def test_generators_of_edge_seeds_are_those_of_single_texts(seed: int) -> None:
    numbers = [0, 1, 2, 2**16, 2**32 - 1]
    for rng, number in zip(make_rngs(seed, numbers), numbers, strict=True):
        np.testing.assert_array_equal(rng.random(3), np.random.default_rng([seed, number]).random(3))


@given(WIDE, WIDE)
def test_sums_and_products_of_128_bits(x: int, y: int) -> None:
    for function, expected in ((uniform_rows._sum, x + y), (uniform_rows._product, x * y)):
        high, low = function(uniform_rows._wide([x]), uniform_rows._wide([y]))
        assert (int(high[0, 0]) % 2**64 << 64 | int(low[0, 0]) % 2**64) == expected & MASK_128


def test_a_jump_table_has_the_powers_of_the_factor_and_their_sums() -> None:
    powers = [pow(MULTIPLIER, k, MASK_128 + 1) for k in range(6)]
    for found, expected in zip(
        jump_table(5), (powers[1:], [sum(powers[:k]) & MASK_128 for k in range(1, 6)]), strict=True
    ):
        np.testing.assert_array_equal(np.stack(found), np.stack(uniform_rows._wide(expected)))


def numbers_of_single_texts(seed: int, numbers: list[int], count: int) -> np.ndarray:
    return np.stack([np.random.default_rng([seed, number]).random(count) for number in numbers], axis=1)


@pytest.mark.parametrize("device", ["cpu", on_gpu])
@pytest.mark.parametrize("seed", [0, 3, 2**32 - 1, MAX_SEED])
@pytest.mark.parametrize("numbers", [[0, 7], [*range(300), 2**32 - 1], [1, 2, 3, 2**32]])
def test_blocks_are_the_numbers_of_single_texts(seed: int, numbers: list[int], device: str) -> None:
    rows, sizes = UniformRows(seed, numbers), (64, 512, 1, 30)
    expected = numbers_of_single_texts(seed, numbers, 1 + sum(sizes))
    np.testing.assert_array_equal(rows.first(), expected[0])
    on_device = DeviceUniforms(rows, torch.device(device))
    for next_block in (rows.blocks(), lambda size: on_device(size).cpu().numpy()):
        np.testing.assert_array_equal(np.concatenate([next_block(size) for size in sizes]), expected[1:])
