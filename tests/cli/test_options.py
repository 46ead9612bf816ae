"""Options with extreme, empty and contradicting values: each is an error message or a result, never a traceback."""

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
# options and arguments whose value is a text, which may be empty
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
            is_text = type(param.type) is type(click.STRING)
            if (
                is_text
                and param.name not in TEXTS
                and param.callback not in (options.parse_duration, options.parse_size)
            ):
                raise AssertionError(f"{' '.join(path)}: {param.opts[0]} is not of the type options.NAME")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", ""), ("train", "verse.txt", "--name", ""), ("train", "--resume", ""), ("train", "--init-from", ""),
        ("train", "verse.txt", "--val", ""), ("train", "verse.txt", "--tokenizer", ""), ("sample", "-m", ""),
        ("sample", "--prompt-file", ""), ("sample", "--corpus", ""), ("score", "--file", ""),
        ("score", "x", "--html", ""), ("eval", ""), ("compare", "m", "m", ""), ("compare", "m", "", "verse.txt"),
        ("info", ""), ("corpora", "get", ""),
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
    assert "empty" in result.err or "''" in result.err
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["m"]


EXTREMES = ("0", "-1", "1e-308", "1e308", "1" + "0" * 30, str(2**64), "nan", "inf")


def numeric_options_of_train() -> list[tuple[str, str]]:
    command = dict(commands())[("train",)]
    numbers = click.types.IntParamType | click.types.FloatParamType
    found = [p for p in command.params if isinstance(p.type, numbers) or p.callback is options.parse_duration]
    return [(param.opts[0], str(param.name)) for param in found]


@pytest.mark.parametrize(("option", "name"), numeric_options_of_train())
def test_training_reports_what_is_wrong_with_a_number(option: str, name: str, chargen: Chargen) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    small = {"--steps": "2", "--hidden": "8", "--batch": "2", "--seq-len": "8", "--embedding": "8", "--layers": "1"}
    for value in EXTREMES:
        arguments = {**small, option: value}
        if option in ("--budget", "--epochs"):
            del arguments["--steps"]
        words = [word for pair in arguments.items() for word in pair]
        stop = () if option == "--stop-after" else ("--stop-after", "1")
        result = chargen("train", "verse.txt", "--name", "x", "--force", *stop, *words)
        assert result.status in (0, 1, 2, 130), (value, result.err)
        assert "Traceback" not in result.err
        if result.status in (1, 2):
            assert option in result.err or name in result.err or "go on" in result.err, (value, result.err)


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (
            ("train", "verse.txt", "--init-from", "x", "--tokenizer", "byte"),
            "--tokenizer cannot be combined with --init",
        ),
        (("train", "verse.txt", "--new-chars", "error"), "--new-chars needs --init-from"),
        (
            ("train", "verse.txt", "--val", "verse.txt", "--val-fraction", "0.3"),
            "--val-fraction cannot be combined",
        ),
        (("sample", "--prompt", "a", "--prompt-file", "verse.txt"), "--prompt and --prompt-file"),
        (("classify", "--train", "verse.txt", "--steps", "3", "--budget", "9s"), "--budget and --steps"),
        (("classify", "-m", "a", "-m", "b", "--steps", "3", "x"), "--steps needs --train"),
        (("classify", "-m", "a", "-m", "b", "--name", "c", "x"), "--name needs --train"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_that_has_no_effect_beside_another_is_refused(
    command: tuple[str, ...], refused: str, chargen: Chargen, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("verse.txt").write_text("a\tthe fox\nb\tthe dog\n" * 40)
    result = chargen(*command)
    assert result.status == 2
    assert refused in result.err
