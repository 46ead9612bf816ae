"""Generated corpora: the stated entropy is correct, and the text is from the source."""

from __future__ import annotations

import math
import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.text.builtin_corpora import Automaton, alphabet, markov, reber

N = 200_000
MADE = {
    "alphabet": alphabet(),
    "markov-0": markov(0, seed=3),
    "markov-1": markov(1),
    "markov-2": markov(2, seed=1),
    "binary": markov(3, seed=2, letters="ab"),
    "reber": reber(),
}


@pytest.fixture(scope="module", params=MADE)
def source(request) -> Automaton:
    return MADE[request.param]


@pytest.fixture(scope="module")
def text(source) -> str:
    return source.generate(N, np.random.default_rng(7))


def surprisals(source: Automaton, text: str) -> np.ndarray:
    """−log p of each character, walked edge by edge."""
    state, found = 0, []
    for char in text:
        [(state, p)] = [(nxt, p) for c, nxt, p in source.edges[state] if c == char]
        found.append(-math.log(p))
    return np.array(found)


def entropy_by_power_iteration(source: Automaton) -> float:
    """Average −log p over the first steps of the chain, started in state 0.

    The distribution over states is carried forward a step at a time; the mean over many steps tends to the stationary
    one, also where the chain is periodic.
    """
    states = len(source.edges)
    step, own = np.zeros((states, states)), np.zeros(states)
    for state, edges in enumerate(source.edges):
        for _, nxt, p in edges:
            step[state, nxt] += p
            own[state] -= p * math.log(p)
    here = np.eye(states)[0]
    for _ in range(2000):  # forgets the start: the chains below mix in some dozens of steps
        here = here @ step
    total = 0.0
    for _ in range(26 * 40):  # whole periods
        here = here @ step
        total += float(here @ own)
    return total / (26 * 40)


# ── laws of every source ──────────────────────────────────────────────────────


def test_the_edges_of_a_state_have_distinct_characters_and_probabilities_that_sum_to_one(source):
    for edges in source.edges:
        assert math.isclose(sum(p for _, _, p in edges), 1.0, rel_tol=1e-12)
        assert all(p > 0 and 0 <= nxt < len(source.edges) for _, nxt, p in edges)
        assert len({c for c, _, _ in edges}) == len(edges)


def test_the_entropy_equals_that_from_power_iteration(source):
    # Least squares against 3,000 products of matrices: rounding alone, so far below 1e-9.
    assert math.isclose(source.entropy_nats_per_char(), entropy_by_power_iteration(source), abs_tol=1e-9)


def test_the_mean_surprisal_of_a_text_is_the_entropy_within_four_standard_errors(source, text):
    """The standard error is of 100 block means: blocks are long enough to be all but independent."""
    found = surprisals(source, text)
    blocks = found.reshape(100, -1).mean(axis=1)
    standard_error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    # 1e-12: where every character is certain the error is 0, but for the solution of the linear system.
    assert abs(found.mean() - source.entropy_nats_per_char()) <= 4 * standard_error + 1e-12
    assert standard_error < 0.01, "else the test would see nothing"


def test_the_log_prob_of_a_text_is_the_sum_over_its_path(source, text):
    part = text[:5000]
    assert math.isclose(source.log_prob_nats(part), -surprisals(source, part).sum(), rel_tol=1e-9, abs_tol=1e-12)
    assert source.log_prob_nats("") == 0.0


def test_the_probabilities_of_all_texts_of_a_length_sum_to_one(source):
    letters = sorted({c for edges in source.edges for c, _, _ in edges})
    whole = sum(math.exp(source.log_prob_nats("".join(text))) for text in product(letters, repeat=3))
    assert math.isclose(whole, 1.0, rel_tol=1e-9)


def test_the_text_depends_on_the_seed_only(source, text):
    assert source.generate(N, np.random.default_rng(7)) == text
    assert len(text) == N
    if source.entropy_nats_per_char() > 0.01:
        assert source.generate(100, np.random.default_rng(8)) != text[:100]


def test_a_shorter_text_is_a_prefix_of_a_longer_one(source, text):
    assert source.generate(1000, np.random.default_rng(7)) == text[:1000]
    assert source.generate(0, np.random.default_rng(7)) == ""


@pytest.mark.parametrize("impossible", ["?", "é"])
def test_a_text_that_the_source_cannot_generate_has_a_log_prob_of_minus_infinity(source, text, impossible):
    assert source.log_prob_nats(impossible) == -math.inf
    assert source.log_prob_nats(text[:50] + impossible + text[50:60]) == -math.inf


# ── each source ──────────────────────────────────────────────────────────────


def test_the_alphabet_repeats_with_entropy_zero():
    made = alphabet().generate(60, np.random.default_rng(0))
    assert made == ("abcdefghijklmnopqrstuvwxyz" * 3)[:60]
    assert abs(alphabet().entropy_nats_per_char()) < 1e-12
    assert alphabet().log_prob_nats(made) == 0.0
    assert alphabet().log_prob_nats("abd") == -math.inf


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_markov_chain_depends_on_exactly_as_many_characters_as_its_order(order):
    chain, letters = markov(order, seed=5, letters="abc"), "abc"
    assert len(chain.edges) == 3**order
    given_context: dict[str, set[float]] = {}
    for context in range(3**4):
        past = "".join(letters[context // 3**i % 3] for i in range(4))
        p = math.exp(chain.log_prob_nats(past + "a") - chain.log_prob_nats(past))
        given_context.setdefault(past[4 - order :], set()).add(round(p, 9))
    assert all(len(found) == 1 for found in given_context.values())
    assert len(set.union(*given_context.values())) == 3**order


def test_the_frequencies_of_pairs_match_the_transition_probabilities():
    chain = markov(1, seed=4, letters="abcd")
    made = chain.generate(N, np.random.default_rng(0))
    pairs = list(pairwise(made))
    for state, first in enumerate("abcd"):
        after = [b for a, b in pairs if a == first]
        for second, nxt, p in chain.edges[state]:
            assert nxt == "abcd".index(second)
            # Draws after a given letter are independent: four standard errors of a proportion.
            assert abs(after.count(second) / len(after) - p) <= 4 * math.sqrt(p * (1 - p) / len(after))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2), st.integers(0, 2**32))
def test_a_markov_chain_is_the_same_for_the_same_seed_and_has_no_rare_letter(order, seed):
    assert markov(order, seed) == markov(order, seed)
    assert min(p for edges in markov(order, seed).edges for _, _, p in edges) >= 0.01 / 8
    assert markov(order, seed) != markov(order, seed + 1)


#: Each branch of the inner grammar by hand, from the graph in the paper. Its paths join where X leaves the upper one:
#: from there S ends it, or X goes down to the lower one, whose V leads to P (up again) or V (the end).
AFTER_X = "(?:XT*VP)*(?:S|XT*VV)"
INNER = f"(?:TS*X{AFTER_X}|PT*V(?:V|P{AFTER_X}))"
EMBEDDED = re.compile(f"B(?:TB{INNER}ET|PB{INNER}EP)E")


def test_the_inner_reber_grammar_is_exactly_the_regular_expression_up_to_seven_letters():
    """All 97,655 strings of its letters, so what the one takes and the other does not would be found."""
    source, found = reber(), 0
    for length in range(1, 8):
        for letters in product("PSTVX", repeat=length):
            string = f"BPB{''.join(letters)}EPE"
            inside = EMBEDDED.fullmatch(string) is not None
            assert (source.log_prob_nats(string) > -math.inf) == inside, string
            found += inside
    assert found > 20


def test_every_reber_string_is_of_the_grammar_and_repeats_its_second_letter():
    *strings, _ = reber().generate(N, np.random.default_rng(1)).split("\n")
    assert len(strings) > 10_000
    assert all(EMBEDDED.fullmatch(string) for string in strings)
    assert all(string[1] == string[-2] for string in strings)
    assert {string[1] for string in strings} == {"T", "P"}


@pytest.mark.parametrize("string", ["BTBTXSETE", "BPBPVVEPE", "BTBPVPSETE", "BPBTSSXXTVVEPE", "BTBPTVPXVPXVVETE"])
def test_strings_of_the_grammar_have_the_probability_of_their_choices(string):
    """Each state with two edges halves it; the last letter but one and the ends are certain."""
    assert EMBEDDED.fullmatch(string)
    inner = string[3:-3]  # after "B?B", before "E?E": all turns of the inner grammar
    assert math.isclose(reber().log_prob_nats(string + "\n"), -(1 + len(inner)) * math.log(2), rel_tol=1e-12)


@pytest.mark.parametrize("string", ["BTBTXSEPE", "BPBTXSETE", "BTBTXXETE", "BTBTSVETE", "BTBTXSET", "TBTXSE"])
def test_strings_outside_the_grammar_are_impossible(string):
    assert not EMBEDDED.fullmatch(string)
    assert reber().log_prob_nats(string + "\n") == -math.inf
