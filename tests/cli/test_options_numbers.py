"""Numeric options of the commands that use a model, with extreme values: each is an error message, or it works."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli import options
from tests.cli.test_options import commands
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
VALUES = ["0", "-1", "1e-308", "1e308", "nan", "inf", "-inf", "1" * 5000]
VALUES += map(str, (2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30))
BASE = {  # the arguments beside the option that is tried, by the command
    "sample": ["-m", "m", "--length", "4", "--seed", "1"],
    "score": ["-m", "m", "ab", "ba"],
    "eval": ["-m", "m", "text.txt", "--adapt"],
    "compare": ["m", "m2", "text.txt", "--resamples", "100"],
    "rescore": ["-m", "m", "--file", "list.txt"],
    "play": ["-m", "m"],
    "classify": ["-m", "m", "-m", "m2", "ab"],
    "classify --train": ["--train", "labels.tsv", "--name", "c", "--steps", "1", "--hidden", "4", "--embedding", "4"],
    "train": ["text.txt", "--name", "t", "--force", "--steps", "1", "--hidden", "4", "--embedding", "4"],
    "corpora check": ["text.txt"],
}
WITH = {
    "dry_base": ["--dry", "1"],
    "dry_allowed": ["--dry", "1"],
    "more": ["--resume", "stopped"],
    "ngram_dropout": ["--ngrams", "2"],
    "seed of classify": ["--labelled", "labels.tsv"],
}  # options that another option needs to have an effect
MODES = [[], ["--suffix", "b"], ["--json", "-n", "5"]]  # of `sample`, where they may make a difference
NUMBERS = (click.types.IntParamType, click.types.FloatParamType)


CALLBACKS = (options.parse_duration, options.parse_size)
UNTIL_DONE = {"budget": "--steps", "epochs": "--steps", "steps": "--steps"}  # the option of BASE that it replaces


def is_number(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and (isinstance(param.type, NUMBERS) or param.callback in CALLBACKS)


def numeric_options() -> Iterator[tuple[str, click.Option]]:
    known = dict(commands())
    for name in BASE:
        path = tuple(word for word in name.split() if not word.startswith("-"))
        for option in known[path].params:
            if is_number(option):
                yield name, option


OPTIONS = list(numeric_options())


def test_numeric_options_are_found() -> None:
    assert len(OPTIONS) > 60
    assert {"length", "top", "resamples", "weight", "adapt_rate", "max_bytes", "budget"} <= {o.name for _, o in OPTIONS}


def test_every_command_with_a_number_is_run() -> None:
    names = {" ".join(path) for path, command in commands() if any(map(is_number, command.params))}
    assert names == {name.split(" --")[0] for name in BASE}, "add a line to BASE"


def arguments_of(command: str, option: click.Option, value: str) -> list[str]:
    """Return the arguments of a command with an option, in place of the value that BASE has for it."""
    words = list(BASE[command])
    replaced = {*option.opts, UNTIL_DONE.get(str(option.name))}
    for word in replaced & set(words):
        del words[words.index(word) : words.index(word) + 2]
    more = WITH.get(str(option.name), []) + WITH.get(f"{option.name} of {command}", [])
    if "--resume" in more:
        words = []
    stop = ["--stop-after", "1"] if command == "train" and option.name != "stop_after" else []
    return [*command.split(" --")[0].split(), *words, *more, *stop, option.opts[0], value]


@pytest.fixture
def files(chargen: Chargen) -> None:
    save_checkpoint(Path("m"), random_model("ab\n"))
    save_checkpoint(Path("m2"), random_model("ab\n", seed=1))
    Path("text.txt").write_text("ab\nba\n" * 9)
    Path("labels.tsv").write_text("".join(f"{('m', 'm2')[n % 2]}\tab {n}\n" for n in range(20)))
    Path("list.txt").write_text("0 ||| ab ||| f ||| -1\n0 ||| ba ||| f ||| -2\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_an_extreme_number_works_or_is_an_error_message(chargen: Chargen, command: str, option: click.Option) -> None:
    if option.name == "more":
        small = ("--hidden", "4", "--embedding", "4", "--stop-after", "1")
        assert chargen("train", "text.txt", "--name", "stopped", "--budget", "1h", *small).status == 130
    modes = MODES if command == "sample" and option.name in ("temperature", "length", "particles") else MODES[:1]
    trains_long = command == "classify --train" and option.name in ("steps", "epochs", "budget")
    for value in VALUES[:3] + ["nan", "inf"] if trains_long else VALUES:  # a large number of steps is made
        for mode in modes:
            arguments = [*arguments_of(command, option, value), *mode]
            started = time.perf_counter()
            result = chargen(*arguments)  # any error but a ChargenError is raised
            assert result.status in (0, 1, 2, 3, 130), arguments
            assert time.perf_counter() - started < 20, arguments
            assert bool(result.err) or not result.status, arguments
            shown = result.out + result.err
            assert "Traceback" not in shown, arguments
            assert result.status or not re.search(r"\b(nan|inf|NaN|Infinity)\b", shown), (arguments, shown)


@pytest.mark.usefixtures("files")
def test_the_number_that_is_tried_is_not_refused_as_a_repetition(chargen: Chargen) -> None:
    for command, option in OPTIONS:
        assert "times, but" not in chargen(*arguments_of(command, option, "nonsense")).err
