"""Proposed commands can be copied into a shell, and name the folder of the runs if it is not the default."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from chargen.cli.main import run
from chargen.folders import use_checkpoints
from chargen.ui.training import command_line

TEXT = "to be or not to be\n" * 60
QUICK = ["--steps", "2", "--hidden", "8", "--cell", "gru", "--ensemble", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "verse.txt").write_text(TEXT)
    return tmp_path


def proposed(text: str) -> list[list[str]]:
    """Return the arguments of the commands that a text proposes."""
    lines = [line.removeprefix("Try: ").removeprefix("Continue with: ").strip() for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("chargen ")]


def test_a_run_ends_with_commands_that_work_and_the_absolute_path_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "verse.txt", *QUICK, "--name", "my verse"]) == 0
    out = capsys.readouterr().out
    assert f" is {folder / 'checkpoints' / 'my verse' / 'model.safetensors'}\n" in out
    assert "Try: chargen sample -m 'my verse' --temp 0.8\n     chargen score -m 'my verse' 'a text'\n" in out
    assert out.endswith("'a text'\n")
    assert "nats" not in out
    for arguments in proposed(out):
        assert run(arguments) == 0
        assert capsys.readouterr().out


def test_a_model_of_documents_is_sampled_several_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "verse.txt", *QUICK, "--documents", "line"]) == 0
    assert "Try: chargen sample -m verse --temp 0.8 -n 10\n" in capsys.readouterr().out


def test_json_stays_one_document_with_the_absolute_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "verse.txt", *QUICK, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["model_path"] == str(folder / "checkpoints" / "verse" / "model.safetensors")


def test_the_commands_name_a_folder_of_runs_that_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUICK, "--stop-after", "1", "--checkpoints", "my runs"]
    assert run(["train", "verse.txt", *arguments]) == 130
    output = capsys.readouterr()
    commands = [*proposed(output.out), *proposed(output.err)]
    assert [words[0] for words in commands] == ["sample", "score", "train"]
    assert all(words[-2:] == ["--checkpoints", "my runs"] for words in commands)
    for words in commands:
        assert run(words) == 0


def test_training_a_classifier_ends_with_a_command_that_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{'ab'[n % 2]}\t{'to be' if n % 2 else 'or not'} {n}\n" for n in range(80))
    (folder / "letters.tsv").write_text(rows)
    assert run(["classify", "--train", "letters.tsv", *QUICK]) == 0
    out = capsys.readouterr().out
    assert f"The classifier is {folder / 'checkpoints' / 'letters'}\n" in out
    commands = proposed(out)
    assert [words[:3] for words in commands] == [["classify", "-m", "letters"]] * 2
    assert all(run(words) == 0 for words in commands)


@pytest.mark.parametrize("name", ["verse", "my verse", "it's", "-x", "$HOME", "a;b", "*", "thơ"])
def test_names_are_quoted(name: str) -> None:
    with use_checkpoints(Path(name)):
        words = shlex.split(command_line("sample", "-m", name))
    assert words == ["chargen", "sample", "-m", name, "--checkpoints", name]
