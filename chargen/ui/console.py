"""Where things are shown: results on stdout, everything else on stderr, without colour where it is not a terminal."""

from __future__ import annotations

import math
import sys
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
