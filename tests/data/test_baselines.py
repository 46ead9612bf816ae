"""The yardsticks: Witten–Bell n-grams against their definition, and what a compressor makes of a text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data.baselines import lzma_nats, ngram_nats
from chargen.text.builtin_corpora import markov

laws = settings(deadline=None)
V = 4
runs = st.lists(st.integers(0, V - 1), max_size=25)
some = st.lists(st.integers(0, V - 1), min_size=1, max_size=12)


def witten_bell(train: list[int], past: list[int], w: int, vocab_size: int, k: int) -> float:
    """p_k(w | the k − 1 last ids of `past`), by the definition: counting over all places of the training text."""
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
    return ngram_nats(np.array(train, dtype=np.uint8), np.array(test, dtype=np.uint8), V, order)


@laws
@given(runs, some, st.integers(0, 6))
def test_the_fast_form_equals_the_definition(train, test, order):
    assert math.isclose(fast_nats(train, test, order), plain_nats(train, test, V, order), rel_tol=1e-12)


@laws
@given(runs, runs, st.integers(1, 5))
def test_the_probabilities_of_all_next_ids_sum_to_one(train, past, order):
    """log p(past w) − log p(past), for every w."""
    before = fast_nats(train, past, order) * len(past) if past else 0.0
    after = [fast_nats(train, [*past, w], order) * (len(past) + 1) for w in range(V)]
    assert math.isclose(sum(math.exp(before - a) for a in after), 1.0, rel_tol=1e-9)


@laws
@given(runs, some, some, st.integers(1, 5))
def test_what_follows_does_not_change_the_score_of_what_came_before(train, first, second, order):
    """The mean over both is at least the first's share of it: all −log p are positive."""
    whole = fast_nats(train, first + second, order) * len(first + second)
    alone = fast_nats(train, first, order) * len(first)
    assert whole >= alone - 1e-9


def test_by_hand():
    """After a b a b a: p_1(b) = (2 + 2·¼) / (5 + 2), and p_2(b | a) = (2 + 1·p_1) / (2 + 1)."""
    p1 = (2 + 2 / 4) / 7
    assert math.isclose(fast_nats([0, 1, 0, 1, 0], [1], order=1), -math.log(p1), rel_tol=1e-12)
    assert math.isclose(fast_nats([0, 1, 0, 1, 0], [1], order=2), -math.log((2 + p1) / 3), rel_tol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
def test_without_training_every_id_is_equally_likely(order):
    assert math.isclose(fast_nats([], [0, 3, 2, 2], order), math.log(V), rel_tol=1e-12)


def test_a_bigram_model_of_a_first_order_chain_comes_to_its_entropy_and_a_unigram_model_does_not():
    source = markov(1)
    text = source.generate(120_000, np.random.default_rng(0))
    ids = np.frombuffer(text.encode(), dtype=np.uint8) - ord("a")
    train, test = ids[:100_000], ids[100_000:]
    # What the source itself gives this very text; its start in state 0 ("a") instead of the last letter is one term.
    least = -source.log_prob_nats(text[100_000:]) / len(test)
    # 64 probabilities of 100,000 letters cost about 56 / (2 · 100,000) nats a letter.
    assert abs(ngram_nats(train, test, 8, order=2) - least) < 2e-3
    assert ngram_nats(train, test, 8, order=1) > least + 0.05


# ── a general compressor ──────────────────────────────────────────────────────


@settings(deadline=None, max_examples=15)
@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_costs_less_than_nothing(train, test):
    assert lzma_nats(train, test) >= 0.0


def test_nothing_costs_nothing_and_a_lone_surrogate_is_no_trouble():
    assert lzma_nats("abc", "") == 0.0
    assert lzma_nats("", "\udc80" * 10) > 0.0


def test_a_random_text_costs_its_entropy_and_not_much_more():
    draw = np.random.default_rng(0)
    text = "".join(draw.choice(list("abcdefgh"), 40_000).tolist())
    cost = lzma_nats(text[:20_000], text[20_000:])
    # Below the entropy would be a miracle; LZMA's literal coder is adaptive and loses some per cent.
    assert math.log(8) < cost < 1.2 * math.log(8)


def test_a_text_seen_before_costs_next_to_nothing():
    text = markov(2).generate(20_000, np.random.default_rng(0))
    assert 0 < lzma_nats(text, text[:10_000]) < 0.1  # a distance and some lengths
    assert lzma_nats(text[:10_000], text[10_000:]) > markov(2).entropy_nats_per_char()
