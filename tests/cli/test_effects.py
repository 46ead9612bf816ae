"""The table of options without effect: what each line of it refuses, and what it lets through."""

from __future__ import annotations

import click
import pytest

from chargen.cli import options
from chargen.cli.effects import CommandLine, keeps_promise, needs, no_effect, only_one
from tests.cli.test_options import commands

EFFECTS = [
    only_one("--tsv --json"),
    only_one("--steps --epochs --budget"),
    needs("--decay", "--adapt --learn"),
    no_effect("--top", beside="--temp=0 --no-sort", why="nothing is ranked"),
    no_effect("--encoding", beside="texts", unless="--file", why="texts are decoded already"),
    keeps_promise("--seed", beside="--beam", why="nothing is drawn"),
]


@click.command(cls=options.GroupedCommand, effects=EFFECTS)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--tsv", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--sort/--no-sort", default=None)
@click.option("--temp", type=float, default=1.0)
@click.option("--beam", type=int, default=0)
@click.option("--ensemble", type=int)
@click.option("--tag", multiple=True)
@click.option("--decay", envvar="DECAY", type=float)
@click.option("--adapt", is_flag=True)
@click.option("--file")
@click.option("--encoding", default="utf-8")
@click.option("--top")
@click.option("--learn")
@click.option("--steps")
@click.option("--epochs")
@click.option("--budget")
@click.option("--seed")
def command(**values: object) -> None:
    pass


def parse(line: str) -> click.Context:
    return command.make_context("command", line.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--json --tsv", "--tsv and --json cannot be combined: give only one of --tsv and --json."),
        ("--budget 1 --steps 2", "--steps and --budget cannot be combined: give only one of --steps, --epochs and"),
        ("--decay 1", "--decay needs --adapt or --learn."),
        ("--top 3 --temp 0.0", "--top cannot be combined with --temp 0: nothing is ranked."),
        ("--top 3 --no-sort", "--top cannot be combined with --no-sort"),
        ("--encoding utf-8 a b", "--encoding cannot be combined with TEXT"),
        ("--temp 0.5 --temp 0.8", "--temp is given 2 times"),
        ("--temp 0.5 --temp 0.5 --temp 1", "--temp is given 3 times"),
        ("--sort --no-sort", "--sort/--no-sort is given 2 times"),
        ("--ensemble 2 --members 2", "--ensemble is given 2 times"),
    ],
)
def test_an_option_without_effect_is_refused_by_name(line: str, message: str) -> None:
    with pytest.raises(click.UsageError, match=".") as caught:
        parse(line)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "line",
    ["", "--json --json", "--tag a --tag b", "--top 3 --temp 0.1", "--top 3 --sort", "--decay 1 --learn x",
     "--encoding utf-8 --file x a", "--encoding utf-8", "--seed 1", "--seed 1 --beam 0", "--beam 0 --temp 1"],
)  # fmt: skip
def test_an_option_with_an_effect_is_accepted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    parse(line)
    assert capsys.readouterr().err == ""


def test_an_option_that_keeps_its_promise_gets_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    parse("--seed 1 --beam 2")
    assert capsys.readouterr().err == "note: --seed has no effect beside --beam: nothing is drawn\n"


def test_an_environment_variable_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECAY", "0.5")
    assert parse("").params["decay"] == 0.5


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_name_in_a_table_is_an_option_of_the_command(path: tuple[str, ...]) -> None:
    command = dict(commands())[path]
    assert isinstance(command, options.GroupedCommand)
    line = CommandLine(click.Context(command))
    for effect in command.effects:
        for name in (*effect.options, *effect.beside, *effect.without, *effect.unless):
            assert line.spelled(name)
