"""Calendar features: known positions in the day, the week and the year, and only those that a series can show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.tasks.forecasting.calendar import PERIODS_S, calendar_features, calendar_names

DAY, WEEK, YEAR = PERIODS_S


@pytest.mark.parametrize(
    ("name", "time", "sine", "cosine"),
    [
        (DAY, "2013-05-01T00:00", 0, 1), (DAY, "2013-05-01T06:00", 1, 0), (DAY, "1960-01-01T18:00", -1, 0),
        (WEEK, "2024-01-01T00:00", 0, 1), (WEEK, "2024-01-04T12:00", 0, -1), (WEEK, "1969-12-29", 0, 1),
        (YEAR, "2024-01-01", 0, 1), (YEAR, "2023-07-02T12:00", 0, -1), (YEAR, "2024-07-02", 0, -1),
    ],
)  # fmt: skip
def test_features_are_the_position_in_the_period(name: str, time: str, sine: float, cosine: float) -> None:
    features = calendar_features(np.array([time], "datetime64[s]"), [name])
    assert features[0] == pytest.approx([sine, cosine], abs=1e-9)


@given(st.datetimes().map(np.datetime64), st.sampled_from(list(PERIODS_S)))
def test_features_are_points_of_a_circle_that_move_on_with_time(time: np.datetime64, name: str) -> None:
    later = np.array([time, time + np.timedelta64(int(PERIODS_S[name] / 100), "s")])
    features = calendar_features(later, [name])
    assert np.hypot(*features.T) == pytest.approx([1, 1])
    angle = np.arctan2(features[:, 0], features[:, 1])
    assert (angle[1] - angle[0]) % (2 * np.pi) == pytest.approx(2 * np.pi / 100, abs=0.07 if name == YEAR else 1e-3)


def test_only_features_that_a_series_can_show_are_used() -> None:
    hour, day, month = 3600.0, 86_400.0, 30.4 * 86_400
    assert calendar_names(hour, 8_760) == (DAY, WEEK)  # one year shows no second summer
    assert calendar_names(hour, 3 * 8_760) == (DAY, WEEK, YEAR)
    assert calendar_names(hour, 24 * 3) == (DAY,)
    assert calendar_names(60.0, 60) == ()
    assert calendar_names(day, 1_000) == (WEEK, YEAR)
    assert calendar_names(month, 60) == (YEAR,)
    assert calendar_names(12 * month, 60) == ()
    assert calendar_names(None, 1_000) == ()


def test_several_features_are_side_by_side() -> None:
    times = np.array(["2013-01-01", "2013-01-02"], "datetime64[us]")
    both = calendar_features(times, [DAY, YEAR])
    assert both.shape == (2, 4) and np.array_equal(both[:, 2:], calendar_features(times, [YEAR]))
    assert calendar_features(times, []).shape == (2, 0)
