"""Train a forecaster: `chargen forecast --train FILE --column NAME`.

    series ─▶ 70 % ─▶ linear map by least squares, then the network by the loss of `objective.py`
              10 % ─▶ choose the best weights, calibrate the interval
              20 % ─▶ measure the forecasts beside the baselines      (nothing else uses these values)

If no weights of the network have a lower loss on the second part than the linear map alone, the linear map is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen import __version__
from chargen.config import FLOAT16, TrainConfig
from chargen.config.series import SeriesConfig
from chargen.errors import ConfigError, ModelError
from chargen.networks.series_network import FITTED, SeriesNetwork
from chargen.networks.torch_runtime import resolve_device
from chargen.run_writer import RunWriter, create_run, resume_run
from chargen.runs import FORECASTER_FILE
from chargen.schema import format_count
from chargen.storage.stored_weights import round_weights
from chargen.tasks.forecasting.calendar import calendar_features, calendar_names
from chargen.tasks.forecasting.comparison import Comparison, choose_windows, compare
from chargen.tasks.forecasting.forecaster import Forecaster, window_arrays
from chargen.tasks.forecasting.linear_map import fit_linear_map, unexplained_share
from chargen.tasks.forecasting.objective import ForecastObjective, SeriesData
from chargen.tasks.forecasting.saved import KIND, save_forecaster
from chargen.tasks.forecasting.series import Series
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.tasks.forecasting.windows import Scaling, Split, split_windows
from chargen.training.choices import RunLength
from chargen.training.supervised.loop import SAVE_EVERY_S, Fit, FitPlan, FitReport
from chargen.training.supervised.state import SupervisedState, load_supervised_state, resumed_config

BATCH_SIZE = 64  #: windows of a training step
BETA1, WEIGHT_DECAY, FINAL_LEARNING_RATE = 0.9, 0.01, 0.01
NOISY_SHARE = 0.5  #: share of the variance of the next changes that a linear map leaves, above which a series is noisy


@dataclass(frozen=True)
class Recipe:
    """The settings that suit a kind of series."""

    hidden_size: int
    dropout: float
    learning_rate: float  #: peak
    max_epochs: float  #: a time budget trains for at most this number of passes over the windows


#: what a linear map leaves of a noisy series is mostly chance, which a network must not learn
NOISY = Recipe(hidden_size=64, dropout=0.4, learning_rate=2e-3, max_epochs=8.0)
REGULAR = Recipe(hidden_size=128, dropout=0.0, learning_rate=3e-3, max_epochs=200.0)
MAX_INTERPOLATED = 0.1  #: share of rows with a value on a straight line above which a note names `--fill previous`
FEW_WINDOWS = 50  #: below this number of windows, a note says that the figures are uncertain


@dataclass(frozen=True)
class ForecasterPlan:
    """What a forecaster is trained on, and how."""

    series: Series
    config: ForecastConfig  #: what is forecast; for a resumed run, the result of `load_resumed`
    name: str  #: name of the run under checkpoints/; if it is taken, -2, -3, … is appended
    length: RunLength
    use_calendar: bool = True  #: whether the network reads the calendar features that suit the series
    network: dict[str, Any] = field(default_factory=dict)  #: fields of `SeriesConfig` that the user chose
    seed: int = 0
    device: str = "auto"  #: device for torch
    resume: str = ""  #: name of the run that is continued
    stop_after: int | None = None  #: the step after which the run is interrupted
    started: float = field(default_factory=time.perf_counter)  #: when the budget started


@dataclass(frozen=True)
class TrainedForecaster:
    """A forecaster that was just trained."""

    folder: Path  #: its absolute path
    forecaster: Forecaster
    comparison: Comparison  #: measured on held-out time
    step: int  #: optimizer steps
    interrupted: bool
    notes: tuple[str, ...]


def load_resumed(name: str) -> ForecastConfig:
    """Return what the run to resume forecasts; its file is read with the same settings.

    Raises:
        ModelError: If there is no such run, or it does not train a forecaster.
        RunInUseError: If another process is writing it.
    """
    with resume_run(name) as writer:
        return _task(load_supervised_state(writer.run, KIND))[0]


def _task(saved: SupervisedState) -> tuple[ForecastConfig, SeriesConfig]:
    try:
        return ForecastConfig.from_json(saved.task["forecast"]), SeriesConfig.from_json(saved.task["network"])
    except (KeyError, ConfigError) as error:
        raise ModelError(f"the training state is damaged: {error}", "Start a new run.") from error


def train_forecaster(
    plan: ForecasterPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[FitReport | TrainedForecaster]:
    """Train a forecaster. Yield reports during the training, and last the forecaster.

    Args:
        plan: The series and the settings. With a time budget, the training ends after some passes at the latest.
        stop: Returns True when the training is to end; the best weights so far are kept.

    Raises:
        ChargenError: If the series, the settings or the disk do not allow it, or it was stopped before its first step.
    """
    training, whole = split_series(plan.series, plan.config)
    with resume_run(plan.resume) if plan.resume else create_run(plan.name) as writer:
        saved = load_supervised_state(writer.run, KIND) if plan.resume else None
        setup = _Setup.of(plan, training, saved, writer)
        yield from setup.fit.reports(stop)
        notes = setup.keep_linear_map()
        forecaster, comparison = setup.finish(whole)
        save_forecaster(writer.run.folder / FORECASTER_FILE, forecaster)
        writer.commit()
    notes += _notes(comparison, whole, plan.series)
    fit = setup.fit
    yield TrainedForecaster(
        writer.run.folder.absolute(), forecaster, comparison, fit.step, fit.interrupted, tuple(notes)
    )


@dataclass(frozen=True)
class _Setup:
    """A training run before its first step."""

    plan: ForecasterPlan
    config: ForecastConfig
    data: SeriesData
    scaling: Scaling
    fit: Fit
    linear_weights: dict[str, np.ndarray]  #: the network that is the linear map alone
    linear_loss: float

    @classmethod
    def of(cls, plan: ForecasterPlan, split: Split, saved: SupervisedState | None, writer: RunWriter) -> _Setup:
        """Prepare the data and the network of a new run, or those of the run to resume."""
        series, device = plan.series, resolve_device(plan.device, saved.train.device if saved else "auto")
        scaling = Scaling.of(series.values[split.training_rows])
        config = (
            _task(saved)[0] if saved else replace(plan.config, calendar=_calendar(plan, split), step_s=series.step_s)
        )
        data = SeriesData(scaling.apply(series.values), calendar_of(series, config.calendar), split)
        recipe = choose_recipe(config, data)
        network_config = _task(saved)[1] if saved else choose_network(config, data, recipe, plan.network)
        train = _train_config(plan, recipe, saved, device)
        network = SeriesNetwork(network_config, torch.Generator().manual_seed(train.seed)).to(device)
        fit_linear_map(network, data)
        objective = ForecastObjective(network, data, config.coverage, train)
        linear_weights, linear_loss = network.export_weights(), objective.validation_loss()
        task = {"forecast": config.to_json(), "network": network_config.to_json()}
        fit_plan = FitPlan(
            KIND, task, series.sha256, train, plan.started, recipe.max_epochs, plan.stop_after, SAVE_EVERY_S
        )
        fit = Fit(objective, fit_plan, writer, saved)
        return cls(plan, config, data, scaling, fit, linear_weights, linear_loss)

    def keep_linear_map(self) -> list[str]:
        """Go back to the linear map if the training has not lowered the loss, and return a note about it."""
        if self.fit.best_loss < self.linear_loss:
            return []
        self.fit.objective.network.import_weights(self.linear_weights)
        return ["the training did not improve on the linear autoregression, which is kept: try a longer --budget"]

    def finish(self, split: Split) -> tuple[Forecaster, Comparison]:
        """Calibrate the interval, and measure the forecaster on held-out time."""
        config, series = self.config, self.plan.series
        network = self.fit.objective.network
        assert isinstance(network, SeriesNetwork)
        network.import_weights(round_weights(network.export_weights(), FLOAT16, exact=FITTED))  # as in its file
        factors = np.ones((config.horizon, len(config.targets)))
        forecaster = Forecaster(config, network, self.scaling, factors, {}, (None,) * len(config.targets))
        choice, held_out = (
            choose_windows(part, forecaster, self.data.calendar.shape[1]) for part in (split.choice, split.held_out)
        )
        windows = window_arrays(series.values, self.data.calendar, choice, config)
        forecaster = forecaster.calibrate(*windows).with_levels(series.values[split.training_rows], *windows)
        comparison = compare(forecaster, series, replace(self.data, split=split), held_out)
        about = {"step": self.fit.best_step, "held_out": comparison.to_json(), "chargen": __version__}
        return replace(forecaster, about=about), comparison


def split_series(series: Series, config: ForecastConfig) -> tuple[Split, Split]:
    """Return the windows of the training, and those that calibrate and measure the forecasts of the whole horizon.

    They differ for a recursive forecast, whose network is trained on futures of a single step. Both have the same
    periods, so no value that calibrates the interval was learned.

    Raises:
        CorpusError: If a part has no window.
    """
    whole, training = (
        split_windows(
            series.starts, series.is_filled, config.history, horizon,
            is_interpolated=series.is_interpolated, period_horizon=config.horizon,
        )
        for horizon in (config.horizon, config.num_direct_steps)
    )  # fmt: skip
    return training, whole


def calendar_of(series: Series, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the calendar features of the rows of a series, [N, D]; D = 0 without names."""
    if not names or series.times is None:
        return np.zeros((len(series.values), 0), dtype=np.float32)
    return calendar_features(series.times, names).astype(np.float32)


def _calendar(plan: ForecasterPlan, split: Split) -> tuple[str, ...]:
    """Return the names of the calendar features that the training rows of a group can teach."""
    if not plan.use_calendar:
        return ()
    return calendar_names(plan.series.step_s, int(split.training_rows.sum()) // len(plan.series.starts))


def choose_recipe(config: ForecastConfig, data: SeriesData) -> Recipe:
    """Return the settings that suit a series: it is noisy if a linear map leaves most of the variance of its changes.

    The changes are those from one step to the next: over several steps, every series is harder to forecast.
    """
    share = unexplained_share(data, config.history, len(config.targets))
    return NOISY if share > NOISY_SHARE else REGULAR


def choose_network(config: ForecastConfig, data: SeriesData, recipe: Recipe, chosen: dict[str, Any]) -> SeriesConfig:
    """Return the network for a series.

    Args:
        config: What is forecast.
        data: The series.
        recipe: The size and the dropout, if the user chose none.
        chosen: Fields of `SeriesConfig` that the user chose.

    Raises:
        ConfigError: If a field is out of range.
    """
    num_targets = len(config.targets)
    return SeriesConfig(
        num_columns=data.values.shape[1],
        num_targets=num_targets,
        num_calendar=data.calendar.shape[1],
        history=config.history,
        horizon=config.num_direct_steps,
        output=config.output,
        **{"hidden_size": recipe.hidden_size, "dropout": recipe.dropout, **chosen},
    )


def _train_config(plan: ForecasterPlan, recipe: Recipe, saved: SupervisedState | None, device: str) -> TrainConfig:
    if saved:
        return replace(resumed_config(saved, plan.length, plan.resume), device=device)
    return TrainConfig(
        **plan.length.chosen(),
        batch_size=BATCH_SIZE,
        learning_rate=recipe.learning_rate,
        final_learning_rate=FINAL_LEARNING_RATE,
        beta1=BETA1,
        weight_decay=WEIGHT_DECAY,
        seed=plan.seed,
        device=device,
    )


def _notes(comparison: Comparison, split: Split, series: Series) -> list[str]:
    """Return what a user should know about the figures."""
    notes = []
    for each in comparison.better_baselines()[:1]:
        notes.append(f"{each.method} has a lower error on held-out time: use it instead, or train longer (--budget)")
    for part, purpose in ((split.choice, "calibrate the interval"), (split.held_out, "measure the forecasts")):
        if len(part) < FEW_WINDOWS:
            notes.append(f"only {format_count(len(part), 'window')} {purpose}, so the figures are uncertain")
    interpolated = float(series.is_interpolated.mean())
    if interpolated > MAX_INTERPOLATED:
        notes.append(
            f"{interpolated:.0%} of the rows have a value on a straight line, and no window ends in one of them; "
            "--fill previous uses these windows, too"
        )
    return notes
