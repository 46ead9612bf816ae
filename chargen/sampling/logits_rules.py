"""What is done to a model's logits before an id is drawn: pure functions over the last axis of [V] or [B, V].

The order is always the same:

    constrain ─▶ penalise ─▶ temper ─▶ truncate: top-k, top-p, typical, min-p ─▶ draw

Each truncation sees what the one before it has left, renormalised. What is ruled out has the logit −∞.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import SampleConfig
from chargen.errors import ModelError

Logits = NDArray[np.float64]
OUT = -np.inf
MIN_TEMPERATURE = 1e-30  #: lower ones are taken for it: it leaves the likeliest ids alone, and nothing overflows
AT_ONCE = 512  #: random numbers of a text


def forbid(logits: Logits, ids: Any) -> Logits:
    """Return logits under which these ids are never drawn.

    Args:
        logits: [V].
        ids: a list of them, or a mask [V].
    """
    allowed: Logits = logits.copy()
    allowed[ids] = OUT
    return allowed


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Return logits of the distribution p^(1/temperature): below 1 bolder, above 1 wilder, at 0 the likeliest id alone.

    Of several likeliest ids temperature 0 leaves the first.
    """
    if temperature == 0.0:
        only = np.full_like(logits, OUT)
        np.put_along_axis(only, np.expand_dims(logits.argmax(-1), -1), 0.0, -1)
        return only
    tempered: Logits = (logits - _highest(logits)) / max(temperature, MIN_TEMPERATURE)
    return tempered


def warp_logits(logits: Logits, config: SampleConfig) -> Logits:
    """Return logits as they are drawn from: tempered and truncated; the highest is 0."""
    return truncate(apply_temperature(logits, config.temperature), config)


def truncate(logits: Logits, config: SampleConfig) -> Logits:
    """Apply those of the truncations that the settings ask for, in their order."""
    if config.top_k:
        logits = top_k(logits, config.top_k)
    if config.top_p < 1.0:
        logits = top_p(logits, config.top_p)
    if config.typical < 1.0:
        logits = typical(logits, config.typical)
    if config.min_p > 0.0:
        logits = min_p(logits, config.min_p)
    return logits


def top_k(logits: Logits, k: int) -> Logits:
    """Keep the k likeliest ids (Fan et al. 2018, arXiv 1805.04833); of equally likely ones the first."""
    if k >= logits.shape[-1]:
        return logits
    return _keep(logits, np.argsort(-logits, axis=-1, kind="stable")[..., :k])


def top_p(logits: Logits, p: float) -> Logits:
    """Keep the fewest likeliest ids that together have at least p (nucleus, Holtzman et al. 2019, arXiv 1904.09751)."""
    return _first_to_reach(logits, -logits, p)


def typical(logits: Logits, p: float) -> Logits:
    """Keep those ids whose surprisal is nearest to the entropy, until they have at least p together.

    Locally typical sampling (Meister et al. 2022, arXiv 2202.00666).
    """
    probabilities = softmax(logits)
    surprisals = -np.log(np.where(probabilities > 0, probabilities, 1.0))
    entropy = (probabilities * surprisals).sum(-1, keepdims=True)
    distance = np.where(probabilities > 0, np.abs(surprisals - entropy), np.inf)
    return _first_to_reach(logits, distance, p)


def min_p(logits: Logits, p: float) -> Logits:
    """Keep the ids that are at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082)."""
    return np.where(logits >= _highest(logits) + math.log(p), logits, OUT)


def softmax(logits: Logits) -> Logits:
    """Return the probabilities."""
    weights = np.exp(logits - _highest(logits))
    probabilities: Logits = weights / weights.sum(-1, keepdims=True)
    return probabilities


def log_mass(logits: Logits) -> Any:
    """Return log Σ exp(logits): a number, or [B]."""
    highest = _highest(logits)
    return (np.log(np.exp(logits - highest).sum(-1, keepdims=True)) + highest)[..., 0]


def draw(logits: Logits, rng: np.random.Generator) -> int:
    """Draw one id with probability softmax(logits), [V].

    Raises:
        ModelError: the logits are not finite.
    """
    return first_above(rng.random(), np.exp(logits - np.maximum.reduce(logits)).cumsum())


def first_above(uniform: float, cumulative: NDArray[np.float64]) -> int:
    """Return the first id whose cumulative weight, [V], is above this share of the sum of all.

    Raises:
        ModelError: the sum is no number.
    """
    found = int(cumulative.searchsorted(uniform * cumulative[-1], "right"))
    if found == len(cumulative):  # rounding made the share 1; or the sum is NaN
        check_finite(cumulative[-1])
        return int(cumulative.searchsorted(cumulative[-1]))
    return found


def check_finite(values: Any) -> None:
    """Check what a model gave.

    Raises:
        ModelError: there is NaN or infinity among it.
    """
    if not np.isfinite(values).all():
        raise ModelError("the model's output is not a finite number", "Its weights are damaged: train it again.")


def draw_rows(logits: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw an id for each row of [B, V] with a random number of [0, 1) each, [B]: those that `draw` would.

    The highest of each row is 0, as `warp_logits` leaves it.

    Raises:
        ModelError: the logits are not finite.
    """
    cumulative = np.exp(logits).cumsum(-1)
    sums = cumulative[:, -1]
    found: NDArray[np.intp] = (cumulative <= (uniforms * sums)[:, None]).sum(-1)
    if not sums.min() >= 1.0:
        check_finite(sums)
    return np.minimum(found, (cumulative < sums[:, None]).sum(-1)) if found.max() == logits.shape[1] else found


def _highest(logits: Logits) -> Any:
    return np.maximum.reduce(logits, axis=-1, keepdims=True)


def _first_to_reach(logits: Logits, order: NDArray[np.float64], p: float) -> Logits:
    """Keep the first ids in an order, the one that reaches p of the mass included."""
    places = np.argsort(order, axis=-1, kind="stable")
    cumulative = np.take_along_axis(softmax(logits), places, -1).cumsum(-1)
    count = (cumulative < p * cumulative[..., -1:]).sum(
        -1, keepdims=True
    ) + 1  # so that p = 1 − ε does not miss the end
    kept = np.full_like(logits, OUT)
    rank = np.arange(logits.shape[-1])
    np.put_along_axis(kept, places, np.where(rank < count, np.take_along_axis(logits, places, -1), OUT), -1)
    return kept


def _keep(logits: Logits, ids: NDArray[np.intp]) -> Logits:
    kept = np.full_like(logits, OUT)
    np.put_along_axis(kept, ids, np.take_along_axis(logits, ids, -1), -1)
    return kept
