"""Options with extreme, empty and contradicting values: each is an error message or a result, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import torch

from chargen.checkpoint import save_checkpoint
from chargen.cli import options
from chargen.cli.group_help import COMMANDS
from chargen.cli.main import cli
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
# options and arguments whose value is a text, which may be empty
TEXTS = {"texts", "sentences", "prompt", "suffix", "context", "stop", "ban", "regex"}


def command_of(group: click.Group, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from (((name, below), command_of(command, below)) for below in command.list_commands(context))
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


@pytest.mark.parametrize("command", [("train", "--steps", "1"), ("corpora", "check")], ids=" ".join)
@pytest.mark.parametrize(
    ("kind", "option", "is_refused"),
    [
        ("text.txt", ("--text-field", "other"), True),
        ("alphabet", ("--text-field", "other"), True),
        ("records.jsonl", ("--text-field", "other"), False),
        ("folder", ("--text-field", "other"), False),
        ("alphabet", ("--encoding", "latin-1"), True),
        ("alphabet", ("--newline", "keep"), True),
        ("alphabet", ("--normalize", "none"), True),
        ("text.txt", ("--encoding", "latin-1"), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_an_option_of_reading_that_has_no_effect_on_a_kind_of_text_is_refused(
    command: tuple[str, ...], kind: str, option: tuple[str, ...], is_refused: bool, chargen: Chargen
) -> None:
    Path("text.txt").write_text(VERSE * 4, encoding="utf-8")
    records = "".join(f'{{"text": "{n}", "other": "the fox {n}"}}\n' for n in range(40))
    Path("folder").mkdir()
    for path in ("records.jsonl", "folder/records.jsonl"):
        Path(path).write_text(records)
    result = chargen(*command, kind, *option, *(("--hidden", "4", "--batch", "2") if command[0] == "train" else ()))
    assert (result.status in (1, 2)) == is_refused, result.err
    assert not is_refused or (option[0] in result.err and kind in result.err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "command",
    [("sample",), ("score", "a"), ("classify", "-m", "m", "-m", "./checkpoints/m", "a"),
     ("compare", "m", "m", "verse.txt"), ("eval", "verse.txt"), ("rescore", "--file", "list.txt")],
    ids=" ".join,
)  # fmt: skip
def test_a_device_that_does_not_exist_is_refused_by_every_command(command: tuple[str, ...], chargen: Chargen) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    Path("list.txt").write_text("0 ||| ab ||| f= 1 ||| -9\n")
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    result = chargen(*command, "--device", "cuda")
    assert (result.status, result.out) == (1, "")
    assert "no device 'cuda'" in result.err


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (("sample", "--allow-invalid-utf8"), "--allow-invalid-utf8"),
        (("sample", "--beam", "2", "-n", "3"), "--beam 3 or more"),
        (("train", "verse.txt", "--ngrams", "0", "--ngram-dropout", "0.1", "--steps", "1"), "--ngram-dropout"),
        (("train", "verse.txt", "--cell", "conv", "--weight-dropout", "0.1", "--steps", "1"), "--weight-dropout"),
        (("rescore", "--file", "kaldi.txt", "--feature", "f"), "--feature needs the format of Moses"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_that_has_no_effect_with_what_was_read_is_refused(
    command: tuple[str, ...], refused: str, chargen: Chargen
) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    Path("kaldi.txt").write_text("a-1 ab\na-2 ba\n")
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    result = chargen(*command)
    assert (result.status, result.out) == (2, "")
    assert refused in result.err
