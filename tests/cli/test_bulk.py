"""`chargen bulk`: files in, Parquet parts and a summary out, and errors that say what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from chargen.checkpoint import save_checkpoint
from chargen.io import decode_file_name
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
LOCAL = ("--engine", "local")


@pytest.fixture(autouse=True)
def files(chargen: Chargen) -> None:
    save_checkpoint(Path("m.safetensors"), random_model("ab\n"))
    Path("a.txt").write_text("ab\nba€\n\n")
    Path("b.csv").write_text('n,text\n1,"a ""b"",\nb"\n')


def rows(folder: str) -> list[dict[str, Any]]:
    return list(pyarrow.parquet.read_table(folder).to_pylist())


def score(chargen: Chargen, *words: str) -> Result:
    return chargen("bulk", "score", "-m", "m.safetensors", *words, *LOCAL)


def test_the_summary_is_printed_and_the_output_is_a_folder_of_parquet(chargen: Chargen) -> None:
    result = score(chargen, "a.txt", "--out", "out")
    assert result.status == 0
    names = [line.split("  ")[0] for line in result.out.splitlines()]
    assert names == ["output", "files", "parts", "rows read", "rows written", "characters", "bits/char", "time"]
    assert "5, 1 unknown" in result.out
    assert result.err == "100%  1 part of 1" + result.err.removeprefix("100%  1 part of 1")
    assert [row["text"] for row in rows("out")] == ["ab", "ba€", ""]
    assert [row["unknown_chars"] for row in rows("out")] == [0, 1, 0]
    again = json.loads(score(chargen, "a.txt", "--out", "out", "--json").out)
    assert (again["parts_written_now"], again["rows_written"], again["is_complete"]) == (0, 3, True)


def test_files_of_several_forms_keep_their_columns(chargen: Chargen) -> None:
    assert score(chargen, "a.txt", "b.csv", "--out", "out").status == 0
    found = [
        row for part in sorted(Path("out").glob("*.parquet")) for row in pyarrow.parquet.read_table(part).to_pylist()
    ]
    assert found[-1]["text"] == 'a "b",\nb'
    assert found[-1]["n"] == "1"


def test_a_broken_file_is_named_in_an_error_after_the_others_are_done(chargen: Chargen) -> None:
    Path("c.jsonl").write_text('{"body": "x"}\n')
    result = score(chargen, "a.txt", "c.jsonl", "--out", "out", "--json")
    assert result.status == 1
    assert json.loads(result.out)["rows_written"] == 3
    error = [line for line in result.err.splitlines() if not line.startswith("100%")]
    assert len(error) == 2
    assert "the output lacks 1 file that cannot be read: " in error[0]
    assert "c.jsonl: has no column 'text'" in error[0]
    assert error[1].startswith("Correct the cause and run the same command again")


def test_rows_that_fail_are_counted_and_named_in_the_summary(chargen: Chargen) -> None:
    Path("d.jsonl").write_text('{"text": "a"}\n{"text": \n' * 4)
    result = score(chargen, "d.jsonl", "--out", "out")
    assert result.status == 0
    assert "rows failed   4" in result.out
    assert "d.jsonl, line 2: is not JSON: " in result.out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a file name")
def test_inputs_and_an_output_whose_names_are_not_utf8_are_used_and_a_job_goes_on(chargen: Chargen) -> None:
    name, broken, folder = "caf\udce9.jsonl", "th\udce9.jsonl", "r\udce9sultat"
    Path(name).write_text('{"text": "ab"}\n{"text": 5}\n')
    Path(broken).write_text('{"body": "ab"}\n')
    first = score(chargen, name, broken, "--out", folder, "--json")
    assert first.status == 1
    assert "th\ufffd.jsonl: has no column 'text'" in first.err
    summary = json.loads(first.out)
    assert decode_file_name(summary["output"]) == os.path.abspath(folder)
    where = [decode_file_name(failure["where"]) for failure in summary["failures"]]
    assert where == [os.path.abspath(broken), f"{os.path.abspath(name)}, line 2"]
    written = json.loads(Path(folder, "_summary.json").read_text(encoding="utf-8"))
    assert {"engine": "local", **written} == summary
    Path(broken).write_text('{"text": "ba"}\n')
    again = score(chargen, name, broken, "--out", folder)
    assert (again.status, again.err.count("error")) == (0, 0)
    shown = "".join(again.out.split())  # the table breaks long paths
    assert "caf\ufffd.jsonl,line2:thefield'text'isnostring" in shown
    parts = [BytesIO(path.read_bytes()) for path in sorted(Path(folder).glob("part-*"))]  # pyarrow cannot open the path
    assert [row["text"] for part in parts for row in pyarrow.parquet.read_table(part).to_pylist()] == ["ab", "ba"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nothing.txt", "--out", "out"], 1, "nothing.txt cannot be read: there is no such file or folder"),
        (["b.csv", "--text-column", "body", "--out", "out"], 1, "has no column 'body'"),
        (["b.csv", "--text-column", "body", "--out", "out"], 1, "there is: 'n', 'text'."),
        (["a.txt", "--out", "a.txt"], 2, "--out a.txt is a file, not a folder"),
        (["a.txt", "--out", "checkpoints", "--workers", "2"], 2, "--workers cannot be combined with --engine local"),
        (["a.txt"], 2, "Missing option '--out'"),
        (["--out", "out"], 2, "Missing argument 'INPUT...'"),
        (["a.txt", "--out", "out", "--percentile-of", "empty.txt"], 1, "empty.txt has no text to compare with"),
    ],
)
def test_wrong_input_is_an_error_that_says_what_to_do(
    chargen: Chargen, words: list[str], status: int, message: str
) -> None:
    Path("empty.txt").write_text("\n")
    result = score(chargen, *words)
    assert result.status == status
    assert message in " ".join(result.err.split())
    assert "Traceback" not in result.err
    assert not Path("out").exists() or not list(Path("out").glob("part-*"))


def test_threads_are_for_the_local_engine(chargen: Chargen) -> None:
    result = chargen("bulk", "score", "a.txt", "--out", "out", "--threads", "2")
    assert result.status == 2
    assert "--threads needs --engine=local" in result.err


def test_the_column_prefix_lets_a_second_model_score_the_output_of_the_first(chargen: Chargen) -> None:
    assert score(chargen, "a.txt", "--out", "out").status == 0
    refused = score(chargen, "out/part-000000.parquet", "--out", "out2")
    assert refused.status == 1
    assert "already has a column 'log_prob_nats'" in refused.err
    assert score(chargen, "out/part-000000.parquet", "--out", "out2", "--prefix", "second_").status == 0
    assert all(row["chars"] == row["second_chars"] for row in rows("out2"))


def test_prompts_are_continued_by_the_same_texts_as_by_sample(chargen: Chargen) -> None:
    words = ["-m", "m.safetensors", "--length", "7", "--seed", "3"]
    result = chargen("bulk", "sample", "a.txt", "--out", "out", "-n", "2", *words, *LOCAL, "--json")
    assert json.loads(result.out)["generated_chars"] == 3 * 2 * 7
    Path("prompts.txt").write_text("ab\n")
    lines = chargen("sample", "--prompts", "prompts.txt", "-n", "2", *words, "--no-prompt", "--json").out.splitlines()
    assert [row["generated_text"] for row in rows("out")][:2] == [json.loads(line)["text"] for line in lines]
    assert [row["sample_number"] for row in rows("out")] == [0, 1, 0, 1, 0, 1]
