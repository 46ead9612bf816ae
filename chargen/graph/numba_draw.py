"""The draw as one compiled loop, where numba is installed: what `sampling/rules.py` does in eight NumPy calls, in one.

    p = softmax((logits + added) / temperature)      the first id whose cumulative p is above u

In float64, and in the order of NumPy's `cumsum`: the same u draws the same id, but for the last bit of exp. To import
this module takes half a second; it is for long runs.

    pip install 'chargen[fast]'
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chargen.jit import float32, float64, int64, njit


@njit(int64(float32[::1], float64[::1], float64[::1], float64, float64), error_model="numpy", cache=True)
def draw_one(logits: Any, added: Any, buffer: Any, inverse: float, u: float) -> int:
    """Draw an id with probability softmax((logits + added) · inverse).

    Args:
        logits: float32, [V].
        added: to the logits, float64, [V]: -inf forbids an id. Not all may be forbidden.
        buffer: float64, [V]; afterwards the cumulative sum of exp.
        inverse: 1 / temperature, above 0.
        u: a random number in [0, 1).
    """
    V = logits.shape[0]
    best = -np.inf
    for i in range(V):
        best = max(best, logits[i] + added[i])
    total = 0.0
    for i in range(V):
        total += math.exp((logits[i] + added[i] - best) * inverse)
        buffer[i] = total
    wanted = u * total
    for i in range(V):
        if buffer[i] > wanted:
            return i
    return int(V - 1)
