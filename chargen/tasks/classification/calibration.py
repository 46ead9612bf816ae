"""Turn scores of several models into probabilities of labels: Bayes' rule over the models, with a temperature.

    p(label | text) ∝ p(label) · p(text | model of label)^(1/τ)

With τ = 1 this is Bayes' rule, and its probabilities are far too close to 0 and 1: a model treats every character as
new evidence, but its errors on neighbouring characters depend on each other. So τ is fitted to texts that no model was
trained on, to minimise their log loss (temperature scaling; Guo et al. 2017, arXiv:1706.04599, section 4.2). The loss
is convex in 1/τ, so its minimum is found by bisection. Total log probabilities are compared, not rates per character,
because a long text is more evidence than a short one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.schema import format_count

Float = NDArray[np.float64]
NUM_BISECTIONS = 60  #: more than float64 can distinguish
NUM_BINS = 10  #: bins of the expected calibration error


@dataclass(frozen=True)
class Quality:
    """How good probabilities of labels were on labelled texts."""

    texts: int
    accuracy: float
    macro_f1: float  #: mean of the F1 scores of the labels, each with the same weight; see the function `macro_f1`
    log_loss_nats: float  #: mean −log p(right label)
    expected_calibration_error: float  #: 0 to 1; see the function `expected_calibration_error`
    majority_class_accuracy: float  #: accuracy of always choosing the label with the highest prior
    prior_log_loss_nats: float  #: log loss of the priors, which ignore the text

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def log_posteriors(scores: Float, log_priors: Float, temperature: float) -> Float:
    """Return log p(label | text), [N, K].

    Args:
        scores: log p(text | model of label) in nats, [N, K].
        log_priors: log p(label), [K].
        temperature: τ > 0; ∞ ignores the scores.
    """
    x = scores / temperature + log_priors
    x -= x.max(axis=1, keepdims=True)
    posteriors: Float = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return posteriors


def fit_temperature(scores: Float, labels: NDArray[np.int64], log_priors: Float) -> float:
    """Return the temperature with the lowest log loss on labelled texts, at least 1.

    Without this limit, texts that are all classified correctly would lead to a temperature of 0.

    Args:
        scores: log p(text | model of label) in nats, [N, K].
        labels: Number of the right label of each text, [N].
        log_priors: log p(label), [K].
    """

    def slope(inverse: float) -> float:
        """Return the derivative of the log loss by 1/τ: mean over texts of E[score] − score of the right label."""
        x = scores * inverse + log_priors
        p = np.exp(x - x.max(axis=1, keepdims=True))
        expected = (p / p.sum(axis=1, keepdims=True) * scores).sum(axis=1)
        return float((expected - scores[np.arange(len(labels)), labels]).mean())

    if slope(1.0) <= 0:
        return 1.0
    if slope(0.0) >= 0:
        return float("inf")
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / high


def measure_quality(posteriors: Float, labels: NDArray[np.int64], log_priors: Float) -> Quality:
    """Compare probabilities with the right labels.

    Args:
        posteriors: log p(label | text), [N, K].
        labels: Number of the right label of each text, [N].
        log_priors: log p(label), [K].
    """
    rows = np.arange(len(labels))
    predicted = posteriors.argmax(axis=1)
    is_right = predicted == labels
    return Quality(
        texts=len(labels),
        accuracy=float(is_right.mean()),
        macro_f1=macro_f1(labels, predicted, posteriors.shape[1]),
        log_loss_nats=float(-posteriors[rows, labels].mean()) + 0.0,  # 0, not −0
        expected_calibration_error=expected_calibration_error(np.exp(posteriors.max(axis=1)), is_right),
        majority_class_accuracy=float((labels == int(log_priors.argmax())).mean()),
        prior_log_loss_nats=float(-log_priors[labels].mean()) + 0.0,
    )


def macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int) -> float:
    """Return the mean of the F1 scores of all labels that occur as a right label or as a prediction.

    F1 of a label is 2 · right / (texts with this label + texts that are predicted to have it).

    Args:
        labels: Number of the right label of each text, [N].
        predicted: Number of the predicted label of each text, [N].
        num_labels: Number of labels K.

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    0.6666666666666666
    """
    right = np.bincount(labels[labels == predicted], minlength=num_labels)
    total = np.bincount(labels, minlength=num_labels) + np.bincount(predicted, minlength=num_labels)
    return float((2 * right[total > 0] / total[total > 0]).mean()) if len(labels) else 0.0


def expected_calibration_error(confidence: Float, is_right: NDArray[np.bool_]) -> float:
    """Return Σ over ten bins of (fraction of texts in the bin) × |accuracy − mean confidence|.

    This is equation 3 of Guo et al. (2017).

    Args:
        confidence: Probability of the chosen label of each text, [N].
        is_right: Whether that label is the right one, [N].

    >>> expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15000000000000002
    """
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - is_right, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / max(1, len(is_right)))


def log_priors(counts: Sequence[int]) -> Float:
    """Return log p(label), [K], from the number of texts of each label.

    One text is added to each label, so that no label has the probability 0.
    """
    smoothed = np.array(counts, dtype=np.float64) + 1
    priors: Float = np.log(smoothed / smoothed.sum())
    return priors


def split_labelled(
    texts: Mapping[str, Sequence[str]], fractions: Sequence[float], seed: int = 0
) -> list[dict[str, list[str]]]:
    """Split labelled texts at random into parts, each label separately. A repeated text is in one part only.

    That holds across labels, too: all copies of a text are in the part that was drawn for the first label that has it.
    Otherwise a text of the evaluation could be known from the training.

    Args:
        texts: Texts of each label.
        fractions: Fraction of the texts in each part after the first; the first part gets the remaining texts.
        seed: Seed of the random order.

    Raises:
        CorpusError: If a label has too few different texts to be in every part.
    """
    parts: list[dict[str, list[str]]] = [{label: [] for label in texts} for _ in range(len(fractions) + 1)]
    part_of: dict[str, int] = {}  # number of the part of each text
    for label, label_texts in texts.items():
        different = list(dict.fromkeys(label_texts))
        own = [text for text in different if text not in part_of]
        order = np.random.default_rng(seed).permutation(len(own)).tolist()
        for number, fraction in enumerate(fractions, start=1):
            count = max(1, round(fraction * len(own)))
            drawn, order = order[:count], order[count:]
            parts[number][label] = [own[i] for i in drawn]
            part_of.update((own[i], number) for i in drawn)
        part_of.update((own[i], 0) for i in order)
        is_own = set(own)
        parts[0][label] = [text for text in different if part_of[text] == 0]
        for number in range(1, len(parts)):
            parts[number][label] += [text for text in different if part_of[text] == number and text not in is_own]
        if not all(part[label] for part in parts):
            _raise_too_few(label, len(own), len(different), len(parts))
    return parts


def _raise_too_few(label: str, num_own: int, num_different: int, num_parts: int) -> None:
    num_shared = num_different - num_own
    shared = f", {num_shared:,} of them also with another label" if num_shared else ""
    raise CorpusError(
        f"the label {label!r} has {format_count(num_different, 'different text')}{shared}, but needs at least "
        f"{num_parts}{' that no other label has' if num_shared else ''}",
        "Add texts with this label, or leave the label out.",
    )
