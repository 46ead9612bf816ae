"""`chargen`: the group of commands, and what becomes of errors.

To add a command: write `cli/mine.py` with a click command, and add its line to `COMMANDS`. A command is imported when
it is called; `--help` of the group imports none.

    exit status   0 done   1 a stated error   2 wrong usage   130 Ctrl-C   143 SIGTERM

Signals of a command that trains: the first one asks it to stop, a second one stops it at once.

SIGINT (Ctrl-C)    the best model and the training state are saved, exit status 130
SIGTERM, SIGHUP    the same, 143 and 129: a machine that is shut down, a terminal that is closed
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from chargen import __version__
from chargen.errors import ChargenError, ConfigError, StoppedError
from chargen.registry import did_you_mean
from chargen.ui.terminal_text import install, say, visible, visible_streams

STARTED = time.perf_counter()  #: when the process began, for budgets that are the whole process's

COMMANDS = {
    "train": ("chargen.cli.train:train", "Train a model on a text."),
    "sample": ("chargen.cli.sample:sample", "Write text with a model."),
    "play": ("chargen.cli.play:play", "Write with a model, live, on the terminal."),
    "score": ("chargen.cli.score:score", "Say how likely sentences are, and rank them."),
    "eval": ("chargen.cli.eval:evaluate", "Measure a model on a whole text."),
    "compare": ("chargen.cli.compare:compare", "Compare models on a text."),
    "rescore": ("chargen.cli.rescore:rescore", "Combine a model's score with those of N-best lists."),
    "classify": ("chargen.cli.classify:classify", "Say which of several models a text fits best."),
    "info": ("chargen.cli.info:info", "List the models, or describe one."),
    "corpora": ("chargen.cli.corpora:corpora", "List, make and check corpora."),
}


class Commands(click.Group):
    """The table of commands as a click group."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}. {did_you_mean(args[0], COMMANDS)}".strip())
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chargen")
def cli() -> None:
    """Small language models of your own text: train, sample, score.

    \b
      chargen train corpus.txt        the best model it can get in five minutes
      chargen sample --temp 0.8       writes more of it
      chargen score "a sentence"      says how likely it is
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by `<&-`: there is nothing to read, and nobody who reads
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it is the process's
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's stand-in has none
            stream.reconfigure(encoding="utf-8", errors="replace")
    install()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    with visible_streams():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        with cli.make_context("chargen", list(sys.argv[1:] if arguments is None else arguments)) as context:
            status = cli.invoke(context)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        vars(error).update(message=visible(error.message))  # it quotes the arguments
        error.show()
        return error.exit_code
    except ConfigError as error:
        return _say(error, 2)
    except ChargenError as error:
        return _say(error, 1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        from chargen.ui.console import abandon_output

        abandon_output()  # the reader of our output has left (`chargen sample | head`)
        return 0
    except OSError as error:
        return _say(ChargenError(f"{error.filename or 'output'}: {error.strerror or error}"), 1)


def _say(error: ChargenError, status: int) -> int:
    try:
        for line in filter(None, (f"error: {error.message}", error.hint)):
            say(line)
    except OSError:  # stderr was closed, and there is no other place to say it: the exit status does
        from chargen.ui.console import abandon_output

        abandon_output()
    return status


class StopRequest(threading.Event):
    """Set by the first signal."""

    status = 130  #: exit status of a command that was stopped: 128 + the signal's number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, and a second one into an exception.

    A signal that the process was started to ignore (SIGHUP under `nohup`) stays ignored.

    Raises:
        click.exceptions.Exit: what was stopped had nothing to keep; its message was printed.
        KeyboardInterrupt: at a second SIGINT.
        SystemExit: at another second signal, with 128 + its number.
    """
    request = StopRequest()

    def on_signal(number: int, frame: Any) -> None:
        request.status = 128 + number
        if not request.is_set():
            request.set()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(request.status)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield request
    except StoppedError as error:
        say(f"{error.message}. {error.hint}")
        raise click.exceptions.Exit(request.status) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
