"""Shells complete commands, options and names, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from chargen.cells import CELLS
from chargen.checkpoint import save_checkpoint
from chargen.cli.group_help import COMMANDS, COMPLETE_VARIABLE
from chargen.cli.main import cli
from chargen.tokenizers import TOKENIZERS
from tests.conftest import random_model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("verse", "verse-2", "news"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model())
    return tmp_path


def complete(*words: str) -> list[str]:
    """Return the completions of the last word."""
    *before, incomplete = words
    items = ShellComplete(cli, {}, "chargen", COMPLETE_VARIABLE).get_completions(before, incomplete)
    return [item.value for item in items if item.type == "plain"]


def test_commands_complete() -> None:
    assert complete("") == list(COMMANDS)
    assert complete("sa") == ["sample"]
    assert complete("--ver") == ["--version"]
    assert complete("corpora", "c") == ["check", "clean"]
    assert complete("probe", "m") == ["memory"]


def test_options_complete() -> None:
    assert complete("train", "--weight-d") == ["--weight-dropout", "--weight-decay"]
    assert complete("sample", "--device", "c") == ["cpu", "cuda"]


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "-m"), ("score", "--model"), ("play", "-m"), ("train", "--init-from"), ("train", "--resume"),
        ("compare",), ("info",), ("rm",), ("eval", "-m"), ("classify", "-m"), ("rescore", "-m"),
        ("probe", "gradients"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_run_names_complete(words: tuple[str, ...]) -> None:
    assert sorted(complete(*words, "ver")) == ["verse", "verse-2"]


@pytest.mark.parametrize(
    "words",
    [("train",), ("eval",), ("corpora", "get"), ("corpora", "check"), ("train", "--val")],
)
def test_built_in_corpora_complete(words: tuple[str, ...]) -> None:
    assert complete(*words, "python") == ["python-docs", "python-source"]


def test_cells_and_tokenizers_complete() -> None:
    assert complete("train", "--cell", "") == CELLS.names()
    assert "lstm" in complete("classify", "--cell", "l")
    assert "lstm,gru" in complete("train", "--cell", "lstm,g")
    assert complete("train", "--tokenizer", "") == TOKENIZERS.names()


def test_a_corpus_and_a_model_also_complete_as_files() -> None:
    shell = ShellComplete(cli, {}, "chargen", COMPLETE_VARIABLE)
    for words in (["train"], ["sample", "-m"], ["score", "--file"]):
        items = shell.get_completions(words, "ver")
        assert ("file", "ver") in [(item.type, item.value) for item in items]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script_and_completions_without_torch(shell: str, folder: Path) -> None:
    """The process that the shell calls prints the script, and then answers it."""
    code = (
        "import sys\nfrom chargen.cli.main import main\ntry:\n    main()\nfinally:\n"
        "    assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(**variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env={**environment, **variables}, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    assert COMPLETE_VARIABLE in run(**{COMPLETE_VARIABLE: f"{shell}_source"})
    words = {"COMP_WORDS": "chargen sample -m ver", "COMP_CWORD": "ver" if shell == "fish" else "3"}
    assert "verse-2" in run(**{COMPLETE_VARIABLE: f"{shell}_complete"}, **words)
