"""Scores of texts: they chain, have consistent units, and are the same in any batch."""

import itertools
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import CorpusError
from chargen.lm import LanguageModel
from chargen.scoring.scorer import score_texts
from chargen.tokenizers.tokenizer import UNICODE_CHARACTERS, start_ids
from tests.conftest import VERSE, random_model

TEXTS = st.text(alphabet=sorted(set(VERSE)), max_size=30)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["char", "byte"]), TEXTS, TEXTS, TEXTS)
def test_log_probabilities_chain(tokenizer: str, a: str, b: str, c: str) -> None:
    lm = LanguageModel(random_model(tokenizer=tokenizer))
    whole = lm.score(a + b, context=c).log_prob_nats
    parts = lm.score(a, context=c).log_prob_nats + lm.score(b, context=c + a).log_prob_nats
    assert whole == pytest.approx(parts, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=9), st.randoms())
def test_batch_padding_order_and_engine_never_change_a_score(texts: list[str], random: object) -> None:
    model = random_model(cell="lstm", num_layers=2)
    start = start_ids(model.tokenizer)
    alone = {t: LanguageModel(model).score(t).log_prob_nats for t in texts}
    shuffled = list(texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for engine in (NumpyEngine(model.config, model.weights), TorchEngine.from_weights(model.config, model.weights)):
        for score in score_texts(engine, model.tokenizer, start, shuffled):
            assert score.log_prob_nats == pytest.approx(alone[score.text], abs=1e-4)


def test_scores_keep_the_order_of_the_texts() -> None:
    texts = ["The quick", "a", "", "lazy dog; 0123"]
    scores = LanguageModel(random_model()).score(texts)
    assert [s.text for s in scores] == texts
    assert [s.chars for s in scores] == [9, 1, 0, 14]


def test_probabilities_of_all_texts_of_length_two_sum_to_one() -> None:
    model = random_model("ab\n", seed=3)
    lm = LanguageModel(model)
    ids = np.array(list(itertools.product(range(model.config.vocab_size), repeat=2)))
    engine = NumpyEngine(model.config, model.weights)
    start = start_ids(model.tokenizer)
    rows = np.concatenate([np.repeat(start[:, None], len(ids), 1), ids.T])
    log_probs, _ = engine.read(rows[:-1], rows[1:], engine.initial_state(len(ids)))
    assert np.exp(log_probs.sum(0)).sum() == pytest.approx(1.0, abs=1e-5)
    pairs = ["".join(p) for p in itertools.product("ab\n", repeat=2)]
    assert sum(math.exp(s.log_prob_nats) for s in lm.score(pairs)) < 1.0  # the rest: boundary and unknown characters


def test_units_follow_from_the_log_probability() -> None:
    score = LanguageModel(random_model()).score("chữ tài")
    assert score.bits_per_char == pytest.approx(-score.log_prob_nats / 7 / math.log(2))
    assert score.perplexity_per_char == pytest.approx(2**score.bits_per_char)
    assert score.bytes == len("chữ tài".encode())
    assert score.bits_per_byte == pytest.approx(score.bits_per_char * 7 / score.bytes)


def test_the_empty_text_is_certain_and_has_no_value_per_character() -> None:
    score = LanguageModel(random_model()).score("")
    assert (score.log_prob_nats, score.chars) == (0.0, 0)
    assert score.bits_per_char is score.perplexity_per_char is score.bits_per_byte is None


def test_the_first_character_has_a_probability() -> None:
    score = LanguageModel(random_model()).score("T")
    assert -20 < score.log_prob_nats < 0


def test_an_unknown_character_is_counted_and_shares_the_probability_of_the_unknown_id() -> None:
    model = random_model("ab\n")
    lm = LanguageModel(model)
    score = lm.score("€")
    engine = NumpyEngine(model.config, model.weights)
    log_probs, _ = engine.read(start_ids(model.tokenizer)[:, None], np.array([[1]]), engine.initial_state(1))
    assert score.unknown_chars == 1
    assert score.log_prob_nats == pytest.approx(float(log_probs[0, 0]) - math.log(UNICODE_CHARACTERS - 3), abs=1e-6)
    assert lm.score("a€b").unknown_chars == 1
    assert lm.score("€").log_prob_nats == lm.score("ộ").log_prob_nats  # neither is read as a known character
    assert lm.unknown_characters("a€b€ộ") == "€ộ"


@pytest.mark.parametrize("tokenizer", ["byte", "sp:300"])
def test_tokenizers_with_bytes_know_every_character(tokenizer: str, verse: str) -> None:
    score = LanguageModel(random_model(verse, tokenizer)).score("日本 😀")
    assert score.unknown_chars == 0
    assert math.isfinite(score.log_prob_nats)


def test_composed_and_decomposed_forms_score_alike() -> None:
    lm = LanguageModel(random_model())
    composed, decomposed = (unicodedata.normalize(form, "chữ mệnh") for form in ("NFC", "NFD"))
    assert composed != decomposed
    one, other = lm.score([composed, decomposed])
    assert one.log_prob_nats == pytest.approx(other.log_prob_nats, abs=1e-6)
    assert other.unknown_chars == 0
    assert other.bytes > one.bytes  # bits per byte are of the text as it was given


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_surprisals_add_up_to_the_score_and_their_pieces_to_the_text(tokenizer: str, verse: str) -> None:
    lm = LanguageModel(random_model(verse, tokenizer))
    text = "Chữ tài ☃ dog"
    pieces = lm.surprisal(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert sum(bits for _, bits in pieces) == pytest.approx(-lm.score(text).log_prob_nats / math.log(2), abs=1e-4)


def test_evaluate_agrees_with_score_on_a_short_text() -> None:
    lm = LanguageModel(random_model())
    found = lm.evaluate(VERSE)
    assert found.loss_nats_per_char == pytest.approx(-lm.score(VERSE).log_prob_nats / len(VERSE), abs=1e-5)
    halves = (found.first_half_nats_per_char + found.second_half_nats_per_char) / 2
    assert halves == pytest.approx(found.loss_nats_per_char, abs=0.2)
    with pytest.raises(CorpusError, match="empty"):
        lm.evaluate("")


def test_an_end_of_document_is_a_character_in_evaluate_but_not_in_score() -> None:
    lm = LanguageModel(random_model("abcd\n", documents="line"))
    found = lm.evaluate("ab\n\ncd\nd")
    assert (found.chars, found.document_ends, found.bytes) == (8, 3, 8)
    scores = lm.score(["ab", "cd", "d"])
    assert sum(score.chars for score in scores) == found.chars - found.document_ends
    nats = -sum(score.log_prob_nats for score in scores)
    assert found.loss_nats_per_char == pytest.approx(nats / found.chars, abs=1e-5)
    assert LanguageModel(random_model("abcd\n")).evaluate("ab\ncd").document_ends == 0
