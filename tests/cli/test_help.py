"""The help of every command: each option in one group, described by full sentences, with its default."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable

import click
import pytest

from chargen.cells import CELLS
from chargen.cli import options
from chargen.cli.commands.bench import BenchArguments
from chargen.cli.commands.classify.command import ClassifyArguments
from chargen.cli.commands.compare import CompareArguments
from chargen.cli.commands.corpora import CheckArguments
from chargen.cli.commands.eval import EvalArguments
from chargen.cli.commands.export.page import PageArguments
from chargen.cli.commands.forecast import ForecastArguments
from chargen.cli.commands.play import PlayArguments
from chargen.cli.commands.plot import PlotArguments
from chargen.cli.commands.probe.gradients import GradientArguments
from chargen.cli.commands.probe.memory import MemoryArguments
from chargen.cli.commands.probe.neurons import NeuronsArguments
from chargen.cli.commands.rescore import RescoreArguments
from chargen.cli.commands.sample import SampleArguments
from chargen.cli.commands.score import ScoreArguments
from chargen.cli.commands.serve.command import ServeArguments
from chargen.cli.commands.train.plan import TrainArguments
from chargen.cli.main import cli
from chargen.sampling.settings import SAMPLING_RULES, SampleConfig
from chargen.tokenizers import TOKENIZERS
from tests.cli.test_options import commands
from tests.conftest import Result

COMMANDS = dict(commands())
VISIBLE = [
    (path, param)
    for path, command in COMMANDS.items()
    for param in command.params
    if isinstance(param, click.Option) and not param.hidden
]
MAX_BASIC_OPTIONS = 6
SECTION = re.compile(r"^(\S[^\n]*):\n", re.MULTILINE)
ONE_COMMAND = [path for path, command in COMMANDS.items() if len(command.params) > 2]


def option_id(value: object) -> str:
    return str(value.opts[0]) if isinstance(value, click.Option) else "-".join(map(str, value))  # type: ignore[call-overload]


def sections(text: str) -> dict[str, str]:
    """Return the sections of a help text by their headings."""
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("path", "option"), VISIBLE, ids=option_id)
def test_an_option_is_in_exactly_one_group(path: tuple[str, ...], option: click.Option) -> None:
    assert isinstance(option, options.GroupedOption)
    command = COMMANDS[path]
    text = command.get_help(click.Context(command, info_name=path[-1], max_content_width=400, terminal_width=400))
    record = option.get_help_record(click.Context(command))
    assert record is not None
    line = re.compile(rf"^  {re.escape(record[0])}(  |$)", re.MULTILINE)
    assert [title for title, part in sections(text).items() if line.search(part)] == [option.group]


@pytest.mark.parametrize(("path", "option"), VISIBLE, ids=option_id)
def test_the_help_of_an_option_is_full_sentences(path: tuple[str, ...], option: click.Option) -> None:
    assert option.help
    assert option.help.endswith(".")
    assert option.help[0].isupper() or option.help[0] in "'-"
    assert len(option.help.split()) >= 2


@pytest.mark.parametrize(("path", "option"), VISIBLE, ids=option_id)
def test_the_help_of_an_option_shows_its_default(path: tuple[str, ...], option: click.Option) -> None:
    has_default = option.default not in (None, False, "", ()) and not repr(option.default).startswith("Sentinel")
    if not has_default:
        return
    record = option.get_help_record(click.Context(COMMANDS[path]))
    assert record is not None
    assert "default: " in record[1]


@pytest.mark.parametrize("name", ["train", "sample", "score", "rescore", "classify"])
def test_the_options_that_are_used_most_come_first(name: str) -> None:
    command = COMMANDS[(name,)]
    groups = [option.group for option in command.params if isinstance(option, options.GroupedOption)]
    assert groups[0] == "Options used most"
    assert groups.count(groups[0]) <= MAX_BASIC_OPTIONS


def test_the_options_of_a_group_are_declared_together() -> None:
    for path, command in COMMANDS.items():
        shown = [o for o in command.params if isinstance(o, options.GroupedOption) and not o.hidden]
        titles = [option.group for option in shown]
        starts = [title for index, title in enumerate(titles) if index == 0 or titles[index - 1] != title]
        assert len(starts) == len(set(starts)), path


def test_the_help_names_every_cell_tokenizer_and_sampling_rule(chargen: Callable[..., Result]) -> None:
    train = " ".join(chargen("train", "--help").out.split())
    assert f"Recurrent cell: {', '.join(CELLS.names())}." in train
    assert f"Tokenizer: {', '.join(TOKENIZERS.names())}." in train
    sample = chargen("sample", "--help").out
    assert all(f"--{name.replace('_', '-')} " in sample for name in SAMPLING_RULES)


@pytest.mark.parametrize("columns", [40, 50, 60, 80, 120])
def test_help_fits_the_terminal(chargen: Callable[..., Result], columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda *args: os.terminal_size((columns, 24)))
    unbroken = ("_CHARGEN_COMPLETE=bash_source", "[a-z]+, (the )?")  # a single word of a shell
    for path in [(), *COMMANDS]:
        for line in chargen(*path, "--help").out.splitlines():
            assert len(line) <= columns or (columns < 50 and any(word in line for word in unbroken)), line


@pytest.mark.parametrize("columns", [50, 60])
def test_help_on_a_narrow_terminal_has_the_same_words_and_commands(
    chargen: Callable[..., Result], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [(), *COMMANDS]:
        shown = []
        for width in (200, columns):
            monkeypatch.setattr("shutil.get_terminal_size", lambda *args, width=width: os.terminal_size((width, 24)))
            shown.append(chargen(*path, "--help").out)
        joined = (re.sub(r" \\\n +", " ", text) for text in shown)  # examples continue after a backslash
        wide, narrow = (re.sub(r"(?<=\w-)\n +", "", text).split() for text in joined)  # click breaks after a hyphen
        assert sorted(wide) == sorted(narrow), path


def test_the_help_of_the_group_names_variables_and_completion(chargen: Callable[..., Result]) -> None:
    out = chargen("--help").out
    for words in (
        "CHARGEN_CHECKPOINTS",
        "CHARGEN_MODEL",
        "CHARGEN_CACHE",
        "CHARGEN_DEVICE",
        "CHARGEN_THREADS",
        "_CHARGEN_COMPLETE=bash_source",
        "zsh",
    ):
        assert words in out
    assert "[env var: CHARGEN_DEVICE;" in " ".join(chargen("train", "--help").out.split())


ARGUMENTS = {
    "train": (TrainArguments(), []),
    "score": (ScoreArguments(), []),
    "eval": (EvalArguments(corpus=("a",)), ["a"]),
    "compare": (CompareArguments(models=("a", "b"), corpus="c"), ["a", "b", "c"]),
    "rescore": (RescoreArguments(), []),
    "classify": (ClassifyArguments(), []),
    "forecast": (ForecastArguments(), []),
    "play": (PlayArguments(), []),
    "serve": (ServeArguments(), []),
    "plot": (PlotArguments(), []),
    "bench cells": (BenchArguments(corpus=("a",)), ["a"]),
    "export page": (PageArguments(model="a", output="b"), ["a", "-o", "b"]),
    "probe neurons": (NeuronsArguments(model="a", corpus="b"), ["a", "b"]),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_dataclass_of_a_command_has_its_options_and_their_defaults(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHARGEN_DEVICE", raising=False)
    arguments, words = ARGUMENTS[name]
    with COMMANDS[tuple(name.split())].make_context(name, list(words), parent=click.Context(cli)) as context:
        assert vars(type(arguments)(**context.params)) == vars(arguments)  # not every class has __eq__


def test_the_dataclasses_of_check_and_sample_have_their_options_and_defaults() -> None:
    with COMMANDS["corpora", "check"].make_context("check", ["a"]) as context:
        assert CheckArguments(**context.params) == CheckArguments(corpus=("a",))
    with COMMANDS["probe", "gradients"].make_context("gradients", ["a"]) as context:
        assert GradientArguments(**context.params) == GradientArguments(text="a")
    with COMMANDS["probe", "memory"].make_context("memory", []) as context:
        assert MemoryArguments(**context.params) == MemoryArguments()
    with COMMANDS["sample",].make_context("sample", []) as context:
        arguments = SampleArguments.from_options(context.params)
    assert dataclasses.replace(arguments, settings={}) == SampleArguments()
    settings = {**arguments.settings, "seed": 0}
    assert SampleConfig(**settings) == SampleConfig()
