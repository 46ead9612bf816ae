"""Features of the calendar: the position in the day, the week and the year, as a sine and a cosine.

    x = fraction of the period that has passed        sin 2πx, cos 2πx

The end of a period is then beside its start: 23:00 is as close to 00:00 as 01:00 is. A feature is of use only if the
series has several steps in its period, and has seen at least two periods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S
#: name of a feature → its period in seconds
PERIODS_S = {"hour of the day": DAY_S, "day of the week": 7 * DAY_S, "day of the year": YEAR_S}
MIN_PERIODS = 2  #: number of periods that a series must have, for a feature to be learned
MIN_STEPS = 3  #: number of steps in a period: two points of a circle have no direction
MONDAY = 4  #: 1 January 1970 was a Thursday, so days since then + 3 is 0 on Mondays


def calendar_names(step_s: float | None, num_steps: int) -> tuple[str, ...]:
    """Return the names of the features that suit a series.

    Args:
        step_s: The distance of two times in seconds; None if the series has no times.
        num_steps: Number of times that a model learns from.
    """
    if step_s is None:
        return ()
    span_s = step_s * num_steps
    return tuple(
        name
        for name, period_s in PERIODS_S.items()
        if step_s * MIN_STEPS <= period_s * (1 + 1e-9) and period_s * MIN_PERIODS <= span_s
    )


def calendar_features(times: NDArray[np.datetime64], names: Sequence[str]) -> NDArray[np.float64]:
    """Return the features of times.

    Args:
        times: [N] the times, of any unit.
        names: Names of features, keys of PERIODS_S.

    Returns:
        [N, 2 × number of names] a sine and a cosine for each name, in [−1, 1].
    """
    features = np.empty((len(times), 2 * len(names)))
    for k, name in enumerate(names):
        angle = 2 * np.pi * _fraction(times, name)
        features[:, 2 * k], features[:, 2 * k + 1] = np.sin(angle), np.cos(angle)
    return features


def _fraction(times: NDArray[np.datetime64], name: str) -> NDArray[np.float64]:
    """Return which fraction of the period has passed at each time, in [0, 1)."""
    if name == "day of the year":
        year = times.astype("datetime64[Y]")
        first = year.astype("datetime64[us]")
        length = (year + 1).astype("datetime64[us]") - first
        fraction: NDArray[np.float64] = (times.astype("datetime64[us]") - first) / length
        return fraction
    seconds = times.astype("datetime64[us]").astype(np.int64) / 1e6
    shift_s = (MONDAY - 1) * DAY_S if name == "day of the week" else 0.0
    return (seconds + shift_s) % PERIODS_S[name] / PERIODS_S[name]
