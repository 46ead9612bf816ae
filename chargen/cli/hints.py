"""What a user probably meant: the option or the `--` that is missing, a file in place of a text, an empty input."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from chargen.errors import ChargenError
    from chargen.text.cleaning import CleaningReport

MAX_NAMED_FILES = 3  #: a message about files names at most this many


def explain(ctx: click.Context, error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """Return the error of a command line with a hint, or unchanged if there is none.

    Args:
        ctx: the context of the command.
        error: what click found.
        words: the words of the command line after the name of the command.
    """
    command = ctx.command
    takes_texts = any(isinstance(param, click.Argument) and param.type is click.STRING for param in command.params)
    if isinstance(error, click.NoSuchOption) and takes_texts and not error.possibilities:
        text = next((word for word in words if word.startswith(error.option_name)), error.option_name)
        call = shlex.join([*ctx.command_path.split(), "--", text])
        return click.UsageError(f"{error.format_message()} A text that begins with a dash follows --: {call}", ctx)
    has_arguments = any(isinstance(param, click.Argument) for param in command.params)
    if type(error) is click.UsageError and not has_arguments and "extra argument" in error.message:
        extra = command.make_parser(ctx).parse_args(list(words))[1]
        meant = " or ".join(f"{option} {shlex.quote(extra[0])}" for option in _options_for(command, extra[0]))
        if meant:
            return click.UsageError(f"{error.message}. Did you mean {meant}?", ctx)
    return error


def _options_for(command: click.Command, word: str) -> list[str]:
    """Return the options of a command that a word was probably meant for: a model, a file or a prompt."""
    from chargen.runs import list_run_names

    if word in list_run_names() or word.endswith(".safetensors"):
        fitting = ["-m"]
    elif os.path.isfile(word):
        fitting = ["--file", "--prompt-file"]
    else:
        fitting = ["--prompt"] if " " in word else ["-m", "--prompt"]
    known = {name for param in command.params for name in param.opts}
    return [option for option in fitting if option in known]


def note_files(texts: Iterable[str]) -> None:
    """Print a note for a text that is the name of a file or "-": the lines were meant, and not the name."""
    from chargen.ui.terminal_text import say

    for text in texts:
        if text == "-":
            say("note: '-' is taken as a text; --file - reads standard input")
        elif text and "\0" not in text and os.path.isfile(text):
            say(f"note: {text} is a file; add --file to read it: --file {shlex.quote(text)}")


def note_repeated_files(files: Sequence[str]) -> None:
    """Print a note for each file that is read more than once, also by another name; refuse standard input twice.

    Raises:
        UsageError: If "-" is among the files twice.
    """
    from chargen.ui.terminal_text import say

    if files.count("-") > 1:
        raise click.UsageError(f"Standard input ('-') is given {files.count('-')} times, but it can be read only once.")
    names: dict[object, list[str]] = {}
    for name in files:
        try:
            status = os.stat(name)
            names.setdefault((status.st_dev, status.st_ino), []).append(name)
        except (OSError, ValueError):  # standard input, a URL, or a file that is missing, which is reported later
            names.setdefault(name, []).append(name)
    for found in names.values():
        if len(found) > 1:
            also = ", ".join(dict.fromkeys(name for name in found if name != found[0]))
            shown = f"{found[0]} (also named {also})" if also else found[0]
            say(f"note: {shown} is read {len(found)} times, so its texts are counted {len(found)} times")


def no_texts_error(files: Sequence[str], verb: str, report: CleaningReport, hint: str) -> ChargenError:
    """Return the error for input without a single text, after printing the notes about what was left out.

    Args:
        files: What was read; "-" is standard input. Empty: neither texts nor files were given.
        verb: What the command does with texts: "score".
        report: What was left out.
        hint: What the user can do.
    """
    from chargen.errors import CorpusError
    from chargen.ui.terminal_text import say

    notes = report.notes()
    for note in notes:
        say(f"note: {note}")
    names = ", ".join("standard input" if name == "-" else name for name in files[:MAX_NAMED_FILES])
    names += ", …" if len(files) > MAX_NAMED_FILES else ""
    is_empty = len(files) == 1 and not notes and (files[0] == "-" or _has_no_bytes(files[0]))
    reason = f"{names} is empty" if is_empty else f"{names} {'has' if len(files) == 1 else 'have'} no text"
    return CorpusError(f"{reason if files else 'no text was given'}: there is nothing to {verb}", hint)


def _has_no_bytes(name: str) -> bool:
    try:
        return os.stat(name).st_size == 0
    except (OSError, ValueError):  # a URL
        return False
