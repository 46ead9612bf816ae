"""The random numbers of a single text: those of `numpy.random.default_rng([seed, number])`, without its import.

NumPy's default generator is PCG64 (O'Neill 2014, PCG-XSL-RR with 128 bits of state), seeded by a `SeedSequence`. The
import of `numpy.random` takes at least 7 ms. So a text computes its first numbers with Python's integers, and then
continues with NumPy from the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAX_PYTHON_NUMBERS = 4096  #: numbers of a text that are computed here; each takes 0.4 µs
MASK_32, MASK_64, MASK_128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
POOL_SIZE = 4  #: words of 32 bits in the pool of a `SeedSequence`


class Uniforms:
    """Random numbers in [0, 1).

    Args:
        seed: A number that is not negative.
        number: Number of the text under its seed.
    """

    def __init__(self, seed: int, number: int) -> None:
        high, low, sequence_high, sequence_low = _seed_words(seed, number)
        self._increment = (sequence_high << 65 | sequence_low << 1 | 1) & MASK_128
        self._state = (self._increment + (high << 64 | low)) * MULTIPLIER + self._increment & MASK_128
        self._num_left = MAX_PYTHON_NUMBERS
        self._generator: np.random.Generator | None = None

    def random(self) -> float:
        """Return the next number."""
        return self.block(1)[0]

    def block(self, count: int) -> list[float]:
        """Return the next numbers."""
        if self._generator is None:
            if count <= self._num_left:
                self._num_left -= count
                return [self._next() for _ in range(count)]
            self._generator = self._continued_by_numpy()
        numbers: list[float] = self._generator.random(count).tolist()
        return numbers

    def _next(self) -> float:
        self._state = state = self._state * MULTIPLIER + self._increment & MASK_128
        word, rotation = (state >> 64 ^ state) & MASK_64, state >> 122
        word = (word >> rotation | word << 64 - rotation) & MASK_64
        return (word >> 11) * 2.0**-53

    def _continued_by_numpy(self) -> np.random.Generator:
        import numpy as np

        generator = np.random.PCG64()
        generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": self._state, "inc": self._increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return np.random.Generator(generator)


def _seed_words(*entropy: int) -> tuple[int, int, int, int]:
    """Return what `numpy.random.SeedSequence(entropy).generate_state(4, numpy.uint64)` contains."""
    words = [number >> shift & MASK_32 for number in entropy for shift in range(0, max(1, number.bit_length()), 32)]
    hash_constant = 0x43B0D7E5

    def hash_word(word: int) -> int:
        nonlocal hash_constant
        word ^= hash_constant
        hash_constant = hash_constant * 0x931E8875 & MASK_32
        word = word * hash_constant & MASK_32
        return word ^ word >> 16

    def mix(x: int, y: int) -> int:
        mixed = 0xCA01F9DD * x - 0x4973F715 * y & MASK_32
        return mixed ^ mixed >> 16

    pool = [hash_word(word) for word in [*words, *[0] * POOL_SIZE][:POOL_SIZE]]
    for source in range(POOL_SIZE):
        for target in range(POOL_SIZE):
            if source != target:
                pool[target] = mix(pool[target], hash_word(pool[source]))
    for word in words[POOL_SIZE:]:
        for target in range(POOL_SIZE):
            pool[target] = mix(pool[target], hash_word(word))
    output, constant = [], 0x8B51F9DD
    for index in range(8):
        word = pool[index % POOL_SIZE] ^ constant
        constant = constant * 0x58F38DED & MASK_32
        word = word * constant & MASK_32
        output.append(word ^ word >> 16)
    first, second, third, fourth = (output[k] | output[k + 1] << 32 for k in range(0, 8, 2))
    return first, second, third, fourth
