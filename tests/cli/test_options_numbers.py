"""Numeric options of the commands that use a model, with extreme values: each is an error message, or it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli.main import cli
from tests.cli.test_options import commands
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
VALUES = ["0", "-1", "1e-308", "1e308", "nan", "inf", "-inf", "1" * 5000, *map(str, (2**31, 2**64, 10**30))]
BASE = {
    "sample": ["-m", "m", "--length", "4", "--seed", "1"],
    "score": ["-m", "m", "ab", "ba"],
    "eval": ["-m", "m", "text.txt", "--adapt"],
    "compare": ["m", "m2", "text.txt", "--resamples", "100"],
    "rescore": ["-m", "m", "--file", "list.txt"],
    "play": ["-m", "m"],
    "classify": ["-m", "m", "-m", "m2", "ab"],
}
WITH = {
    "dry_base": ["--dry", "1"],
    "dry_allowed": ["--dry", "1"],
}  # options that another option needs to have an effect
MODES = [[], ["--suffix", "b"], ["--json", "-n", "5"]]  # of `sample`, where they may make a difference
NUMBERS = (click.types.IntParamType, click.types.FloatParamType)


def numeric_options() -> Iterator[tuple[str, click.Option]]:
    context = click.Context(cli)
    for name in BASE:
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.type, NUMBERS):
                yield name, option


OPTIONS = list(numeric_options())


def test_numeric_options_are_found() -> None:
    assert len(OPTIONS) > 25
    assert {"length", "top", "resamples", "weight", "adapt_rate"} <= {option.name for _, option in OPTIONS}


def test_every_command_with_a_number_is_run() -> None:
    names = {path[0] for path, command in commands() if any(isinstance(p.type, NUMBERS) for p in command.params)}
    assert names == {*BASE, "train"}, "add a line to BASE"  # test_options.py runs `train`


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_an_extreme_number_works_or_is_an_error_message(chargen: Chargen, command: str, option: click.Option) -> None:
    save_checkpoint(Path("m"), random_model("ab\n"))
    save_checkpoint(Path("m2"), random_model("ab\n", seed=1))
    Path("text.txt").write_text("ab\nba\n" * 3)
    Path("list.txt").write_text("0 ||| ab ||| f ||| -1\n0 ||| ba ||| f ||| -2\n")
    modes = MODES if command == "sample" and option.name in ("temperature", "length", "particles") else MODES[:1]
    for value in VALUES:
        for mode in modes:
            arguments = [*BASE[command], *WITH.get(str(option.name), []), *mode, option.opts[0], value]
            started = time.perf_counter()
            result = chargen(command, *arguments)  # any error but a ChargenError is raised
            assert result.status in (0, 1, 2), arguments
            assert time.perf_counter() - started < 20, arguments
            assert bool(result.err) or not result.status, arguments
            assert "Traceback" not in result.err and "nan" not in result.out + result.err.replace(value, "")
