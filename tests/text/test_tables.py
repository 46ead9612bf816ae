"""CSV and TSV: each row has as many columns as the header, and the column with the text is there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.text.cleaning import CleaningReport
from chargen.text.corpus import read_corpus
from chargen.text.readers import open_lines
from chargen.text.records import RecordFormat

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def texts(name: str, errors: str = "strict") -> tuple[list[str], tuple[str, ...]]:
    report = CleaningReport()
    return list(open_lines(name, RecordFormat(field="text", errors=errors), report)), report.notes()


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
@pytest.mark.parametrize(("row", "columns"), [("b{0} c{0}d", "3 columns"), ("b", "1 column")])
def test_a_row_with_another_number_of_columns_is_refused_or_skipped(
    suffix: str, separator: str, row: str, columns: str
) -> None:
    name = f"a.{suffix}"
    lines = ["id{0}text", "1{0}one", row, "3{0}three"]
    Path(name).write_text("\n".join(line.format(separator) for line in lines) + "\n", encoding="utf-8")
    for read in (lambda: texts(name), lambda: read_corpus(name, DataConfig(text_field="text"))):
        with pytest.raises(CorpusError, match=f"{name}, line 3 has {columns}, but the header has 2\n"):
            read()
    found, notes = texts(name, errors="skip")
    assert found == ["one", "three"]
    assert f"{name}, line 3" in notes[0]


def test_a_quoted_separator_is_a_part_of_the_text_and_an_empty_line_is_no_row() -> None:
    Path("a.csv").write_text('id,text\n1,"one, two"\n\n2,three\n', encoding="utf-8")
    assert texts("a.csv") == (["one, two", "three"], ())


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_blank_line_of_a_table_with_one_column_is_an_empty_text_except_at_the_end(newline: str) -> None:
    lines = ["text", "one", "", "", '"two', "", 'lines"', '""', "", "three", "", ""]
    Path("a.csv").write_bytes(newline.join([*lines, ""]).encode())
    found, notes = texts("a.csv")
    assert [text.replace("\r\n", "\n") for text in found] == ["one", "", "", "two\n\nlines", "", "", "three"]
    assert notes == ()
    Path("a.tsv").write_text("text\n\na\n", encoding="utf-8")
    assert texts("a.tsv") == (["", "a"], ())
    Path("b.csv").write_text("text\n\n\n", encoding="utf-8")
    assert texts("b.csv") == ([], ())


def test_an_error_after_blank_lines_names_its_line() -> None:
    Path("a.csv").write_text("text\none\n\n\ntwo,2\n\nthree\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="a.csv, line 5 has 2 columns, but the header has 1\n"):
        texts("a.csv")
    assert texts("a.csv", errors="skip")[0] == ["one", "", "", "", "three"]


def test_a_header_with_the_column_twice_is_refused() -> None:
    Path("a.csv").write_text("text,text\none,two\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="a.csv has 2 columns 'text'\n"):
        texts("a.csv")
    Path("b.csv").write_text("text,other,other\none,two,three\n", encoding="utf-8")
    assert texts("b.csv") == (["one"], ())
