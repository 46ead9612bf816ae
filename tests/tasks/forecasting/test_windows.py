"""Windows of a series: no value is both learned and measured, and no window crosses from one group to the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.tasks.forecasting.windows import Scaling, Split, split_windows, take_windows, thin_out


def split(starts: tuple[int, ...], num_rows: int, history: int, horizon: int) -> Split:
    return split_windows(starts, np.zeros(num_rows, dtype=bool), history, horizon)


def future_rows(starts: np.ndarray, history: int, horizon: int) -> set[int]:
    return set((starts[:, None] + history + np.arange(horizon)).ravel().tolist())


@given(
    num_groups=st.sampled_from([1, 2, 5, 10, 23]), length=st.integers(60, 300), history=st.integers(1, 12),
    horizon=st.integers(1, 6),
)  # fmt: skip
def test_a_future_belongs_to_one_part_and_a_window_to_one_group(
    num_groups: int, length: int, history: int, horizon: int
) -> None:
    starts = tuple(range(0, num_groups * length, length))
    parts = split(starts, num_groups * length, history, horizon)
    futures = [future_rows(part, history, horizon) for part in (parts.training, parts.choice, parts.held_out)]
    assert not futures[0] & futures[1]
    assert not futures[0] & futures[2]
    assert not futures[1] & futures[2]
    assert not set(np.flatnonzero(parts.training_rows).tolist()) & (futures[1] | futures[2])
    for part in (parts.training, parts.choice, parts.held_out):
        assert (part // length == (part + history + horizon - 1) // length).all()


@given(
    num_groups=st.sampled_from([1, 3]), rows_per_step=st.integers(40, 450), history=st.integers(1, 12),
    horizon=st.integers(1, 24),
)  # fmt: skip
@example(num_groups=1, rows_per_step=83, history=24, horizon=24)  # two periods for 24 steps, ten for one step
def test_windows_of_one_step_are_in_the_periods_of_a_longer_horizon(
    num_groups: int, rows_per_step: int, history: int, horizon: int
) -> None:
    length = rows_per_step * horizon
    starts, is_filled = tuple(range(0, num_groups * length, length)), np.zeros(num_groups * length, dtype=bool)
    whole = split_windows(starts, is_filled, history, horizon)
    single = split_windows(starts, is_filled, history, 1, period_horizon=horizon)
    assert np.array_equal(single.training_rows, whole.training_rows)
    is_learned = np.zeros(len(is_filled), dtype=bool)
    is_learned[single.training + history] = True
    for part in (whole.choice, whole.held_out):
        assert not is_learned[part[:, None] + history + np.arange(horizon)].any()


def test_the_held_out_part_is_the_end_of_the_time() -> None:
    parts = split((0,), 1000, 10, 5)
    assert future_rows(parts.held_out, 10, 5) == set(range(800, 1000))
    assert max(future_rows(parts.training, 10, 5)) < 800
    assert max(future_rows(parts.choice, 10, 5)) == 799
    assert len(np.flatnonzero(np.diff(parts.choice) > 1)) + 1 == 5  # short periods, spread over the time before


def test_many_groups_are_split_as_wholes() -> None:
    parts = split(tuple(range(0, 600, 30)), 600, 5, 10)
    groups = [set((part // 30).tolist()) for part in (parts.training, parts.choice, parts.held_out)]
    assert groups == [set(range(14)), {14, 15}, {16, 17, 18, 19}]


def test_filled_rows_are_learned_but_not_measured() -> None:
    is_filled = np.zeros(1000, dtype=bool)
    is_filled[[100, 790, 900]] = True
    parts = split_windows((0,), is_filled, 10, 5)
    assert 900 not in future_rows(parts.held_out, 10, 5)
    assert 790 not in future_rows(parts.choice, 10, 5)
    assert 100 in future_rows(parts.training, 10, 5)


def test_no_window_ends_in_a_row_that_was_filled_from_a_later_one() -> None:
    late = [100, 610, 611, 790, 900]
    is_filled, is_interpolated = np.zeros(1000, dtype=bool), np.zeros(1000, dtype=bool)
    is_interpolated[late] = True  # of a further input: the targets are known
    parts, without = (split_windows((0,), is_filled, 10, 5, is_interpolated=rows) for rows in (is_interpolated, None))
    num_left_out = 0
    for name in ("training", "choice", "held_out"):
        found, usual = getattr(parts, name), getattr(without, name)
        assert found.tolist() == [start for start in usual.tolist() if start + 9 not in late]
        num_left_out += len(usual) - len(found)
    assert num_left_out == len(late)
    assert {100, 610} <= {row for start in parts.training.tolist() for row in range(start, start + 9)}


def test_rows_that_were_filled_from_a_value_of_the_next_part_are_not_learned() -> None:
    is_interpolated = np.zeros(1000, dtype=bool)
    is_interpolated[[100, 137, 138, 139]] = True  # the first period of training ends before row 140
    parts = split_windows((0,), is_interpolated, 10, 5, is_interpolated=is_interpolated)
    learned = future_rows(parts.training, 10, 5)
    assert {100, 136} <= learned
    assert not {137, 138, 139} & learned
    assert np.flatnonzero(~parts.training_rows[:140]).tolist() == [137, 138, 139]


def test_a_series_with_too_many_gaps_says_so() -> None:
    is_filled = np.zeros(1000, dtype=bool)
    is_filled[800:] = True
    with pytest.raises(CorpusError, match="0 windows of 10") as caught:
        split_windows((0,), is_filled, 10, 5)
    assert "fewer gaps" in caught.value.hint


@pytest.mark.parametrize(("num_rows", "history", "horizon"), [(30, 24, 1), (60, 5, 24), (7, 5, 1), (1, 1, 1)])
def test_a_series_that_is_too_short_is_refused(num_rows: int, history: int, horizon: int) -> None:
    with pytest.raises(CorpusError, match=f"{num_rows} row.*{history} \\+ {horizon} steps"):
        split((0,), num_rows, history, horizon)


def test_scaling_uses_the_training_rows_alone_and_keeps_a_constant_column() -> None:
    values = np.stack([np.arange(10.0), np.full(10, 7.0)], axis=1)
    scaling = Scaling.of(values)
    assert scaling.std.tolist() == [pytest.approx(values[:, 0].std()), 1.0]
    assert scaling.apply(values)[:, 1].tolist() == [0.0] * 10


def test_windows_are_rows_one_after_another() -> None:
    rows = np.arange(20.0).reshape(10, 2)
    assert take_windows(rows, np.array([0, 3]), 2).tolist() == [[[0, 1], [2, 3]], [[6, 7], [8, 9]]]
    assert thin_out(np.arange(10), 3).tolist() == [0, 4, 8]
