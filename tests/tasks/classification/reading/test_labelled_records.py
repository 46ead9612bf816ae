"""Records with a text and a label: every form gives the same texts, and what is wrong is named with its place."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import CorpusError
from chargen.tasks.classification.reading.labelled_data import describe_repeated_texts, read_labelled
from chargen.text.cleaning import CleaningReport
from chargen.text.records import RecordFormat

ROWS = [("Good, really good.", "pos"), ('He said "no".\nTwice.', "neg"), ("việt 日本", "pos"), ("bad", "neg")]
EXPECTED = {"neg": ['He said "no".\nTwice.', "bad"], "pos": ["Good, really good.", "việt 日本"]}


def write_csv(path: Path, rows: list[tuple[Any, ...]], delimiter: str = ",") -> None:
    import csv

    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def as_csv(path: Path) -> Path:
    write_csv(path / "x.csv", [("text", "label"), *ROWS])
    return path / "x.csv"


def as_semicolons(path: Path) -> Path:
    write_csv(path / "x.csv", [("label", "id", "text"), *((label, 1, text) for text, label in ROWS)], ";")
    return path / "x.csv"


def as_tsv(path: Path) -> Path:
    write_csv(path / "x.tsv", [("label", "text"), *((label, text) for text, label in ROWS)], "\t")
    return path / "x.tsv"


def as_lines(path: Path) -> Path:
    rows = [json.dumps({"id": 5, "label": label, "text": text}) for text, label in ROWS]
    (path / "x.jsonl").write_text("\n".join([*rows[:2], "", *rows[2:]]))
    return path / "x.jsonl"


def as_array(path: Path) -> Path:
    (path / "x.json").write_text(json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1))
    return path / "x.json"


def as_gzip(path: Path) -> Path:
    (path / "x.csv.gz").write_bytes(gzip.compress(as_csv(path).read_bytes()))
    return path / "x.csv.gz"


def as_parquet(path: Path) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts, labels = zip(*ROWS, strict=True)
    parquet.write_table(arrow.table({"id": [1, 2, 3, 4], "text": texts, "label": labels}), path / "x.parquet")
    return path / "x.parquet"


@pytest.mark.parametrize("write", [as_csv, as_semicolons, as_tsv, as_lines, as_array, as_gzip, as_parquet])
def test_each_form_gives_the_same_texts(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    report = CleaningReport()
    assert read_labelled(write(tmp_path), report=report) == EXPECTED
    assert report.notes() == ()


def read(path: Path, content: str, field: str = "", label: str = "", errors: str = "strict") -> dict[str, list[str]]:
    path.write_text(content, encoding="utf-8")
    return read_labelled(path, RecordFormat(field=field, errors=errors), None, label)


def test_named_fields_are_read(tmp_path: Path) -> None:
    content = "stars,review,text\n5,fine,x\n1,poor,y\n"
    assert read(tmp_path / "x.csv", content, "review", "stars") == {"1": ["poor"], "5": ["fine"]}
    assert read(tmp_path / "x.csv", content, label="stars") == {"1": ["y"], "5": ["x"]}
    assert read(tmp_path / "x.tsv", content.replace(",", "\t"), "review", "stars") == {"1": ["poor"], "5": ["fine"]}


@pytest.mark.parametrize("header", ["text,kind", "kind,text", "label,sentence", "sentence,label", "kind,sentence"])
def test_two_fields_are_found_and_reported(tmp_path: Path, header: str) -> None:
    is_text_first = header.split(",")[0] in ("text", "sentence")
    rows = [
        f"{text},{label}" if is_text_first else f"{label},{text}" for text, label in zip("abcd", "xyxy", strict=True)
    ]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]))
    report = CleaningReport()
    assert read_labelled(tmp_path / "x.csv", report=report) == {"x": ["a", "c"], "y": ["b", "d"]}
    text, label = header.split(",") if is_text_first else reversed(header.split(","))
    (note,) = report.notes()
    assert f"the text is in the field {text!r}, and the label in {label!r}" in note


def test_labels_may_be_numbers_and_booleans(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": 1}\n{"text": "b", "label": true}\n{"text": "c", "label": 1.0}\n'
    assert read(tmp_path / "x.jsonl", lines) == {"1": ["a", "c"], "true": ["b"]}
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for values in ([0, 1, 1], [False, True, True]):
        parquet.write_table(arrow.table({"review": ["a", "b", "c"], "stars": values}), tmp_path / "x.parquet")
        expected = {str(values[0]).lower(): ["a"], str(values[1]).lower(): ["b", "c"]}
        assert read_labelled(tmp_path / "x.parquet") == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.csv",
            "text,lable,n\na,b,1\n",
            r"has no column or field 'label'\nDid you mean 'lable'\? Name the column",
        ),
        ("x.csv", "text,label\na,b\nc\n", "line 3 has 1 column, but the header has 2"),
        ("x.csv", "text,label\na,\nb,x\n", "line 2 has no label"),
        ("x.csv", "text,text,label\na,b,c\n", "has 2 columns 'text'"),
        ("x.csv", "pos,I like it\nneg,I hate it\npos,It is good\n", "has no header: 'pos' in its first line is also"),
        ("x.csv", "", "has no column or field 'text'"),
        ("x.csv", "text,label\n", "has no text with a label"),
        ("x.csv", "text,label\na,x\nb,x\n", r"texts of 1 label \('x'\), but two are needed"),
        ("x.csv", "text,label\n ,x\n,y\n", "has no text with a label"),
        ("x.jsonl", '{"text": "a", "label": "x"}\n{"text": "a"}\n', "line 2 has no field 'label'"),
        ("x.jsonl", '{"text": 5, "label": "x"}\n', "line 1 has 5.0 in place of a text"),
        ("x.jsonl", '{"text": "a", "label": [1]}\n', r"line 1 has the label \[1.0\]"),
        ("x.jsonl", '{"text": "a", "label": 0.5}\n', "line 1 has the label 0.5"),
        ("x.jsonl", '"a"\n', "line 1 is no JSON object"),
        ("x.jsonl", "{oops\n", "line 1 is not JSON"),
        ("x.jsonl", "", "has no records"),
        ("x.json", '[{"text": "a", "label": "x"} {', "is not JSON"),
        ("x.txt", "a line without a tab\n", "line 1 is not label<TAB>text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name, content)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize(
    ("field", "label", "words"),
    [
        ("txt", "", "'txt', which --text-field names"),
        ("", "kinds", "'kinds', which --label-field names\nDid you mean 'kind'"),
        ("kind", "kind", "both name 'kind'"),
    ],
)
def test_a_field_that_does_not_exist_is_named(tmp_path: Path, field: str, label: str, words: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "x.csv", "text,kind,n\na,b,1\n", field, label)
    assert words in str(caught.value)


def test_fields_of_inputs_without_fields_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="--label-field kind has no effect: .* has lines label<TAB>text"):
        read(tmp_path / "x.txt", "a\tb\n", label="kind")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match="--label-field kind has no effect: the labels of the folder"):
        read_labelled(tmp_path / "folder", label_field="kind")


def test_invalid_records_and_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    report = CleaningReport()
    content = "text,label\na,x\n,x\nb\nc,\n  ,y\nd,y\n"
    (tmp_path / "x.csv").write_text(content)
    assert read_labelled(tmp_path / "x.csv", RecordFormat(errors="skip"), report) == {"x": ["a"], "y": ["d"]}
    notes = " ".join(report.notes())
    assert "left out 2 texts that are empty" in notes
    assert "line 4 has 1 column" in notes
    assert "line 5 has no label" in notes
    report = CleaningReport()
    (tmp_path / "y.txt").write_text("x\ta\n\ny\tb\nx\t \n")
    assert read_labelled(tmp_path / "y.txt", report=report) == {"x": ["a"], "y": ["b"]}
    assert "left out 1 text that is empty" in " ".join(report.notes())


def test_repeated_texts_are_described() -> None:
    assert describe_repeated_texts({"a": ["x", "y"], "b": ["z"]}) == []
    first, second = describe_repeated_texts({"a": ["x", "x", "x", "y"], "b": ["y"]})
    assert first == "2 texts are repetitions: a text counts once for each of its labels"
    assert second == "1 text has more than one label; all copies are in the same part of the split"
