"""What a network for series is trained for: the pinball loss of three quantiles, or the likelihood of a normal law.

    quantiles   Σ over q of max(q·d, (q − 1)·d), d = y − forecast of quantile q      (Koenker & Bassett 1978)
                for q = (1 − c)/2, 1/2 and (1 + c)/2, where c is the coverage of the interval
    gaussian    d²/(2σ²) + log σ, d = y − mean

Losses are in units of the errors of the linear map (`series_network.py`), and are means over steps and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.config import TrainConfig
from chargen.config.series import QUANTILES
from chargen.networks.draws import Draws
from chargen.networks.series_network import SeriesForecast, SeriesNetwork
from chargen.tasks.forecasting.windows import Split, take_windows, thin_out
from chargen.training.supervised.objective import Indices, Objective, shuffled_batches

MAX_CHOICE_WINDOWS = 4000  #: windows by which the best weights are chosen
MAX_BATCH_VALUES = 1 << 20  #: numbers in the windows of a batch of forecasts
MIN_WIDTH = 1e-6  #: in units of the errors of the linear map


@dataclass(frozen=True)
class SeriesData:
    """A standardized series with its calendar features and its parts."""

    values: NDArray[np.float32]  #: [N, C]
    calendar: NDArray[np.float32]  #: [N, D]
    split: Split

    def windows(self, starts: Indices, network: SeriesNetwork) -> tuple[Tensor, Tensor]:
        """Return the (values [T, B, C], calendar features [T, B, D]) of windows, on the device of a network."""
        history, device = network.config.history, next(network.parameters()).device
        values, calendar = (take_windows(rows, starts, history) for rows in (self.values, self.calendar))
        return tuple(torch.from_numpy(part.swapaxes(0, 1).copy()).to(device) for part in (values, calendar))  # type: ignore[return-value]

    def futures(self, starts: Indices, network: SeriesNetwork) -> Tensor:
        """Return what follows windows, [B, F, K], on the device of a network."""
        config = network.config
        rows = take_windows(self.values, starts + config.history, config.horizon)[..., : config.num_targets]
        return torch.from_numpy(rows).to(next(network.parameters()).device)


class ForecastObjective(Objective):
    """The windows of a series, and the network that forecasts what follows them.

    Args:
        network: The network, with its linear map.
        data: The series.
        coverage: Share of the values that the interval is to contain.
        train: The settings of the training: batch size and seed.
    """

    def __init__(self, network: SeriesNetwork, data: SeriesData, coverage: float, train: TrainConfig) -> None:
        self.network, self._network, self._data = network, network, data
        self._coverage, self._train = coverage, train
        self._choice = thin_out(data.split.choice, MAX_CHOICE_WINDOWS)
        self.num_examples, self.num_validated = len(data.split.training), len(self._choice)

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Return all training windows once, in random order; see `Objective.batches`."""
        return shuffled_batches(self.num_examples, self._train.batch_size, self._train.seed, epoch)

    def loss(self, batch: Indices, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some training windows; see `Objective.loss`."""
        return self._loss(self._data.split.training[batch], Draws(generator))

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the mean loss of the windows that choose the best weights, or of some thousands of them."""
        total = sum(float(self._loss(starts)) * len(starts) for starts in batches_of(self._choice, self._network))
        return total / len(self._choice)

    def _loss(self, starts: Indices, draws: Draws | None = None) -> Tensor:
        forecast = self._network(*self._data.windows(starts, self._network), draws)
        return series_loss(self._network, forecast, self._data.futures(starts, self._network), self._coverage)


def batches_of(starts: Indices, network: SeriesNetwork) -> Iterator[Indices]:
    """Yield windows in batches that fit the memory."""
    config = network.config
    numbers = config.num_linear_inputs + config.history * config.hidden_size + 4 * config.num_values
    size = max(1, MAX_BATCH_VALUES // numbers)
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def series_loss(network: SeriesNetwork, forecast: SeriesForecast, futures: Tensor, coverage: float) -> Tensor:
    """Return the mean loss of forecasts, as a scalar with a gradient.

    Args:
        network: The network that made them.
        forecast: The forecasts, [B, F, K].
        futures: The values that were forecast, [B, F, K].
        coverage: Share of the values that the interval is to contain.
    """
    scale = network.error_scale()
    error = (futures - forecast.center) / scale
    low, high = ((width / scale).clamp_min(MIN_WIDTH) for width in forecast[1:])
    if network.config.output != QUANTILES:
        return (0.5 * (error / low).square() + low.log()).mean()
    tail = (1.0 - coverage) / 2
    losses = (_pinball(error + low, tail), _pinball(error, 0.5), _pinball(error - high, 1.0 - tail))
    return torch.stack(losses).sum(0).mean()


def _pinball(error: Tensor, quantile: float) -> Tensor:
    return torch.maximum(quantile * error, (quantile - 1.0) * error)
