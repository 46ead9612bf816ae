"""The linear autoregression of a series: the start of a network, and a baseline on the same inputs.

y(t + h) = b_h + Σ w_h · (all columns of the window, and the calendar of its last step)          `baselines.py`
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chargen.networks.series_network import SeriesNetwork
from chargen.tasks.forecasting.baselines import LinearAutoregression
from chargen.tasks.forecasting.objective import SeriesData
from chargen.tasks.forecasting.windows import Values, take_windows
from chargen.training.supervised.objective import Indices

MAX_BLOCK_NUMBERS = 1 << 22  #: numbers of the inputs of a block of windows
MIN_SCALE = 1e-4  #: smallest scale of errors, in standard deviations of a column


def fit_autoregression(data: SeriesData, history: int, horizon: int, num_targets: int) -> LinearAutoregression:
    """Fit a linear autoregression to the training windows of a series, in standardized units.

    Args:
        data: The series.
        history: Steps of a window.
        horizon: Steps that are forecast.
        num_targets: Number of columns that are forecast, the first ones.
    """
    return LinearAutoregression.fit(
        (linear_inputs(data, starts, history), _futures(data, starts + history, horizon, num_targets))
        for starts in _blocks(data, data.split.training, history)
    )


def linear_inputs(data: SeriesData, starts: Indices, history: int) -> Values:
    """Return the inputs of the autoregression, [M, T·C + D]: the windows, and the calendar of their last steps."""
    windows = take_windows(data.values, starts, history).reshape(len(starts), -1)
    return np.concatenate([windows, data.calendar[starts + history - 1]], axis=1).astype(np.float64)


def fit_linear_map(network: SeriesNetwork, data: SeriesData) -> None:
    """Give a network the linear map that fits the training windows best, and the scales of its errors."""
    config = network.config
    linear = fit_autoregression(data, config.history, config.horizon, config.num_targets)
    errors, squares = np.zeros((config.horizon, config.num_targets)), np.zeros(config.num_columns)
    for starts in _blocks(data, data.split.training, config.history):
        forecast = linear.forecast(linear_inputs(data, starts, config.history))
        errors += np.square(_futures(data, starts + config.history, config.horizon, config.num_targets) - forecast).sum(
            0
        )
        windows = take_windows(data.values, starts, config.history)
        squares += np.square(windows - windows[:, -1:]).sum((0, 1), dtype=np.float64)
    num_windows = len(data.split.training)
    differences = np.sqrt(squares / (num_windows * max(1, config.history - 1)))
    fitted = {
        "linear.weight": linear.weight.reshape(config.num_linear_inputs, -1).T,
        "linear.bias": linear.bias.ravel(),
        "scale": np.maximum(np.sqrt(errors / num_windows), MIN_SCALE).ravel(),
        "difference_scale": np.where(differences > 0, differences, 1.0),
    }
    network.import_weights({**network.export_weights(), **{name: w.astype(np.float32) for name, w in fitted.items()}})


def unexplained_share(data: SeriesData, history: int, num_targets: int) -> float:
    """Return the share of the variance of the changes to the next step that a linear map leaves, 0 to 1.

    The changes are those after the training windows. The arguments are those of `fit_autoregression`.
    """
    linear = fit_autoregression(data, history, 1, num_targets)
    left, total = 0.0, 0.0
    for starts in _blocks(data, data.split.training, history):
        futures = _futures(data, starts + history, 1, num_targets)
        last = data.values[starts + history - 1, None, :num_targets]
        left += float(np.square(futures - linear.forecast(linear_inputs(data, starts, history))).sum())
        total += float(np.square(futures - last).sum())
    return left / total if total > 0 else 0.0


def _futures(data: SeriesData, rows: Indices, horizon: int, num_targets: int) -> Values:
    return take_windows(data.values, rows, horizon)[..., :num_targets].astype(np.float64)


def _blocks(data: SeriesData, starts: Indices, history: int) -> Iterator[Indices]:
    size = max(1, MAX_BLOCK_NUMBERS // (history * data.values.shape[1] + data.calendar.shape[1]))
    for first in range(0, len(starts), size):
        yield starts[first : first + size]
