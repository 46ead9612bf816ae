"""A forecaster: it never sees the future, its interval covers what it promises, and recursion feeds back one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from chargen.config.series import SeriesConfig
from chargen.networks.series_network import SeriesNetwork
from chargen.tasks.forecasting.baselines import persistence, seasonal_naive
from chargen.tasks.forecasting.forecaster import Forecaster, window_arrays
from chargen.tasks.forecasting.linear_map import fit_autoregression, linear_inputs
from chargen.tasks.forecasting.objective import SeriesData
from chargen.tasks.forecasting.settings import RECURSIVE, ForecastConfig
from chargen.tasks.forecasting.windows import Scaling, split_windows
from tests.tasks.forecasting.examples import autoregressive

T, F = 6, 4
Forecasts = Callable[[np.ndarray], np.ndarray]  # values of a series [N, C] → forecasts of its windows [M, F, K]


def forecaster(num_columns: int = 2, strategy: str = "direct", **changes: object) -> Forecaster:
    """Return a forecaster of one column with random weights, also in its linear map."""
    config = ForecastConfig(("a",), ("b", "c")[: num_columns - 1], T, F, strategy, **changes)  # type: ignore[arg-type]
    shape = SeriesConfig(num_columns, 1, 0, T, config.num_direct_steps, hidden_size=8)
    network = SeriesNetwork(shape, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(w.shape, generator=generator).numpy() for name, w in network.export_weights().items()}
    network.import_weights({**weights, "scale": np.abs(weights["scale"]), "difference_scale": np.ones(num_columns)})
    scaling = Scaling(np.full(num_columns, 3.0), np.full(num_columns, 2.0))
    return Forecaster(config, network, scaling, np.ones((F, 1)), {}, (None,))


def sees_the_future(forecasts: Forecasts, values: np.ndarray, starts: np.ndarray) -> bool:
    """Return whether a forecast changes if the values after its history change."""
    before = forecasts(values)
    for number, start in enumerate(starts):
        changed = values.copy()
        changed[start + T :] += 100.0
        if not np.array_equal(forecasts(changed)[number], before[number]):
            return True
    return False


def forecasts_of(model: Forecaster, starts: np.ndarray, shift: int = 0) -> Forecasts:
    """Return the function from a series to the forecasts of a model; a shift of 1 plants a leak."""

    def forecasts(values: np.ndarray) -> np.ndarray:
        calendar = np.zeros((len(values), 0), dtype=np.float32)
        history, features, _ = window_arrays(values, calendar, starts + shift, model.config)
        return np.concatenate(model.forecast(history, features), axis=-1)

    return forecasts


@pytest.mark.parametrize("strategy", ["direct", RECURSIVE])
def test_no_forecast_sees_the_future_and_a_planted_leak_is_found(strategy: str) -> None:
    values = np.random.default_rng(0).normal(size=(40, 1))
    starts = np.arange(0, 25, 5)
    model = forecaster(1, strategy)
    assert not sees_the_future(forecasts_of(model, starts), values, starts)
    assert sees_the_future(forecasts_of(model, starts, shift=1), values, starts)


def test_a_forecast_is_rounded_to_the_values_of_a_column_where_that_lowers_the_error() -> None:
    rng = np.random.default_rng(0)
    model, calendar = forecaster(1), np.zeros((50, T + F, 0), dtype=np.float32)
    history = rng.normal(3.0, 2.0, size=(50, T, 1))
    center = model.forecast(history, calendar).center
    few = np.linspace(center.min(), center.max(), 9)
    near = np.array([few[np.abs(few - value).argmin()] for value in center.flat]).reshape(center.shape)
    rounded = model.with_levels(np.repeat(few, 20)[:, None], history, calendar, near)
    found = rounded.forecast(history, calendar)
    assert np.array_equal(found.center, near)
    assert (found.low <= near).all() and (near <= found.high).all()
    worse = model.with_levels(np.repeat(few, 20)[:, None], history, calendar, center)  # the exact forecast is right
    many = model.with_levels(rng.normal(size=(180, 1)), history, calendar, near)  # each value occurs once
    constant = model.with_levels(np.full((180, 1), 2.0), history, calendar, near)
    assert worse.levels == many.levels == constant.levels == (None,)


def test_no_baseline_sees_the_future() -> None:
    values = np.random.default_rng(0).normal(size=(200, 2))
    starts = np.arange(20, 180, 7)
    split = split_windows((0,), np.zeros(len(values), dtype=bool), T, F)
    data = SeriesData(values.astype(np.float32), np.zeros((len(values), 0), dtype=np.float32), split)
    linear = fit_autoregression(data, T, F, 1)

    def linear_forecasts(changed: np.ndarray, shift: int = 0) -> np.ndarray:
        again = replace(data, values=changed.astype(np.float32))
        return linear.forecast(linear_inputs(again, starts + shift, T))

    assert not sees_the_future(lambda v: persistence(v, starts + T - 1, F, 1), values, starts)
    assert not sees_the_future(lambda v: seasonal_naive(v, starts + T - 1, F, 1, 5, (0,)), values, starts)
    assert not sees_the_future(linear_forecasts, values, starts)
    assert sees_the_future(lambda v: linear_forecasts(v, shift=1), values, starts)
    assert sees_the_future(lambda v: persistence(v, starts + T, F, 1), values, starts)


def test_a_recursive_forecast_reads_its_own_steps() -> None:
    model = forecaster(1, RECURSIVE)
    history = np.random.default_rng(1).normal(3.0, 2.0, (3, T, 1))
    calendar = np.zeros((3, T + F, 0), dtype=np.float32)
    whole = model.forecast(history, calendar).center
    one_step = replace(model, config=replace(model.config, horizon=1, strategy="direct"), factors=np.ones((1, 1)))
    window = history
    for step in range(F):
        center = one_step.forecast(window, calendar[:, : T + 1]).center
        assert np.allclose(center[:, 0], whole[:, step], rtol=1e-4, atol=1e-4)
        window = np.concatenate([window[:, 1:], center], axis=1)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_calibrated_interval_covers_new_values(coverage: float) -> None:
    model = forecaster(1, coverage=coverage)
    values = autoregressive(9000, level=3.0)
    starts = np.arange(0, len(values) - T - F)
    calendar = np.zeros((len(values), 0), dtype=np.float32)
    history, features, futures = window_arrays(values, calendar, starts, model.config)
    model = model.calibrate(history[:4000], features[:4000], futures[:4000])
    forecast = model.forecast(history[4500:], features[4500:])
    inside = (forecast.low <= futures[4500:]) & (futures[4500:] <= forecast.high)
    assert np.all(np.abs(inside.mean(0) - coverage) < 0.04)
    assert (forecast.low <= forecast.center).all()
    assert (forecast.center <= forecast.high).all()


def test_few_windows_give_a_wide_interval_and_never_an_infinite_one() -> None:
    model = forecaster(1)
    rng = np.random.default_rng(0)
    history, calendar = rng.normal(3.0, 2.0, (3, T, 1)), np.zeros((3, T + F, 0), dtype=np.float32)
    futures = rng.normal(3.0, 2.0, (3, F, 1))
    calibrated = model.calibrate(history, calendar, futures)
    forecast = calibrated.forecast(history, calendar)
    assert np.isfinite(calibrated.factors).all()
    assert ((forecast.low <= futures + 1e-4) & (futures <= forecast.high + 1e-4)).all()


def test_the_other_windows_do_not_change_a_forecast() -> None:
    model = forecaster(2)
    history, calendar = np.random.default_rng(0).normal(size=(7, T, 2)), np.zeros((7, T + F, 0), dtype=np.float32)
    whole = model.forecast(history, calendar)
    for row in (0, 3, 6):
        alone = model.forecast(history[row : row + 1], calendar[row : row + 1])
        assert np.allclose(alone.center[0], whole.center[row], atol=1e-4)
