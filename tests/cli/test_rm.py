"""`chargen rm`: it asks, and removes nothing without an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli.main import run
from tests.conftest import random_model


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("verse", "verse-2"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model())
    return tmp_path / "checkpoints"


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let standard input be a terminal on which this is typed."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: text)


def names(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir() if not path.name.startswith("."))


def test_without_a_terminal_rm_refuses(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rm", "verse"]) == 2
    assert "Give --yes to remove the runs." in capsys.readouterr().err
    assert names(runs) == ["verse", "verse-2"]


def test_on_a_terminal_rm_asks(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("n", ""):
        answer(monkeypatch, text)
        assert run(["rm", "verse", "verse-2"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and "run verse: 1 file, " in output.err and "nothing was removed" in output.err
    assert names(runs) == ["verse", "verse-2"]
    answer(monkeypatch, "y")
    assert run(["rm", "verse"]) == 0
    assert capsys.readouterr().out.startswith("removed run verse: 1 file, ")
    assert names(runs) == ["verse-2"]


def test_yes_and_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size_bytes = (runs / "verse" / "model.safetensors").stat().st_size
    assert run(["rm", "verse", "--yes", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    path = os.path.abspath(runs / "verse")
    assert facts == {"name": "verse", "kind": "run", "path": path, "num_files": 1, "size_bytes": size_bytes}


@pytest.mark.parametrize("more", [["vrse-2"], ["../verse-2"]])
def test_a_wrong_name_removes_nothing(runs: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rm", "verse", *more, "--yes"]) == 1
    assert "error: " in capsys.readouterr().err
    assert names(runs) == ["verse", "verse-2"]


def test_runs_of_another_folder(runs: Path, tmp_path: Path) -> None:
    os.rename(runs, tmp_path / "elsewhere")
    assert run(["rm", "verse", "--yes", "--checkpoints", "elsewhere"]) == 0
    assert names(tmp_path / "elsewhere") == ["verse-2"]
