"""The speed of a training run is a moving average, and its times add up to the budget."""

from __future__ import annotations

import time

import pytest

from chargen.training.budget import Budget, MovingRate


def test_a_steady_rate_is_found_at_once_and_a_short_slow_part_hardly_changes_it() -> None:
    rate = MovingRate(10.0)
    assert rate.add(500, 0.5) == 1000
    for _ in range(20):
        assert rate.add(1000, 1.0) == pytest.approx(1000)
    assert 900 < rate.add(10, 0.5) < 1000  # 20 per second in half a second
    assert 900 < rate.add(1000, 0.1) < 1100  # 10,000 per second in a tenth of a second


def test_a_lasting_change_of_the_rate_is_followed() -> None:
    rate = MovingRate(10.0)
    for _ in range(60):
        rate.add(1000, 1.0)
    for _ in range(30):
        newest = rate.add(100, 1.0)
    assert newest == pytest.approx(100, rel=0.6)


def test_elapsed_and_remaining_time_add_up_to_the_budget() -> None:
    budget = Budget(time.perf_counter() - 20.0, 60.0, None, 1000, previous_s=5.0, s_per_eval_id=0.001)
    assert budget.elapsed_s() + budget.remaining_s(10, 1.0) == pytest.approx(60.0, abs=0.01)
    late = Budget(time.perf_counter() - 70.0, 60.0, None, 1000)
    assert late.remaining_s(10, 1.0) == 0.0
