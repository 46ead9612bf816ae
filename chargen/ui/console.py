"""Where things are shown: results on stdout, everything else on stderr, without colour where it is not a terminal."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from chargen.jsontext import to_line

LN2 = math.log(2)


class _Results(Console):
    """A console whose reader may leave (`chargen score | head`): rich would end the process there, with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # which `cli/main.py` takes for done


def results() -> Console:
    """Return the console of results. Where stdout is no terminal, tables are as wide as they need to be."""
    return _Results(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)


def chatter() -> Console:
    """Return the console of progress, notes and errors."""
    return Console(file=sys.stderr, highlight=False)


@contextmanager
def left_out_if_nobody_reads() -> Iterator[None]:
    """Leave out what is printed in the block where its reader has left: a pipe or a terminal that was closed."""
    try:
        yield
    except OSError as error:
        if not is_closed(error):
            raise
        abandon_output()


def is_closed(error: OSError) -> bool:
    """Tell whether an error of writing means that nobody reads any more: a pipe or a terminal was closed."""
    return isinstance(error, BrokenPipeError) or error.errno == errno.EIO


def abandon_output() -> None:
    """Send what is still to be printed nowhere, on those of stdout and stderr that cannot be written any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(value: Any) -> None:
    """Print one JSON document, on one line, on stdout."""
    sys.stdout.write(to_line(value) + "\n")


def seconds(value: float) -> str:
    """Return a span of time as people say it.

    >>> seconds(75)
    '1:15'
    """
    whole = max(0, round(value))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def bits(nats: float) -> str:
    """Return a loss in nats as bits, with three places; "–" where there is none."""
    return f"{nats / LN2:.3f}" if math.isfinite(nats) else "–"
