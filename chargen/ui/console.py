"""Consoles, live displays and progress bars: results go to stdout, everything else to stderr.

All rich consoles, live displays and progress bars of chargen are created here, because rich's defaults do not fit:

- A string is text, never markup: the label "[bold]" or "[/]" is shown as it is written.
- Text is made visible (`ui/terminal_text.py`) as the last step before it is written; only rich's own control codes
  pass unchanged.
- A display leaves sys.stdout and sys.stderr unchanged. By default rich would redirect what is printed in the meantime
  to the console of the display. Here stderr itself passes its lines to the display on the same terminal (`LiveArea`).
- A display is drawn when it gets new content, in the thread that provides it. If the terminal goes away, rich's own
  refresh thread would raise an exception that cannot be caught.

There is no colour where the output is not a terminal.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleDimensions, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.text import Text

from chargen.config import LN2
from chargen.schema import format_count, format_number
from chargen.ui.output import FILE_WIDTH
from chargen.ui.terminal_text import (
    VisibleStream,
    stream_below,
    terminal_width,
    visible,
    visible_text,
    wrap,
)

REFRESH_S = 0.1  # minimum time between two updates of a progress bar
PLAIN_EVERY_S = 10.0  # time between two lines about the progress, where it cannot be redrawn in place


class _Console(Console):
    """A console that shows text as it is, and raises BrokenPipeError where rich would end the process."""

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        super().__init__(file=stream_below(stream), width=width, markup=False, emoji=False, highlight=False)
        if self.is_dumb_terminal:  # rich takes every terminal that cannot move its cursor (TERM=dumb) for 80 × 25
            self.size = _terminal_size(stream, width)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable, with their text made visible."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; for stdout, `cli/main.py` then ends with status 0."""
        raise BrokenPipeError


def _terminal_size(stream: TextIO, width: int | None) -> ConsoleDimensions:
    """Return the size of the terminal of a stream; `width`, or else the variable COLUMNS, replaces its columns."""
    try:
        rows = os.get_terminal_size(stream.fileno()).lines
    except OSError:  # FORCE_COLOR makes a terminal of a file
        rows = 0
    return ConsoleDimensions(width or terminal_width(stream), rows or 25)


def print_line(console: Console, line: str) -> None:
    """Print a line above the live display of a console, if it has one. A terminal gets it wrapped, others unchanged."""
    shown = visible(line)
    console.print(Text(wrap(shown, console.width) if console.is_terminal else shown), soft_wrap=True)


class Paragraph:
    """A line that a terminal wraps at spaces, but not within a command (`terminal_text.wrap`)."""

    def __init__(self, line: str) -> None:
        self._line = visible(line)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the line, wrapped for the width of the console."""
        line = wrap(self._line, options.max_width) if console.is_terminal else self._line
        yield Text(line, no_wrap=True, overflow="ignore")


def stdout_console() -> Console:
    """Return the console for results. Where stdout is not a terminal, tables are `FILE_WIDTH` columns wide."""
    return _Console(sys.stdout, width=None if sys.stdout.isatty() else FILE_WIDTH)


def stderr_console() -> Console:
    """Return the console for progress, notes and errors."""
    return _Console(sys.stderr)


class LiveArea:
    """An area below the output of a console that is redrawn in place and erased at its end; used as a context manager.

    What else is written to stderr meanwhile (notes, warnings, "Stopping …") appears above it. The area ends with an
    empty row. There the cursor is, so the "^C" of a terminal is erased with the area, and moves no row of it.

    Args:
        console: The console on stderr; a terminal that can move its cursor.
    """

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._stream: VisibleStream | None = None

    def __enter__(self) -> LiveArea:
        self._live.__enter__()
        stream: object = sys.stderr
        if isinstance(stream, VisibleStream) and stream.show_lines is None:  # of two displays, the outer one shows them
            self._stream = stream
            stream.show_lines = lambda text: self._console.print(Text(text), soft_wrap=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._live.__exit__(kind, error, trace)
        finally:
            if self._stream is not None:
                self._stream.end_lines()

    def show(self, content: RenderableType, refresh: bool = True) -> None:
        """Replace the content of the area, and draw it now or with what is drawn next."""
        self._live.update(Group(content, Text()), refresh=refresh)


def live(console: Console) -> LiveArea:
    """Return an area on a console whose `show` redraws it in place; it is erased at its end."""
    return LiveArea(console)


def can_redraw(console: Console) -> bool:
    """Return whether a display can be redrawn in place: on a terminal that can move its cursor (not TERM=dumb)."""
    return console.is_terminal and not console.is_dumb_terminal


class PlainProgress:
    """Prints a line about the progress every `PLAIN_EVERY_S` seconds, on a terminal that cannot redraw."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed_s = time.monotonic()

    def show(self, line: str) -> None:
        """Print the line if it is time for one."""
        if self._console.is_terminal and time.monotonic() - self._printed_s >= PLAIN_EVERY_S:
            print_line(self._console, line)
            self._printed_s = time.monotonic()


@contextmanager
def status(console: Console, line: str) -> Iterator[Callable[[str], None]]:
    """Show a line inside the context; the function that it yields replaces the line. Files and pipes get nothing."""
    if not can_redraw(console):
        yield PlainProgress(console).show
        return
    with live(console) as area:

        def show(line: str) -> None:
            area.show(Text(visible(line)))

        show(line)
        yield show


class ProgressBar:
    """A progress bar on a terminal, or lines if it cannot redraw; nothing elsewhere. Used as a context manager.

    Args:
        console: The console on which the bar is drawn.
        total: Value of `completed` at which the bar is full.
    """

    def __init__(self, console: Console, total: float) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        label = TextColumn("{task.description}", markup=False)
        columns = (label, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        # It is drawn by a `LiveArea`, and never started: the display of rich itself has no place for other lines.
        self._progress = Progress(
            *columns, console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._task = self._progress.add_task("", total=total)
        self._area = live(console) if can_redraw(console) else None
        self._total = total
        self._refreshed_s = -math.inf
        self._plain = PlainProgress(console)

    def __enter__(self) -> ProgressBar:
        if self._area:
            self._area.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._area:
            self._area.__exit__(kind, error, trace)

    def show(self, label: str, completed: float) -> None:
        """Update the bar; it is redrawn at most every `REFRESH_S` seconds."""
        if not self._area:
            self._plain.show(f"{label} {completed / self._total:.0%}")
            return
        self._progress.update(self._task, description=visible(label), completed=completed)
        if time.monotonic() - self._refreshed_s >= REFRESH_S:
            self._area.show(self._progress)
            self._refreshed_s = time.monotonic()


def format_duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any.

    >>> format_duration(75)
    '1:15'
    """
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def format_bits(nats: float | None) -> str:
    """Return a loss in nats as bits, with three decimals; "–" if there is none, or if it is not finite."""
    return "–" if nats is None else format_number(nats / LN2, 3)


def format_size(num_bytes: int) -> str:
    """Return a size in decimal units with two significant digits or more.

    >>> format_size(900), format_size(1_540_000), format_size(23_400_000)
    ('900 bytes', '1.5 MB', '23 MB')
    """
    if num_bytes < 1000:
        return format_count(num_bytes, "byte")
    size, unit = num_bytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if round(size) >= 1000:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
