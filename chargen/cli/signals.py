"""Signals of a command that trains: the first one asks it to stop, a second one stops it at once.

SIGINT (Ctrl-C)    the best model and the training state are saved, exit status 130
SIGTERM, SIGHUP    the same, 143 and 129: a machine that is shut down, a terminal that is closed
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from chargen.errors import StoppedError
from chargen.ui.visible import say


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
