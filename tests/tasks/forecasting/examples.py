"""Series for the tests of forecasting, and a quick way to train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chargen.folders import use_checkpoints
from chargen.tasks.forecasting.ball import ball_paths
from chargen.tasks.forecasting.series import Series
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.tasks.forecasting.train import ForecasterPlan, TrainedForecaster, train_forecaster
from chargen.training.choices import RunLength


def make_series(values: np.ndarray, num_inputs: int = 0, starts: tuple[int, ...] = (0,), hours: bool = False) -> Series:
    """Return a series of values [N, C], of which the last `num_inputs` columns are not forecast."""
    names = tuple(f"c{k}" for k in range(values.shape[1]))
    num_targets = values.shape[1] - num_inputs
    times = np.datetime64("2020-01-01T00:00:00") + np.arange(len(values)) * np.timedelta64(3600, "s")
    return Series(
        targets=names[:num_targets],
        inputs=names[num_targets:],
        values=values.astype(np.float64),
        times=times.astype("datetime64[s]") if hours else None,
        is_utc=False,
        step_s=3600.0 if hours else None,
        step_months=0,
        starts=starts,
        groups=tuple(str(number) if len(starts) > 1 else "" for number in range(len(starts))),
        is_filled=np.zeros(len(values), dtype=bool),
        is_interpolated=np.zeros(len(values), dtype=bool),
        notes=(),
        sha256="0" * 64,
    )


def autoregressive(num_rows: int = 3000, seed: int = 0, level: float = 0.0) -> np.ndarray:
    """Return a linear process x(t) = 1.5 x(t−1) − 0.7 x(t−2) + noise as a column [N, 1]."""
    noise = np.random.default_rng(seed).normal(size=num_rows + 2)
    x = np.zeros(num_rows + 2)
    for t in range(2, num_rows + 2):
        x[t] = 1.5 * x[t - 1] - 0.7 * x[t - 2] + noise[t]
    return x[2:, None] + level


def balls(num_balls: int = 200, num_frames: int = 25) -> Series:
    """Return the paths of balls as a series with a group for each."""
    paths = ball_paths(num_balls, num_frames, np.random.default_rng(0))
    return make_series(paths.reshape(-1, 2), starts=tuple(range(0, num_balls * num_frames, num_frames)))


def train(
    series: Series, folder: Path, history: int, horizon: int, steps: int = 200, seed: int = 0, **more: Any
) -> TrainedForecaster:
    """Train a forecaster on a series for some steps."""
    network = more.pop("network", {"hidden_size": 16, "dropout": 0.0})
    run = {name: more.pop(name) for name in ("resume", "stop_after", "device") if name in more}
    config = ForecastConfig(series.targets, series.inputs, history, horizon, **more)
    plan = ForecasterPlan(series, config, "m", RunLength(steps=steps), network=network, seed=seed, **run)
    with use_checkpoints(folder):
        *_, trained = train_forecaster(plan)
    assert isinstance(trained, TrainedForecaster)
    return trained


def error_of(trained: TrainedForecaster, method: str) -> float:
    """Return the mean absolute error of a method in the first column."""
    return next(float(each.mae[0]) for each in trained.comparison.measures if each.method == method)


__all__ = ["autoregressive", "balls", "error_of", "make_series", "train"]
