"""Forecasts that need no network, with which a network is compared.

    persistence            y(t + h) = y(t)
    seasonal naive         y(t + h) = y(t + h − k p), with the period p and the smallest k for which it is known
    linear autoregression  y(t + h) = b_h + Σ w_h · (the window and the other inputs), one regression for each h

Of a forecast at row t, only rows up to t are read. The period and the weights come from the training part alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.tasks.forecasting.calendar import DAY_S, YEAR_S

Floats = NDArray[np.float64]

#: greatest distance of two times in seconds → the period in seconds; the first one that fits is used
SEASONS_S = ((DAY_S / 4, DAY_S), (7 * DAY_S / 4, 7 * DAY_S), (YEAR_S / 4 * 1.02, YEAR_S))
RIDGE = 1e-6  #: penalty of the squared weights, as a share of the mean variance of the features
MIN_AUTOCORRELATION = 0.1  #: a series without a higher one at any lag has no season
MAX_LAGS = 2_000


def persistence(values: Floats, last_rows: NDArray[np.int64], horizon: int, num_targets: int) -> Floats:
    """Return the last known values, repeated.

    Args:
        values: [N, C] the series: the targets, then other columns.
        last_rows: [M] the last known row of each forecast.
        horizon: Number of steps that are forecast.
        num_targets: Number of columns that are forecast.

    Returns:
        [M, horizon, num_targets]
    """
    return np.repeat(values[last_rows, None, :num_targets], horizon, axis=1)


def seasonal_naive(
    values: Floats, last_rows: NDArray[np.int64], horizon: int, num_targets: int, period: int, starts: tuple[int, ...]
) -> Floats:
    """Return the values one period before, or more periods where that is not known yet either.

    Where a group starts less than a period before, the last known value is returned.

    Args:
        values, last_rows, horizon, num_targets: As for `persistence`.
        period: Length of the season, in steps.
        starts: First row of each group.

    Returns:
        [M, horizon, num_targets]
    """
    steps = np.arange(1, horizon + 1)
    back = period * -(-steps // period) - steps  # [horizon] rows before the last known one, at least 0
    rows = last_rows[:, None] - back
    first = np.array(starts)[np.searchsorted(starts, last_rows, side="right") - 1]
    rows = np.where(rows < first[:, None], last_rows[:, None], rows)
    return values[rows, :num_targets]


def season_length(step_s: float | None, values: Floats) -> int:
    """Return the period of a series in steps; 1 if it has none, which makes the seasonal naive forecast persistence.

    With times it is the first of a day, a week and a year that has at least four steps, if the series has at least two
    of it. Otherwise it is the lag with the highest autocorrelation.

    Args:
        step_s: The distance of two times in seconds; None without times.
        values: [N, K] the targets of the training part.
    """
    if step_s is not None:
        period_s = next((period for longest, period in SEASONS_S if step_s <= longest), None)
        if period_s is None:
            return 1
        if 2 * period_s <= len(values) * step_s:
            return round(period_s / step_s)
    correlation = _autocorrelation(values)
    inner = correlation[1:-1]
    is_peak = (inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner > MIN_AUTOCORRELATION)
    if not is_peak.any():
        return 1
    return int(np.where(is_peak, inner, -1.0).argmax()) + 1


def _autocorrelation(values: Floats) -> Floats:
    """Return the mean autocorrelation of columns at the lags 0, 1, …, at most a third of their length."""
    num_lags = min(MAX_LAGS, len(values) // 3) + 1
    centred = values - values.mean(axis=0)
    size = 1 << (2 * len(values) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    covariance = np.fft.irfft(power, size, axis=0)[:num_lags]
    variance = covariance[0]
    correlation: Floats = (covariance / np.where(variance > 0, variance, 1.0)).mean(axis=1)
    return correlation


@dataclass(frozen=True)
class LinearAutoregression:
    """A linear function of the inputs of a forecast.

    Attributes:
        weight: [F, horizon, num_targets]
        bias: [horizon, num_targets]
    """

    weight: Floats
    bias: Floats

    @classmethod
    def fit(cls, blocks: Iterable[tuple[Floats, Floats]], ridge: float = RIDGE) -> LinearAutoregression:
        """Fit the weights by least squares with a small penalty of the squared weights.

        With the means x̄ and ȳ, the centred sums S = Σ (x − x̄)(x − x̄)ᵀ and R = Σ (x − x̄)(y − ȳ)ᵀ, and the ridge λ,

            W = (S + λ mean(diag S) I)⁻¹ R        b = ȳ − Wᵀ x̄

        Only S and R are kept in memory, so the examples can be passed in blocks of any number.

        Args:
            blocks: Pairs of the features [M, F] and the targets [M, horizon, num_targets] of examples; F and the shape
                of the targets are the same in all of them. The features should have a similar scale.
            ridge: λ, as a share of the mean variance of the features.
        """
        sums: list[Floats] = []
        count, shape = 0, (0, 0)
        shift_x = shift_y = np.zeros(0)
        for features, targets in blocks:
            x = np.asarray(features, np.float64)
            y = np.asarray(targets, np.float64).reshape(len(x), -1)
            if not sums:  # the first block centres all of them: differences of large numbers would lose digits
                shift_x, shift_y, shape = x.mean(axis=0), y.mean(axis=0), targets.shape[1:]
                sums = [
                    np.zeros(part) for part in (x.shape[1], y.shape[1], (x.shape[1],) * 2, (x.shape[1], y.shape[1]))
                ]
            x, y = x - shift_x, y - shift_y
            for total, part in zip(sums, (x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y), strict=True):
                total += part
            count += len(x)
        sum_x, sum_y, square, product = sums
        mean_x, mean_y = sum_x / count, sum_y / count
        square = square - count * np.outer(mean_x, mean_x)
        product = product - count * np.outer(mean_x, mean_y)
        penalty = max(ridge * float(np.trace(square)) / len(square), 1e-12)
        weight = np.asarray(np.linalg.solve(square + penalty * np.eye(len(square)), product), np.float64)
        bias = np.asarray(mean_y + shift_y - (mean_x + shift_x) @ weight, np.float64)
        return cls(weight.reshape(-1, *shape), bias.reshape(shape))

    def forecast(self, features: Floats) -> Floats:
        """Return the forecasts [M, horizon, num_targets] of features [M, F]."""
        return np.tensordot(features, self.weight, axes=1) + self.bias
