"""The terminal of `chargen play`: the keys that it sends, the keyboard that reads them, and the screen to draw on.

prompt_toolkit reads the keys, on POSIX systems and on Windows. `to_keys` turns its key presses into ours:

    "a" "b" "c"               Key("text", "abc")       several characters in one read are one key, and one step to undo
    Keys.Up                   Key("up")
    Keys.Escape               Key("escape"), if nothing follows it soon
    Keys.BracketedPaste       Key("text", "Xin chào\n"): a paste is never interpreted as keys

Keys without a name here are dropped. prompt_toolkit passes a sequence that it does not know on as Escape and
characters, as it does with Alt and a letter; these are dropped, too, so that no part of them gets into the text.

`Screen` draws rows of text, the cursor, and two bars below them. It is not prompt_toolkit's, which adds up the widths
of the characters of an emoji: after one with joiners, it would draw and place the cursor some columns too far right.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple, cast

from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.style import Style

from chargen.probe.heat_map import terminal_ramp, text_colour
from chargen.ui.play.layout import Mark, Page


class Key(NamedTuple):
    """One key: its name, or "text" for characters that are typed, with these characters."""

    name: str
    text: str = ""


NAMES = {"c-m": "enter", "c-j": "enter", "c-i": "tab", "c-h": "backspace", "s-tab": "shift-tab", "escape": "escape"}
NAMES |= {f"c-{letter}": f"ctrl-{letter}" for letter in "abcdefgklnopqrstuvwxyz"}
NAMES |= {f"{modifiers}{name}": name for modifiers in ("", "s-", "c-", "c-s-")
          for name in ("up", "down", "left", "right", "home", "end", "delete")}  # fmt: skip
AFTER_ESCAPE = re.compile(r"\[[0-?]*[ -/]*[@-~]?|O[ -~]?|.", re.DOTALL)  # the rest of a sequence of ECMA-48, or of Alt
MAX_SEQUENCE_CHARS = 64
LEAVE_PRESSES = (Keys.Escape, Keys.ControlC, Keys.ControlD)
CLEANED = dict.fromkeys((*range(9), *range(11, 32), *range(0x7F, 0xA0)), "")
CLEANED |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # bytes that are not text in the terminal's encoding


def to_keys(presses: list[KeyPress]) -> list[Key]:
    """Return the keys of what was pressed between two reads."""
    keys: list[Key] = []
    text, position = "", 0
    while position < len(presses):
        press = presses[position]
        position += 1
        if press.key is Keys.Escape and position < len(presses):
            num_dropped = _sequence_length(presses, position)
            position += num_dropped
            if num_dropped or presses[position].key not in LEAVE_PRESSES:
                continue
        if press.key is Keys.BracketedPaste or not isinstance(press.key, Keys):
            is_paste = press.key is Keys.BracketedPaste
            text += (press.data.replace("\r\n", "\n").replace("\r", "\n") if is_paste else press.key).translate(CLEANED)
            continue
        if text:
            keys.append(Key("text", text))
            text = ""
        if press.key.value in NAMES:
            keys.append(Key(NAMES[press.key.value]))
    return [*keys, Key("text", text)] if text else keys


def _sequence_length(presses: list[KeyPress], start: int) -> int:
    """Return how many presses from `start` on form one sequence with the Escape before them; 0 for a key that stays."""
    text = "".join(
        takewhile(lambda key: len(key) == 1, (press.key for press in presses[start : start + MAX_SEQUENCE_CHARS]))
    )
    sequence = AFTER_ESCAPE.match(text)
    if sequence:
        return len(sequence[0])
    press = presses[start]
    return int(press.key not in LEAVE_PRESSES and len(press.data) == 1)  # Alt with Enter or Backspace


ESCAPE_WAIT_S = 0.05  # maximum time until a terminal has sent the rest of a key's sequence
PASTE_WAIT_S = 1.0  # and the rest of a paste
PASTE_END = "\x1b[201~"
MAX_READS = 64  # of at most 1,024 bytes each, before the keys are processed


class Keyboard:
    """The keys of the terminal at standard input.

    Keys are not echoed, and no key sends a signal, so that the screen always shows what was drawn last. A signal that
    stops the process is returned as Key("suspend"), and one that continues it as Key("resume").

    Args:
        source: prompt_toolkit's input; by default, it is standard input.
    """

    def __init__(self, source: Input | None = None) -> None:
        self._input = source or create_input()
        self._signals: list[Key] = []
        self._read_at_s = 0.0  # when something was read last
        self._is_held = False  # whether the start of a sequence or of a paste may be held back
        self._escape: list[KeyPress] = []  # an Escape that was read last, and may belong to what follows it

    @contextmanager
    def open(self) -> Iterator[None]:
        """Set the terminal up for reading keys; at the end of the context, it is as it was before."""
        with self._input.raw_mode():
            try:
                with _stop_signals(self._signals):
                    yield
            finally:
                _discard_input(self._input)

    def has_key(self, wait_s: float = 0.0) -> bool:
        """Return whether a key is waiting; wait up to `wait_s` seconds for one."""
        return bool(self._signals) or _is_ready(self._input, wait_s)

    def read(self, wait_s: float) -> list[Key]:
        """Return the keys that are waiting; wait up to `wait_s` seconds for one."""
        if self._is_held:
            wait_s = min(wait_s, ESCAPE_WAIT_S)
        presses, self._escape = self._escape, []
        num_reads = 0
        while num_reads < MAX_READS and _is_ready(self._input, 0.0 if num_reads else wait_s):
            presses += self._input.read_keys()
            num_reads += 1
            if self._input.closed:
                return [*to_keys(presses), Key("ctrl-d")]
        if num_reads:
            self._read_at_s, self._is_held = time.monotonic(), True
            if presses and presses[-1].key is Keys.Escape:
                self._escape = [presses.pop()]
        else:
            presses = self._flush(presses, time.monotonic() - self._read_at_s)
        signals, self._signals[:] = self._signals[:], []
        return [*to_keys(presses), *signals]

    def _flush(self, presses: list[KeyPress], silence_s: float) -> list[KeyPress]:
        """Return the presses that were held back, if what they began was not continued for long enough."""
        if silence_s < ESCAPE_WAIT_S:
            self._escape = presses
            return []
        if self._is_held and silence_s >= PASTE_WAIT_S:
            self._is_held = False
            parser = getattr(self._input, "vt100_parser", None)  # the Windows console has no marks around a paste
            if parser is not None:
                parser.feed(PASTE_END)  # outside a paste it is an unknown sequence, which is dropped
        return presses + self._input.flush_keys()


def _is_ready(source: Input, wait_s: float) -> bool:
    """Return whether an input can be read without waiting; wait up to `wait_s` seconds for that."""
    if sys.platform == "win32":
        from prompt_toolkit.eventloop.win32 import wait_for_handles

        return wait_for_handles([cast(Any, source).handle], round(1000 * wait_s)) is not None
    import select

    return bool(select.select([source.fileno()], [], [], wait_s)[0])


def _discard_input(source: Input) -> None:
    """Discard what was not read: the rest of a paste that arrives too late must not become a command for the shell."""
    if sys.platform == "win32":
        return
    import termios

    with suppress(termios.error):  # the terminal was closed, so there is nothing to discard
        termios.tcflush(source.fileno(), termios.TCIFLUSH)


@contextmanager
def _stop_signals(received: list[Key]) -> Iterator[None]:
    """Append a key to `received` for each signal that stops or continues the process, where the system has them."""
    if sys.platform == "win32":
        yield
        return
    names = {signal.SIGTSTP: "suspend", signal.SIGCONT: "resume"}

    def on_signal(number: int, frame: Any) -> None:
        received.append(Key(names[signal.Signals(number)]))

    handlers = {number: signal.signal(number, on_signal) for number in names}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def stop_process() -> None:
    """Stop this process as Ctrl-Z does in a shell; return when it is continued."""
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGSTOP)


DIM, BAR, UNKNOWN = Style(dim=True), Style(reverse=True), Style(underline=True, color="red")
# Dim characters on a coloured background cannot be read, so a coloured continuation is in italics instead.
ITALIC = Style(italic=True)
# The terminal marks pastes, and does not wrap: a row that it finds longer than we do stays one row.
MODES_ON, MODES_OFF = "\x1b[?2004h\x1b[?7l", "\x1b[?2004l\x1b[?7h"
UNKNOWN_SIZE = (80, 24)
ERASE = Control((ControlType.ERASE_IN_LINE, 2)).segment


class Screen:
    """The alternate screen of a terminal.

    Args:
        console: The console to draw on; it must be a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        #: the background of each shade of surprisal; None for a terminal with too few colours
        ramp = None if console.no_color else terminal_ramp(console.color_system, os.environ)
        self.ramp = None if ramp is None else tuple(ramp)
        self._shown: list[list[Segment]] = []  # the rows as they are on the screen
        self._size = (0, 0)
        self._cursor = (0, 0)

    @contextmanager
    def open(self) -> Iterator[Screen]:
        """Enter the alternate screen; at the end of the context, leave it."""
        self._console.set_alt_screen(True)
        try:
            self._set_mode(MODES_ON)
            yield self
        finally:
            self._set_mode(MODES_OFF)
            self._console.set_alt_screen(False)

    def size(self) -> tuple[int, int]:
        """Return the terminal's current numbers of columns and rows; the variable COLUMNS may be outdated."""
        columns, rows = os.get_terminal_size(self._console.file.fileno())
        return (columns, rows) if columns and rows else UNKNOWN_SIZE

    def draw(self, page: Page, bars: list[str], is_growing: bool = False) -> None:
        """Draw the page: the rows, the cursor, and the bars at the bottom.

        Only rows that changed are sent. The typed part of the cursor's row is sent last, so that the cursor is where
        the terminal ends this part: terminals disagree about the width of emoji.

        Args:
            page: The rows, the cursor, and the marks.
            bars: The status line, and the line about the keys.
            is_growing: Whether more rows follow soon: the rows below the page then stay as they are until they are
                drawn over, because rows that are erased and drawn again would flicker.
        """
        width, height = self.size()
        new = [
            [*_marked(typed, marks, self.ramp), *_marked(generated, marks, self.ramp, is_typed=False)]
            for (typed, generated), marks in zip(page.rows, page.marks, strict=True)
        ]
        if is_growing and self._size == (width, height):
            new += self._shown[len(new) : height - len(bars)]
        new += [[]] * (height - len(bars) - len(new))
        new += [[Segment(set_cell_size(bar, width - 1), BAR if index == 0 else DIM)] for index, bar in enumerate(bars)]
        out: list[Segment] = []
        if self._size != (width, height):
            self._size, self._shown = (width, height), []
            out.append(Control.clear().segment)
        for y, segments in enumerate(new[:height]):
            if y >= len(self._shown) or segments != self._shown[y]:
                out += [Control.move_to(0, y).segment, ERASE, *segments]
        if not out and page.cursor == self._cursor:
            return
        row, _ = page.cursor
        typed = page.rows[row][0][: page.before_cursor]
        out += [Control.move_to(0, row).segment, *_marked(typed, page.marks[row], self.ramp)]
        self._shown, self._cursor = new, page.cursor
        self._console.print(Segments(out), end="", crop=False)

    def _set_mode(self, sequence: str) -> None:
        if not self._console.legacy_windows:
            self._console.file.write(sequence)
            self._console.file.flush()


def _marked(text: str, marks: list[Mark], ramp: tuple[str, ...] | None, is_typed: bool = True) -> list[Segment]:
    """Return the segments of the typed or the generated part of a row, with its marked parts in their styles."""
    plain = None if is_typed else DIM
    segments, done = [], 0
    for mark in marks:
        if mark.is_typed == is_typed:
            style = _style(mark.shade, mark.is_unknown, ramp)
            segments += [
                Segment(text[done : mark.start], plain),
                Segment(text[mark.start : mark.end], style if is_typed or style is None else style + ITALIC),
            ]
            done = mark.end
    return [*(segment for segment in segments if segment.text), Segment(text[done:], plain)]


@lru_cache(maxsize=64)
def _style(shade: int | None, is_unknown: bool, ramp: tuple[str, ...] | None) -> Style | None:
    """Return the style of a mark: underlined if it is unknown, on the colour of its surprisal if there is one."""
    if shade is None or ramp is None:
        return UNKNOWN if is_unknown else None
    return Style(bgcolor=ramp[shade], color=text_colour(ramp[shade]), underline=is_unknown)


def join_parts(parts: list[str], width: int, separator: str = "  ") -> str:
    """Join the parts that fit into `width` cells. The first part is always included, cut if it is too long.

    >>> join_parts(["temp 0.8", "seed 7", "a long name"], 20)
    'temp 0.8  seed 7'
    """
    line = ""
    for part in parts:
        longer = f"{line}{separator}{part}" if line else part
        if line and cell_len(longer) > width:
            continue
        line = longer
    return line if cell_len(line) <= width else set_cell_size(line, width)
