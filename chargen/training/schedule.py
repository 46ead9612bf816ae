"""The learning rate over a run: a rise over the warm-up, then half a cosine down (Loshchilov & Hutter 1608.03983)."""

from __future__ import annotations

import math


def rate_factor(progress: float, warmup: float, final: float) -> float:
    """Return the share of the peak rate at a point of the run.

    Args:
        progress: how much of the run is done, 0 to 1: of its steps, or of its time.
        warmup: share of the run over which the rate rises from 0, linearly.
        final: share of the peak that the decay ends at.

    >>> [round(rate_factor(p, 0.1, 0.0), 2) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    decayed = min(1.0, (progress - warmup) / max(1e-9, 1.0 - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * decayed))
