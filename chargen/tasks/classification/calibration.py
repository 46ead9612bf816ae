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
    is_right = posteriors.argmax(axis=1) == labels
    return Quality(
        texts=len(labels),
        accuracy=float(is_right.mean()),
        log_loss_nats=float(-posteriors[rows, labels].mean()) + 0.0,  # 0, not −0
        expected_calibration_error=expected_calibration_error(np.exp(posteriors.max(axis=1)), is_right),
        majority_class_accuracy=float((labels == int(log_priors.argmax())).mean()),
        prior_log_loss_nats=float(-log_priors[labels].mean()) + 0.0,
    )


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

    Args:
        texts: Texts of each label.
        fractions: Fraction of the texts in each part after the first; the first part gets the remaining texts.
        seed: Seed of the random order.

    Raises:
        CorpusError: If a label has too few different texts to be in every part.
    """
    parts: list[dict[str, list[str]]] = [{} for _ in range(len(fractions) + 1)]
    for label, label_texts in texts.items():
        different = list(dict.fromkeys(label_texts))
        if len(different) <= len(fractions):
            raise CorpusError(
                f"the label {label!r} has {format_count(len(different), 'different text')}, but needs at "
                f"least {len(fractions) + 1}",
                "Add texts with this label, or leave the label out.",
            )
        order = np.random.default_rng(seed).permutation(len(different)).tolist()
        for part, fraction in zip(parts[1:], fractions, strict=True):
            count = max(1, round(fraction * len(different)))
            part[label] = [different[i] for i in order[:count]]
            order = order[count:]
        parts[0][label] = [different[i] for i in sorted(order)]
    return parts
