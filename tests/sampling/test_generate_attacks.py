"""Attacks on sampling: invalid UTF-8, silent tokens, dead ends, many and long strings, memory."""

from __future__ import annotations

import dataclasses
import itertools
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.cli.commands.sample_output import SampleWriter
from chargen.config import ModelConfig
from chargen.engines.interface import log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError, ModelError
from chargen.lm import LanguageModel
from chargen.sampling import generate as generate_module
from chargen.sampling import processors as processors_module
from chargen.sampling.generate import Generator
from chargen.sampling.logits_rules import draw, draw_batch, warp_logits
from chargen.sampling.processors import RepetitionPenalty, StringMatcher
from chargen.sampling.sequence import GeneratedSequence, GenerationContext
from chargen.sampling.settings import SampleConfig
from chargen.tokenizers.byte import ByteTokenizer
from chargen.tokenizers.tokenizer import COMPLETE, DEAD, Tokenizer, build_tokenizer, utf8_masks
from tests.conftest import VERSE, Result, random_model, random_weights
from tests.sampling.test_decoding import chi_squared

Chargen = Callable[..., Result]
TOKENIZERS = ["byte", "sp:300"]
AFTER = utf8_masks(ByteTokenizer(), False).next_state


def invalid_utf8_model(tokenizer: str, documents: str = "none", bias: float = 5.0) -> LanguageModel:
    """A model that prefers bytes of incomplete characters."""
    model = random_model(VERSE, tokenizer, documents=documents)
    words = [model.tokenizer.token_bytes(i) for i in range(model.tokenizer.vocab_size)]
    is_partial = np.array([len(word) == 1 and word[0] >= 0x80 for word in words])
    head = model.weights["head.bias"] + np.where(is_partial, bias, 0.0).astype(np.float32)
    return LanguageModel(dataclasses.replace(model, weights={**model.weights, "head.bias": head}))


# ── valid UTF-8 ───────────────────────────────────────────────────────────────


def accepts(word: bytes) -> bool:
    """Whether the UTF-8 states accept these bytes as complete characters."""
    state = COMPLETE
    for byte in word:
        state = AFTER[state][byte + 1]
        if state == DEAD:
            return False
    return state == COMPLETE


def decodes(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_utf8_states_accept_exactly_valid_utf8() -> None:
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE]
    edges += [0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    words = [bytes(word) for n in (1, 2, 3) for word in itertools.product(edges, repeat=n)]
    words += [bytes([first, *rest]) for first in edges[-8:] for rest in itertools.product(edges[2:12], repeat=3)]
    words += [bytes(pair) for pair in itertools.product(range(256), repeat=2)]
    assert [word for word in words if accepts(word) != decodes(word)] == []
    assert sum(map(accepts, words)) > 1000


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8))
def test_utf8_states_accept_every_text(text: str) -> None:
    assert accepts(text.encode("utf-8"))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("documents", ["none", "line"])
def test_no_method_generates_invalid_utf8(tokenizer: str, documents: str) -> None:
    model = invalid_utf8_model(tokenizer, documents)
    methods: dict[str, Callable[..., list[str]]] = {
        "stream": lambda **more: ["".join(model.stream(length=60, seed=0, **more))],
        "one": lambda **more: [model.samples(1, length=60, seed=0, **more)[0].text],
        "many": lambda **more: [sample.text for sample in model.samples(6, length=40, seed=0, **more)],
        "particles": lambda **more: [model.generator(length=20, seed=0, **more).particles(0, 5).text],
        "beam": lambda **more: [model.generator(length=8, seed=0, **more).beam(4).text],
        "join": lambda **more: [j.text for j in model.infill(3, "é", "ü", particles=4, length=8, seed=0, **more)],
    }
    for name, method in methods.items():
        for more in ({}, {"temperature": 0.0}, {"ban": ("a", "\u00e9")}, {"top_k": 3}, {"dry": 1.0}):
            for text in method(**more):
                assert "\ufffd" not in text, (name, more)
    assert "\ufffd" in methods["stream"](allow_invalid_utf8=True)[0]
    assert all(len(sample.text) == 40 for sample in model.samples(6, length=40, until="length", seed=0))


def test_first_bytes_follow_the_model_among_valid_bytes() -> None:
    checkpoint = random_model(VERSE, "byte", seed=4)
    engine = NumpyEngine(checkpoint.config, checkpoint.weights)
    p = np.exp(log_softmax(engine.step(np.array([11]), engine.initial_state(1))[0])[0])  # after a newline
    expected = np.array([p[1 + c] for c in range(0x80)])
    rest = sum(p[1 + b] for b in [*range(0xC2, 0xF5)])
    drawn = Counter(sample.text for sample in LanguageModel(checkpoint).samples(3000, length=1, seed=0))
    observed = np.array([drawn[chr(c)] for c in range(0x80)])
    whole = np.append(expected, rest) / (expected.sum() + rest)
    assert chi_squared(np.append(observed, 3000 - observed.sum()), 3000 * whole) < 128 + 5 * np.sqrt(2 * 128)


def test_batched_token_texts_equal_single_texts() -> None:
    for tokenizer in TOKENIZERS:
        model = invalid_utf8_model(tokenizer)
        many = [sample.text for sample in model.samples(5, length=50, seed=3)]
        assert many == ["".join(model.stream(length=50, seed=3, number=n)) for n in range(5)]


def test_infill_is_valid_utf8_and_matches_its_regex() -> None:
    model = invalid_utf8_model("byte")
    for regex in ("", "[a-c]+é"):
        for joined in model.infill(5, "a", "b", particles=8, length=6, seed=0, regex=regex):
            assert "\ufffd" not in joined.text
            if regex:
                assert joined.text.endswith("é") and set(joined.text[:-1]) <= set("abc") and len(joined.text) > 1
    with pytest.raises(ConfigError, match="may precede the suffix"):
        model.infill(1, "a", "b", particles=3, length=9, seed=0, ban=("x",), regex="x")


# ── tokens without text ─────────────────────────────────────────────────────


class Silent(ByteTokenizer):
    """A tokenizer most of whose ids have no text, although it does not report them."""

    def token_bytes(self, token_id: int) -> bytes:
        return b"a" if token_id == 98 else b""


def test_model_that_completes_no_character_is_an_error() -> None:
    config = ModelConfig(257, hidden_size=8, embedding_dim=8)
    model = LanguageModel(Checkpoint(config, Silent(), random_weights(config)))
    for call in (
        lambda: model.samples(1, length=10, seed=0),
        lambda: model.samples(5, length=10, seed=0),
        lambda: model.generator(length=10, seed=0).particles(0, 4),
    ):
        with pytest.raises(ModelError, match="complete no character"):
            call()


def test_logits_that_are_not_finite_are_an_error() -> None:
    rng, config = np.random.default_rng(0), SampleConfig()
    for bad in (np.nan, np.inf):
        logits = np.array([0.0, bad, 1.0])
        with np.errstate(invalid="ignore"), pytest.raises(ModelError, match="not a finite number"):
            draw(logits, rng.random())
        with np.errstate(invalid="ignore"), pytest.raises(ModelError, match="not a finite number"):
            draw_batch(warp_logits(np.stack([np.zeros(3), logits]), config), rng.random(2))
    model = random_model("abc")
    weights = {**model.weights, "head.weight": np.full_like(model.weights["head.weight"], np.nan)}
    with pytest.raises(ModelError, match="not a finite number"):
        LanguageModel(dataclasses.replace(model, weights=weights)).sample(length=3)


def test_uniform_that_rounds_to_the_total_draws_an_allowed_id() -> None:
    most = np.array([np.nextafter(1.0, 0.0)])
    weights = np.log(np.array([0.7, 0.8, 0.0001, 1e-300]))[None]
    assert int(draw_batch(weights - weights.max(), most)[0]) <= 2


@pytest.mark.parametrize("temperature", [1e-6, 1e-5, 1e5, 1e6])
def test_extreme_temperatures_equal_their_limits(temperature: float) -> None:
    model = LanguageModel(random_model("abc", seed=1))
    text = model.sample(length=300, seed=0, temperature=temperature)
    if temperature < 1:
        assert text == model.sample(length=300, temperature=0.0)
    else:
        assert max(Counter(text).values()) < 150  # of three characters alike
    assert set(model.samples(4, length=50, seed=0, temperature=temperature)[3].text) <= set("abc")
    assert set(model.samples(1, length=50, seed=0, temperature=temperature, ban=("c",))[0].text) <= set("ab")


@pytest.mark.parametrize("rule", [{"top_p": 1e-308}, {"typical": 1e-308}, {"min_p": 1.0}, {"top_k": 1}])
def test_extreme_rules_leave_one_character(rule: Mapping[str, Any]) -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    left = np.isfinite(warp_logits(logits, SampleConfig(**rule)))
    assert left.sum(axis=1).tolist() == [1, 1]
    assert np.isfinite(warp_logits(logits, SampleConfig(top_k=10**9))).all()


# ── dead ends ─────────────────────────────────────────────────────────────────


def test_beam_and_particles_avoid_dead_ends_or_report_them() -> None:
    model = LanguageModel(random_model("abc", seed=2))
    ban = ("aa", "ab", "ac")  # nothing may follow an a
    for text in (
        model.generator(length=6, ban=ban, seed=0).beam(3).text,
        model.generator(length=6, ban=ban, seed=0).particles(0, 40).text,
    ):
        assert "a" not in text[:-1]
    with pytest.raises(ConfigError, match="every character is forbidden"):
        model.generator(length=3, ban=("a", "b", "c")).beam(3)
    with pytest.raises(ConfigError, match="every character is forbidden"):
        model.generator(length=3, ban=("a", "b", "c")).particles(0, 3)
    with pytest.raises(ConfigError, match="every character is forbidden"):
        model.samples(5, length=3, ban=("a", "b", "c"))
    assert model.generator(length=4, temperature=0.0, ban=("a",), seed=0).particles(0, 3).text.count("a") == 0


# ── many and long strings ─────────────────────────────────────────────────────


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=6), st.text("ab", max_size=20))
def test_string_matcher_finds_matches_and_longest_prefixes(strings: list[str], text: str) -> None:
    matcher = StringMatcher(map(ord, string) for string in strings)
    node = 0
    for end in range(1, len(text) + 1):
        node, done = matcher.step(node, ord(text[end - 1])), text[:end]
        assert matcher.match_lengths[node] == max((len(s) for s in strings if done.endswith(s)), default=0)
        prefixes = [s[:k] for s in strings for k in range(len(s) + 1) if done.endswith(s[:k])]
        assert matcher.depths[node] == max(map(len, prefixes))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4), st.text("ab", max_size=12))
def test_sequence_ends_before_the_stop_string_that_is_complete_first(stops: list[str], text: str) -> None:
    tokenizer = build_tokenizer("char", "ab")
    config = SampleConfig(stop=tuple(stops), length=len(text) or 1)
    sequence = GeneratedSequence(GenerationContext(tokenizer, config, [], None, "", np.array([0]), None))
    for token_id in tokenizer.encode(text).tolist():
        if not sequence.ended:
            sequence.append(token_id)
    ends = [k for k in range(len(text) + 1) if any(text[:k].endswith(stop) for stop in stops)]
    longest = max((len(stop) for stop in stops if ends and text[: ends[0]].endswith(stop)), default=0)
    assert sequence.unpopped_text() == (text[: ends[0] - longest] if ends else text)


def test_many_and_long_strings_are_fast() -> None:
    model = LanguageModel(random_model("ab\n", seed=1))
    many = tuple(format(k, "014b").replace("0", "a").replace("1", "b") + "a\n" for k in range(10_000))
    long = ("ab" * 60_000,)
    start = time.perf_counter()
    for more in ({"stop": many}, {"ban": many}, {"stop": long}, {"ban": long}):
        text = model.samples(1, length=400, seed=0, **more)[0].text
        assert not any(string in text for string in next(iter(more.values())))
    assert time.perf_counter() - start < 10  # about one second; it was minutes for each
    with pytest.raises(ConfigError, match="all stop strings together"):
        model.sample(stop=("a" * 300_000,))
    with pytest.raises(ConfigError, match="all ban strings together"):
        model.sample(ban=("a" * 300_000,))


def test_document_separator_can_be_banned() -> None:
    model = LanguageModel(random_model("ab\n", documents="line"))
    assert "\n" in model.sample(length=100, seed=0)
    assert "\n" not in model.sample(length=100, seed=0, ban=("\n",))
    assert "b\na" not in model.sample(length=300, seed=0, ban=("b\na",))
    ends = model.samples(20, length=100, seed=0, ban=("\n",), until="boundary")
    assert {sample.ended for sample in ends} == {"boundary"}


# ── memory ────────────────────────────────────────────────────────────────────


def test_repetition_penalty_has_a_bounded_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors_module, "HISTORY", 50)
    processor, plain = RepetitionPenalty(0.5, 1.5, 2, 3), RepetitionPenalty(0.5, 1.5, 2, 3)
    ids = np.random.default_rng(0).integers(0, 3, 1000).tolist()
    state = processor.initial_state("", np.zeros(0, dtype=np.int32))
    for end, token_id in enumerate(ids, 1):
        state = processor.advance(state, token_id)
        assert state.size == len(state.sequence.ids) < 100 + 1
        assert ids[end - state.size : end] == state.sequence.ids
        if end % 97 == 0:
            monkeypatch.setattr(processors_module, "HISTORY", 10**6)
            again = plain.initial_state("", np.array(ids[end - state.size : end]))
            monkeypatch.setattr(processors_module, "HISTORY", 50)
            np.testing.assert_array_equal(processor.penalties_nats(state), plain.penalties_nats(again))


@pytest.mark.parametrize(("multiplier", "base"), [(1e6, 8.0), (1.0, 8.0), (1e6, 1.0), (1e-308, 1.0)])
def test_extreme_penalties_are_finite(multiplier: float, base: float) -> None:
    model = LanguageModel(random_model("abc"))
    assert len(model.sample(length=200, seed=0, dry=multiplier, dry_base=base, dry_allowed=1)) == 200
    with pytest.raises(ConfigError, match="at most 1,000"):
        model.sample(dry=1.0, dry_allowed=10**30)


def test_long_prompt_is_encoded_from_its_end() -> None:
    for name in ("char", "byte", "sp:300"):
        tokenizer: Tokenizer = build_tokenizer(name, VERSE * 20)
        prompt = VERSE * 12_000
        ids = tokenizer.encode(VERSE * 300)[-generate_module.MAX_PROMPT_IDS :]
        kept = generate_module._last_part(prompt)
        assert len(kept) <= generate_module.MAX_PROMPT_IDS * generate_module.MAX_ID_CHARS < len(prompt)
        assert np.array_equal(tokenizer.encode(kept[-len(VERSE) * 300 :])[-generate_module.MAX_PROMPT_IDS :], ids)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda w: list(w(length=10**9).samples([0])), "in memory together"),
        (lambda w: w(length=10**30), "at most 1,000,000,000"),
        (lambda w: w(length=10).particles(0, 10**9), "in memory together"),
        (lambda w: w(length=1).particles(0, 10**8), "texts compete"),
        (lambda w: w(length=1).beam(10**8), "texts compete"),
        (lambda w: w(length=10).infill("a" * 20_000, 0, 4), "the suffix has 20,000"),
        (lambda w: w(length=100_000).infill("a" * 9_000, 0, 100), "Lower --length"),
    ],
)
def test_settings_that_need_too_much_memory_or_time_are_errors(call: Callable[..., object], says: str) -> None:
    model = LanguageModel(random_model("abc"))

    def write(**more: Any) -> Generator:
        return model.generator(seed=0, **more)

    with pytest.raises(ConfigError, match=says):
        call(write)


@pytest.mark.parametrize("more", [{}, {"ban": ("é",), "stop": ("zzz",)}, {"regex": "(?s:.*)"}], ids=str)
@pytest.mark.parametrize("tokenizer", ["char", *TOKENIZERS])
def test_streaming_uses_bounded_memory(tokenizer: str, more: dict[str, Any]) -> None:
    stream = invalid_utf8_model(tokenizer, bias=0.0).stream(length=10**6, seed=0, **more)
    for _ in itertools.islice(stream, 500):
        pass
    tracemalloc.start()
    for _ in itertools.islice(stream, 1500):
        pass
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 60_000  # random numbers and texts of ids that are met first; it was 100 bytes a character and more


def test_printing_uses_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", type("Nowhere", (), {"write": len, "flush": lambda self: None})())
    monkeypatch.setattr("sys.stdout.write", lambda text: None, raising=False)
    tracemalloc.start()
    SampleWriter(1).write_pieces(chr(0x4E00 + k % 5000) for k in range(50_000))
    assert tracemalloc.get_traced_memory()[1] < 50_000
    tracemalloc.stop()


def test_command_line_reports_limits(chargen: Chargen) -> None:
    save_checkpoint(Path("m"), random_model("abc\n"))
    for more, says in (
        (("-n", "1000000", "--best-of", "1000000"), "at most 1,000,000 are possible"),
        (("--best-of", "100000", "--length", "100000"), "in memory together"),
        (("--report", "--length", "100000000"), "--report"),
    ):
        result = chargen("sample", "-m", "m", *more)
        assert (result.status, says in result.err) == (2, True), result.err
    invalid = invalid_utf8_model("byte")
    save_checkpoint(Path("invalid"), invalid.checkpoint)
    assert "\ufffd" not in chargen("sample", "-m", "invalid", "--length", "50", "--seed", "0").out
    assert "\ufffd" in chargen("sample", "-m", "invalid", "--length", "50", "--seed", "0", "--allow-invalid-utf8").out
