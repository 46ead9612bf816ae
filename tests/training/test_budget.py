"""The speed of a training run is a moving average, and its times add up to the budget."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


NOW = 1000.0


@pytest.fixture(scope="module")
def stopped_clock() -> Iterator[None]:
    """Let the clock of all budgets stand still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.training.budget.time", SimpleNamespace(perf_counter=lambda: NOW))
        yield


@pytest.mark.usefixtures("stopped_clock")
class TestTwoLimits:
    """A budget with a number of steps as well ends with the first of them."""

    def test_a_run_ends_with_the_first_of_two_limits(self) -> None:
        slow = Budget(NOW - 100.0, 90.0, 40, 100)
        assert slow.progress(3) == 1.0  # its time is over
        assert not slow.has_reached_max_steps(3)
        fast = Budget(NOW - 1.0, 90.0, 40, 100)
        assert [fast.progress(step) for step in (10, 20, 40, 50)] == [0.25, 0.5, 1.0, 1.0]
        assert [fast.has_reached_max_steps(step) for step in (39, 40, 41)] == [False, True, True]

    def test_only_steps_that_limit_a_time_budget_use_up_a_text(self) -> None:
        for budget_s, steps in ((None, 40), (90.0, None)):
            assert not Budget(NOW, budget_s, steps, 100).has_reached_max_steps(40)

    @given(st.floats(2.0, 95.0), st.floats(0.0, 10.0), st.integers(0, 120), st.integers(0, 20))
    def test_the_progress_never_falls_and_is_that_of_the_nearer_limit(
        self, elapsed_s: float, more_s: float, step: int, more_steps: int
    ) -> None:
        def progress(seconds: float, num_steps: int, total_steps: int | None) -> float:
            return Budget(NOW - seconds, 90.0, total_steps, 100, first_step_s=2.0).progress(num_steps)

        now = progress(elapsed_s, step, 100)
        assert now <= progress(elapsed_s + more_s, step + more_steps, 100) <= 1.0
        assert now == max(progress(elapsed_s, step, None), min(1.0, step / 100))

    def test_the_remaining_time_is_that_of_the_nearer_limit(self) -> None:
        budget = Budget(NOW - 20.0, 60.0, 100, 1000, s_per_eval_id=0.001)
        final_s = budget.final_evaluation_s()
        assert final_s > 1.0
        assert budget.remaining_s(90, 1.0) == pytest.approx(10.0 + final_s)  # ten steps, one per second
        assert budget.remaining_s(10, 1.0) == pytest.approx(40.0)  # what the budget leaves
        assert budget.remaining_s(100, 1.0) == pytest.approx(final_s)


@pytest.mark.usefixtures("stopped_clock")
def test_a_run_of_steps_that_gets_a_budget_goes_on_where_it_is_in_the_longer_run() -> None:
    by_steps = Budget(NOW - 5.0, None, 40, 0)
    assert by_steps.progress(0) == 0.0
    resumed = Budget(NOW - 2.0, 60.0, None, 0, previous_s=20.0, first_step_s=by_steps.first_step_s)
    training_s = 60.0 - resumed.final_evaluation_s() - 5.0  # the first step was made after 5 s
    assert resumed.progress(20) == pytest.approx((20.0 + 2.0 - 5.0) / training_s)
    of_an_earlier_version = Budget(NOW - 2.0, 60.0, None, 0, previous_s=20.0)
    assert of_an_earlier_version.progress(20) == pytest.approx(22.0 / (60.0 - resumed.final_evaluation_s()))
