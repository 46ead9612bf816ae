"""From logits to a token id, with NumPy: temperature, sampling rules, softmax and the draw.

    logits ─▶ temperature ─▶ the sampling rules (top-k, top-p, …) ─▶ draw ─▶ token id

All functions are pure and work over the last axis of [V] or [B, V]. A token id that must not be drawn has the logit −∞.
Each rule sees the distribution that the rule before it has left, renormalised.

The rules, their order, their values and their command-line options are listed once, as fields of `SampleConfig`
(`settings.py`). To add a rule, write a function (logits, value) → logits in a file of this folder, and add one field
to `SampleConfig`: the checks, `warp_logits` and the options of `chargen sample` follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ModelError
from chargen.sampling.settings import SampleConfig

Logits = NDArray[np.float64]
Draw = Callable[[NDArray[np.float32], float], int]  # (logits [V], a random number in [0, 1)) → token id


# ── temperature and rules ─────────────────────────────────────────────────────


def warp_logits(logits: Logits, config: SampleConfig) -> Logits:
    """Apply the temperature and the sampling rules of the settings.

    Args:
        logits: [V] or [B, V], in nats; −∞ for token ids that must not be drawn.
        config: The settings.

    Returns:
        Logits of the distribution to draw from. The highest one is 0, unless `typical` has removed it.
    """
    warped = apply_temperature(logits, config.temperature)
    for rule, value in config.active_rules:
        warped = rule.function(warped, value)
    return warped


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Return the logits of the distribution p^(1/temperature), shifted so that the highest is 0.

    A temperature below 1 makes probable token ids more probable, one above 1 less. At 0 only the most probable token id
    is left; of several equally probable ones the first.
    """
    if temperature == 0.0:
        greedy = np.full_like(logits, -np.inf)
        np.put_along_axis(greedy, np.expand_dims(logits.argmax(-1), -1), 0.0, -1)
        return greedy
    scaled: Logits = (logits - _max(logits)) / temperature
    return scaled


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the k most probable token ids (Fan et al. 2018, arXiv:1805.04833); of equally probable ones the first."""
    if k >= logits.shape[-1]:
        return logits
    ids = np.argsort(-logits, axis=-1, kind="stable")[..., :k]
    kept = np.full_like(logits, -np.inf)
    np.put_along_axis(kept, ids, np.take_along_axis(logits, ids, -1), -1)
    return kept


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the smallest set of most probable token ids with a total probability of at least p.

    This is nucleus sampling (Holtzman et al. 2019, arXiv:1904.09751).
    """
    return _keep_until(logits, -logits, p)


def keep_typical(logits: Logits, p: float) -> Logits:
    """Keep the token ids whose surprisal is nearest to the entropy, until their total probability is at least p.

    This is locally typical sampling (Meister et al. 2022, arXiv:2202.00666).
    """
    probs = softmax(logits)
    surprisals_nats = -np.log(np.where(probs > 0, probs, 1.0))
    entropy_nats = (probs * surprisals_nats).sum(-1, keepdims=True)
    distances = np.where(probs > 0, np.abs(surprisals_nats - entropy_nats), np.inf)
    return _keep_until(logits, distances, p)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Keep the token ids that are at least p times as probable as the most probable one.

    Nguyen et al. (2024), arXiv:2407.01082.
    """
    return np.where(logits >= _max(logits) + math.log(p), logits, -np.inf)


def _keep_until(logits: Logits, sort_keys: NDArray[np.float64], p: float) -> Logits:
    """Keep token ids in ascending order of their keys, up to and including the one that makes their total reach p."""
    order = np.argsort(sort_keys, axis=-1, kind="stable")
    cumulative = np.take_along_axis(softmax(logits), order, -1).cumsum(-1)
    below = cumulative < p * cumulative[..., -1:]  # relative to the rounded total, so that p = 1 − ε is reached
    num_kept = below.sum(-1, keepdims=True) + 1
    ranks = np.arange(logits.shape[-1])
    kept = np.full_like(logits, -np.inf)
    np.put_along_axis(kept, order, np.where(ranks < num_kept, np.take_along_axis(logits, order, -1), -np.inf), -1)
    return kept


# ── softmax and draw ──────────────────────────────────────────────────────────


def softmax(logits: Logits) -> NDArray[np.float64]:
    """Return the probabilities, [V] or [B, V]."""
    weights = np.exp(logits - _max(logits))
    probs: NDArray[np.float64] = weights / weights.sum(-1, keepdims=True)
    return probs


def log_sum_exp(logits: Logits) -> Any:
    """Return log Σ exp(logits) in nats: a number, or [B]."""
    highest = _max(logits)
    return (np.log(np.exp(logits - highest).sum(-1, keepdims=True)) + highest)[..., 0]


def draw(logits: Logits, uniform: float) -> int:
    """Draw one token id with probability softmax(logits).

    Args:
        logits: [V], with a highest value near 0, as `warp_logits` returns them.
        uniform: A random number in [0, 1).

    Raises:
        ModelError: If the logits contain NaN or +∞.
    """
    return first_above(np.exp(logits).cumsum(), uniform)


def draw_batch(logits: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw one token id for each row: the ones that `draw` returns for the rows.

    Args:
        logits: [B, V], as `draw` takes them.
        uniforms: A random number in [0, 1) for each row, [B].

    Raises:
        ModelError: If the logits contain NaN or +∞.
    """
    cumulative = np.exp(logits).cumsum(-1)
    totals = cumulative[:, -1]
    ids: NDArray[np.intp] = (cumulative <= (uniforms * totals)[:, None]).sum(-1)
    if not totals.min() >= 1.0:
        check_finite(totals)
    if ids.max() == logits.shape[1]:  # rounding made uniform · total equal to the total
        ids = np.minimum(ids, (cumulative < totals[:, None]).sum(-1))
    return ids


def make_draw(config: SampleConfig, mask: NDArray[np.float64]) -> Draw:
    """Return a function that draws one token id from float32 logits in as few NumPy calls as possible.

    Args:
        config: The settings.
        mask: Values that are added to the logits, [V]: 0, or −∞ for token ids that must not be drawn.
    """
    if config.active_rules or config.temperature == 0.0:
        return lambda logits, uniform: draw(warp_logits(logits + mask, config), uniform)
    scale = np.array(1.0 / config.temperature)
    accumulate = np.add.accumulate
    x = np.empty(len(mask))

    def draw_id(logits: NDArray[np.float32], uniform: float) -> int:
        np.multiply(logits, scale, x)
        np.add(x, mask, x)
        np.subtract(x, x[x.argmax()], x)
        np.exp(x, x)
        accumulate(x, 0, None, x)
        return first_above(x, uniform)

    return draw_id


def first_above(cumulative: NDArray[np.float64], uniform: float) -> int:
    """Return the first index whose cumulative weight is above uniform · (total weight).

    Args:
        cumulative: Cumulative sums of weights that are not negative, [N].
        uniform: A number in [0, 1).

    Raises:
        ModelError: If the total is not a finite number.
    """
    index = int(cumulative.searchsorted(uniform * cumulative[-1], "right"))
    if index == len(cumulative):  # rounding made uniform · total equal to the total, or the total is NaN
        check_finite(cumulative[-1])
        return int(cumulative.searchsorted(cumulative[-1]))
    return index


def check_finite(values: Any) -> None:
    """Check the output of a model.

    Raises:
        ModelError: If a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise ModelError("the model's output is not a finite number", "Its weights are damaged: train it again.")


def _max(logits: Logits) -> Any:
    return np.maximum.reduce(logits, axis=-1, keepdims=True)
