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
from chargen.cli.group_help import COMMANDS
from chargen.cli.hints import COMMAND_WORDS, GROUP_WORDS, OPTION_WORDS
from tests.cli.test_options import commands
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


@pytest.mark.parametrize(
    "command", [*([name] for name in COMMANDS), ["corpora", "get"], ["probe", "neurons"], ["bench", "cells"], []]
)
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


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("sample --n 3", "-n"), ("sample --num-samples 3", "-n"), ("sample --length_ 3", "--length"),
        ("sample --max-new-tokens 3", "--length"), ("sample --temprature 1", "--temp"), ("sample -temp 1", "--temp"),
        ("sample --top_p 0.9", "--top-p"), ("sample --TOP-P 0.9", "--top-p"), ("sample --nucleus 0.9", "--top-p"),
        ("sample --start x", "--prompt"), ("sample --checkpoint x", "-m"), ("play --sed 3", "--seed"),
        ("train --time 60", "--budget"), ("train --epoch 3", "--epochs"), ("train --max_iters=9", "--steps"),
        ("train --learning-rate 1", "--lr"), ("train --batch_size 4", "--batch"), ("train --num-layers 2", "--layers"),
        ("train --rnn_size 9", "--hidden"), ("train --block-size 9", "--seq-len"), ("train --gpu", "--device cuda"),
        ("train --overwrite", "--force"), ("train --random-state 1", "--seed"),
        ("train --output-dir x", "--checkpoints"),
        ("score --jsn a", "--json"), ("score --noend a", "--no-end"), ("classify --labeled x", "--labelled"),
        ("rm --force x", "--yes"), ("corpora get x --out y", "--output"),
    ],
)  # fmt: skip
def test_an_option_of_another_program_or_a_misspelled_one_gets_one_suggestion(
    chargen: Chargen, words: str, meant: str
) -> None:
    result = chargen(*words.split())
    assert (result.status, result.out) == (2, "")
    error = " ".join(result.err.split())
    assert f"Did you mean '{meant}'?" in error and error.count("Did you mean") == 1


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("generate", "sample"), ("complete", "sample"), ("predict", "sample"), ("perplexity", "eval"),
        ("evaluate", "eval"), ("ppl", "eval"), ("test", "eval"), ("fit", "train"), ("finetune", "train"),
        ("chat", "play"), ("rank", "score"), ("list", "info"), ("ls", "info"),
        ("delete", "rm"), ("datasets", "corpora"),
        ("Train", "train"), ("smple", "sample"), ("clasify", "classify"), ("version", "--version"),
        ("corpora download", "get"), ("corpora ls", "list"), ("corpora chek", "check"), ("corpora bounce", "ball"),
        ("benchmark", "bench"), ("curves", "plot"), ("activations", "probe"), ("probe units", "neurons"),
        ("publish", "export"), ("export html", "page"),
        ("bench cell", "cells"),
    ],
)  # fmt: skip
def test_a_command_of_another_program_or_a_misspelled_one_gets_one_suggestion(
    chargen: Chargen, word: str, meant: str
) -> None:
    result = chargen(*word.split(), "x")
    assert (result.status, result.out) == (2, "")
    assert f"no command '{word.split()[-1]}'. Did you mean '{meant}'?" in result.err


@pytest.mark.parametrize("words", ["sample --foo", "train --qqq 3", "qqq", "corpora zz", "score --verbose a"])
def test_a_word_that_resembles_nothing_gets_no_suggestion(chargen: Chargen, words: str) -> None:
    result = chargen(*words.split())
    assert result.status == 2
    assert "Did you mean" not in result.err and "--help" in result.err


def test_an_argument_that_is_given_as_an_option_and_an_option_of_another_command_are_explained(
    chargen: Chargen,
) -> None:
    assert "Give it without an option: chargen train CORPUS" in chargen("train", "--data", "x").err
    assert "Give it without an option: chargen score SENTENCES" in chargen("score", "--text", "x").err
    assert "It is an option of chargen sample, play and bulk sample." in chargen("train", "--temperature", "1").err


@pytest.mark.parametrize(
    ("words", "owners"),
    [
        (
            "train --model x",
            "sample, play, score, eval, rescore, classify, forecast, bulk score and bulk sample",
        ),
        ("train --temp 1", "sample, play and bulk sample"),
        ("sample --steps 4", "train, classify, forecast, probe gradients and probe memory"),
        ("score -n 3", "sample and bulk sample"),
        ("probe memory --temp 1", "sample, play and bulk sample"), ("train --weight 1", "score and rescore"),
        ("play --dry 1", "sample"), ("info --no-end", "score, rescore and bulk score"),
    ],
)  # fmt: skip
def test_an_option_of_another_command_is_not_taken_for_a_misspelled_one(
    chargen: Chargen, words: str, owners: str
) -> None:
    error = " ".join(chargen(*words.split()).err.split())
    assert f"It is an option of chargen {owners}." in error and "Did you mean" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare names", "chargen compare needs MODEL MODEL... CORPUS, but only names was given."),
        ("compare --json names", "chargen compare needs MODEL MODEL... CORPUS, but only names was given."),
        ("compare names test.log", "compare needs two models or more, and then a text, but only names test.log were"),
        ("compare", "Missing argument 'MODEL MODEL...'"),
    ],
)
def test_a_missing_argument_is_told_from_those_that_were_given(chargen: Chargen, words: str, message: str) -> None:
    result = chargen(*words.split())
    assert result.status == 2 and message in " ".join(result.err.split())


def test_a_word_that_is_another_option_here_and_an_option_elsewhere_is_explained_as_both(chargen: Chargen) -> None:
    error = " ".join(chargen("sample", "--chars", "9").err.split())
    assert error.endswith("It is an option of chargen score. Did you mean '--length'?")


def test_the_words_of_other_programs_are_not_our_own_names_and_lead_to_names_that_exist() -> None:
    known = {path[0]: command for path, command in commands()}
    options = {name for _, command in commands() for param in command.params for name in param.opts}
    arguments = {str(param.name).upper() for _, command in commands() for param in command.params}
    assert {meant.split()[0] for meant in OPTION_WORDS} <= options | arguments
    assert set(COMMAND_WORDS) <= {*known, "--version", "help"}
    for group, words in GROUP_WORDS.items():
        assert set(words) == {path[1] for path, _ in commands() if path[0] == group}
    for words in (COMMAND_WORDS, *GROUP_WORDS.values()):
        others = [word for each in words.values() for word in each.split()]
        assert len(others) == len(set(others)), "a word leads to two names"
        assert not set(others) & set(words)


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
