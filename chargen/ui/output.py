"""Print results without rich: JSON documents, and output whose reader has gone away."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from chargen.io import to_json_line
from chargen.ui.terminal_text import is_shown, visible_json

FILE_WIDTH = 160  # columns of a table where stdout is not a terminal
TERMINAL_VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE")  # variables by which rich takes a file for a terminal


def may_be_terminal(stream: TextIO) -> bool:
    """Return False if rich would print to a stream as to a file; it then need not be imported."""
    return stream.isatty() or any(name in os.environ for name in TERMINAL_VARIABLES)


@contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Ignore that a pipe or a terminal was closed while the block printed."""
    try:
        yield
    except OSError as error:
        if not is_closed(error):
            raise
        abandon_output()


def is_closed(error: OSError) -> bool:
    """Return whether a write failed because a pipe or a terminal was closed."""
    return isinstance(error, BrokenPipeError) or error.errno == errno.EIO


def abandon_output() -> None:
    """Discard what is still in the buffers of stdout and stderr, for those that can no longer be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(value: Any) -> None:
    """Print a JSON document on one line of stdout."""
    line = to_json_line(value)
    sys.stdout.write((visible_json(line) if is_shown() else line) + "\n")
