"""Rows of files: what was planned is what is read, in any form, and every row is there once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chargen.bulk.reading import line_rows, slices
from chargen.bulk.reading.json_fields import merge_fields
from chargen.bulk.reading.line_rows import count_lines
from chargen.bulk.reading.rows import open_rows
from chargen.bulk.reading.slices import FilePlan, Rows
from chargen.errors import CorpusError

ADDED = ("chars",)


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make slices of some rows, and blocks of some bytes."""
    for module in ("line_rows", "table_rows", "parquet_rows"):
        monkeypatch.setattr(f"chargen.bulk.reading.{module}.MAX_SLICE_ROWS", 7)
    monkeypatch.setattr(line_rows, "READ_BYTES", 16)
    monkeypatch.setattr("chargen.text.inputs.BLOCK_BYTES", 16)


def plan_of(path: Path, column: str = "text") -> FilePlan:
    with closing(open_rows(str(path), column, ADDED)) as source:
        return source.plan()


def read_all(path: Path, column: str = "text", order: Callable[[list[Any]], list[Any]] = list) -> list[Rows]:
    """Return the rows of all slices, read in some order and returned in the order of the file."""
    plan = plan_of(path, column)
    with closing(open_rows(str(path), column, ADDED, merge_fields([plan.fields]))) as reader:
        found = {part.first_row: reader.read(part) for part in order(list(plan.slices))}
    return [found[part.first_row] for part in plan.slices]


LINES = [f"line {n}" + "é" * (n % 5) for n in range(100)]


def write_lines(path: Path) -> None:
    path.write_bytes("\r\n".join(LINES).encode())


def write_csv(path: Path) -> None:
    path.write_text("id,text\n" + "".join(f'{n},"{line}\n""second"", line"\n' for n, line in enumerate(LINES)))


def write_json(path: Path) -> None:
    records = ({"id": n, "text": line, "tags": {"a": [n]}} for n, line in enumerate(LINES))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_parquet(path: Path) -> None:
    table = pyarrow.table({"text": LINES, "tags": [{"a": [n]} for n in range(100)]})
    pyarrow.parquet.write_table(table, path, row_group_size=33)


FORMS = {"a.txt": write_lines, "a.csv": write_csv, "a.jsonl": write_json, "a.parquet": write_parquet}
ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "forward": list, "backward": lambda parts: parts[::-1], "every second": lambda parts: parts[::2] + parts[1::2],
}  # fmt: skip


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", [*FORMS, "a.txt.gz", "a.csv.gz", "a.jsonl.zst"])
def test_every_row_is_in_one_slice_in_any_order_of_reading(tmp_path: Path, name: str, order: str) -> None:
    plain, _, suffix = name.partition(".gz" if name.endswith(".gz") else ".zst")
    FORMS[plain](tmp_path / plain)
    path = tmp_path / name
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress((tmp_path / plain).read_bytes()))
    if path.suffix == ".zst":
        path.write_bytes(zstandard.compress((tmp_path / plain).read_bytes()))
    found = read_all(path, order=ORDERS[order])
    assert len(found) > 5
    texts = [text for rows in found for text in rows.texts]
    assert [number for rows in found for number in rows.numbers] == list(range(100))
    expected = [f'{line}\n"second", line' for line in LINES] if ".csv" in name else LINES
    assert texts == expected
    table = pyarrow.concat_tables([rows.table for rows in found])
    assert table.column("text").to_pylist() == expected
    if name == "a.parquet":
        assert table.column("tags").to_pylist()[42] == {"a": [42]}
    if name == "a.jsonl":
        assert table.column("id").to_pylist() == list(range(100))
        assert json.loads(table.column("tags").to_pylist()[42]) == {"a": [42]}


@given(st.binary(max_size=80).map(lambda data: data.replace(b"\0", b"\n").replace(b"a", b"\r")))
def test_lines_are_counted_as_they_are_split(data: bytes) -> None:
    assert count_lines(data) == len(data.splitlines())


def test_the_lines_of_plain_text_are_those_of_chargen_score(tmp_path: Path) -> None:
    from chargen.text.cleaning import CleaningReport
    from chargen.text.readers import open_batches
    from chargen.text.records import RecordFormat

    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\ntwo\rthree\n\n e\u0301 \u2028 x\x85y\n".encode())
    (rows,) = read_all(path)
    scored = [text for batch in open_batches(str(path), RecordFormat(), CleaningReport()) for text in batch]
    assert rows.texts == scored


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_bytes(b"good\nbad \xff\nlast\n")
    (rows,) = read_all(text)
    assert rows.texts == ["good", "last"]
    assert rows.numbers == [0, 2]
    assert [(failure.where, failure.reason) for failure in rows.failures] == [
        (f"{text}, line 2", "the text has invalid UTF-8, or half of a surrogate pair")
    ]
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(
        b'{"text": "a"}\n\n{"text": \n[1]\n{"other": 1}\n{"text": null}\n{"text": 5}\n"b"\n{"text": "\\ud800"}\n'
    )
    (rows,) = read_all(lines)
    assert rows.texts == ["a", None, "b"]
    assert [failure.where.rpartition(" ")[2] for failure in rows.failures] == ["3", "4", "5", "7", "9"]
    table = tmp_path / "a.csv"
    table.write_bytes(b'id,text\n1,a\n2\n3,"b"x\n4,c\n5,\xff\n')
    (rows,) = read_all(table)
    assert rows.texts == ["a", "c"]
    assert [failure.where.rpartition(" ")[2] for failure in rows.failures] == ["3", "4", "6"]


def test_a_text_above_the_limit_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MAX_TEXT_CHARS", 5)
    path = tmp_path / "a.txt"
    path.write_text("short\nlonger\n\n")
    (rows,) = read_all(path)
    assert rows.texts == ["short", ""]
    assert rows.failures[0].reason == "the text has 6 characters; the limit is 5"


def test_the_types_of_fields_fit_the_values_of_all_files() -> None:
    first = {"a": "int", "b": "", "c": "bool", "d": "text"}
    second = {"a": "float", "b": "text", "c": "int", "e": ""}
    assert merge_fields([first, second]) == {"a": "float", "b": "text", "c": "json", "d": "text", "e": ""}


def test_numbers_of_json_lines_keep_their_values(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = [{"text": "a", "n": 2**53 + 1, "big": 2**70, "mixed": 1}, {"text": "b", "n": -1, "mixed": "x", "f": 0.5}]
    path.write_text("\n".join(map(json.dumps, values)))
    (rows,) = read_all(path)
    assert rows.table.to_pylist() == [
        {"text": "a", "n": 2**53 + 1, "big": str(2**70), "mixed": "1", "f": None},
        {"text": "b", "n": -1, "big": None, "mixed": '"x"', "f": 0.5},
    ]


def test_a_row_that_is_refused_does_not_change_the_types_of_the_columns(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"text": "Xin chào", "n": 1}\n{"text": null, "n": 2}\n', encoding="utf-8")
    second.write_text(
        '{"text": 5, "n": "x"}\n{"text": "là", "n": 3}\n{"n": 0.5}\n{"text": ["a"], "n": 1}\n', encoding="utf-8"
    )
    fields = merge_fields([plan_of(first).fields, plan_of(second).fields])
    assert fields == {"text": "text", "n": "int"}
    for path, expected in (
        (first, [{"text": "Xin chào", "n": 1}, {"text": None, "n": 2}]), (second, [{"text": "là", "n": 3}]),
    ):  # fmt: skip
        with closing(open_rows(str(path), "text", ADDED, fields)) as source:
            (part,) = plan_of(path).slices
            rows = source.read(part)
        assert rows.table.to_pylist() == expected
        assert rows.texts == [row["text"] for row in expected]
    assert [failure.reason for failure in rows.failures] == [
        "the field 'text' is no string", "has no field 'text'", "the field 'text' is no string",
    ]  # fmt: skip


def test_a_text_that_is_too_long_does_not_change_the_types_of_the_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_TEXT_CHARS", 5)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "longer", "n": "x"}\n{"text": "short", "n": 1}\n')
    (rows,) = read_all(path)
    assert rows.table.to_pylist() == [{"text": "short", "n": 1}]


def test_a_file_in_which_every_row_is_refused_has_the_column_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 5}\n{"text": []}\n')
    (rows,) = read_all(path)
    assert (rows.texts, len(rows.failures)) == ([], 2)
    assert rows.table.schema.field("text").type == "string"


WRONG: dict[str, tuple[bytes, str]] = {
    "no-column.csv": (
        b"id,words\n1,a\n",
        "has no column 'text'\nName the column with --text-column NAME; there is: 'id', 'words'.",
    ),
    "twice.csv": (b"text,text\na,b\n", "has 2 columns 'text'"),
    "added.csv": (b"text,chars\na,1\n", "already has a column 'chars', which would be added\nGive --prefix NAME"),
    "no-field.jsonl": (b'{"body": "a"}\n', "has no column 'text'"),
    "no-json.jsonl": (b"plain\n", "has no line that is a JSON object"),
    "array.json": (b'[{"text": "a"}]\n', "is a JSON array, not JSON lines"),
    "wide.txt": ("a\n".encode("utf-16"), "is UTF-16\nConvert it: iconv"),
    "binary.txt": (b"PAR1\0\0\0\0", "is a binary file"),
    "broken.parquet": (b"PAR1 no footer PAR1", "is a damaged Parquet file"),
    "broken.txt.gz": (gzip.compress(b"a\n" * 9999)[:-9], "is a damaged gzip file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_read_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    data, message = WRONG[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        plan_of(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_parquet_column_that_is_no_text_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2], "body": ["a", "b"]}), path)
    with pytest.raises(CorpusError, match="does not contain text\nName a column of strings.*there is: 'body'"):
        plan_of(path)


def test_dictionary_columns_and_nulls_of_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(["a", None, "a"]).dictionary_encode()}), path)
    (rows,) = read_all(path)
    assert rows.texts == ["a", None, "a"]


def test_a_file_that_has_become_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    with closing(open_rows(str(path), "text", ADDED)) as source:
        plan = source.plan()
        path.write_text("one\n")
        with pytest.raises(CorpusError, match="is shorter than when the job was started"):
            source.read(plan.slices[0])


def write_parquet(path: Path, column: pyarrow.Array) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)


def invalid_strings() -> pyarrow.Array:
    """Return strings of which the second is no UTF-8, as some writers of Parquet make them."""
    values = pyarrow.array([b"ok", b"\xff", b"fine", None])
    return pyarrow.Array.from_buffers(pyarrow.string(), 4, values.buffers())


NO_UNICODE: dict[str, tuple[str, Callable[[Path], object], list[str | None], int]] = {
    "another field": (
        "a.jsonl", lambda path: path.write_text('{"text": "a", "x": "\\ud800"}\n{"text": "b", "x": "c"}\n'), ["b"], 1,
    ),
    "name of a field": (
        "a.jsonl", lambda path: path.write_text('{"text": "a", "\\uDC00": 1}\n{"text": "b"}\n'), ["b"], 1,
    ),
    "bytes in a nested value": (
        "a.jsonl", lambda path: path.write_bytes(b'{"text": "a", "x": ["\xff"]}\n{"text": "b"}\n'), ["b"], 1,
    ),
    "bytes in another field": (
        "a.jsonl", lambda path: path.write_bytes(b'{"text": "a", "x": "\xff"}\n{"text": "b"}\n'), ["b"], 1,
    ),
    "Parquet": ("a.parquet", lambda path: write_parquet(path, invalid_strings()), ["ok", "fine", None], 1),
    "dictionary": (
        "a.parquet", lambda path: write_parquet(path, invalid_strings().dictionary_encode()), ["ok", "fine", None], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_UNICODE)
def test_a_row_with_a_string_that_is_no_unicode_is_named_and_the_others_can_be_written(
    tmp_path: Path, name: str
) -> None:
    file, write, expected, num_failures = NO_UNICODE[name]
    write(tmp_path / file)
    (rows,) = read_all(tmp_path / file)
    assert rows.texts == expected
    assert len(rows.failures) == num_failures
    assert rows.table.num_rows == len(expected)
    pyarrow.parquet.write_table(rows.table, tmp_path / "out.parquet")


def test_a_header_that_is_no_unicode_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,\xff\n1,2\n")
    source = open_rows(str(tmp_path / "a.csv"), "text", ADDED)
    with closing(source), pytest.raises(CorpusError, match="a.csv, line 1 has invalid UTF-8"):
        source.plan()


def test_the_fields_of_a_first_line_after_a_byte_order_mark_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a", "only_here": 1}\n{"text": "b"}\n')
    assert plan_of(tmp_path / "a.jsonl").fields == {"text": "text", "only_here": "int"}


def test_a_parquet_file_without_rows_has_no_slices(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pyarrow.array([], pyarrow.string()))
    assert plan_of(tmp_path / "a.parquet").slices == ()


def test_a_slice_of_parquet_in_which_every_row_is_refused_has_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_TEXT_CHARS", 5)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["longer", "longest"], "tags": [{"a": [1]}, None]}), path)
    (rows,) = read_all(path)
    assert (rows.texts, rows.numbers, len(rows.failures)) == ([], [], 2)
    assert (rows.table.num_rows, rows.table.schema.names) == (0, ["text", "tags"])
