from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.sampling import decoding
from chargen.sampling.logits_rules import apply_temperature, draw, softmax
from chargen.sampling.settings import SampleConfig
from tests.conftest import random_model

LOGITS = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05]))


def mask(*token_ids: int, size: int = 5) -> np.ndarray:
    """Values that are added to logits so that these token ids are never drawn, as `Utf8Masks` has them."""
    return np.where(np.isin(np.arange(size), token_ids), -np.inf, 0.0)


def chi_squared(observed: np.ndarray, expected: np.ndarray) -> float:
    some = expected > 0
    assert observed[~some].sum() == 0
    return float(((observed[some] - expected[some]) ** 2 / expected[some]).sum())


@pytest.mark.parametrize(
    ("logits", "p"),
    [
        (LOGITS, [0.5, 0.2, 0.15, 0.1, 0.05]),
        (apply_temperature(LOGITS, 0.5), np.array([0.25, 0.04, 0.0225, 0.01, 0.0025]) / 0.325),
        (
            apply_temperature(LOGITS, 2.0),
            np.sqrt([0.5, 0.2, 0.15, 0.1, 0.05]) / np.sqrt([0.5, 0.2, 0.15, 0.1, 0.05]).sum(),
        ),
        (LOGITS + mask(0, 3), np.array([0, 0.2, 0.15, 0, 0.05]) / 0.4),
    ],
)
def test_draws_follow_the_stated_distribution(logits: np.ndarray, p: np.ndarray) -> None:
    rng, n = np.random.default_rng(0), 50_000
    counts = np.bincount([draw(logits, rng.random()) for _ in range(n)], minlength=5)
    assert chi_squared(counts, n * np.asarray(p)) < 23.5  # 4 degrees of freedom: p = 1e-4


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=8), st.floats(0.01, 5), st.integers(0, 2**31), st.integers(0, 1)
)
def test_temperature_keeps_masked_ids_at_zero_and_its_argument_unchanged(
    values: list[float], temperature: float, seed: int, banned: int
) -> None:
    logits = np.array(values)
    before = logits.copy()
    warped = apply_temperature(logits + mask(banned, size=len(logits)), temperature)
    assert softmax(warped).sum() == pytest.approx(1.0)
    assert softmax(warped)[banned] == 0
    assert draw(warped, np.random.default_rng(seed).random()) != banned
    np.testing.assert_array_equal(logits, before)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8))
def test_temperature_zero_is_argmax(values: list[float]) -> None:
    logits = np.array(values)
    assert draw(apply_temperature(logits, 0.0), np.random.default_rng(0).random()) == int(np.argmax(logits))


def test_small_temperature_approaches_argmax() -> None:
    assert softmax(apply_temperature(LOGITS, 0.01))[0] == pytest.approx(1.0)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_sample_has_the_requested_length_and_equals_its_streamed_pieces(tokenizer: str, verse: str) -> None:
    lm = LanguageModel(random_model(verse, tokenizer))
    for length in (0, 1, 57):
        pieces = list(lm.stream("Chữ", length=length, seed=3))
        assert len("".join(pieces)) == length
        assert lm.sample("Chữ", length=length, seed=3) == "Chữ" + "".join(pieces)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(verse: str) -> None:
    lm = LanguageModel(random_model(verse))
    assert lm.sample(length=80, seed=1) == lm.sample(length=80, seed=1)
    assert lm.sample(length=80, seed=1) != lm.sample(length=80, seed=2)
    assert lm.sample(length=80) != lm.sample(length=80)  # 80 characters of a wild model: never twice the same


def test_sample_is_independent_of_other_samples_of_its_seed(verse: str) -> None:
    lm = LanguageModel(random_model(verse))
    third = "".join(lm.stream(length=40, seed=5, number=2))
    together = ["".join(lm.stream(length=40, seed=5, number=n)) for n in range(4)]
    assert together[2] == third
    assert len(set(together)) == 4


def test_boundary_and_unknown_id_are_never_drawn() -> None:
    model = random_model("ab")
    weights = dict(model.weights)
    weights["head.bias"] = weights["head.bias"] + np.array(
        [50, 50, 0, 0], np.float32
    )  # the model would write nothing else
    lm = LanguageModel(type(model)(model.config, model.tokenizer, weights, model.about))
    assert set(lm.sample(length=100, seed=0)) <= {"a", "b"}


def test_prompt_changes_the_text() -> None:
    lm = LanguageModel(random_model(seed=2))
    assert "".join(lm.stream("The ", length=60, seed=0)) != "".join(lm.stream("Trăm", length=60, seed=0))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_temperature_out_of_range_is_an_error(bad: float) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        LanguageModel(random_model()).sample(temperature=bad)
    with pytest.raises(ConfigError, match="length"):
        SampleConfig(length=-1)


def test_first_character_follows_the_model_distribution(verse: str) -> None:
    """The first character drawn has the distribution that the model states."""
    model = random_model("abc", seed=4)
    lm, engine = LanguageModel(model), NumpyEngine(model.config, model.weights)
    logits, _ = engine.step(np.array([0]), engine.initial_state(1))  # no newline in "abc": a text begins after 0
    p = softmax(logits[0].astype(np.float64) + mask(0, 1))
    n = 4000
    drawn = ["".join(lm.stream(length=1, seed=s)) for s in range(n)]
    counts = np.array([0, 0, *(drawn.count(c) for c in "abc")])
    assert chi_squared(counts, n * p) < 18.5  # 2 degrees of freedom: p = 1e-4


# ── many texts at once ────────────────────────────────────────────────────────


def test_the_next_block_is_launched_before_the_ids_of_a_block_are_used() -> None:
    events: list[str] = []

    def draws(uniforms: np.ndarray) -> Iterator[int]:
        block = int(uniforms[0, 0])
        events.append(f"launch {block}")
        return iter([block] * len(uniforms))

    blocks = (np.full((2, 1), float(number)) for number in range(3))
    for block in decoding._draw_ahead(draws, blocks):
        events.append(f"use {block}")
    expected = ["launch 0", "launch 1", "use 0", "use 0", "launch 2", "use 1", "use 1", "use 2", "use 2"]
    assert events == expected
