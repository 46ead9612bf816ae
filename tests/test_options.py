"""Every option of every command, with values at and beyond its edges: a stated error or a result, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli import options
from chargen.cli.main import COMMANDS, cli
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
#: options and arguments whose value is a text, which may be empty
TEXTS = {"texts", "sentences", "prompt", "suffix", "context", "stop", "ban", "regex"}


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from (((name, below), command.commands[below]) for below in command.commands)
        else:
            yield (name,), command


def test_every_option_that_names_something_refuses_the_empty_name() -> None:
    for path, command in commands():
        for param in command.params:
            takes_text = isinstance(param.type, type(click.STRING) | click.Path) and not getattr(
                param, "is_flag", False
            )
            if takes_text and param.name not in TEXTS and param.callback is not options.span:
                raise AssertionError(f"{' '.join(path)}: {param.opts[0]} has the type {param.type}, not options.NAME")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", ""), ("train", "verse.txt", "--name", ""), ("train", "--resume", ""), ("train", "--init-from", ""),
        ("train", "verse.txt", "--val", ""), ("train", "verse.txt", "--tokenizer", ""), ("sample", "-m", ""),
        ("sample", "--prompt-file", ""), ("sample", "--corpus", ""), ("score", "--file", ""), ("score", "x", "--html", ""),
        ("eval", ""), ("compare", "m", "m", ""), ("compare", "m", "", "verse.txt"), ("info", ""), ("corpora", "get", ""),
        ("corpora", "get", "alphabet", "--output", ""), ("classify", "--train", ""), ("classify", "-m", ""),
        ("rescore", "--file", ""), ("rescore", "--tune", ""), ("play", "-m", ""), ("train", "verse.txt", "--cell", ""),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_empty_name_is_an_error(arguments: tuple[str, ...], chargen: Chargen) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    result = chargen(*arguments)
    assert result.status == 2
    assert "is empty" in result.err
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["m"]


EXTREMES = ("0", "-1", "1e-308", "1e308", "1" + "0" * 30, str(2**64), "nan", "inf")


def numeric_options_of_train() -> list[str]:
    command = dict(commands())[("train",)]
    numbers = click.types.IntParamType | click.types.FloatParamType
    spans = [param for param in command.params if param.callback is options.span]
    return [p.opts[0] for p in [*(p for p in command.params if isinstance(p.type, numbers)), *spans]]


@pytest.mark.parametrize("option", numeric_options_of_train())
def test_training_states_what_is_wrong_with_a_number(option: str, chargen: Chargen) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    small = {"--steps": "2", "--hidden": "8", "--batch": "2", "--seq-len": "8", "--embedding": "8", "--layers": "1"}
    for value in EXTREMES:
        arguments = {**small, option: value}
        if option in ("--budget", "--epochs"):
            del arguments["--steps"]
        words = [word for pair in arguments.items() for word in pair]
        result = chargen("train", "verse.txt", "--name", "x", "--force", "--stop-after", "1", *words)
        assert result.status in (0, 1, 2, 130), (value, result.err)
        assert "Traceback" not in result.err
        if result.status in (1, 2):
            lines = [line for line in result.err.splitlines() if not line.startswith(("Usage", "Try", "note"))]
            assert any(option in line or option.strip("-").replace("-", "_") in line or "--" in line for line in lines)
