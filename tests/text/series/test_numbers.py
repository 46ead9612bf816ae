"""Numbers of files: one per line, and columns of CSV, TSV and Parquet; what is missing or wrong is named."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.text.limits import ReadLimit
from chargen.text.series.numbers import Series, read_series
from chargen.text.series.quantizer import Quantizer
from tests.text.series.test_wav import FORMATS, TONE

TABLE = "time,temp\n2024-01-01,1.5\n2024-01-02,-2e3\n2024-01-03, 7 \n"


def read(content: str | bytes, name: str = "x.txt", field: str = "", quantizer: Quantizer | None = None) -> Series:
    data = content.encode() if isinstance(content, str) else content
    return read_series(io.BytesIO(data), name, DataConfig(text_field=field), ReadLimit(), quantizer)


@pytest.mark.parametrize(
    "series",
    [
        read("1.5\n-2e3\n7\n"), read("1.5\r\n-2e3\r\n7\r\n\r\n\n"), read(" 1.5\n-2e3 \n7"),
        read(TABLE, "x.csv", "temp"),
        read(TABLE.replace(",", "\t"), "x.tsv", "temp"), read(TABLE.replace(",", ";"), "x.CSV", "temp"),
        read(gzip.compress(TABLE.encode()), "x.csv.gz", "temp"), read("\ufeff1.5\n-2e3\n7\n"),
        read("temp\n1.5\n-2e3\n7\n\n\n", "x.csv", "temp"),
    ],
)  # fmt: skip
def test_all_forms_have_the_same_numbers(series):
    assert series.values.tolist() == [1.5, -2000.0, 7.0]
    assert series.rate_hz is None


def test_a_recording_is_recognised_on_standard_input_and_compressed():
    for content in (FORMATS["float64"][0], gzip.compress(FORMATS["float64"][0])):
        series = read(content, "standard input")
        assert (series.rate_hz, series.values.tolist()) == (8000, TONE.tolist())


def test_many_numbers_are_read_in_batches():
    numbers = np.random.default_rng(0).normal(size=50_000).tolist()
    assert read("".join(f"{x!r}\n" for x in numbers)).values.tolist() == numbers


def test_a_column_of_a_parquet_file_is_read_with_its_nulls_refused(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for kind in ("int32", "float32", "float64"):
        parquet.write_table(arrow.table({"t": arrow.array(range(3000), kind)}), tmp_path / "x.parquet")
        assert read((tmp_path / "x.parquet").read_bytes(), "x.parquet", "t").values.tolist() == list(range(3000))
    parquet.write_table(arrow.table({"t": [1.0, None], "s": ["a", "b"]}), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    with pytest.raises(CorpusError, match="row 2 of the column 't': the value is missing"):
        read(data, "x.parquet", "t")
    with pytest.raises(CorpusError, match="the column 's' does not contain numbers"):
        read(data, "x.parquet", "s")
    with pytest.raises(CorpusError, match="no column is named"):
        read(data, "x.parquet")
    with pytest.raises(CorpusError, match="x.parquet"):
        read(data[:-30], "x.parquet", "t")


@pytest.mark.parametrize(
    ("content", "name", "field", "message"),
    [
        ("1\n2\nNaN\n", "x.txt", "", r"x.txt, line 3: the value is missing \('NaN'\)"),
        ("1\n\n2\n", "x.txt", "", r"x.txt, line 2: the value is missing \(''\)"),
        ("1\ninf\n", "x.txt", "", "x.txt, line 2: 'inf' is not a finite number"),
        ("1\n1e300\n", "x.txt", "", "x.txt, line 2: '1e300' is not a finite number"),
        ("hello\n", "x.txt", "", "(?s)x.txt, line 1: 'hello' is not a number.*--text-field NAME"),
        ("1,5\n", "x.txt", "", "(?s)line 1: '1,5' is not a number.*decimal point, not a comma"),
        (TABLE, "x.csv", "", "(?s)x.csv, line 1: 'time,temp' is not a number.*Name the column"),
        (TABLE, "x.csv", "wind", "x.csv has no column 'wind'"),
        (TABLE, "x.csv", "time", "row 1 of the column 'time': '2024-01-01' is not a number"),
        ("t\n1\nNA\n", "x.csv", "t", r"row 2 of the column 't': the value is missing \('NA'\)"),
        ("t\n1\n\n3\n", "x.csv", "t", r"row 2 of the column 't': the value is missing \(''\)"),
        ("", "x.txt", "", "x.txt is empty: it has no numbers"),
        ("\n\n", "x.txt", "", "x.txt is empty: it has no numbers"),
        ("", "x.wav", "", "x.wav is empty"),
        ("1\n2\n", "x.wav", "", "x.wav is damaged, or no WAV file"),
        ("{}\n", "x.jsonl", "", "x.jsonl is JSON, which is not read as a series"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(content, name, field, message):
    with pytest.raises(CorpusError, match=message):
        read(content, name, field)


def test_a_model_reads_the_column_that_it_was_trained_on_and_a_text_of_its_own_levels():
    quantizer = Quantizer(256, column="temp", scale=3000.0)
    assert read(TABLE, "x.csv", quantizer=quantizer).values.tolist() == [1.5, -2000.0, 7.0]
    values = quantizer.values[[0, 5, 255]]
    text = quantizer.encode(values)
    assert read(f"{text}\n", quantizer=quantizer).values.tolist() == values.tolist()
    with pytest.raises(CorpusError, match="is not a number"):
        read(text)  # without a model, the range of the levels is not known
