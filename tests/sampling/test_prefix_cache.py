"""Reading a text in parts, and again after a change, equals cache it at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.lm import LanguageModel
from chargen.sampling.backward import BackwardGenerator
from chargen.sampling.generate import Generator
from chargen.sampling.prefix_cache import STRIDE, PrefixCache
from tests.conftest import VERSE, random_model

MODELS = {name: LanguageModel(random_model(VERSE * 20, name)) for name in ("char", "byte", "sp:300")}
LSTM = LanguageModel(random_model(cell="lstm", num_layers=2, ensemble_size=2))


def whole(lm: LanguageModel, text: str, before: PrefixCache | None = None) -> PrefixCache:
    *_, last = lm.read_prefix(text, before)
    return last


def assert_equal(one: PrefixCache, other: PrefixCache) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.log_probs, other.log_probs)
    assert len(one.states) == len(other.states)
    for state, expected in zip((*one.states, one.state), (*other.states, other.state), strict=True):
        np.testing.assert_array_equal(np.array(state.layers), np.array(expected.layers))
        np.testing.assert_array_equal(state.ngram_history, expected.ngram_history)
    assert one.bits_per_char == other.bits_per_char


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.text("Trăm nếu\u0302\u0301€\n", max_size=3 * STRIDE),
    st.text("Trăm", max_size=70),
    st.data(),
)
def test_reading_a_changed_text_from_a_cache_equals_reading_it_alone(
    name: str, text: str, more: str, data: st.DataObject
) -> None:
    lm, cut = MODELS[name], data.draw(st.integers(0, len(text)))
    before = whole(lm, text)
    for changed in (text, text[:cut], text + more, text[:cut] + more + text[cut:]):
        assert_equal(whole(lm, changed, before), whole(lm, changed))


@pytest.mark.parametrize("lm", [*MODELS.values(), LSTM])
def test_continuing_a_cache_equals_continuing_its_text(lm: LanguageModel) -> None:
    for text in ("", "Chữ", VERSE * 2):
        cache = whole(lm, text)
        for _ in range(2):  # a cache is a value
            found = "".join(lm.stream(prefix_cache=cache, length=50, seed=3))
            assert found == "".join(lm.stream(text, length=50, seed=3))


def first_mask(generator: Generator | BackwardGenerator) -> np.ndarray:
    """Return which token ids must not come first, [V]."""
    assert isinstance(generator, Generator)
    mask = generator.new_sequence().forbidden_mask()
    assert mask is not None
    return mask


@pytest.mark.parametrize("lm", MODELS.values(), ids=MODELS)
def test_a_banned_string_that_begins_in_a_cached_text_is_not_completed(lm: LanguageModel) -> None:
    text, options = "Chữ tài ", {"ban": ["i T"], "length": 50, "seed": 3}
    cache = whole(lm, text)
    mask = first_mask(lm.generator(prefix_cache=cache, **options))
    assert mask[lm.tokenizer.encode("T")[-1]]
    np.testing.assert_array_equal(mask, first_mask(lm.generator(text, **options)))
    assert "".join(lm.stream(prefix_cache=cache, **options)) == "".join(lm.stream(text, **options))


@pytest.mark.parametrize("lm", MODELS.values(), ids=MODELS)
def test_a_cache_of_a_part_knows_the_characters_that_were_read(lm: LanguageModel) -> None:
    caches = list(lm.read_prefix(VERSE * 3))
    for cache in caches:
        read = lm.tokenizer.decode(cache.ids[cache.num_start_ids :])
        assert cache.get_read_text(lm.tokenizer) == read.rstrip("\ufffd")  # stands for the start of a character
    assert len(caches) > 1
    assert caches[-1].get_read_text(lm.tokenizer) == VERSE * 3


@pytest.mark.parametrize("lm", [*MODELS.values(), LSTM])
def test_cache_has_the_score_of_its_text(lm: LanguageModel) -> None:
    for text in ("T", "Chữ € u\u031b\u0303", VERSE * 2):
        assert whole(lm, text).bits_per_char == pytest.approx(lm.score(text).bits_per_char, rel=1e-6)
        assert whole(lm, text).unknown_chars == lm.score(text).unknown_chars
    assert whole(lm, "").bits_per_char is None


def test_caches_grow_by_a_stride_and_only_the_last_has_a_score() -> None:
    *parts, last = MODELS["char"].read_prefix("a" * (3 * STRIDE))
    assert [len(part.ids) for part in parts] == [1 + STRIDE, 1 + 2 * STRIDE]
    assert all(part.bits_per_char is None and part.share < 1 for part in parts)
    assert last.share == 1


@pytest.mark.parametrize("until", ["length", "newline"])
def test_a_text_completes_the_character_in_which_a_cache_ends(until: str) -> None:
    part, *_ = MODELS["byte"].read_prefix("ữ" * STRIDE)  # the newline and 64 bytes: the last one starts a character
    char = "".join(MODELS["byte"].stream(prefix_cache=part, length=20, seed=3, until=until))[0]
    assert char.encode()[:1] == "ữ".encode()[:1] and len(char.encode()) == 3


def test_adding_a_character_costs_one_step_and_removing_one_at_most_a_stride() -> None:
    lm, text = LanguageModel(random_model()), "ab" * 500
    before, steps = whole(lm, text), []
    engine = lm._numpy
    read = engine.read

    def counted(inputs: np.ndarray, *arguments: object) -> object:
        steps.extend(inputs)
        return read(inputs, *arguments)  # type: ignore[arg-type]

    engine.read = counted  # type: ignore[method-assign, assignment]
    whole(lm, text + "a", before)
    assert len(steps) == 1
    whole(lm, text[:-1], before)
    assert len(steps) <= 1 + STRIDE
