"""How good forecasts are on held-out time, beside those that need no network.

mean absolute error       mean of |y − forecast|        over all windows and steps, for each column
root mean squared error   √(mean of (y − forecast)²)
coverage                  share of the values within the interval
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.tasks.forecasting.baselines import persistence, season_length, seasonal_naive
from chargen.tasks.forecasting.forecaster import Forecast, Forecaster, window_arrays
from chargen.tasks.forecasting.linear_map import fit_autoregression, linear_inputs
from chargen.tasks.forecasting.objective import SeriesData
from chargen.tasks.forecasting.series import Series
from chargen.tasks.forecasting.windows import Values, thin_out
from chargen.training.supervised.objective import Indices

MAX_NUMBERS = 1 << 24  #: numbers in all windows that are measured; more windows are thinned out evenly
FORECASTER, PERSISTENCE, SEASONAL, LINEAR = "this forecaster", "persistence", "seasonal naive", "linear autoregression"


@dataclass(frozen=True)
class Measures:
    """The errors of a method, one number for each column; the coverage of a method without an interval is None."""

    method: str
    mae: Values  #: [K]
    rmse: Values  #: [K]
    coverage: Values | None = None  #: [K]

    @classmethod
    def of(cls, method: str, futures: Values, forecast: Values, interval: Forecast | None = None) -> Measures:
        """Measure forecasts [M, F, K] of values [M, F, K]."""
        error = futures - forecast
        inside = None if interval is None else ((interval.low <= futures) & (futures <= interval.high)).mean((0, 1))
        return cls(method, np.abs(error).mean((0, 1)), np.sqrt(np.square(error).mean((0, 1))), inside)


@dataclass(frozen=True)
class Comparison:
    """The errors of a forecaster and of the baselines on the same windows of held-out time."""

    columns: tuple[str, ...]
    num_windows: int
    period: int  #: length of the season, in steps; 1 if the series has none
    measures: tuple[Measures, ...]  #: the forecaster first
    std: Values  #: standard deviation of each column, [K], with which errors of several columns are averaged
    example: Indices  #: the first row of the last window that was measured, [1]

    def score(self, measures: Measures) -> float:
        """Return the mean absolute error over the columns, in standard deviations of each."""
        return float((measures.mae / self.std).mean())

    def better_baselines(self) -> list[Measures]:
        """Return the baselines with a lower mean absolute error than the forecaster, the best first."""
        own, *others = self.measures
        return sorted((each for each in others if self.score(each) < self.score(own)), key=self.score)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON: by method and by column."""
        methods = []
        for each in self.measures:
            values: dict[str, Any] = {"method": each.method}
            for name in ("mae", "rmse", "coverage"):
                numbers = getattr(each, name)
                if numbers is not None:
                    values[name] = dict(zip(self.columns, numbers.tolist(), strict=True))
            methods.append(values)
        return {"num_windows": self.num_windows, "season_steps": self.period, "methods": methods}


def choose_windows(starts: Indices, forecaster: Forecaster, num_calendar: int) -> Indices:
    """Return the windows that are measured or calibrate: all, or as many as fit into memory."""
    config = forecaster.config
    numbers = (config.history + config.horizon) * (len(config.targets) + len(config.inputs) + num_calendar)
    return thin_out(starts, MAX_NUMBERS // numbers)


def compare(forecaster: Forecaster, series: Series, data: SeriesData, starts: Indices) -> Comparison:
    """Measure a forecaster and the baselines on windows.

    Args:
        forecaster: The forecaster.
        series: The series in the units of its file.
        data: The same series, standardized, with the windows for training.
        starts: The first row of each window that is measured.
    """
    config = forecaster.config
    T, F, K = config.history, config.horizon, len(config.targets)
    history, calendar, futures = window_arrays(series.values, data.calendar, starts, config)
    forecast = forecaster.forecast(history, calendar)
    last_rows = starts + T - 1
    period = season_length(series.step_s, series.values[data.split.training_rows, :K])
    seasonal = seasonal_naive(series.values, last_rows, F, K, period, series.starts)
    linear = fit_autoregression(data, T, F, K).forecast(linear_inputs(data, starts, T))
    baselines: list[tuple[str, NDArray[np.float64]]] = [
        (PERSISTENCE, persistence(series.values, last_rows, F, K)),
        *([(SEASONAL, seasonal)] if period > 1 else []),
        (LINEAR, forecaster.scaling.mean[:K] + forecaster.scaling.std[:K] * linear),
    ]
    measures = [Measures.of(FORECASTER, futures, forecast.center, forecast)]
    measures += [Measures.of(method, futures, values) for method, values in baselines]
    std = forecaster.scaling.std[:K]
    return Comparison(config.targets, len(starts), period, tuple(measures), std, starts[-1:])
