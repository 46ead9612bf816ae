"""Forecasts as JSON: times in UTC are marked as such."""

from __future__ import annotations

import numpy as np
import pytest

from chargen.tasks.forecasting.forecaster import Forecast
from chargen.tasks.forecasting.next_values import NextValues
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.ui.forecasts import forecast_json


@pytest.mark.parametrize(("is_utc", "end"), [(True, "Z"), (False, "")])
@pytest.mark.parametrize(("unit", "fraction"), [("s", ""), ("us", ".500000")])
def test_times_that_were_converted_to_utc_end_with_z(is_utc: bool, end: str, unit: str, fraction: str) -> None:
    times = np.array([f"2013-10-27T0{hour}:00:00{fraction}" for hour in range(2)], f"datetime64[{unit}]")
    value = np.zeros((1, 2, 1))
    values = NextValues("", times, None, np.zeros((3, 1)), Forecast(value, value, value), is_utc)
    objects = forecast_json([values], ForecastConfig(("y",), history=3, horizon=2))
    assert [each["time"] for each in objects] == [f"2013-10-27T0{hour}:00:00{fraction}{end}" for hour in range(2)]
