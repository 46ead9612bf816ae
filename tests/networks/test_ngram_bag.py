"""The n-grams of texts: against a count in plain Python, and independent of the other texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.networks import ngram_bag
from chargen.networks.ngram_bag import compute_idf, find_ngrams

TEXTS = ["good film", "", "a", "A  GOOD\nfilm", "好电影 好", "aaaaaaaaaa"]
LARGE = 1 << 24  #: rows of a table in which these few n-grams do not collide


def count_ngrams(text: str, max_n: int) -> Counter[str]:
    padded = f" {' '.join(text.lower().split())} "
    return Counter(padded[i : i + n] for n in range(1, max_n + 1) for i in range(len(padded) - n + 1))


@pytest.mark.parametrize("max_n", [1, 3, 16])
def test_they_are_the_ngrams_of_the_text_with_their_amounts(max_n: int) -> None:
    bag = find_ngrams(TEXTS, max_n, LARGE)
    ends = [*bag.starts[1:].tolist(), len(bag.rows)]
    for text, start, end in zip(TEXTS, bag.starts.tolist(), ends, strict=True):
        expected = sorted(1.0 + math.log(count) for count in count_ngrams(text, max_n).values())
        norm = math.sqrt(sum(amount**2 for amount in expected))
        assert sorted(bag.amounts[start:end].tolist()) == pytest.approx([amount / norm for amount in expected])


def test_many_texts_have_rows_of_their_own_in_a_large_table(use_windows_numpy: Callable[[ModuleType], None]) -> None:
    use_windows_numpy(ngram_bag)
    alone, many = find_ngrams(TEXTS[:1], 3, LARGE), find_ngrams(TEXTS[:1] * 200, 3, LARGE)  # 200 · LARGE > 2³¹
    assert many.rows.tolist() == alone.rows.tolist() * 200
    assert many.starts.tolist() == [len(alone.rows) * k for k in range(200)]


def test_the_idf_weighs_ngrams_by_the_texts_that_have_them() -> None:
    texts = ["aab", "ab", "b"]
    idf = compute_idf(texts, 1, LARGE)
    expected = {" ": 1.0 + math.log(4 / 4), "a": 1.0 + math.log(4 / 3), "b": 1.0 + math.log(4 / 4)}
    amounts = {"a": (1.0 + math.log(2)) * expected["a"], "b": expected["b"], " ": (1.0 + math.log(2)) * expected[" "]}
    norm = math.sqrt(sum(amount**2 for amount in amounts.values()))
    bag = find_ngrams(texts[:1], 1, LARGE, idf)
    assert sorted(bag.amounts.tolist()) == pytest.approx(sorted(amount / norm for amount in amounts.values()))
    assert np.sum(idf < 1.0 + math.log(4)) == 3  # the other rows have the idf of an n-gram that no text has


def test_case_and_white_space_make_no_difference() -> None:
    bag = find_ngrams(["a good film", TEXTS[3]], 5, LARGE)
    first, second = np.split(bag.rows, [bag.starts[1]])
    assert np.array_equal(first, second)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.integers(1, 5))
def test_other_texts_have_no_influence(texts: list[str], max_n: int) -> None:
    bag = find_ngrams(texts, max_n, 64)
    assert bag.rows.max() < 64
    for number, text in enumerate(texts):
        alone = find_ngrams([text], max_n, 64)
        end = bag.starts[number + 1] if number + 1 < len(texts) else len(bag.rows)
        assert np.array_equal(bag.rows[bag.starts[number] : end], alone.rows)
        assert np.array_equal(bag.amounts[bag.starts[number] : end], alone.amounts)
