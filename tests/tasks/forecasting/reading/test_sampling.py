"""Filled values: which of them were computed from a value that was not known at their time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.tasks.forecasting.reading.sampling import fill_missing, needs_later_value
from chargen.tasks.forecasting.series import Series, read_series
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.tasks.forecasting.train import split_series

NAN = float("nan")
T, F = 4, 2


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(values: np.ndarray, fill: str) -> Series:
    """Read the columns y and x of a file, in which NaN is an empty cell."""
    rows = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in values]
    Path("a.csv").write_text("\n".join(["y,x", *rows]) + "\n")
    return read_series("a.csv", ["y"], inputs=["x"], fill=fill)


def with_gaps(num_rows: int = 300) -> np.ndarray:
    """Return random values [N, 2], of which a tenth is missing in each column, and the first and the last are known."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(num_rows, 2))
    values[1:-1][rng.random((num_rows - 2, 2)) < 0.1] = np.nan
    values[50:54, 0] = np.nan  # a longer gap
    return values


def test_a_value_that_is_known_again_later_is_filled_from_there() -> None:
    values = np.array([[1, 5], [NAN, 5], [NAN, NAN], [3, 5], [4, NAN], [5, NAN]])
    assert needs_later_value(values).tolist() == [False, True, True, False, False, False]
    assert fill_missing(values, "linear")[4:, 1].tolist() == [5, 5]  # up to the end, the last known value is repeated


def test_only_a_straight_line_needs_later_values_and_inputs_count() -> None:
    values = np.array([[0, 0], [1, NAN], [NAN, 2], [3, 3], [4, NAN]])
    linear, previous = (read(values, fill) for fill in ("linear", "previous"))
    assert linear.is_filled.tolist() == [False, False, True, False, False]
    assert linear.is_interpolated.tolist() == [False, True, True, False, False]
    assert not previous.is_interpolated.any()


def test_gaps_of_a_group_and_rows_that_are_left_out_keep_their_places() -> None:
    text = "g,t,y\na,1,\na,2,1\na,4,3\nb,1,5\nb,2,\nb,3,7\n"
    Path("a.csv").write_text(text)
    series = read_series("a.csv", ["y"], group="g", time="t", fill="linear")
    assert series.values[:, 0].tolist() == [1, 2, 3, 5, 6, 7]
    assert series.is_interpolated.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("fill", ["linear", "previous"])
@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_no_history_depends_on_a_value_after_it(fill: str, strategy: str) -> None:
    values = with_gaps()
    series = read(values, fill)
    config = ForecastConfig(("y",), () if strategy == "recursive" else ("x",), T, F, strategy)
    for split in split_series(series, config):
        starts = np.concatenate([split.training, split.choice, split.held_out])
        for start in starts[::9].tolist():
            changed = values.copy()
            changed[start + T :] += 100.0
            assert np.array_equal(read(changed, fill).values[start : start + T], series.values[start : start + T])


def test_a_planted_leak_is_found() -> None:
    values = with_gaps()
    series = read(values, "linear")
    end = int(np.flatnonzero(series.is_interpolated)[0]) + 1  # a history that ends in a filled row
    changed = values.copy()
    changed[end:] += 100.0
    assert not np.array_equal(read(changed, "linear").values[:end], series.values[:end])
