"""The random numbers of a single text are those of NumPy's default generator, bit for bit."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.engines import uniforms
from chargen.engines.uniforms import Uniforms

SEEDS = st.integers(0, 2**31 - 1) | st.integers(0, 2**200)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 10**6) | SEEDS, st.lists(st.integers(0, 40), max_size=8), st.integers(0, 100))
def test_blocks_of_any_size_are_those_of_numpy(seed: int, number: int, sizes: list[int], max_numbers: int) -> None:
    expected = np.random.default_rng([seed, number])
    with patch.object(uniforms, "MAX_PYTHON_NUMBERS", max_numbers):
        found = Uniforms(seed, number)
        for size in sizes:
            assert found.block(size) == expected.random(size).tolist()
            assert found.random() == expected.random()
