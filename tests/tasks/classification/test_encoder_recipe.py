"""The settings of an encoder that the user left open."""

from __future__ import annotations

import pytest

from chargen.errors import ChargenError, ConfigError
from chargen.tasks.classification.classifier import ClassifierPlan, EncoderChoices
from chargen.tasks.classification.encoder_recipe import (
    MAX_ROWS,
    MIN_ROWS,
    EncoderSettings,
    choose_batch_size,
    choose_ngrams,
    choose_rows,
    choose_settings,
    choose_tokenizer,
    ngram_rate_factor,
)
from chargen.training.choices import ModelChoices, RunLength

TEXTS = ["a good film", "a bad film, really"] * 20


def plan(**changes: object) -> ClassifierPlan:
    return ClassifierPlan({"a": TEXTS, "b": TEXTS}, "x", RunLength(steps=1), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (["a good film"], "words"),
        (["我很喜欢这部电影"], "words"),
        (["Anna", "Otto", "Mary Ann"], "char"),
        (["x17-b", "y 3"], "char"),
        (["", ""], "char"),
    ],
)
def test_the_tokenizer_follows_from_the_number_of_words(texts: list[str], tokenizer: str) -> None:
    assert choose_tokenizer(texts) == tokenizer


def test_ngrams_are_shorter_where_words_are() -> None:
    assert choose_ngrams(TEXTS) == choose_ngrams(["x = [1, 2]", "def f(x):"]) == choose_ngrams(["Хороший фильм"]) == 5
    assert choose_ngrams(["我很喜欢这部电影", "映画が好きです"]) == 3
    assert choose_ngrams([""]) == 3


def test_sizes_follow_from_the_texts() -> None:
    assert [choose_batch_size(n) for n in (1, 319, 640, 1300, 10**6)] == [8, 8, 16, 32, 64]
    assert choose_rows([""]) == MIN_ROWS
    assert choose_rows(["a" * 100_000]) == 1 << 17
    assert choose_rows(["a" * 10_000_000]) == MAX_ROWS
    assert ngram_rate_factor(8) == pytest.approx(2 * ngram_rate_factor(2))


def test_choices_replace_the_recipe_and_survive_a_file() -> None:
    choices = EncoderChoices(tokenizer="byte", pooling="last", max_length=9, class_weights="balanced")
    settings = choose_settings(plan(encoder=choices, model=ModelChoices(ngrams=0, dropout=0.1)), TEXTS, 2)
    assert (settings.config.pooling, settings.config.ngrams, settings.config.dropout) == ("last", 0, 0.1)
    assert (settings.text_input.max_length, settings.text_input.tokenizer.name) == (9, "byte")
    again = EncoderSettings.from_json(settings.to_json())
    assert again.config == settings.config
    assert again.is_balanced
    assert choose_settings(plan(), TEXTS, 2).config.ngram_dim < choose_settings(plan(), TEXTS, 20).config.ngram_dim


@pytest.mark.parametrize(
    "choices",
    [{"pooling": "sum"}, {"max_length": 0}, {"class_weights": "x"}, {"tokenizer": "bytes"}, {"tokenizer": "words:x"}],
)
def test_choices_out_of_range_are_refused(choices: dict[str, object]) -> None:
    with pytest.raises(ChargenError):
        choose_settings(plan(encoder=EncoderChoices(**choices)), TEXTS, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [{"ensemble_size": 2}, {"tie_weights": True}, {"layer_norm": True}])
def test_settings_of_language_models_are_refused(model: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no such part"):
        choose_settings(plan(model=ModelChoices(**model)), TEXTS, 2)  # type: ignore[arg-type]
