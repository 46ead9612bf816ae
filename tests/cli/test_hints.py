"""What a wrong command line says: the option or the `--` that was meant. And: -V, help COMMAND, completion in bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen import __version__
from chargen.checkpoint import save_checkpoint
from chargen.cli.main import COMMANDS
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("checkpoints/names/model.safetensors"), random_model())
    Path("test.log").write_text("one\ntwo\n")
    return tmp_path


def test_the_version_has_a_short_option(chargen: Chargen) -> None:
    assert chargen("-V").out == chargen("--version").out
    assert __version__ in chargen("-V").out


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["corpora", "get"], []])
def test_help_is_a_command_too(chargen: Chargen, command: list[str]) -> None:
    result = chargen("help", *command)
    assert result.status == 0
    assert result.out == chargen(*command, "--help").out


def test_help_of_an_unknown_command_suggests_one(chargen: Chargen) -> None:
    assert "Did you mean 'train'?" in chargen("help", "tran").err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["sample", "names"], "Did you mean -m names?"),
        (["sample", "--temp", "0.5", "names"], "Did you mean -m names?"),
        (["play", "names"], "Did you mean -m names?"),
        (["rescore", "names"], "Did you mean -m names?"),
        (["sample", "name"], "Did you mean -m name or --prompt name?"),
        (["sample", "Once upon"], "Did you mean --prompt 'Once upon'?"),
        (["sample", "test.log"], "Did you mean --prompt-file test.log?"),
        (["rescore", "test.log"], "Did you mean --file test.log?"),
        (["score", "-5 degrees"], "chargen score -- '-5 degrees'"),
        (["classify", "-xyz"], "chargen classify -- -xyz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_says_what_was_meant(chargen: Chargen, words: list[str], meant: str) -> None:
    result = chargen(*words)
    assert (result.status, result.out) == (2, "")
    assert meant in result.err


def test_a_misspelled_option_is_not_taken_for_a_text(chargen: Chargen) -> None:
    error = chargen("score", "--jsn", "a").err
    assert "--json" in error
    assert "begins with a dash" not in error


def test_a_text_that_begins_with_a_dash_is_scored_after_two_dashes(chargen: Chargen) -> None:
    result = chargen("score", "--", "-5 degrees")
    assert result.status == 0
    assert "-5 degrees" in result.out


@pytest.mark.parametrize("command", [["score"], ["classify", "-m", "names", "-m", "./checkpoints/names"]])
def test_the_name_of_a_file_that_is_given_as_a_text_gets_a_note(chargen: Chargen, command: list[str]) -> None:
    result = chargen(*command, "test.log", "a text")
    assert result.status == 0
    assert "note: test.log is a file; add --file to read it: --file test.log\n" in result.err
    assert "is a file" not in chargen(*command, "a text").err


@pytest.mark.skipif(not shutil.which("bash"), reason="this system has no bash")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("chargen sam", ["sample"]), ("chargen sample -m na", ["names"]), ("chargen help tr", ["train"]),
        ("chargen train --weight-d", ["--weight-dropout", "--weight-decay"]), ("chargen corpora c", ["check", "clean"]),
    ],
)  # fmt: skip
def test_bash_completes(folder: Path, line: str, completions: list[str]) -> None:
    """The completion runs as bash runs it: the script is loaded, and its function is called with the words."""
    program = folder / "bin" / "chargen"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chargen "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = (
        'eval "$(_CHARGEN_COMPLETE=bash_source chargen)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        '_chargen_completion chargen 2>/dev/null\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == completions, done.stderr


def test_the_program_without_arguments_prints_its_help(chargen: Callable[..., Result]) -> None:
    assert chargen() == chargen("--help")
    assert "␊" not in chargen().out
