"""Baselines: their plain formulas, no reading of the future, and a planted linear process that is found again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.tasks.forecasting.baselines import LinearAutoregression, persistence, season_length, seasonal_naive

HOUR_S, DAY_S = 3600.0, 86_400.0


@given(
    st.integers(1, 8), st.integers(1, 9), st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
)  # fmt: skip
def test_seasonal_naive_is_its_formula_and_reads_no_future(
    period: int, horizon: int, seed: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    starts = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    values = rng.normal(size=(sum(sizes), 3))
    rows = rng.integers(0, len(values), 5)
    forecasts = seasonal_naive(values, rows, horizon, 2, period, starts)
    assert forecasts.shape == (5, horizon, 2)
    for row, forecast in zip(rows, forecasts, strict=True):
        first = max(start for start in starts if start <= row)
        for h in range(1, horizon + 1):
            known = [row + h - k * period for k in range(1, horizon + 1) if row + h - k * period <= row]
            expected = known[0] if known[0] >= first else row
            assert np.array_equal(forecast[h - 1], values[expected, :2])
    if period == 1:
        assert np.array_equal(forecasts, persistence(values, rows, horizon, 2))


def test_persistence_repeats_the_last_value() -> None:
    values = np.arange(10.0).reshape(5, 2)
    assert persistence(values, np.array([1, 4]), 3, 1).tolist() == [[[2], [2], [2]], [[8], [8], [8]]]


@pytest.mark.parametrize(
    ("step_s", "period"),
    [
        (HOUR_S, 24), (HOUR_S / 6, 144), (6 * HOUR_S, 4), (DAY_S, 7), (8 * HOUR_S, 21), (7 * DAY_S, 52),
        (365.2425 / 12 * DAY_S, 12), (365.2425 / 4 * DAY_S, 4), (365.2425 * DAY_S, 1),
    ],
)  # fmt: skip
def test_the_season_follows_from_the_distance_of_times(step_s: float, period: int) -> None:
    assert season_length(step_s, np.zeros((300, 1))) == period


def test_a_series_shorter_than_two_days_has_the_season_of_its_autocorrelation() -> None:
    wave = np.tile([0.0, 1.0, 3.0, 1.0, -2.0], 50)[:, None]
    assert season_length(60.0, wave) == 5 and season_length(HOUR_S, wave) == 24


@pytest.mark.parametrize("period", [3, 17, 50])
def test_without_times_the_season_is_the_lag_of_the_highest_autocorrelation(period: int) -> None:
    rng = np.random.default_rng(period)
    wave = np.tile(rng.normal(size=period), 600 // period + 1)[:600]
    assert season_length(None, (wave + 0.3 * rng.normal(size=600))[:, None]) % period == 0
    assert season_length(None, wave[:, None]) == period


def test_a_series_without_a_season_has_the_period_one() -> None:
    assert season_length(None, np.ones((50, 1))) == 1
    assert season_length(None, np.arange(300.0)[:, None]) == 1
    assert season_length(None, np.zeros((1, 1))) == 1
    assert season_length(None, np.random.default_rng(0).normal(size=(20_000, 1))) == 1


def make_examples(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, 2, 2))
    features = rng.normal(size=(count, 6)) * 2 + 5
    targets = np.tensordot(features, weight, axes=1) + 1.5 + noise * rng.normal(size=(count, 2, 2))
    return features, targets, weight


def test_a_planted_linear_process_is_found_again() -> None:
    features, targets, weight = make_examples(5_000, 0.1)
    model = LinearAutoregression.fit([(features, targets)])
    assert model.weight == pytest.approx(weight, abs=0.01) and model.bias == pytest.approx(1.5, abs=0.05)
    assert np.sqrt(np.mean((model.forecast(features) - targets) ** 2)) == pytest.approx(0.1, rel=0.02)


def test_a_planted_autoregression_is_found_from_its_windows() -> None:
    rng = np.random.default_rng(1)
    y = np.zeros(20_000)
    for t in range(2, len(y)):  # y(t) = 0.6 y(t−1) − 0.3 y(t−2) + noise
        y[t] = 0.6 * y[t - 1] - 0.3 * y[t - 2] + rng.normal()
    rows = np.arange(3, len(y) - 1)
    features = np.stack([y[rows - 2], y[rows - 1], y[rows]], axis=1)
    model = LinearAutoregression.fit([(features, y[rows + 1][:, None, None])])
    assert model.weight[:, 0, 0] == pytest.approx([0, -0.3, 0.6], abs=0.025)
    errors = model.forecast(features)[:, 0, 0] - y[rows + 1]
    assert np.abs(errors).mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)  # the mean of |a standard normal|


def test_it_is_least_squares_with_a_penalty_and_blocks_do_not_matter() -> None:
    features, targets, _ = make_examples(300, 1.0)
    whole = LinearAutoregression.fit([(features, targets)], ridge=0.01)
    parts = LinearAutoregression.fit(
        ((features[k : k + 70], targets[k : k + 70]) for k in range(0, 300, 70)), ridge=0.01
    )
    assert parts.weight == pytest.approx(whole.weight, abs=1e-9) and parts.bias == pytest.approx(whole.bias, abs=1e-9)
    x, y = features - features.mean(axis=0), (targets - targets.mean(axis=0)).reshape(300, -1)
    penalty = np.sqrt(0.01 * np.square(x).sum(axis=0).mean())
    expected = np.linalg.lstsq(np.vstack([x, penalty * np.eye(6)]), np.vstack([y, np.zeros((6, 4))]), rcond=None)[0]
    assert whole.weight.reshape(6, 4) == pytest.approx(expected, abs=1e-9)


def test_equal_or_constant_features_are_no_problem() -> None:
    features, targets, _ = make_examples(200, 0.0)
    twice = np.concatenate([features, features, np.ones((200, 2))], axis=1)
    model = LinearAutoregression.fit([(twice, targets)])
    assert model.forecast(twice) == pytest.approx(targets, abs=1e-3)
    assert np.isfinite(LinearAutoregression.fit([(np.ones((3, 2)), targets[:3])]).weight).all()
