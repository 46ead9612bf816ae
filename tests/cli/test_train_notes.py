"""Training notes what is probably a mistake, in one line each, and corpora check describes the text itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import VERSE, Result

Chargen = Callable[..., Result]
FAST = ("--steps", "1", "--hidden", "8", "--batch", "4", "--seq-len", "8")
NAMES = "".join(f"{a}{b}{c}\n" for a in "abcdefgh" for b in "mnopqrst" for c in "uvwxyz")


def notes(result: Result) -> list[str]:
    assert result.status == 0, result.err
    return [line for line in result.err.splitlines() if line.startswith("note: ")]


def test_a_list_that_is_read_as_continuous_text_is_noted_once(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(NAMES)
    note = (
        "note: 384 short lines (median 3 characters, in sorted order) and no blank line: perhaps a list (names, "
        "words); if each line is a separate item, train with --documents line"
    )
    assert notes(chargen("train", "names.txt", *FAST)) == [note]
    found = notes(chargen("train", "names.txt", "--documents", "line", *FAST))
    assert not any("perhaps a list" in note for note in found)


def test_a_validation_text_that_is_trained_on_is_noted(chargen: Chargen, tmp_path: Path) -> None:
    lines = VERSE.splitlines()
    (tmp_path / "all.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "part.txt").write_text("\n".join(lines[:3]), encoding="utf-8")
    (tmp_path / "new.txt").write_text("quite another line with known letters", encoding="utf-8")
    assert any("the validation text is the training text" in note for note in notes(train(chargen, "all.txt")))
    assert any(
        "of the validation text are also in the training text" in note for note in notes(train(chargen, "part.txt"))
    )
    assert notes(train(chargen, "new.txt")) == []


def train(chargen: Chargen, val: str) -> Result:
    return chargen("train", "all.txt", "--val", val, "--tokenizer", "byte", "--force", *FAST)


def test_a_file_that_is_given_twice_is_noted(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text("\n\n".join(VERSE.splitlines()), encoding="utf-8")
    size = (tmp_path / "verse.txt").stat().st_size
    expected = f"verse.txt (also named ./verse.txt) with {size:,} bytes is read 2 times"
    assert any(expected in note for note in notes(chargen("train", "verse.txt", "./verse.txt", *FAST)))
    checked = chargen("corpora", "check", "verse.txt", "./verse.txt")
    assert expected in " ".join(checked.out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--val-split", "random"], ["val_split is 'random'", "has no documents", "--documents"]),
        (["--documents", "line", "--val-split", "random", "--val", "names.txt"], ["--val-split", "--val"]),
        (["--documents", "line", "--val-split", "first"], ["--val-split", "'first'", "'last', 'random'"]),
    ],
)
def test_a_split_that_is_not_possible_is_refused(
    chargen: Chargen, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "names.txt").write_text(NAMES)
    result = chargen("train", "names.txt", *FAST, *arguments)
    assert result.status in (1, 2)
    assert all(word in result.err for word in words), result.err


def test_a_resumed_run_keeps_its_split(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(NAMES)
    documents = ("train", "names.txt", "--documents", "line", *FAST[2:], "--steps", "4", "--name", "run")
    assert chargen(*documents, "--val-split", "last", "--stop-after", "2").status == 130
    refused = chargen("train", "--resume", "run", "--val-split", "random")
    assert "--val-split random contradicts --resume: the run 'run' has last" in refused.err
    assert chargen("train", "--resume", "run", "--val-split", "last").status == 0


def test_check_describes_the_text_and_its_documents(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(NAMES + "\nnmu\namu\n")
    plain = json.loads(chargen("corpora", "check", "names.txt", "--json").out)
    found = json.loads(chargen("corpora", "check", "names.txt", "--documents", "line", "--json").out)
    for key in ("chars", "bytes", "lines", "longest_line_chars", "median_line_chars", "blank_lines", "sha256"):
        assert found[key] == plain[key]
    assert plain["bytes"] == (tmp_path / "names.txt").stat().st_size
    assert (plain["documents"], plain["repeated_documents"]) == (None, None)
    assert (found["documents"], found["repeated_documents"]) == (386, 1)
    printed = chargen("corpora", "check", "names.txt", "--documents", "line").out
    assert "documents           386" in printed
    assert "documents" not in chargen("corpora", "check", "names.txt").out.partition("rare:")[0]


def test_the_start_lines_print_the_batch_size_and_the_sequence_length_in_use(chargen: Chargen) -> None:
    Path("short.txt").write_text(VERSE, encoding="utf-8")
    result = chargen("train", "short.txt", "--steps", "1", "--hidden", "8", "--batch", "16", "--seq-len", "48")
    assert result.status == 0, result.err
    assert "the batch size is 2 instead of 16" in " ".join(result.err.split())
    assert "batch size 2 × 27 tokens" in " ".join(result.err.split())  # two windows for each half of the text


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"text": "%s"}\n'), ("a.csv", 'text\n"%s"\n""\n')])
def test_records_with_an_empty_text_are_noted(chargen: Chargen, name: str, content: str) -> None:
    verse = VERSE.replace("\n", " ") * 3
    end = '{"text": ""}\n' if name == "a.jsonl" else ""
    Path(name).write_text(content % verse + end, encoding="utf-8")
    expected = f"note: {name}: 1 record has an empty text, which adds nothing"
    field = ("--text-field", "text")
    assert expected in notes(chargen("train", name, *field, *FAST, "--name", "m"))
    assert expected in notes(chargen("eval", "-m", "m", name, *field))
