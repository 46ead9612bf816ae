"""The training of forecasters: what they learn, what they are compared with, and how runs are continued."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.errors import ConfigError, ModelError
from chargen.tasks.forecasting.comparison import FORECASTER, LINEAR, PERSISTENCE, SEASONAL
from chargen.tasks.forecasting.settings import RECURSIVE, ForecastConfig
from chargen.tasks.forecasting.train import split_series
from tests.tasks.forecasting.examples import autoregressive, balls, error_of, make_series, train


def test_of_a_linear_process_the_forecast_is_no_worse_than_the_linear_autoregression(tmp_path: Path) -> None:
    trained = train(make_series(autoregressive()), tmp_path, 5, 1, network={})
    assert error_of(trained, FORECASTER) < 1.01 * error_of(trained, LINEAR)
    assert error_of(trained, LINEAR) == pytest.approx(np.sqrt(2 / np.pi), rel=0.1)  # the noise has the deviation 1
    assert error_of(trained, FORECASTER) < 0.7 * error_of(trained, PERSISTENCE)


@pytest.mark.slow
def test_five_frames_of_a_ball_tell_where_it_goes_and_one_does_not(tmp_path: Path) -> None:
    five = train(balls(), tmp_path, 5, 10, steps=1500, network={"hidden_size": 64})
    one = train(balls(), tmp_path, 1, 10, steps=300, network={"hidden_size": 64})
    assert five.comparison.measures[0].mae.max() < 0.015
    assert one.comparison.measures[0].mae.min() > 0.08


@pytest.mark.slow
def test_a_network_learns_what_a_linear_map_cannot(tmp_path: Path) -> None:
    x = np.empty(2500)  # the logistic map: no linear function of the past tells the next value
    x[0] = 0.3
    for t in range(1, len(x)):
        x[t] = 3.9 * x[t - 1] * (1.0 - x[t - 1])
    trained = train(make_series(x[:, None]), tmp_path, 2, 1, steps=1000, network={"hidden_size": 32, "dropout": 0.0})
    assert error_of(trained, FORECASTER) < 0.2 * error_of(trained, LINEAR)


def test_another_column_that_leads_the_target_helps(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=3001)
    values = np.stack([noise[:-1], noise[1:]], axis=1)  # the second column is the next value of the first
    alone = train(make_series(values[:, :1]), tmp_path, 3, 1, steps=50)
    helped = train(make_series(values, num_inputs=1), tmp_path, 3, 1, steps=50)
    assert error_of(helped, FORECASTER) < 0.1 * error_of(alone, FORECASTER)


def test_a_season_is_compared_with_the_season_before(tmp_path: Path) -> None:
    hours = np.arange(24 * 80)
    rng = np.random.default_rng(0)
    day = np.sin(2 * np.pi * hours / 24) + 0.1 * rng.normal(size=len(hours))
    trained = train(make_series(day[:, None], hours=True), tmp_path, 24, 6, steps=100)
    assert trained.comparison.period == 24
    assert trained.forecaster.config.calendar[0] == "hour of the day"
    assert error_of(trained, SEASONAL) < 0.3 * error_of(trained, PERSISTENCE)
    assert error_of(trained, FORECASTER) < error_of(trained, SEASONAL)


@pytest.mark.parametrize("more", [{"strategy": "recursive"}, {"output": "gaussian"}, {"coverage": 0.5}])
def test_strategies_and_outputs_cover_what_they_promise(tmp_path: Path, more: dict[str, object]) -> None:
    trained = train(make_series(autoregressive(12_000)), tmp_path, 5, 4, **more)
    own = trained.comparison.measures[0]
    assert own.coverage is not None
    assert own.coverage[0] == pytest.approx(more.get("coverage", 0.9), abs=0.05)
    assert error_of(trained, FORECASTER) < 1.03 * error_of(trained, LINEAR)


def test_no_value_that_calibrates_a_recursive_forecast_was_learned() -> None:
    T, F = 24, 24
    training, whole = split_series(make_series(np.zeros((2000, 1))), ForecastConfig(("c0",), (), T, F, RECURSIVE))
    learned = training.training + T  # each window has a future of one step
    calibrated = np.unique(whole.choice[:, None] + T + np.arange(F))
    assert len(learned) > 1000 and len(calibrated) == 200
    assert not np.isin(learned, calibrated).any()


def test_a_better_baseline_is_named_and_a_constant_series_is_no_problem(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=(400, 1))
    values[310:] = 1.0  # from here on the last value is right, which nothing before could tell
    changed = train(make_series(values), tmp_path, 5, 1, steps=20)
    assert [each.method for each in changed.comparison.better_baselines()][0] == PERSISTENCE
    assert any(note.startswith("persistence has a lower error") for note in changed.notes)
    constant = train(make_series(np.full((300, 1), 7.0)), tmp_path, 3, 2, steps=20)
    assert error_of(constant, FORECASTER) < 1e-3


def test_shifted_and_scaled_values_give_shifted_and_scaled_forecasts(tmp_path: Path) -> None:
    plain = train(make_series(autoregressive(1000)), tmp_path, 4, 2, steps=50)
    scaled = train(make_series(1e4 * autoregressive(1000) + 3e6), tmp_path, 4, 2, steps=50)
    assert error_of(scaled, FORECASTER) == pytest.approx(1e4 * error_of(plain, FORECASTER), rel=0.01)


@pytest.mark.parametrize("stop_after", [1, 17, 40])
def test_a_resumed_run_writes_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    series = make_series(autoregressive(800))
    whole = train(series, tmp_path / "whole", 4, 2, steps=45)
    stopped = train(series, tmp_path / "parts", 4, 2, steps=45, stop_after=stop_after)
    assert stopped.interrupted
    parts = train(series, tmp_path / "parts", 4, 2, steps=45, resume="m")
    first, second = ((each.folder / "forecaster.safetensors").read_bytes() for each in (whole, parts))
    assert first == second


def test_a_run_is_resumed_on_the_device_on_which_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = make_series(autoregressive(800))
    train(series, tmp_path, 4, 2, steps=20, stop_after=5, device="cpu")
    monkeypatch.setattr("chargen.networks.torch_runtime.list_devices", lambda: ["cpu", "cuda"])
    resumed = train(series, tmp_path, 4, 2, steps=20, resume="m")
    assert next(resumed.forecaster.network.parameters()).device.type == "cpu"
    assert not resumed.interrupted


def test_a_run_is_not_resumed_beyond_its_end_or_on_other_data(tmp_path: Path) -> None:
    from dataclasses import replace

    series = make_series(autoregressive(800))
    train(series, tmp_path, 4, 2, steps=20)
    with pytest.raises(ConfigError, match="already has 20 steps, more than --steps 10"):
        train(series, tmp_path, 4, 2, steps=10, resume="m")
    with pytest.raises(ModelError, match="other data"):
        train(replace(series, sha256="1" * 64), tmp_path, 4, 2, steps=30, resume="m")


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="future values are not known"):
        ForecastConfig(("a",), ("b",), strategy="recursive")
    with pytest.raises(ConfigError, match="'a' is given twice"):
        ForecastConfig(("a",), ("a",))
