"""Forecast what follows the last row of a series: `chargen forecast -m NAME FILE.csv`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.tasks.forecasting.calendar import calendar_features
from chargen.tasks.forecasting.forecaster import Forecast, Forecaster
from chargen.tasks.forecasting.series import Series

STEP_TOLERANCE = 1e-6


@dataclass(frozen=True)
class NextValues:
    """The forecast of a group of a series."""

    group: str  #: value of the group column; "" without groups
    times: NDArray[np.datetime64] | None  #: [F]; None without times
    history_times: NDArray[np.datetime64] | None  #: [T]
    history: NDArray[np.float64]  #: the last values of the columns that are forecast, [T, K]
    forecast: Forecast  #: [1, F, K]
    is_utc: bool  #: whether the times are in UTC, also where those of the file have another offset


def forecast_next(forecaster: Forecaster, series: Series) -> list[NextValues]:
    """Forecast the steps after the last row of each group.

    Raises:
        CorpusError: If a group is shorter than the history, or the rows have another distance in time than those that
            the forecaster was trained on.
    """
    config = forecaster.config
    T, F, K = config.history, config.horizon, len(config.targets)
    _check_step(forecaster, series)
    results = []
    for name, begin, end in zip(series.groups, series.starts, series.ends, strict=True):
        if end - begin < T:
            group = f"the group {name!r} has" if name else "the series has"
            raise CorpusError(
                f"{group} {format_count(end - begin, 'row')}, but the forecaster reads the last {T:,} (--history)",
                "Give a longer series, or train a forecaster with a shorter history.",
            )
        rows = slice(end - T, end)
        later = series.times_after(end - 1, F)
        calendar = np.zeros((T + F, 0), dtype=np.float32)
        if config.calendar and series.times is not None and later is not None:
            features = calendar_features(np.concatenate([series.times[rows], later]), config.calendar)
            calendar = features.astype(np.float32)
        forecast = forecaster.forecast(series.values[None, rows], calendar[None])
        history_times = None if series.times is None else series.times[rows]
        results.append(NextValues(name, later, history_times, series.values[rows, :K], forecast, series.is_utc))
    return results


def _check_step(forecaster: Forecaster, series: Series) -> None:
    """Check that the rows have the distance in time that the forecaster knows.

    Raises:
        CorpusError: If they do not.
    """
    known, found = forecaster.config.step_s, series.step_s
    if known is None and not forecaster.config.calendar:
        return
    if found is None:
        raise CorpusError(
            "the file has no times, but the forecaster was trained on a series with times",
            "Name the column of the time: --time COLUMN.",
        )
    if known is not None and abs(found - known) > STEP_TOLERANCE * known:
        raise CorpusError(
            f"the rows are {found:g} s apart, but the forecaster was trained on rows that are {known:g} s apart",
            "Bring the series to that distance, or train a forecaster on it.",
        )
