"""What is done to a model's logits before an id is drawn: pure functions, logits [V] → logits [V].

The order is forbid, then temperature, then the draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


def forbid(logits: Logits, ids: Sequence[int]) -> Logits:
    """Return logits under which these ids are never drawn."""
    allowed: Logits = logits.copy()
    allowed[list(ids)] = -np.inf
    return allowed


def temper(logits: Logits, temperature: float) -> Logits:
    """Return logits of the distribution p^(1/temperature): below 1 bolder, above 1 wilder, at 0 the likeliest id alone.

    Of several likeliest ids temperature 0 leaves the first.
    """
    if temperature == 0.0:
        only = np.full_like(logits, -np.inf)
        only[int(np.argmax(logits))] = 0.0
        return only
    tempered: Logits = (logits - logits.max()) / temperature
    return tempered


def draw(logits: Logits, rng: np.random.Generator) -> int:
    """Draw one id with probability softmax(logits)."""
    cumulative = np.cumsum(np.exp(logits - logits.max()))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
