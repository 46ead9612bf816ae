"""Forecasts as tables, as JSON and as charts, and the table that compares a forecaster with the baselines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.schema import format_count, format_significant
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.ui.chart.chart import Band, Chart, Series
from chargen.ui.terminal_text import visible

if TYPE_CHECKING:
    from chargen.tasks.forecasting.comparison import Comparison, Measures
    from chargen.tasks.forecasting.forecaster import Forecaster
    from chargen.tasks.forecasting.next_values import NextValues
    from chargen.tasks.forecasting.series import Series as NumberSeries
    from chargen.tasks.forecasting.train import TrainedForecaster
    from chargen.ui.console import Paragraph
    from chargen.ui.fitted_table import FittedTable

DIGITS = 4  #: significant digits of values
Values = NDArray[np.float64]


def describe_comparison(comparison: Comparison, config: ForecastConfig) -> Paragraph:
    """Return a sentence about what was measured, and how the forecaster compares with persistence."""
    from chargen.ui.console import Paragraph

    own, baselines = comparison.measures[0], comparison.measures[1:]
    best = min(baselines, key=comparison.score)
    change = 100.0 * (1.0 - comparison.score(own) / comparison.score(best)) if comparison.score(best) > 0 else 0.0
    relation = f"{abs(change):.1f} % {'below' if change >= 0 else 'above'} that of the best baseline, {best.method}"
    steps = format_count(config.horizon, "step")
    windows = format_count(comparison.num_windows, "forecast")
    return Paragraph(
        f"On held-out time, {windows} of {steps} each: the mean absolute error is {relation}. "
        f"The interval is to contain {100 * config.coverage:g} % of the values."
    )


def comparison_table(comparison: Comparison) -> FittedTable:
    """Return a table with a row for each method, or for each method and column."""
    from chargen.ui.tables import plain_table

    has_columns = len(comparison.columns) > 1
    rows = [
        (each.method, *((visible(column),) if has_columns else ()), *_numbers(each, number))
        for each in comparison.measures
        for number, column in enumerate(comparison.columns)
    ]
    names = ("MAE", "RMSE", "coverage")
    return plain_table(("method", *(("column",) if has_columns else ()), *names), rows, names)


def _numbers(measures: Measures, column: int) -> tuple[str, str, str]:
    coverage = "–" if measures.coverage is None else f"{100 * measures.coverage[column]:.1f} %"
    return _number(measures.mae[column]), _number(measures.rmse[column]), coverage


def _number(value: float) -> str:
    return format_significant(float(value), DIGITS)


def format_time(time: np.datetime64) -> str:
    """Return a time without the parts that are zero at its end: "2013-12-31 05:00"."""
    date, _, clock = str(time.astype("datetime64[us]")).partition("T")
    clock = clock.rstrip("0").rstrip(".")
    hours, minutes, *seconds = (*clock.split(":"), "00", "00")[:3]
    seconds_text = seconds[0] if seconds else "00"
    short = f"{hours or '00'}:{minutes or '00'}" + (f":{seconds_text}" if seconds_text.strip("0") else "")
    return f"{date} {short}"


def forecast_table(forecasts: Sequence[NextValues], config: ForecastConfig) -> FittedTable:
    """Return a table with a row for each forecast value: its time or step, the value and its interval."""
    from chargen.ui.tables import plain_table

    has_times, has_columns = forecasts[0].times is not None, len(config.targets) > 1
    has_groups = any(each.group for each in forecasts)
    names = (
        *(("group",) if has_groups else ()), "time" if has_times else "step", *(("column",) if has_columns else ()),
        "value", "low", "high",
    )  # fmt: skip
    rows = []
    for each in forecasts:
        for step in range(config.horizon):
            for number, column in enumerate(config.targets):
                when = str(step + 1) if each.times is None else format_time(each.times[step])
                rows.append((
                    *((visible(each.group),) if has_groups else ()), when, *((visible(column),) if has_columns else ()),
                    *(_number(part[0, step, number]) for part in each.forecast),
                ))  # fmt: skip
    return plain_table(names, rows, ("value", "low", "high"))


def forecast_json(forecasts: Sequence[NextValues], config: ForecastConfig) -> list[dict[str, Any]]:
    """Return the forecast values as JSON, one object for each step and column. Times in UTC end with "Z" (ISO 8601)."""
    objects = []
    for each in forecasts:
        for step in range(config.horizon):
            for number, column in enumerate(config.targets):
                value, low, high = (float(part[0, step, number]) for part in each.forecast)
                described: dict[str, Any] = {"group": each.group} if config.group else {}
                described["step"] = step + 1
                if each.times is not None:
                    described["time"] = str(each.times[step]) + ("Z" if each.is_utc else "")
                described |= {"column": column, "value": value, "low": low, "high": high, "coverage": config.coverage}
                objects.append(described)
    return objects


def forecast_chart(forecast: NextValues, config: ForecastConfig) -> Chart:
    """Return the chart of the last values, the forecast and its interval."""
    title = f"Forecast of {', '.join(config.targets)}" + (f", {forecast.group}" if forecast.group else "")
    values = tuple(part[0] for part in forecast.forecast)
    return _chart(title, config, (forecast.history_times, forecast.times), forecast.history, values, None)


def example_chart(
    forecaster: Forecaster, series: NumberSeries, calendar: NDArray[np.float32], starts: NDArray[np.int64]
) -> Chart:
    """Return the chart of a window of held-out time, with the forecast and the values that followed.

    Args:
        forecaster: The forecaster.
        series: The series.
        calendar: The calendar features of its rows, [N, D].
        starts: The first row of the window, [1].
    """
    from chargen.tasks.forecasting.forecaster import window_arrays

    config = forecaster.config
    history, features, futures = window_arrays(series.values, calendar, starts, config)
    values = tuple(part[0] for part in forecaster.forecast(history, features))
    begin, middle = int(starts[0]), int(starts[0]) + config.history
    times = (None, None)
    if series.times is not None:
        times = (series.times[begin:middle], series.times[middle : middle + config.horizon])  # type: ignore[assignment]
    title = f"Forecast of {', '.join(config.targets)} on held-out time"
    return _chart(title, config, times, history[0, :, : len(config.targets)], values, futures[0])


def _chart(
    title: str, config: ForecastConfig, times: tuple[Any, Any], history: Values, forecast: tuple[Values, ...],
    actual: Values | None,
) -> Chart:  # fmt: skip
    """Return a chart of values against time; or of two columns without times against each other, as a path."""
    center, low, high = forecast
    if len(config.targets) == 2 and times[1] is None:
        return _path_chart(title, config, history, center, actual)
    past, future = _positions(times, config)
    lines, bands = [], []
    for number, column in enumerate(config.targets):
        prefix = f"{column}: " if len(config.targets) > 1 else ""
        last = float(history[-1, number])
        xs = [past[-1], *future]  # the forecast starts at the last known value
        lines.append(Series(f"{prefix}known", past, history[:, number].tolist()))
        lows, highs = ([last, *edge[:, number].tolist()] for edge in (low, high))
        bands.append(Band(f"{prefix}{100 * config.coverage:g} % interval", xs, lows, highs, series=len(lines)))
        lines.append(Series(f"{prefix}forecast", xs, [last, *center[:, number].tolist()]))
        if actual is not None:
            lines.append(Series(f"{prefix}what followed", xs, [last, *actual[:, number].tolist()]))
    label = "time" if times[1] is not None else "step after the last known row"
    return Chart(lines, label, ", ".join(config.targets), title, bands=bands, x_is_time=times[1] is not None)


def _positions(times: tuple[Any, Any], config: ForecastConfig) -> tuple[list[float], list[float]]:
    """Return the positions of the known and of the forecast values on the x axis."""
    if times[0] is None or times[1] is None:
        return list(map(float, range(1 - config.history, 1))), list(map(float, range(1, config.horizon + 1)))
    past, future = ((part.astype("datetime64[us]").astype(np.int64) / 1e6).tolist() for part in times)
    return past, future


def _path_chart(title: str, config: ForecastConfig, history: Values, center: Values, actual: Values | None) -> Chart:
    """Return the path of a point: the second column against the first."""
    parts = [("known", history), ("forecast", np.concatenate([history[-1:], center]))]
    if actual is not None:
        parts.append(("what followed", np.concatenate([history[-1:], actual])))
    lines = [Series(name, values[:, 0].tolist(), values[:, 1].tolist()) for name, values in parts]
    return Chart(lines, config.targets[0], config.targets[1], title, has_equal_scales=True)


def forecaster_facts(path: Path) -> dict[str, Any]:
    """Return the properties of a forecaster for `chargen info`, from its file.

    Raises:
        ModelError: If it cannot be read.
    """
    from chargen.runs import STATE_FILE
    from chargen.tasks.forecasting.saved import read_header

    config, network, num_parameters, about = read_header(path)
    methods = about.get("held_out", {}).get("methods", [])
    state = path.with_name(STATE_FILE)
    return {
        "kind": "forecaster",
        "path": os.path.abspath(path),
        "network": str(network),
        "parameters": num_parameters,
        "columns": list(config.targets),
        "inputs": list(config.inputs) or None,
        "history_steps": config.history,
        "horizon_steps": config.horizon,
        "step_s": config.step_s,
        "strategy": config.strategy,
        "output": config.output,
        "coverage": config.coverage,
        "calendar": list(config.calendar) or None,
        "step": about.get("step"),
        "held_out_mae": methods[0]["mae"] if methods else None,
        "held_out_coverage": methods[0].get("coverage") if methods else None,
        "held_out": about.get("held_out"),
        "size_bytes": path.stat().st_size,
        "training_state_bytes": state.stat().st_size if state.is_file() else None,
        "written_by": f"chargen {about.get('chargen', '?')}",
    }


def trained_json(trained: TrainedForecaster) -> dict[str, Any]:
    """Return a forecaster that was just trained, and its figures, as JSON."""
    config = trained.forecaster.config
    return {
        "forecaster": str(trained.folder),
        "network": str(trained.forecaster.network.config),
        "steps": trained.step,
        "interrupted": trained.interrupted,
        "forecast": config.to_json(),
        "held_out": trained.comparison.to_json(),
        "notes": list(trained.notes),
    }
