"""A forecaster: a network for series with the scaling of its columns and the calibration of its interval.

    direct      window ─▶ network ─▶ all F steps
    recursive   window ─▶ network ─▶ one step ─▶ the window moves on by this step ─▶ network ─▶ the next step ─▶ …

The interval is calibrated by split conformal prediction (Papadopoulos et al. 2002, "Inductive confidence machines for
regression"): of the windows that chose the weights, the factor by which the widths of the network must be multiplied so
that the interval contains the wanted share of the values. The factor is a little larger than that, so that few windows
do not give a narrow interval by chance (Vovk 2012, arXiv:1209.2673). Each step and each column has a factor of its own:
that is why the interval of a recursive forecast grows, although each of its steps has the same widths.

Some columns have few different values: counts, or a temperature that was measured in whole degrees. The median of such
values is one of them. So the forecast of such a column is rounded to the nearest value of the training part, if that
lowers the mean absolute error on the windows that chose the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.networks.series_network import SeriesNetwork
from chargen.tasks.forecasting.objective import batches_of
from chargen.tasks.forecasting.settings import RECURSIVE, ForecastConfig
from chargen.tasks.forecasting.windows import Scaling, Values, take_windows
from chargen.training.supervised.objective import Indices

CONFIDENCE = 0.9  #: probability that the interval covers the wanted share of values like those of the calibration
MAX_FACTOR = 1e6  #: limit of the factor of the widths
MIN_REPEATS = 10  #: a column has levels if each of its values occurs this many times in the training part, on average
MAX_LEVELS = 100_000


class Forecast(NamedTuple):
    """Forecasts of M windows, [M, F, K] each, in the units of the file."""

    center: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class Forecaster:
    """A network with everything that is needed to forecast values in the units of a file."""

    config: ForecastConfig
    network: SeriesNetwork
    scaling: Scaling
    factors: Values  #: factors of the widths of the interval, [F, K]
    about: dict[str, Any]  #: how good it is on held-out time, as JSON; may be empty
    levels: tuple[Values | None, ...]  #: for each target, the values [L] that its forecast is rounded to, or None

    def forecast(self, history: Values, calendar: NDArray[np.float32]) -> Forecast:
        """Forecast the steps after some windows.

        Args:
            history: The values of the windows in the units of the file, [M, T, C].
            calendar: The calendar features of the windows and of the steps after them, [M, T + F, D].

        Returns:
            The median (of a Gaussian output, the mean) and the interval of each value.
        """
        standardized = self.scaling.apply(history)
        parts = []
        for rows in batches_of(np.arange(len(history)), self.network):
            parts.append(self._standardized(standardized[rows], calendar[rows]))
        center, low_width, high_width = (np.concatenate(part) for part in zip(*parts, strict=True))
        K = len(self.config.targets)
        mean, std = self.scaling.mean[:K], self.scaling.std[:K]
        low, high = center - self.factors * low_width, center + self.factors * high_width
        center, low, high = (mean + std * part for part in (center, low, high))
        for k, levels in enumerate(self.levels):
            if levels is not None:
                center[..., k] = round_to_levels(center[..., k], levels)
        return Forecast(center, np.minimum(low, center), np.maximum(high, center))

    @torch.no_grad()
    def _standardized(self, history: NDArray[np.float32], calendar: NDArray[np.float32]) -> list[Values]:
        """Return the center and the two widths of forecasts in standardized units, [M, F, K] each."""
        device = next(self.network.parameters()).device
        T = self.config.history
        window = torch.from_numpy(history.swapaxes(0, 1).copy()).to(device)  # [T, M, C]
        features = torch.from_numpy(calendar.swapaxes(0, 1).copy()).to(device)  # [T + F, M, D]
        forecasts = []
        for step in range(0, self.config.horizon, self.config.num_direct_steps):
            forecasts.append(self.network(window, features[step : step + T]))
            if self.config.strategy == RECURSIVE:
                window = torch.cat([window[1:], forecasts[-1].center.transpose(0, 1)])
        return [torch.cat(part, dim=1).double().cpu().numpy() for part in zip(*forecasts, strict=True)]

    def calibrate(self, history: Values, calendar: NDArray[np.float32], futures: Values) -> Forecaster:
        """Return the forecaster with factors for which the interval contains the wanted share of these futures.

        Args:
            history: The values of windows that the network was not trained on, [M, T, C].
            calendar: The calendar features of the windows and of the steps after them, [M, T + F, D].
            futures: What follows the windows, [M, F, K].
        """
        plain = replace(self, factors=np.ones_like(self.factors))
        center, low, high = plain.forecast(history, calendar)
        error = futures - center
        tiny = 1e-9 * self.scaling.std[: len(self.config.targets)]
        needed = np.where(error < 0, -error / np.maximum(center - low, tiny), error / np.maximum(high - center, tiny))
        rank = _rank(len(needed), self.config.coverage)
        factors = np.partition(needed, rank, axis=0)[rank]
        return replace(self, factors=np.clip(factors, 1.0 / MAX_FACTOR, MAX_FACTOR))

    def with_levels(
        self, training_rows: Values, history: Values, calendar: NDArray[np.float32], futures: Values
    ) -> Forecaster:
        """Return the forecaster that rounds the targets with few different values, where this lowers the mean error.

        Args:
            training_rows: The rows that the network was trained on, in the units of the file, [N, C].
            history, calendar, futures: As for `calibrate`.
        """
        center = self.forecast(history, calendar).center
        chosen: list[Values | None] = []
        for k in range(len(self.config.targets)):
            levels = np.unique(training_rows[:, k])
            is_better = False
            if 1 < len(levels) <= min(MAX_LEVELS, len(training_rows) // MIN_REPEATS):
                rounded, exact = round_to_levels(center[..., k], levels), futures[..., k]
                is_better = np.abs(rounded - exact).mean() < np.abs(center[..., k] - exact).mean()
            chosen.append(levels if is_better else None)
        return replace(self, levels=tuple(chosen))


def round_to_levels(values: Values, levels: Values) -> Values:
    """Return the level that is nearest to each value; the lower one of two that are equally near.

    Args:
        values: Any array of numbers.
        levels: At least two levels, ascending, [L].

    >>> round_to_levels(np.array([-1.0, 1.4, 1.5, 9.0]), np.array([0.0, 1.0, 2.0, 5.0])).tolist()
    [0.0, 1.0, 1.0, 5.0]
    """
    above = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    low, high = levels[above - 1], levels[above]
    return np.where(values - low <= high - values, low, high)


def _rank(num_windows: int, coverage: float) -> int:
    """Return which of the sorted factors is used, from 0: with probability CONFIDENCE it covers the wanted share."""
    expected, spread = num_windows * coverage, math.sqrt(num_windows * coverage * (1.0 - coverage))
    return min(num_windows - 1, math.ceil(expected + NormalDist().inv_cdf(CONFIDENCE) * spread))


def window_arrays(
    values: Values, calendar: NDArray[np.float32], starts: Indices, config: ForecastConfig
) -> tuple[Values, NDArray[np.float32], Values]:
    """Return what `Forecaster.calibrate` takes: history [M, T, C], calendar [M, T + F, D] and futures [M, F, K].

    Args:
        values: The values of a series in the units of its file, [N, C].
        calendar: The calendar features of its rows, [N, D].
        starts: The first row of each window.
        config: The lengths of the windows and the number of targets.
    """
    T, horizon = config.history, config.horizon
    futures = take_windows(values, starts + T, horizon)[..., : len(config.targets)]
    return take_windows(values, starts, T), take_windows(calendar, starts, T + horizon), futures
