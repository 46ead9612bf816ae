"""Baselines: Witten–Bell n-grams against their definition, and LZMA."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data import baselines
from chargen.data.baselines import lzma_nats_per_char, ngram_nats_per_id
from chargen.text.builtin_corpora import markov

laws = settings(deadline=None)
V = 4
runs = st.lists(st.integers(0, V - 1), max_size=25)
nonempty_runs = st.lists(st.integers(0, V - 1), min_size=1, max_size=12)


@laws
@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.sampled_from([1, 1 << 20]))
def test_values_are_numbered_by_a_table_as_by_sorting(values: list[int], min_table_size: int) -> None:
    array = np.array(values, dtype=np.int64)
    with patch.object(baselines, "MIN_TABLE_SIZE", min_table_size), patch.object(baselines, "MAX_TABLE_RATIO", 1):
        distinct, numbers = baselines._number(array)
    expected, inverse = np.unique(array, return_inverse=True)
    assert np.array_equal(distinct, expected)
    assert np.array_equal(numbers, inverse)


def witten_bell(train: list[int], past: list[int], w: int, vocab_size: int, k: int) -> float:
    """p_k(w | the k − 1 last ids of `past`), by the definition: counts over all positions of the training text."""
    if k == 0:
        return 1 / vocab_size
    shorter = witten_bell(train, past, w, vocab_size, k - 1)
    if len(past) < k - 1:
        return shorter
    context = past[len(past) - (k - 1) :]
    followers = [train[i + k - 1] for i in range(len(train) - k + 1) if train[i : i + k - 1] == context]
    if not followers:
        return shorter
    different = len(set(followers))
    return (followers.count(w) + different * shorter) / (len(followers) + different)


def plain_nats(train: list[int], test: list[int], vocab_size: int, order: int) -> float:
    log_probs = [math.log(witten_bell(train, train + test[:i], w, vocab_size, order)) for i, w in enumerate(test)]
    return -sum(log_probs) / len(log_probs)


def fast_nats(train: list[int], test: list[int], order: int) -> float:
    return ngram_nats_per_id(np.array(train, dtype=np.uint8), np.array(test, dtype=np.uint8), V, order)


@laws
@given(runs, nonempty_runs, st.integers(0, 6))
def test_the_fast_form_equals_the_definition(train, test, order):
    assert math.isclose(fast_nats(train, test, order), plain_nats(train, test, V, order), rel_tol=1e-12)


@laws
@given(runs, runs, st.integers(1, 5))
def test_the_probabilities_of_all_next_ids_sum_to_one(train, past, order):
    """log p(past w) − log p(past), for every w."""
    nats_before = fast_nats(train, past, order) * len(past) if past else 0.0
    nats_after = [fast_nats(train, [*past, w], order) * (len(past) + 1) for w in range(V)]
    assert math.isclose(sum(math.exp(nats_before - nats) for nats in nats_after), 1.0, rel_tol=1e-9)


@laws
@given(runs, nonempty_runs, nonempty_runs, st.integers(1, 5))
def test_later_ids_do_not_change_the_score_of_earlier_ones(train, first, second, order):
    """The mean over both is at least the first's share of it: all −log p are positive."""
    whole = fast_nats(train, first + second, order) * len(first + second)
    alone = fast_nats(train, first, order) * len(first)
    assert whole >= alone - 1e-9


def test_a_small_example_by_hand():
    """After a b a b a: p_1(b) = (2 + 2·¼) / (5 + 2), and p_2(b | a) = (2 + 1·p_1) / (2 + 1)."""
    p1 = (2 + 2 / 4) / 7
    assert math.isclose(fast_nats([0, 1, 0, 1, 0], [1], order=1), -math.log(p1), rel_tol=1e-12)
    assert math.isclose(fast_nats([0, 1, 0, 1, 0], [1], order=2), -math.log((2 + p1) / 3), rel_tol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
def test_without_training_every_id_is_equally_likely(order):
    assert math.isclose(fast_nats([], [0, 3, 2, 2], order), math.log(V), rel_tol=1e-12)


def test_a_bigram_model_of_a_first_order_chain_reaches_its_entropy_and_a_unigram_model_does_not():
    source = markov(1)
    text = source.generate(120_000, np.random.default_rng(0))
    ids = np.frombuffer(text.encode(), dtype=np.uint8) - ord("a")
    train, test = ids[:100_000], ids[100_000:]
    # The loss of the source itself on this text. It starts in state 0 ("a") instead of the last letter: one wrong term.
    optimum = -source.log_prob_nats(text[100_000:]) / len(test)
    # 64 probabilities of 100,000 letters cost about 56 / (2 · 100,000) nats a letter.
    assert abs(ngram_nats_per_id(train, test, 8, order=2) - optimum) < 2e-3
    assert ngram_nats_per_id(train, test, 8, order=1) > optimum + 0.05


# ── a general compressor ──────────────────────────────────────────────────────


@settings(deadline=None, max_examples=15)
@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_has_a_negative_cost(train, test):
    assert lzma_nats_per_char(train, test) >= 0.0


def test_an_empty_text_costs_nothing_and_lone_surrogates_are_allowed():
    assert lzma_nats_per_char("abc", "") == 0.0
    assert lzma_nats_per_char("", "\udc80" * 10) > 0.0


def test_a_random_text_costs_slightly_more_than_its_entropy():
    draw = np.random.default_rng(0)
    text = "".join(draw.choice(list("abcdefgh"), 40_000).tolist())
    cost = lzma_nats_per_char(text[:20_000], text[20_000:])
    # A loss below the entropy is impossible; LZMA's adaptive literal coder loses some percent.
    assert math.log(8) < cost < 1.2 * math.log(8)


def test_a_repeated_text_costs_almost_nothing():
    text = markov(2).generate(20_000, np.random.default_rng(0))
    assert 0 < lzma_nats_per_char(text, text[:10_000]) < 0.1  # a distance and some lengths
    assert lzma_nats_per_char(text[:10_000], text[10_000:]) > markov(2).entropy_nats_per_char()
