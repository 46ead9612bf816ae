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
    "serve": ["m", "--port", "0"],
    "classify": ["-m", "m", "-m", "m2", "ab"],
    "classify --train": ["--train", "labels.tsv", "--name", "c", "--steps", "1", "--hidden", "4", "--embedding", "4"],
    "forecast": ["--train", "hours.csv", "--column", "a", "--history", "3", "--hidden", "4", "--steps", "1"],
    "train": ["text.txt", "--name", "t", "--force", "--steps", "1", "--hidden", "4", "--embedding", "4"],
    "corpora check": ["text.txt"],
    "bulk score": ["-m", "m", "text.txt", "--out", "out", "--engine", "local"],
    "bulk sample": ["-m", "m", "text.txt", "--out", "out", "--engine", "local", "--length", "4"],
    "corpora ball": ["--balls", "2", "--frames", "2", "--output", "balls.csv"],
    "probe neurons": ["m", "text.txt", "-o", "page.html"],
    "probe gradients": [
        "--cells",
        "rnn",
        "text.txt",
        "--hidden",
        "4",
        "--lag",
        "3",
        "--positions",
        "2",
        "--steps",
        "1",
    ],
    "probe memory": ["--cells", "rnn", "--hidden", "4", "--lags", "3", "--steps", "1"],
}
WITH = {
    "dry_base": ["--dry", "1"],
    "dry_allowed": ["--dry", "1"],
    "more": ["--resume", "stopped"],
    "ngram_dropout": ["--ngrams", "2"],
    "ngram_words": ["--ngrams", "2"],
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
    names.remove("bench cells")  # it trains in processes of their own for seconds; its numbers have the same types
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
    stop = ["--stop-after", "1"] if command in ("train", "forecast") and option.name != "stop_after" else []
    return [*command.split(" --")[0].split(), *words, *more, *stop, option.opts[0], value]


@pytest.fixture
def files(chargen: Chargen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.server.run.run_server", lambda app, server: None)
    save_checkpoint(Path("m"), random_model("ab\n"))
    save_checkpoint(Path("m2"), random_model("ab\n", seed=1))
    Path("text.txt").write_text("ab\nba\n" * 9)
    Path("labels.tsv").write_text("".join(f"{('m', 'm2')[n % 2]}\tab {n}\n" for n in range(20)))
    Path("hours.csv").write_text("a\n" + "".join(f"{n % 7}\n" for n in range(60)))
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


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_a_number_in_the_notation_of_another_language_is_refused_by_the_name_of_the_option(
    chargen: Chargen, command: str, option: click.Option
) -> None:
    if option.name == "more":
        chargen("train", "text.txt", "--name", "stopped", "--budget", "1h", "--hidden", "4", "--stop-after", "1")
    is_decimal = isinstance(option.type, click.types.FloatParamType)
    for value in ("0,8", "50%", "1.000,5", "-1e400", "½x"):
        result = chargen(*arguments_of(command, option, value))
        assert result.status == 2, (value, result.err)
        assert f"'{option.opts[0]}'" in result.err.replace("\n", " "), result.err
    if is_decimal:
        value = "1,5" if option.name == "dry_base" else "0,1"  # an allowed one
        assert f"Write {value.replace(',', '.')}." in " ".join(
            chargen(*arguments_of(command, option, value)).err.split()
        )


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("sample --temp 0,8", "'0,8' is not a number. Write 0.8."),
        ("sample --temp 80%", "Write 0.8."),
        ("sample --top-p 90", "90 must be a finite number above 0 and at most 1. Write 0.9 for 90 %."),
        ("sample --top-p 90%", "Write 0.9."),
        ("sample --typical 50", "Write 0.5 for 50 %."),
        ("sample --length 1.000", "Write 1000"),
        ("sample --length 1,000", "Write 1000."),
        ("sample --length 1e3", "Write 1000."),
        ("sample -n 2.0", "Write 2."),
        ("sample --top-k 2k", "Write 2000."),
        ("sample --dry 1,000", "Write 1.000 or 1000."),
        ("train --dropout 30", "Write 0.3 for 30 %."),
        ("train --val-fraction 10", "Write 0.1 for 10 %."),
        ("train --lr 0,001", "Write 0.001."),
        ("train --epochs 1,5", "Write 1.5."),
        ("train --budget 5min", "Write 5m."),
        ("train --budget 1,5h", "Write 1.5h."),
        ("train --budget 1:30", "Write 1m30s."),
        ("train --budget 1,000", "Write 1000."),
        ("train --budget 1.000.000s", "Write 1000000s."),
        ("train --more 1'000s", "Write 1000s."),
        ("train --save-every 1.000,5", "Write 1000.5."),
        ("classify --budget 0,125h a", "Write 0.125h."),
        ("train --max-corpus-size 1,000MB", "Write 1000MB."),
        ("eval --max-corpus-size 1_000_000 a", "Write 1000000."),
        ("train --save-every 2minutes", "Write 2m."),
        ("train --more 5phút", "Write 5m."),
        ("train --budget 1d", "Write 24h."),
        ("train --max-corpus-size 1,5GB", "Write 1.5GB."),
        ("train --max-corpus-size 5Mo", "Write 5MB."),
        ("train --max-corpus-size 5,5Gio", "Write 5.5GiB."),
        ("eval --max-corpus-size 1e6 x", "Write 1MB."),
        ("eval --max-corpus-size 2.5e9 x", "Write 2.5GB."),
        ("eval --max-corpus-size 1e3GB x", "Write 1000GB."),
        ("eval --max-corpus-size 1,000MB x", "Write 1000MB."),
        ("corpora check --max-corpus-size 2gigabytes x", "Write 2GB."),
        ("corpora check --max-corpus-size 1_000 x", "Write 1000."),
        ("score --min-bits 2,5 a", "Write 2.5."),
        ("classify --budget 90sec a", "Write 90s."),
    ],
)
def test_a_refused_number_says_what_was_probably_meant(chargen: Chargen, arguments: str, meant: str) -> None:
    result = chargen(*arguments.split())
    assert (result.status, result.out) == (2, "")
    assert meant in " ".join(result.err.split())


@pytest.mark.parametrize("value", ["120", "0", "-5"])
def test_a_number_that_is_no_percentage_gets_no_proposal(chargen: Chargen, value: str) -> None:
    assert "Write" not in chargen("sample", "--top-p", value).err
