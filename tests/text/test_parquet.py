"""Parquet files: columns that are not text, large pages and damaged files are refused in bounded memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import ChargenError
from chargen.text import parquet
from chargen.text.corpus import read_corpus
from chargen.text.limits import ReadLimit
from chargen.text.parquet import read_varint
from tests.text.conftest import refused

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.mark.parametrize("kind", ["list", "struct", "number"])
def test_a_column_that_is_not_of_strings_is_refused_before_a_row_is_read(kind: str, monkeypatch) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values: dict[str, Any] = {"list": [["a" * 1000] * 1000], "struct": [{"a": "b"}], "number": [1]}
    tables.write_table(arrow.table({"text": values[kind]}), "a.parquet")
    monkeypatch.setattr(tables.ParquetFile, "iter_batches", None)
    assert "does not contain text" in refused("a.parquet").message


def test_a_message_names_a_few_columns_or_fields_of_many() -> None:
    Path("a.jsonl").write_text(json.dumps({f"{n:05}" * 100: "" for n in range(10_000)}) + "\n", encoding="utf-8")
    assert len(refused("a.jsonl").hint) < 1000
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables.write_table(arrow.table({f"{n:05}" * 100: ["a"] for n in range(100)}), "a.parquet")
    assert len(refused("a.parquet").hint) < 1000


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_table_with_a_page_that_is_too_large_is_refused_before_it_is_decompressed(
    monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "MAX_PAGE_BYTES", 10_000)
    tables.write_table(arrow.table({"text": ["b" * 20_000, "a"], "id": [1, 2]}), "a.parquet", use_dictionary=dictionary)
    assert "has a page of" in refused("a.parquet").message


def test_every_page_of_a_table_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"text {n} " * (n % 50) for n in range(3000)]
    for version in ("1.0", "2.0"):
        for dictionary in (True, False):
            tables.write_table(
                arrow.table({"id": list(range(3000)), "text": texts}), "a.parquet", data_page_size=2000,
                write_batch_size=10, row_group_size=1000, use_dictionary=dictionary, data_page_version=version,
            )  # fmt: skip
            with open("a.parquet", "rb") as file:
                largest = parquet.largest_page(file, os.path.getsize("a.parquet"), [1], "it", ReadLimit())
            assert 1000 < largest < 400_000
            assert read_corpus(["a.parquet"]).text.count("text") == sum(n % 50 for n in range(3000))


def test_a_table_with_any_byte_changed_is_an_expected_error_or_another_text() -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables.write_table(arrow.table({"text": [f"text {n}\n" for n in range(40)]}), "a.parquet")
    data = Path("a.parquet").read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x41
        Path("b.parquet").write_bytes(bytes(changed))
        try:
            assert read_corpus(["b.parquet"]).num_chars < 100_000
        except ChargenError as error:
            assert error.message


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, (1 << 64) - 1])
def test_a_variable_length_integer_is_read_with_the_position_after_it(value: int) -> None:
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    data = bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
    assert read_varint(b"\xff" + data + b"\xff", 1) == (value, 1 + len(data))
    with pytest.raises(IndexError):
        read_varint(data[:-1], 0)


def test_a_variable_length_integer_of_more_than_ten_bytes_is_an_error() -> None:
    with pytest.raises(EOFError, match="does not end"):
        read_varint(b"\xff" * 20, 0)
