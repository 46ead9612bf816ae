"""Which of several models a text fits best, as probabilities: Bayes' rule over the models, with a temperature.

    p(label | text) ∝ p(label) · p(text | model of label)^(1/τ)

With τ = 1 this is Bayes' rule as it stands. It is far too sure of itself: a model takes its characters for fresh
evidence each, and its errors repeat. So τ is fitted to texts that no model learned from (Guo et al. 2017, arXiv
1706.04599, section 4.2), where their log loss is least: one number, the loss is convex in 1/τ, and its least point is
found by bisection. Totals are compared, not values per character: a long text is more evidence than a short one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError

Float = NDArray[np.float64]
HALVINGS = 60  #: of the bisection: more than a float can tell apart
BINS = 10  #: of the calibration error


@dataclass(frozen=True)
class Quality:
    """How good probabilities were on labelled texts."""

    texts: int
    accuracy: float
    log_loss_nats: float  #: mean −log p(right label)
    expected_calibration_error: float  #: see the function of this name
    accuracy_of_the_commonest: float  #: always the label with the highest prior
    log_loss_nats_of_the_priors: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def log_posteriors(scores: Float, log_priors: Float, temperature: float) -> Float:
    """Return log p(label | text), [N, K].

    Args:
        scores: log p(text | model), [N, K], in nats.
        log_priors: log p(label), [K].
        temperature: τ > 0; infinite for scores that say nothing.
    """
    x = scores / temperature + log_priors
    x -= x.max(axis=1, keepdims=True)
    posteriors: Float = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return posteriors


def fit_temperature(scores: Float, labels: NDArray[np.int64], log_priors: Float) -> float:
    """Return the temperature of the least log loss on labelled texts; at least 1.

    Below 1 it would be surer than the models themselves: texts that are all told apart would send it to 0.
    """

    def slope(sharpness: float) -> float:  # of the log loss, over 1/τ: E[score of a label] − score of the right one
        p = np.exp(scores * sharpness + log_priors - _highest(scores * sharpness + log_priors))
        expected = (p / p.sum(axis=1, keepdims=True) * scores).sum(axis=1)
        return float((expected - scores[np.arange(len(labels)), labels]).mean())

    if slope(1.0) <= 0:
        return 1.0
    if slope(0.0) >= 0:
        return float("inf")
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / high


def measure_quality(posteriors: Float, labels: NDArray[np.int64], log_priors: Float) -> Quality:
    """Measure log probabilities [N, K] against the right labels [N]."""
    rows = np.arange(len(labels))
    right = posteriors.argmax(axis=1) == labels
    return Quality(
        len(labels),
        float(right.mean()),
        float(-posteriors[rows, labels].mean()),
        expected_calibration_error(np.exp(posteriors.max(axis=1)), right),
        float((labels == int(log_priors.argmax())).mean()),
        float(-log_priors[labels].mean()),
    )


def expected_calibration_error(confidence: Float, right: NDArray[np.bool_]) -> float:
    """Return Σ over ten bins of (share of texts in it) × |accuracy − mean confidence| (Guo et al. 2017, equation 3).

    >>> expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15000000000000002
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / max(1, len(right)))


def log_priors(counts: Sequence[int]) -> Float:
    """Return log p(label) by how many texts each label has, with one more for each, so that none is impossible."""
    more = np.array(counts, dtype=np.float64) + 1
    priors: Float = np.log(more / more.sum())
    return priors


def split_labelled(
    texts: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int = 0
) -> list[dict[str, list[str]]]:
    """Part labelled texts at random, each label for itself; the same text twice does not come into two parts.

    Args:
        texts: by label.
        shares: of the texts, that the parts after the first have; the first has the rest.
        seed: of the order.

    Raises:
        CorpusError: a label has too few different texts to be in every part.
    """
    parts: list[dict[str, list[str]]] = [{} for _ in range(len(shares) + 1)]
    for label, many in texts.items():
        different = list(dict.fromkeys(many))
        if len(different) <= len(shares):
            raise CorpusError(
                f"the label {label!r} has {len(different)} different texts, but needs {len(shares) + 1} at least",
                "Give more texts of it, or leave it out.",
            )
        order = np.random.default_rng(seed).permutation(len(different)).tolist()
        for part, share in zip(parts[1:], shares, strict=True):
            count = max(1, round(share * len(different)))
            part[label] = [different[i] for i in order[:count]]
            order = order[count:]
        parts[0][label] = [different[i] for i in sorted(order)]
    return parts


def _highest(x: Float) -> Float:
    highest: Float = x.max(axis=1, keepdims=True)
    return highest
