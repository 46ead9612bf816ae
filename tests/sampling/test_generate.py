"""Conditions that end a text, processors, and the distributions of constrained methods."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.engines.interface import log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.sampling.processors import BannedStrings, RepetitionPenalty
from chargen.tokenizers.tokenizer import build_tokenizer
from tests.conftest import VERSE, random_model
from tests.sampling.test_decoding import chi_squared

pytest.importorskip("outlines_core", reason="the extra chargen[regex] is not installed")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(random_model(VERSE * 3))


@pytest.fixture(scope="module", params=["byte", "sp:300"])
def other(request: pytest.FixtureRequest) -> LanguageModel:
    return LanguageModel(random_model(VERSE * 3, request.param))


# ── ends of texts ──────────────────────────────────────────────────────────────────────


def test_text_ends_before_a_stop_string_and_loses_no_character(lm: LanguageModel) -> None:
    free = "".join(lm.stream(length=400, seed=3))
    for stop in (free[100:103], free[250:251]):
        sample = lm.samples(1, length=400, seed=3, stop=(stop,))[0]
        assert sample.text == free[: free.index(stop)] and sample.ended == "stop"
        assert "".join(lm.stream(length=400, seed=3, stop=(stop,))) == sample.text
    never = free[-2:] + "Z" if "Z" in lm.tokenizer.to_json()["characters"] else free[-1] * 50
    assert lm.samples(1, length=400, seed=3, stop=(never,))[0].text == free


def test_text_ends_at_the_stop_string_that_is_complete_first(lm: LanguageModel) -> None:
    free = "".join(lm.stream(length=100, seed=4))
    assert lm.samples(1, length=100, seed=4, stop=(free[50:60], free[52:54]))[0].text == free[: free.index(free[52:54])]


def test_until_newline_generates_one_line(lm: LanguageModel) -> None:
    for sample in lm.samples(20, length=300, seed=1, until="newline"):
        assert "\n" not in sample.text
        assert sample.ended == ("newline" if len(sample.text) < 300 else "length")


def test_until_boundary_needs_a_model_of_documents(lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="no end of a text"):
        lm.samples(1, until="boundary")


def test_until_boundary_ends_with_the_document() -> None:
    model = random_model("ab\n", documents="line")
    texts = LanguageModel(model).samples(30, length=200, seed=0, until="boundary")
    assert {sample.ended for sample in texts} == {"boundary"}
    assert len({sample.text for sample in texts}) > 5


def test_stop_string_with_unknown_characters_is_an_error(lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="never be written.*'東'"):
        lm.samples(1, stop=("a東",))


# ── batches ──────────────────────────────────────────────────────────────


def test_batched_texts_equal_single_texts(lm: LanguageModel, other: LanguageModel) -> None:
    for model in (lm, other):
        many = model.samples(9, "The ", length=60, seed=5, temperature=0.8, top_p=0.9)
        alone = [
            "".join(model.stream("The ", number=n, length=60, seed=5, temperature=0.8, top_p=0.9)) for n in range(9)
        ]
        assert [sample.text for sample in many] == alone
        assert [sample.number for sample in many] == list(range(9))


def test_texts_do_not_depend_on_a_shrinking_batch(lm: LanguageModel) -> None:
    some = lm.samples(6, length=200, seed=2, until="newline")
    more = lm.samples(12, length=200, seed=2, until="newline")
    assert more[:6] == some


@pytest.mark.parametrize("engine", [NumpyEngine, TorchEngine.from_weights])
def test_engines_select_and_reset_streams(engine) -> None:  # type: ignore[no-untyped-def]
    model = random_model(VERSE, cell="lstm", num_layers=2)
    made = engine(model.config, model.weights)
    ids = np.array([2, 3, 4])
    logits, state = made.step(ids, made.initial_state(3))
    again, _ = made.step(np.array([5, 5, 6]), made.select(state, np.array([2, 0, 2])))
    whole, _ = made.step(np.array([5, 6, 6]), state)
    np.testing.assert_allclose(again[2], whole[2], atol=1e-6)
    fresh, _ = made.step(ids, made.reset(state, np.array([1])))
    np.testing.assert_allclose(fresh[1], logits[1], atol=1e-6)
    assert not np.allclose(fresh[0], logits[0], atol=1e-3)


# ── bans and repetition ───────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("abă", min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["char", "byte", "sp:265"]),
)
def test_banned_strings_forbid_exactly_the_texts_that_contain_them(strings: list[str], spec: str) -> None:
    tokenizer = build_tokenizer(spec, "abă bă ab aab " * 8)
    processor = BannedStrings(tuple(strings), tokenizer)
    for text in map("".join, itertools.product("abă", repeat=4)):
        ids = tokenizer.encode(text)
        state, ruled_out = processor.initial_state("", ids), False
        for token_id in ids.tolist():
            ruled_out = ruled_out or bool(processor.forbidden_mask(state)[token_id])
            state = processor.advance(state, token_id)
        assert ruled_out == any(string in tokenizer.decode(ids) for string in strings)


def test_samples_contain_no_banned_string(lm: LanguageModel, other: LanguageModel) -> None:
    for model in (lm, other):
        text = model.sample(length=500, seed=0, ban=("e", "qu"))
        assert "e" not in text and "qu" not in text


def plain_penalty(ids: list[int], multiplier: float, base: float, allowed: int, size: int) -> np.ndarray:
    """The DRY penalty by brute force."""
    nats = np.zeros(size)
    for position in range(1, len(ids)):
        n = 0
        while n < position and ids[position - 1 - n] == ids[len(ids) - 1 - n]:
            n += 1
        if n > allowed:
            nats[ids[position]] = max(nats[ids[position]], multiplier * base ** (n - allowed - 1))
    return nats


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=40), st.integers(1, 4), st.integers(0, 10))
def test_repetition_penalty_equals_its_equation_after_forks(ids: list[int], allowed: int, size: int) -> None:
    processor = RepetitionPenalty(0.5, 1.5, allowed, 2)
    state = processor.initial_state("", np.array(ids[:size], dtype=np.int32))
    for token_id in ids[size:]:
        processor.advance(state, 1 - token_id)  # another text continues from the same state
        state = processor.advance(state, token_id)
    found = processor.penalties_nats(state)
    np.testing.assert_allclose(np.zeros(2) if found is None else found, plain_penalty(ids, 0.5, 1.5, allowed, 2))


def test_repetition_penalty_ends_a_loop(lm: LanguageModel) -> None:
    looping = "".join(lm.stream(length=400, temperature=0.0))
    assert looping[-100:] in looping[:-20]
    free = "".join(lm.stream(length=400, temperature=0.0, dry=3.0, dry_base=1.3, dry_allowed=8))
    assert free[-100:] not in free[:-20]


# ── regular expressions ───────────────────────────────────────────────────────

PATTERN = r"[A-Z][a-z]+, (the )?[a-z]+\.\n"


def test_every_sample_matches_its_regex(lm: LanguageModel, other: LanguageModel) -> None:
    for model in (lm, other):
        texts = model.samples(40, length=30, seed=0, regex=r"(The|a) [a-z]{1,9}(, [a-z]+)*")
        assert all(re.fullmatch(r"(The|a) [a-z]{1,9}(, [a-z]+)*", sample.text) for sample in texts)
        assert {sample.ended for sample in texts} == {"match"}
        assert len({sample.text for sample in texts}) > 20


def test_text_ends_when_nothing_can_follow_the_match(lm: LanguageModel) -> None:
    assert {sample.text for sample in lm.samples(20, length=9, seed=0, regex="fox")} == {"fox"}


@pytest.mark.parametrize(
    ("pattern", "length", "says"),
    [
        ("[a-z", 9, "is not valid"),
        ("東+", 9, "cannot write a match"),
        ("a{20}", 9, "shortest match .* has 20 characters"),
    ],
)
def test_regex_without_a_possible_match_is_an_error(lm: LanguageModel, pattern: str, length: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        lm.samples(1, length=length, regex=pattern)


def conditional(model: LanguageModel, pattern: str, length: int) -> dict[str, float]:
    """p(text | it matches), by enumerating all texts; a text ends where the model would leave the pattern."""
    tokenizer, engine = model.tokenizer, NumpyEngine(model.checkpoint.config, model.checkpoint.weights)
    alphabet = [token_id for token_id in range(tokenizer.vocab_size) if token_id not in tokenizer.special_ids()]
    found: dict[str, float] = {}
    strings = {"".join(s) for n in range(length + 1) for s in itertools.product("abc", repeat=n)}
    matches = {s for s in strings if re.fullmatch(pattern, s)}
    prefixes = {s[:k] for s in matches for k in range(len(s) + 1)}
    for text in matches:
        logits, state = engine.step(np.array([0]), engine.initial_state(1))
        log_p = 0.0
        for position in range(len(text) + 1):
            log_probs = log_softmax(logits[0, alphabet])
            if position == len(text):
                left = [k for k, c in enumerate("abc") if len(text) == length or text + c not in prefixes]
                log_p += float(np.log(np.exp(log_probs[left]).sum())) if len(left) < 3 else 0.0
                break
            k = "abc".index(text[position])
            log_p += float(log_probs[k])
            logits, state = engine.step(np.array([alphabet[k]]), state)
        found[text] = float(np.exp(log_p))
    total = sum(found.values())
    return {"": total} | {text: p / total for text, p in found.items()}


def test_particles_follow_the_constrained_distribution() -> None:
    model, pattern, length = LanguageModel(random_model("abc", seed=3)), "a[ab]*c", 5
    exact = conditional(model, pattern, length)
    evidence = exact.pop("")
    count = 240
    samples = [model.generator(length=length, seed=0, regex=pattern).particles(n, 30) for n in range(count)]
    drawn = Counter(sample.text for sample in samples)
    weights = np.exp([sample.log_weight_nats for sample in samples])
    # Of draws from the exact distribution the counts differ from what is expected by chance alone.
    some = {text: p for text, p in exact.items() if p * count >= 4}
    rest = 1.0 - sum(some.values())
    observed = np.array([*(drawn[text] for text in some), count - sum(drawn[text] for text in some)])
    expected = count * np.array([*some.values(), rest])
    assert len(some) > 2 and chi_squared(observed, expected) < 16 + 3 * len(some)
    assert weights.mean() == pytest.approx(evidence, rel=0.1)


def test_weights_of_masked_samples_are_unbiased() -> None:
    model = LanguageModel(random_model("abc", seed=3))
    exact = conditional(model, "a[ab]*c", 5)
    evidence = exact.pop("")
    drawn = model.samples(3000, length=5, seed=1, regex="a[ab]*c")
    weights = np.exp([sample.log_weight_nats for sample in drawn])
    assert weights.mean() == pytest.approx(evidence, rel=0.1)  # importance sampling without bias
    for text, p in exact.items():
        share = sum(w for w, sample in zip(weights, drawn, strict=True) if sample.text == text) / weights.sum()
        assert share == pytest.approx(p, abs=0.05)


def never_mass(model: LanguageModel, text: str) -> float:
    """The probability of boundary and unknown id after a text."""
    engine = NumpyEngine(model.checkpoint.config, model.checkpoint.weights)
    state = engine.initial_state(1)
    for token_id in [0, *model.tokenizer.encode(text).tolist()]:
        logits, state = engine.step(np.array([token_id]), state)
    return float(np.exp(log_softmax(logits)[0, model.tokenizer.special_ids()]).sum())


# ── beam search and infilling ───────────────────────────────────────────────────────────


def test_wide_beam_finds_the_most_probable_text() -> None:
    model = LanguageModel(random_model("abc", seed=7))
    strings = ["".join(s) for s in itertools.product("abc", repeat=4)]
    scores = {s: model.score(s).log_prob_nats for s in strings}
    found = model.generator(length=4).beam(100)
    assert found.text == max(scores, key=lambda s: scores[s])
    assert model.generator(length=4).beam(1).text == "".join(model.stream(length=4, temperature=0.0))


def test_the_texts_of_a_wide_beam_are_the_most_probable_ones_in_their_order() -> None:
    model = LanguageModel(random_model("abc", seed=7))
    strings = ["".join(s) for s in itertools.product("abc", repeat=4)]
    ranked = sorted(strings, key=lambda s: -model.score(s).log_prob_nats)
    found = model.generator(length=4).beam_texts(100, 20)
    assert [sample.text for sample in found] == ranked[:20]
    assert [sample.number for sample in found] == list(range(20))
    all_found = model.generator(length=4).beam_texts(100, 100)
    assert sorted(sample.text for sample in all_found) == sorted(strings)


def test_the_texts_of_a_beam_are_distinct() -> None:
    model = LanguageModel(random_model("ab", seed=7))
    found = [sample.text for sample in model.generator(length=3, stop=["ab", "ba"]).beam_texts(50, 50)]
    # what precedes the stop string, and the texts that reach the length without one
    assert sorted(found) == sorted(["", "a", "b", "aaa", "bbb"])
    assert [sample.text for sample in model.generator(length=0).beam_texts(3, 3)] == [""]


def test_a_beam_has_no_more_texts_than_its_width() -> None:
    model = LanguageModel(random_model("ab", seed=7))
    with pytest.raises(ConfigError, match="width 2 keeps 2 texts, but 3 are asked for"):
        model.generator(length=4).beam_texts(2, 3)


def test_infill_follows_the_distribution_between_prompt_and_suffix() -> None:
    model = LanguageModel(random_model("abc", seed=5))
    middles = ["".join(s) for n in range(3) for s in itertools.product("abc", repeat=n)]
    # What is written is drawn from the characters alone; what is read is scored among all ids.
    mass = {m: sum(math.log1p(-never_mass(model, "b" + m[:k])) for k in range(len(m))) for m in middles}
    p = {m: math.exp(model.score(m + "ca", context="b").log_prob_nats - mass[m]) for m in middles}
    total = sum(p.values())
    count = 300
    drawn = Counter(joined.text for joined in model.infill(count, "b", "ca", particles=60, length=2, seed=0))
    assert set(drawn) <= set(p)
    distance = sum(abs(drawn[m] / count - p[m] / total) for m in middles) / 2
    assert distance < 0.12  # of 300 draws from the exact one: about 0.07
