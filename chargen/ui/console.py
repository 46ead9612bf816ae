"""Where things are shown: results on stdout, everything else on stderr, without colour where it is not a terminal.

Every rich console, live display and progress bar of chargen is made here, because rich's defaults are not ours:

- a string is text, never markup: a label "[bold]" or "[/]" is shown as it is written;
- text is made visible (ui/visible.py) as the last step before it is written, and only rich's own control codes pass;
- a display leaves sys.stdout and sys.stderr alone: rich would send what is printed meanwhile to the display's console;
- a display is drawn when it is told something new, in the thread that tells it: rich's refresh thread would raise
  where nobody can catch it when the terminal goes away.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from chargen.config import LN2
from chargen.io import to_json_line
from chargen.ui.terminal_text import is_shown, stream_below, visible, visible_json, visible_text

if TYPE_CHECKING:
    from rich.live import Live

REFRESH_S = 0.1  #: between two pictures of a progress bar, at least


class _Console(Console):
    """A console on a stream that shows text as it is; it raises BrokenPipeError where rich would end the process."""

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        super().__init__(file=stream_below(stream), width=width, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # of stdout, `cli/main.py` takes it for done


def stdout_console() -> Console:
    """Return the console of results. Where stdout is no terminal, tables are as wide as they need to be."""
    return _Console(sys.stdout, width=None if sys.stdout.isatty() else 160)


def stderr_console() -> Console:
    """Return the console of progress, notes and errors."""
    return _Console(sys.stderr)


def live(console: Console) -> Live:
    """Return a display that is redrawn in place, by `update(…, refresh=True)`, and leaves nothing behind."""
    from rich.live import Live

    return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)


@contextmanager
def status(console: Console, line: str) -> Iterator[Callable[[str], None]]:
    """Show a line while the context is entered; what it yields shows another one."""
    with live(console) as shown:

        def show(line: str) -> None:
            shown.update(Text(visible(line)), refresh=True)

        show(line)
        yield show


@contextmanager
def progress_bar(console: Console, total: float) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal while the context is entered; what it yields takes (label, completed of `total`)."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    drawn = -math.inf
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal,
        auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=total)

        def show(label: str, completed: float) -> None:
            nonlocal drawn
            bar.update(task, description=visible(label), completed=completed)
            if time.monotonic() - drawn >= REFRESH_S:
                bar.refresh()
                drawn = time.monotonic()

        yield show


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
    line = to_json_line(value)
    sys.stdout.write((visible_json(line) if is_shown() else line) + "\n")


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
