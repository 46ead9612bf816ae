"""JSON lines from standard input and from files of any name: `--json-lines`, and the note where they are not read."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.checkpoint import load_checkpoint, save_checkpoint
from chargen.config import DataConfig
from chargen.text.corpus import read_corpus
from chargen.text.readers import JsonLinesCheck
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
LINES = [f"text number {n}" for n in range(40)]
RECORDS = "".join(json.dumps({"text": line, "other": f"other {line}"}) + "\n" for line in LINES)
NOTE = "read as plain text, although each line has the form of a JSON object: --json-lines reads the text"
QUICK = ("--steps", "1", "--hidden", "8", "--name", "new")
COMMANDS = [
    ["train", "INPUT", *QUICK], ["eval", "-m", "m", "INPUT"], ["compare", "m", "m", "INPUT"],
    ["corpora", "check", "INPUT"], ["score", "-m", "m", "--file", "INPUT"],
    ["classify", "-m", "m", "-m", "./checkpoints/n", "--file", "INPUT"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("m", "n"):
        save_checkpoint(Path(f"checkpoints/{name}/model.safetensors"), random_model(RECORDS))
    Path("records.log").write_text(RECORDS)
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["-", "records.log"])
def test_records_are_read_from_any_input_or_a_note_says_that_they_are_not(
    chargen: Chargen, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    words = [name if word == "INPUT" else word for word in command]
    shown = "standard input" if name == "-" else name
    give(monkeypatch, RECORDS)
    plain = chargen(*words)
    output = " ".join((plain.out + plain.err).split())
    assert plain.status == 0 and f"{shown}: {NOTE}" in output
    for more in (["--json-lines"], ["--json-lines", "--field", "other"]):
        give(monkeypatch, RECORDS)
        result = chargen(*words, *more)
        assert result.status == 0 and NOTE not in " ".join((result.out + result.err).split()), result.err
    give(monkeypatch, RECORDS)
    refused = " ".join(chargen(*words, "--field", "other").err.split())
    assert f"{shown} has no fields" in refused and "--json-lines" in refused and "- has" not in refused


@pytest.mark.parametrize("name", ["-", "records.log"])
def test_the_text_of_the_field_is_the_corpus_also_when_the_run_goes_on(
    chargen: Chargen, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    give(monkeypatch, RECORDS)
    assert chargen("train", name, "--json-lines", *QUICK).status == 0
    data = load_checkpoint(Path("checkpoints/new/model.safetensors")).data
    assert data.json_lines and DataConfig.from_json(data.to_json()) == data
    assert read_corpus(["records.log"], data).text == "\n".join(LINES)
    give(monkeypatch, RECORDS)
    assert chargen("train", name, "--resume", "new", "--steps", "2").status == 0
    if name != "-":
        assert chargen("train", "--resume", "new", "--steps", "3").status == 0


def test_the_lines_of_a_built_in_corpus_are_no_records(chargen: Chargen) -> None:
    result = chargen("train", "alphabet", "--json-lines")
    assert result.status == 2 and "--json-lines has no effect: alphabet is built in" in " ".join(result.err.split())


def test_settings_of_earlier_versions_have_no_json_lines() -> None:
    values = DataConfig().to_json()
    del values["json_lines"]
    assert DataConfig.from_json(values) == DataConfig()


@pytest.mark.parametrize("block", [1, 2, 5, 1000])
def test_only_a_text_whose_lines_all_look_like_records_gets_the_note(block: int) -> None:
    for text, expected in (
        (RECORDS, True), (RECORDS[:-1], True), (f"\n{RECORDS}\n \n", True), ('{ "a": 1}', True),
        (f"{RECORDS}one line\n", False), (f"one line\n{RECORDS}", False), ("", False), ("\n\n", False),
        ("{a}\n", False), ("{\n", False), (f"{RECORDS}{{", False),
    ):  # fmt: skip
        pieces = [text[i : i + block] for i in range(0, len(text), block)]
        check = JsonLinesCheck()
        assert "".join(check.watch(pieces)) == text
        assert check.has_only_records == JsonLinesCheck.check(pieces) == expected, text[-20:]


def test_a_long_text_that_is_read_in_place_gets_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.corpus.MIN_PARALLEL_BYTES", 10)
    assert NOTE in read_corpus(["records.log"]).notes[0]
    Path("plain.txt").write_text("a plain text\n" * 9)
    assert read_corpus(["plain.txt"]).notes == ()
