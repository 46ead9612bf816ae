"""What a classifier gets right and wrong on held-out texts: confusion matrix, F1, mistakes, and two baselines.

The baselines are what a classifier must be better than:

    majority                     always the most frequent label, with the shares of the labels as probabilities
    tfidf_logistic_regression    TF-IDF of character n-grams with logistic regression        (baseline.py)

The shares of the labels are those of the training texts. Several models that the user combines have none: theirs are
the shares in the texts that the temperature was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.tasks.classification.calibration import Quality, measure_quality
from chargen.tasks.classification.classifier import Predictions

MAX_MISTAKES = 5  #: number of the most confident mistakes in a report
MAX_PAIRS = 10  #: number of the most confused pairs of labels in a report
MAJORITY, TFIDF = "majority", "tfidf_logistic_regression"  #: names of the baselines
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Mistake:
    """A text whose most probable label is wrong."""

    text: str
    label: str  #: the right label
    predicted: str
    probability: float  #: p(predicted | text)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class ConfusedPair:
    """How often one label was taken for another one."""

    label: str  #: the right label
    predicted: str
    count: int
    share: float  #: count divided by the number of texts with the right label

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Baseline:
    """A simple method on the same texts."""

    name: str  #: MAJORITY or TFIDF
    quality: Quality
    fit_s: float = 0.0  #: time that the fit took
    num_texts: int | None = None  #: number of training texts that it was fitted to; None if it needs none
    is_complete: bool = True  #: whether it was fitted to all training texts until it converged

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**vars(self), "quality": self.quality.to_json()}


def confusion_matrix(predictions: Predictions) -> Counts:
    """Return the number of texts with the label of each row that were given the label of each column, [K, K]."""
    K = len(predictions.labels)
    predicted = predictions.log_probs.argmax(axis=1)
    matrix: Counts = np.bincount(predictions.right * K + predicted, minlength=K * K).reshape(K, K)
    return matrix


def confused_pairs(labels: Sequence[str], matrix: Counts, limit: int = MAX_PAIRS) -> list[ConfusedPair]:
    """Return the pairs of labels that are confused most often, the most frequent one first."""
    totals = matrix.sum(axis=1)
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit].tolist()
    pairs = [divmod(index, len(labels)) for index in order]
    return [
        ConfusedPair(labels[i], labels[j], int(wrong[i, j]), float(wrong[i, j] / totals[i]))
        for i, j in pairs
        if wrong[i, j]
    ]


def confident_mistakes(predictions: Predictions, limit: int = MAX_MISTAKES) -> list[Mistake]:
    """Return the wrong predictions with the highest probability, the highest first."""
    predicted = predictions.log_probs.argmax(axis=1)
    best = predictions.log_probs.max(axis=1)
    wrong = np.flatnonzero(predicted != predictions.right)
    order = wrong[np.argsort(-best[wrong], kind="stable")][:limit].tolist()
    names = predictions.labels
    return [
        Mistake(predictions.texts[i], names[predictions.right[i]], names[predicted[i]], math.exp(best[i]))
        for i in order
    ]


def majority_baseline(predictions: Predictions) -> Baseline:
    """Return the quality of always answering the most frequent label, with the shares of all as probabilities."""
    log_probs = np.tile(predictions.log_priors, (len(predictions.right), 1))
    return Baseline(MAJORITY, measure_quality(log_probs, predictions.right, predictions.log_priors))


def better_baseline(quality: Quality, baselines: Sequence[Baseline]) -> Baseline | None:
    """Return the most accurate of the baselines that are more accurate than a classifier, or None."""
    best = max(baselines, key=lambda baseline: baseline.quality.accuracy, default=None)
    return best if best is not None and best.quality.accuracy > quality.accuracy else None


def report_json(predictions: Predictions, baselines: Sequence[Baseline]) -> dict[str, Any]:
    """Return the report as JSON values."""
    quality, matrix = predictions.quality(), confusion_matrix(predictions)
    better = better_baseline(quality, baselines)
    return {
        "held_out": quality.to_json(),
        "confusion_matrix": {
            "rows": "right label", "columns": "predicted label", "labels": list(predictions.labels),
            "counts": matrix.tolist(),
        },
        "confused_pairs": [pair.to_json() for pair in confused_pairs(predictions.labels, matrix)],
        "mistakes": [mistake.to_json() for mistake in confident_mistakes(predictions)],
        "baselines": [baseline.to_json() for baseline in baselines],
        "better_baseline": better.name if better else None,
    }  # fmt: skip
