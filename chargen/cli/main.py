"""`chargen`: the group of commands, exit statuses, and signals.

The commands are listed in `group_help.py`. A command's module is imported when the command is called; `chargen --help`
imports none of them.

    exit status   0 done   1 an expected error   2 wrong usage   3 `score --fail-above`   130 Ctrl-C   143 SIGTERM

A command that trains handles signals with `stop_on_signals`. Until it starts to train, a signal ends it at once, and
nothing is left on disk. Later, the first signal asks it to stop: it saves the best model and the training state. A
second signal ends it at once.

    SIGINT (Ctrl-C)   exit status 130
    SIGTERM           exit status 143, for instance when the machine is shut down
    SIGHUP            exit status 129, when the terminal is closed
"""

from __future__ import annotations

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
from chargen.cli.command_table import CommandTable
from chargen.cli.group_help import ABOUT, COMMANDS, COMPLETE_VARIABLE, EPILOG
from chargen.errors import STOPPED_EARLY, ChargenError, ConfigError, StoppedError
from chargen.ui.terminal_text import install, say, visible, visible_streams

STARTED = time.perf_counter()  # when the process started: a time budget includes the start-up of Python
MAX_REPORT_S = 20.0  # a process that torchrun has started waits at most so long for another one to report an error
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if os.name == "posix" else ()))


@click.group(
    cls=CommandTable,
    table=COMMANDS,
    help=ABOUT,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="chargen")
@click.pass_context
def cli(context: click.Context) -> None:  # noqa: D103 - its help is ABOUT
    _refuse_several_processes(context.invoked_subcommand)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it is closed (`<&-`): read nothing, and write to nowhere
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it belongs to the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a replacement in a test has no such method
            stream.reconfigure(encoding="utf-8", errors="replace")
    if COMPLETE_VARIABLE in os.environ:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "chargen", COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE]))
    install()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    with visible_streams():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    """Run the command line, print its error if there is one, and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    status = 0
    try:
        with cli.make_context("chargen", words or ["--help"]) as context:
            result = cli.invoke(context)
        status = result if isinstance(result, int) else 0
        sys.stdout.flush()
        return status
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        if not _is_reported_by_another():
            _print_usage_error(error)
        return error.exit_code
    except ConfigError as error:
        return 2 if _is_reported_by_another() else _print_error(error, 2)
    except ChargenError as error:
        return _print_error(error, 1)
    except (click.Abort, KeyboardInterrupt):
        if not _has_reporter():
            click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        from chargen.ui.output import abandon_output

        abandon_output()  # the reader of the output has closed the pipe (`chargen sample | head`)
        return status
    except OSError as error:
        return _print_error(ChargenError(f"{error.filename or 'output'}: {error.strerror or error}"), 1)


def _has_reporter() -> bool:
    """Return whether another process, which torchrun has started with the same command, reports how it ends."""
    if "WORLD_SIZE" not in os.environ:
        return False
    from chargen.training.ranks.launch import is_silent

    return is_silent()


def _is_reported_by_another() -> bool:
    """Return whether another process says what is wrong with the command.

    torchrun ends all processes as soon as one has failed, so this one first waits until it is ended by that.
    """
    if not _has_reporter():
        return False
    time.sleep(MAX_REPORT_S)
    return True


def _refuse_several_processes(command: str | None) -> None:
    """Check that a command other than `train` runs in a single process: each would do and write the same.

    Raises:
        ConfigError: If torchrun has started several.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or command == "train":
        return
    from chargen.training.ranks.launch import refuse_several_processes

    refuse_several_processes(f"chargen {command}")


def _print_usage_error(error: click.ClickException) -> None:
    """Print an error of the command line as click does: the usage, and then the message, which is wrapped."""
    from io import StringIO

    vars(error).update(message=visible(error.message))  # the message quotes the arguments
    shown = StringIO()
    error.show(shown)
    for line in shown.getvalue().removesuffix("\n").split("\n"):
        say(line.replace("\t", "  "))


def _print_error(error: ChargenError, status: int) -> int:
    """Print an error and its hint on stderr, each on its own line; return the exit status."""
    try:
        for line in filter(None, (f"error: {error.message}", error.hint)):
            say(line)
    except OSError:  # stderr is closed: only the exit status can report the error
        from chargen.ui.output import abandon_output

        abandon_output()
    return status


class EarlyStopError(BaseException):
    """A signal has ended a command that has nothing to save. No `except Exception` catches it."""


class StopRequest(threading.Event):
    """An event that the first signal sets."""

    status = 130  #: exit status of a command that was stopped: 128 + the signal's number
    is_deferred = False  #: whether the command, which checks the event, ends itself at the first signal
    has_announced = False

    def announce(self) -> None:
        """Say once that the command is about to stop, if a signal has asked it to."""
        if self.is_set() and not self.has_announced:
            self.has_announced = True
            say("Stopping; press Ctrl-C again to quit now.")


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, and a second one into an exception.

    Until `is_deferred` is set in the request, the first signal ends the `with` block at once. A signal that the process
    was started to ignore (SIGHUP under `nohup`) stays ignored.

    Raises:
        click.exceptions.Exit: If the command was stopped before it had a model to save. Its message has been printed.
        KeyboardInterrupt: At a second SIGINT.
        SystemExit: At another second signal, with the status 128 + its number.
    """
    request = StopRequest()

    def on_signal(number: int, frame: Any) -> None:
        request.status = 128 + number
        if not request.is_set():
            request.set()
            if not request.is_deferred:
                raise EarlyStopError
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(request.status)

    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    report_unraisable = sys.unraisablehook

    def on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        # The signal came in a destructor, which can raise nothing. The request is set, and the command checks it.
        if not isinstance(unraisable.exc_value, EarlyStopError):
            report_unraisable(unraisable)

    sys.unraisablehook = on_unraisable
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield request
    except (StoppedError, EarlyStopError) as error:
        message = error.message if isinstance(error, StoppedError) else STOPPED_EARLY
        if not _has_reporter():
            say(f"{message[0].upper()}{message[1:]}.")
        raise click.exceptions.Exit(request.status) from error
    finally:
        sys.unraisablehook = report_unraisable
        for number, handler in handlers.items():
            signal.signal(number, handler)
