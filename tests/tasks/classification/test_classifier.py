"""The form of the texts that classifiers learn and read, and the frequencies of the labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.lm import LanguageModel
from chargen.tasks.classification.calibration import log_priors
from chargen.tasks.classification.classifier import ClassifierPlan
from chargen.tasks.classification.encoder import train_encoder
from chargen.tasks.classification.generative import GenerativeClassifier, train_generative
from chargen.tasks.classification.reading.labelled_data import describe_repeated_texts
from chargen.tasks.classification.saved import load_classifier
from chargen.training.choices import ModelChoices, RunLength
from tests.conftest import random_model

Train = Callable[[ClassifierPlan], Iterator[Any]]


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def other_form(text: str) -> str:
    """Return a text as another program writes it: with decomposed characters, and CRLF at the ends of lines."""
    return unicodedata.normalize("NFD", text).replace("\n", "\r\n")


TEXTS = {
    "en": [composed(f"the café\nnumber {n}") for n in range(40)],
    "vi": [composed(f"chữ tài chữ mệnh\nsố {n}") for n in range(40)],
}
OTHER = {label: [other_form(text) for text in texts] for label, texts in TEXTS.items()}


def plan(texts: dict[str, list[str]], name: str, root: Path) -> ClassifierPlan:
    return ClassifierPlan(texts, name, RunLength(steps=2), ModelChoices(hidden_size=8, embedding_dim=8), root=root)


def test_a_text_in_two_forms_is_one_text(tmp_path: Path) -> None:
    assert all(set(TEXTS[label]).isdisjoint(OTHER[label]) for label in TEXTS)
    both = plan({label: [*OTHER[label], *TEXTS[label]] for label in TEXTS}, "both", tmp_path)
    assert both.split() == plan(TEXTS, "one", tmp_path).split()
    (note,) = describe_repeated_texts(both.texts)
    assert note == "80 texts are repetitions: a text counts once for each of its labels"


@pytest.mark.parametrize("train", [train_encoder, train_generative])
def test_the_form_of_a_text_changes_neither_the_training_nor_the_answer(tmp_path: Path, train: Train) -> None:
    found = []
    for name, texts in (("one", TEXTS), ("other", OTHER)):
        for _ in train(plan(texts, name, tmp_path)):
            pass
        opened = load_classifier([name], tmp_path)
        found += [opened.scores(form["vi"][:5]) for form in (TEXTS, OTHER)]
    for scores in found[1:]:
        np.testing.assert_allclose(scores, found[0], rtol=1e-5, atol=1e-6)


def test_models_that_read_other_forms_get_a_text_unchanged() -> None:
    def model(form: str) -> LanguageModel:
        made = random_model()
        return LanguageModel(replace(made, about={**made.about, "data": {**made.about["data"], "normalize": form}}))

    decomposed = unicodedata.normalize("NFD", "chữ tài")
    for forms, expected in (
        (("nfc", "nfc"), composed("chữ tài")),
        (("none", "none"), decomposed),
        (("nfc", "none"), decomposed),
    ):
        classifier = GenerativeClassifier(("a", "b"), tuple(map(model, forms)), log_priors([0, 0]))
        assert classifier.normalize(decomposed) == expected


def test_a_label_may_be_in_another_unicode_form() -> None:
    models = tuple(LanguageModel(random_model(seed=seed)) for seed in (1, 2))
    labels = ("en", unicodedata.normalize("NFD", "việt"))
    texts, right = GenerativeClassifier(labels, models, log_priors([0, 0])).flatten(
        {composed("việt"): ["a", "b"], "en": ["c"]}
    )
    assert texts == ["a", "b", "c"]
    assert right.tolist() == [1, 1, 0]


def test_priors_that_were_fitted_stay_the_frequencies_of_the_labels() -> None:
    models = tuple(LanguageModel(random_model(seed=seed)) for seed in (1, 2))
    texts = {"a": ["the fox"], "b": ["the dog", "chữ tài", "quick"]}
    trained = GenerativeClassifier(("a", "b"), models, np.log([0.9, 0.1]), 2.0, True)
    assert np.exp(trained.calibrate(texts).predict(texts).log_priors) == pytest.approx([0.9, 0.1])
    given = GenerativeClassifier(("a", "b"), models, log_priors([0, 0]), has_fitted_priors=False)
    calibrated = given.calibrate(texts)
    assert np.exp(calibrated.predict(texts).log_priors) == pytest.approx([2 / 6, 4 / 6])
    assert np.exp(calibrated.log_priors) == pytest.approx([0.5, 0.5]), "all labels stay equally probable"
    assert calibrated.evaluate(texts).majority_class_accuracy == 3 / 4
