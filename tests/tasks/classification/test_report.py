"""The report of a classifier: counts, pairs, mistakes and baselines."""

from __future__ import annotations

import numpy as np
import pytest

from chargen.tasks.classification.baseline import fit_tfidf_baseline
from chargen.tasks.classification.calibration import log_priors
from chargen.tasks.classification.classifier import Predictions
from chargen.tasks.classification.report import (
    Baseline,
    better_baseline,
    confident_mistakes,
    confused_pairs,
    confusion_matrix,
    majority_baseline,
    report_json,
)

LOG_PROBS = np.log([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
PREDICTIONS = Predictions(
    ("a", "b", "c"),
    ("one", "two", "three", "four", "five"),
    np.array([0, 1, 1, 0, 2]),
    LOG_PROBS,
    log_priors([2, 3, 1]),
)


def test_the_confusion_matrix_counts_right_labels_in_rows() -> None:
    matrix = confusion_matrix(PREDICTIONS)
    assert matrix.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert matrix.sum() == len(PREDICTIONS.texts)
    assert matrix.trace() / matrix.sum() == pytest.approx(PREDICTIONS.quality().accuracy)
    pairs = confused_pairs(PREDICTIONS.labels, matrix)
    assert [(pair.label, pair.predicted, pair.count, pair.share) for pair in pairs] == [
        ("a", "b", 1, 0.5),
        ("b", "a", 1, 0.5),
    ]


def test_the_most_confident_mistakes_come_first() -> None:
    found = confident_mistakes(PREDICTIONS)
    assert [(each.text, each.label, each.predicted) for each in found] == [("four", "a", "b"), ("two", "b", "a")]
    assert [each.probability for each in found] == pytest.approx([0.9, 0.6])
    assert len(confident_mistakes(PREDICTIONS, 1)) == 1


def test_the_majority_baseline_answers_the_most_frequent_label() -> None:
    quality = majority_baseline(PREDICTIONS).quality
    assert quality.accuracy == pytest.approx(2 / 5) == quality.majority_class_accuracy
    assert quality.log_loss_nats == pytest.approx(PREDICTIONS.quality().prior_log_loss_nats)


def test_a_better_baseline_is_named() -> None:
    baseline = majority_baseline(PREDICTIONS)
    assert better_baseline(PREDICTIONS.quality(), [baseline]) is None
    assert better_baseline(baseline.quality, [Baseline("other", PREDICTIONS.quality()), baseline]) is not None
    values = report_json(PREDICTIONS, [baseline])
    assert values["better_baseline"] is None
    assert values["confusion_matrix"]["counts"] == confusion_matrix(PREDICTIONS).tolist()
    assert values["baselines"][0]["name"] == "majority"
    assert {"macro_f1", "log_loss_nats", "expected_calibration_error"} <= set(values["baselines"][0]["quality"])


def texts_about(words: str, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words.split(), 6)) + f" {n}" for n in range(count)]


def predictions_for(labels: tuple[str, ...], texts: tuple[str, ...], right: np.ndarray) -> Predictions:
    priors = log_priors([1] * len(labels))
    return Predictions(labels, texts, right, np.tile(priors, (len(texts), 1)), priors)


def test_the_tfidf_baseline_learns_words_and_respects_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    training = {
        "cat": texts_about("cat paw fur purr whisker tail", 60, 0),
        "sea": texts_about("wave salt fish boat tide sand", 60, 1),
    }
    held_out = [
        *texts_about("cat paw fur purr whisker tail", 20, 2),
        *texts_about("wave salt fish boat tide sand", 20, 3),
    ]
    right = np.repeat([0, 1], 20)
    found = fit_tfidf_baseline(training, predictions_for(("cat", "sea"), tuple(held_out), right))
    assert found.quality.accuracy == 1.0
    assert (found.num_texts, found.is_complete) == (120, True)
    monkeypatch.setattr("chargen.tasks.classification.baseline.MAX_CHARS", 1000)
    part = fit_tfidf_baseline(training, predictions_for(("cat", "sea"), tuple(held_out), right))
    assert part.num_texts is not None
    assert 20 < part.num_texts < 60
    assert not part.is_complete
    monkeypatch.setattr("chargen.tasks.classification.baseline.ITERATIONS", 1)
    stopped = fit_tfidf_baseline(training, predictions_for(("cat", "sea"), tuple(held_out), right), max_fit_s=0.0)
    assert not stopped.is_complete


def test_the_tfidf_baseline_finds_nothing_in_shuffled_labels() -> None:
    pytest.importorskip("sklearn")
    texts = texts_about("one two three four five six seven eight", 600, 5)
    training = {"a": texts[:200], "b": texts[200:400]}
    right = np.arange(200) % 2
    found = fit_tfidf_baseline(training, predictions_for(("a", "b"), tuple(texts[400:]), right))
    assert abs(found.quality.accuracy - 0.5) < 0.12  # 3.4 standard deviations of 200 tosses of a coin
