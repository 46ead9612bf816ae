"""Times with a zone or an offset become UTC, and every reader says so."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from chargen.errors import CorpusError
from chargen.tasks.forecasting.reading import table
from chargen.tasks.forecasting.series import Series, read_series

UTC_NOTE = "the times are in UTC"
HOURS = [datetime(2013, 10, 27, hour, tzinfo=timezone.utc) for hour in range(3)]
EXPECTED = "['2013-10-27T00:00:00' '2013-10-27T01:00:00' '2013-10-27T02:00:00']"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_csv(times: list[str]) -> Series:
    Path("a.csv").write_text("time,y\n" + "".join(f"{time},{k}\n" for k, time in enumerate(times)))
    return read_series("a.csv", ["y"])


@pytest.mark.parametrize("zone", ["UTC", "+02:00", "-05:30"])
def test_a_parquet_column_with_a_time_zone_is_read_in_utc_and_a_note_says_so(zone: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    microseconds = [int(time.timestamp()) * 1_000_000 for time in HOURS]
    times = arrow.array(microseconds, arrow.timestamp("us", tz=zone))
    parquet.write_table(arrow.table({"time": times, "y": [1.0, 2.0, 3.0]}), "a.parquet")
    series = read_series("a.parquet", ["y"])
    assert str(series.times) == EXPECTED
    assert series.is_utc and UTC_NOTE in series.notes


def test_parquet_times_without_a_zone_are_read_as_they_are() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    naive = [time.replace(tzinfo=None) for time in HOURS]
    days = [datetime(2013, 10, day).date() for day in (1, 2, 3)]
    columns = {"time": arrow.array(naive, arrow.timestamp("ms")), "day": arrow.array(days), "y": [1.0, 2.0, 3.0]}
    parquet.write_table(arrow.table(columns), "a.parquet")
    for name in ("time", "day"):
        series = read_series("a.parquet", ["y"], time=name)
        assert not series.is_utc and UTC_NOTE not in series.notes
    assert str(read_series("a.parquet", ["y"], time="time").times) == EXPECTED


@pytest.mark.parametrize(
    "times",
    [
        [time.isoformat() for time in HOURS],
        ["2013-10-27T02:00+02:00", "2013-10-27T02:00+01:00", "2013-10-27T02:00Z"],
        [str(int(time.timestamp())) for time in HOURS],
    ],
)
def test_texts_with_offsets_and_seconds_since_1970_are_in_utc(times: list[str]) -> None:
    series = read_csv(times)
    assert str(series.times) == EXPECTED
    assert series.is_utc and UTC_NOTE in series.notes


def test_texts_without_offsets_are_not_in_utc() -> None:
    series = read_csv([time.strftime("%Y-%m-%d %H:%M") for time in HOURS])
    assert str(series.times) == EXPECTED
    assert not series.is_utc and UTC_NOTE not in series.notes
    assert not read_csv(["0", "1", "2"]).is_utc


def test_offsets_that_end_within_a_file_are_refused_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [f"2013-10-27T0{hour}:00" + ("Z" if hour < 4 else "") for hour in range(8)]
    for chunk_rows in (2, 4, 4096):
        monkeypatch.setattr(table, "CHUNK_ROWS", chunk_rows)
        with pytest.raises(CorpusError, match="some times of the column 'time' have a UTC offset and some have none"):
            read_csv(times)
