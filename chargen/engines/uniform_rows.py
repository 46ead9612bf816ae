"""The random numbers of many texts: for each text those of `numpy.random.default_rng([seed, number])`.

On a CPU they come from NumPy's generators. A GPU computes them itself, as all streams draw 512 of them at once: the
generators of 4,096 texts and 1,000 numbers of each took a third of the time of these texts.

NumPy's default generator is PCG64 (O'Neill 2014, "PCG: a family of simple fast space-efficient statistically good
algorithms for random number generation"). Its state is a number of 128 bits:

    s_k = A s_{k−1} + c  mod 2¹²⁸          so          s_k = A^k s_0 + (1 + A + … + A^{k−1}) c  mod 2¹²⁸

The factors of s_0 and c are the same for all texts, so every number of a block is computed at once. A number of 128
bits is a pair (high, low) of arrays of int64, whose sums and products are taken modulo 2⁶⁴, in NumPy and torch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.engines.uniforms import MASK_64, MASK_128, MULTIPLIER

MIN_TOGETHER = 4  #: fewer seeds are hashed by NumPy, one after another
WORD, WORD_BITS = 1 << 32, 32
POOL_WORDS, STATE_WORDS = 4, 8  # of a SeedSequence, and of what a PCG64 generator is seeded with
HASH_START, HASH_FACTOR = 0x43B0D7E5, 0x931E8875
STATE_START, STATE_FACTOR = 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT = 0xCA01F9DD, 0x4973F715
MAX_INT64 = (1 << 63) - 1

Blocks = Callable[[int], Any]  #: number of steps T → the next random numbers, [T, B]


class UniformRows:
    """The random numbers of several texts of a seed.

    Args:
        seed: The seed, not negative, of at most three words of 32 bits.
        numbers: Numbers of the texts, not negative.
    """

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        self._words = seed_words(seed, numbers)

    def first(self) -> NDArray[np.float64]:
        """Return the first random number of each text, [B]."""
        start = PCG64Rows.seeded(self._words)
        numbers: NDArray[np.float64] = start.block(jump_table(1)).astype(np.float64)[0] * 2.0**-53
        return numbers

    def blocks(self) -> Blocks:
        """Return a function that computes the random numbers after the first with NumPy's generators."""
        rngs = generators(self._words)
        for rng in rngs:
            rng.random()
        return lambda count: np.stack([rng.random(count) for rng in rngs], axis=1)

    def states(self) -> PCG64Rows:
        """Return the states of the generators before the second number."""
        return PCG64Rows.seeded(self._words).after(jump_table(1))


def make_rngs(seed: int, numbers: Sequence[int]) -> list[np.random.Generator]:
    """Return `np.random.default_rng([seed, number])` for each number, six times as fast; see `UniformRows`."""
    return generators(seed_words(seed, numbers))


class SeedWords:
    """A seed sequence whose state is already computed, [4] of uint64."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[np.uint64]:
        """Return the state, which has the size that PCG64 asks for."""
        return self._words


def generators(words: NDArray[np.uint64]) -> list[np.random.Generator]:
    """Return a generator for each row of seed words, [N, 4]."""
    np.random.bit_generator.ISeedSequence.register(SeedWords)  # here: only generating imports np.random
    seeds: Any = map(SeedWords, words)  # PCG64 is annotated as if it took SeedSequence only
    return [np.random.Generator(np.random.PCG64(each)) for each in seeds]


# ── PCG64 ─────────────────────────────────────────────────────────────────────


class Wide(NamedTuple):
    """Numbers of 128 bits as two arrays of int64; `low` has the lower 64 bits, without a sign."""

    high: Any
    low: Any


class PCG64Rows(NamedTuple):
    """The states of B generators, s and c of the equation above, each [B]."""

    state: Wide
    increment: Wide

    @classmethod
    def seeded(cls, words: NDArray[np.uint64]) -> PCG64Rows:
        """Return the states of generators with these seed words, [B, 4], before the first number."""
        high, low, sequence_high, sequence_low = np.ascontiguousarray(words.T).view(np.int64)
        increment = Wide(sequence_high << 1 | (sequence_low >> 63 & 1), sequence_low << 1 | 1)
        return cls(_sum(increment, Wide(high, low)), increment).after(jump_table(1))

    def map(self, function: Callable[[Any], Any]) -> PCG64Rows:
        """Return the states with each array replaced by a function of it, for example by its copy on a GPU."""
        return PCG64Rows(Wide(*map(function, self.state)), Wide(*map(function, self.increment)))

    def _jump(self, table: JumpTable) -> Wide:
        """Return the states after 1, 2, …, T steps, [T, B]."""
        return _sum(_product(self.state, table.factors), _product(self.increment, table.sums))

    def block(self, table: JumpTable) -> Any:
        """Return the next random numbers times 2⁵³, int64 [T, B]."""
        high, low = self._jump(table)
        word, rotation = high ^ low, high >> 58 & 63
        word = (word >> 1 & MAX_INT64) >> rotation << 1 | (word >> rotation & 1) | word << (-rotation & 63)
        return word >> 11 & (1 << 53) - 1

    def after(self, table: JumpTable) -> PCG64Rows:
        """Return the states after the last step of a table."""
        last = table.map(lambda part: part[-1:])
        return PCG64Rows(Wide(*(part[0] for part in self._jump(last))), self.increment)


class JumpTable(NamedTuple):
    """A^k and 1 + A + … + A^{k−1} for k = 1, 2, …, T, each [T, 1]."""

    factors: Wide
    sums: Wide

    def map(self, function: Callable[[Any], Any]) -> JumpTable:
        """Return the table with each array replaced by a function of it."""
        return JumpTable(Wide(*map(function, self.factors)), Wide(*map(function, self.sums)))


@lru_cache
def jump_table(count: int) -> JumpTable:
    """Return the table for blocks of `count` steps."""
    factors, sums = [MULTIPLIER], [1]
    for _ in range(count - 1):
        factors.append(factors[-1] * MULTIPLIER & MASK_128)
        sums.append(sums[-1] * MULTIPLIER + 1 & MASK_128)
    return JumpTable(_wide(factors), _wide(sums))


def _wide(numbers: list[int]) -> Wide:
    high, low = ([number >> shift & MASK_64 for number in numbers] for shift in (64, 0))
    return Wide(*(np.array(part, np.uint64).view(np.int64)[:, None] for part in (high, low)))


def _sum(x: Wide, y: Wide) -> Wide:
    low = x.low + y.low
    carry = (low ^ ~MAX_INT64) < (x.low ^ ~MAX_INT64)  # a comparison without signs
    return Wide(x.high + y.high + carry, low)


def _product(x: Wide, y: Wide) -> Wide:
    (x1, x0), (y1, y0) = ((part.low >> WORD_BITS & WORD - 1, part.low & WORD - 1) for part in (x, y))
    first, second = x1 * y0, x0 * y1
    middle = (x0 * y0 >> WORD_BITS & WORD - 1) + (first & WORD - 1) + (second & WORD - 1)
    high = x1 * y1 + (first >> WORD_BITS & WORD - 1) + (second >> WORD_BITS & WORD - 1) + (middle >> WORD_BITS)
    return Wide(high + x.high * y.low + x.low * y.high, x.low * y.low)


# ── seeds ─────────────────────────────────────────────────────────────────────


def seed_words(seed: int, numbers: Sequence[int]) -> NDArray[np.uint64]:
    """Return the words that seed the generator of each text, [N, 4].

    NumPy hashes each seed by itself, in 15 to 25 µs, which was a fifth of the time of 4,096 texts on a GPU. Here the
    hash of `np.random.SeedSequence` (O'Neill 2015, "Developing a seed_seq alternative"), whose results NumPy promises
    to keep, is computed for all numbers together.
    """
    if len(numbers) < MIN_TOGETHER or max(numbers) >= WORD:
        sequences = [np.random.SeedSequence([seed, number]) for number in numbers]
        return np.array([each.generate_state(4, np.uint64) for each in sequences], np.uint64).reshape(-1, 4)
    parts = [seed >> bits & WORD - 1 for bits in range(0, max(1, seed.bit_length()), WORD_BITS)]
    entropy = [np.full(len(numbers), part, np.uint32) for part in parts] + [np.array(numbers, np.uint32)]
    entropy += [np.zeros(len(numbers), np.uint32)] * (POOL_WORDS - len(entropy))
    words = _hash_entropy(entropy)
    states = (words[0::2].astype(np.uint64) | words[1::2].astype(np.uint64) << np.uint64(WORD_BITS)).T
    return np.ascontiguousarray(states)


def _hash_entropy(entropy: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Return the state of `np.random.SeedSequence` for POOL_WORDS words of entropy, [STATE_WORDS, N]."""
    constants = _constants(HASH_START, HASH_FACTOR)
    pool = [_hash(words, *next(constants)) for words in entropy]
    for source in range(POOL_WORDS):
        for target in range(POOL_WORDS):
            if source != target:
                hashed = _hash(pool[source], *next(constants))
                mixed = np.uint32(MIX_LEFT) * pool[target] - np.uint32(MIX_RIGHT) * hashed
                pool[target] = mixed ^ mixed >> np.uint32(16)
    constants = _constants(STATE_START, STATE_FACTOR)
    return np.stack([_hash(pool[k % POOL_WORDS], *next(constants)) for k in range(STATE_WORDS)])


def _constants(start: int, factor: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """Yield each constant of a sequence with the one that follows it, modulo 2³²."""
    while True:
        following = start * factor % WORD
        yield np.uint32(start), np.uint32(following)
        start = following


def _hash(words: NDArray[np.uint32], before: np.uint32, after: np.uint32) -> NDArray[np.uint32]:
    hashed = (words ^ before) * after
    return np.asarray(hashed ^ hashed >> np.uint32(16))
