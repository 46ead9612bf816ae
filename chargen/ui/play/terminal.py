"""The terminal of `chargen play`: the keys that it sends, the keyboard that reads them, and the screen to draw on.

`decode` turns what a terminal sends into keys:

    "abc"          Key("text", "abc")       several characters in one read are one key, and one step to undo
    "\x1b[A"       Key("up")
    "\x1b"         Key("escape"), if nothing follows it soon
    "\x1b[200~Xin chào\r\x1b[201~"          Key("text", "Xin chào\n"): a paste is never interpreted as keys

Sequences without a name here (function keys, Alt with a key) are read as a whole and dropped, so that no part of them
gets into the text. Their form is that of ECMA-48, their meaning that of xterm.

`TerminalKeyboard` reads keys, and tells whether one is waiting. `click.getchar` does not suffice: it reads 32 bytes,
which can split a pasted letter of several bytes; it cannot tell whether a key is waiting; and between two keys it
leaves the terminal echoing.

`Screen` draws rows of text, the cursor, and two bars below them.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
import time
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple, Protocol

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


PASTE, PASTE_END = "\x1b[200~", "\x1b[201~"
NAMES = {
    **{"A": "up", "B": "down", "C": "right", "D": "left", "F": "end", "H": "home", "Z": "shift-tab"},
    **dict.fromkeys(["4~", "8~"], "end"),
    **dict.fromkeys(["1~", "7~"], "home"),
    "3~": "delete",
    **{chr(code): f"ctrl-{chr(code + 96)}" for code in range(1, 27)},
    **{"\t": "tab", "\r": "enter", "\n": "enter", "\b": "backspace", "\x7f": "backspace"},
}
TOKEN = re.compile(
    r"(?P<text>[^\0-\x1f\x7f-\x9f]+)"
    r"|\x1b\[\[[A-E]"  # F1 to F5 of a Linux console; they are no arrow keys
    r"|\x1b?\x1b(?:\[(?P<parameters>[0-?]*)[ -/]*(?P<csi>[@-Z\\-~])|O(?P<ss3>[ -~]))"  # an arrow, also with Alt
    r"|\x1b[^\x1b\x03\x04]"  # Alt with a key
    r"|(?P<control>[\0-\x1f\x7f-\x9f])",
    re.DOTALL,
)
INCOMPLETE = re.compile(r"\x1b?\x1b(?:\[\[?[0-?]*[ -/]*|O)?\Z")
DROPPED = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def decode(received: str, more: bool = True) -> tuple[list[Key], str]:
    """Return the keys in what was received, and the rest: the start of a key that is not complete.

    Args:
        received: The rest that the previous call returned, followed by what the terminal sent since.
        more: Whether more bytes may follow soon; if not, the returned rest is empty.
    """
    keys: list[Key] = []
    position = 0
    while position < len(received):
        if received.startswith(PASTE, position):
            start = position + len(PASTE)
            end = received.find(PASTE_END, position)
            if end < 0 and more:
                break
            keys.append(Key("text", _pasted_text(received[start : end if end >= 0 else None])))
            position = end + len(PASTE_END) if end >= 0 else len(received)
            continue
        if more and INCOMPLETE.match(received, position):
            break
        token = TOKEN.match(received, position)
        assert token is not None, "every character starts a token"
        position = token.end()
        name = _name(token)
        if name:
            keys.append(Key(name, token["text"] or ""))
    return [key for key in keys if key != Key("text")], received[position:]


def _name(token: re.Match[str]) -> str | None:
    if token["text"]:
        return "text"
    if token["control"]:
        return "escape" if token["control"] == "\x1b" else NAMES.get(token["control"])
    if token["csi"] == "~":
        return NAMES.get(token["parameters"].partition(";")[0] + "~")
    return NAMES.get(token["csi"] or token["ss3"] or "")


def _pasted_text(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(DROPPED)


ESCAPE_WAIT_S = 0.05  # maximum time until a terminal has sent the rest of a key's sequence
PASTE_WAIT_S = 1.0  # and the rest of a paste
POLL_INTERVAL_S = 0.02  # time between two checks, where the system cannot wait for a key


class Keyboard(Protocol):
    """A source of keys; used as a context manager."""

    def __enter__(self) -> Keyboard: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def has_key(self, wait_s: float = 0.0) -> bool:
        """Return whether a key is waiting; wait up to `wait_s` seconds for one."""

    def read(self, wait_s: float) -> list[Key]:
        """Return the keys that are waiting; wait up to `wait_s` seconds for one."""


if sys.platform == "win32":
    import msvcrt

    SEQUENCES = {"H": "A", "P": "B", "M": "C", "K": "D", "O": "F", "G": "H", "\x0f": "Z"}

    class TerminalKeyboard:
        """The keys of the Windows console.

        The C runtime returns units of UTF-16, and two units for a key without a character.
        """

        def __enter__(self) -> TerminalKeyboard:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            return None

        def has_key(self, wait_s: float = 0.0) -> bool:
            """Return whether a key is waiting; wait up to `wait_s` seconds for one."""
            until = time.monotonic() + wait_s
            while not msvcrt.kbhit():
                if time.monotonic() >= until:
                    return False
                time.sleep(POLL_INTERVAL_S)
            return True

        def read(self, wait_s: float) -> list[Key]:
            """Return the keys that are waiting; wait up to `wait_s` seconds for one."""
            if not self.has_key(wait_s):
                return []
            units = ""
            while msvcrt.kbhit():
                unit = msvcrt.getwch()
                if unit == "\0" or (unit == "\xe0" and msvcrt.kbhit()):  # without a second unit it is the letter à
                    unit = f"\x1b[{SEQUENCES.get(msvcrt.getwch(), '0~')}"
                units += unit
            text = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            return decode(text, more=False)[0]

else:
    import select
    import termios

    class TerminalKeyboard:
        """The keys of a POSIX terminal, read from standard input.

        Keys are not echoed, and no key sends a signal, so that the screen always shows what was drawn last.
        """

        def __init__(self) -> None:
            self._fd = sys.stdin.fileno()
            self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
            self._rest = ""

        def __enter__(self) -> TerminalKeyboard:
            self._before = termios.tcgetattr(self._fd)
            raw = termios.tcgetattr(self._fd)
            raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP)
            raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
            raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._fd, termios.TCSANOW, raw)
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            try:
                # The rest of a paste that arrives too late must not become a command for the shell.
                termios.tcflush(self._fd, termios.TCIFLUSH)
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
            except termios.error as error_:
                if error_.args[0] not in (errno.EIO, errno.ENOTTY, errno.EBADF):
                    raise  # these three mean that the terminal was closed, so there are no settings to restore

        def has_key(self, wait_s: float = 0.0) -> bool:
            """Return whether a key is waiting; wait up to `wait_s` seconds for one."""
            return bool(select.select([self._fd], [], [], wait_s)[0])

        def read(self, wait_s: float) -> list[Key]:
            """Return the keys that are waiting; wait up to `wait_s` seconds for one."""
            if self._rest:
                wait_s = PASTE_WAIT_S if self._rest.startswith(PASTE) else ESCAPE_WAIT_S
            if not self.has_key(wait_s):
                keys, self._rest = decode(self._rest, more=False)
                return keys
            received = os.read(self._fd, 1 << 16)
            if not received:
                return [Key("ctrl-d")]  # the terminal was closed
            keys, self._rest = decode(self._rest + self._utf8.decode(received))
            return keys


DIM, BAR, UNKNOWN = Style(dim=True), Style(reverse=True), Style(underline=True, color="red")
# The terminal marks pastes, and does not wrap: a row that it finds longer than we do stays one row.
MODES_ON, MODES_OFF = "\x1b[?2004h\x1b[?7l", "\x1b[?2004l\x1b[?7h"
UNKNOWN_SIZE = (80, 24)
ERASE = Control((ControlType.ERASE_IN_LINE, 2)).segment


class Screen:
    """The alternate screen of a terminal; at the end of the context the main screen is as it was before.

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

    def __enter__(self) -> Screen:
        self._console.set_alt_screen(True)
        self._set_mode(MODES_ON)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._set_mode(MODES_OFF)
        self._console.set_alt_screen(False)

    def size(self) -> tuple[int, int]:
        """Return the terminal's current numbers of columns and rows; the variable COLUMNS may be outdated."""
        columns, rows = os.get_terminal_size(self._console.file.fileno())
        return (columns, rows) if columns and rows else UNKNOWN_SIZE

    def draw(self, page: Page, bars: list[str]) -> None:
        """Draw the page: the rows, the cursor, and the bars at the bottom.

        Only rows that changed are sent. The typed part of the cursor's row is sent last, so that the cursor is where
        the terminal ends this part: terminals disagree about the width of emoji.

        Args:
            page: The rows, the cursor, and the marks.
            bars: The status line, and the line about the keys.
        """
        width, height = self.size()
        new = [
            [*_marked(typed, marks, self.ramp), Segment(generated, DIM)]
            for (typed, generated), marks in zip(page.rows, page.marks, strict=True)
        ]
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


def _marked(text: str, marks: list[Mark], ramp: tuple[str, ...] | None) -> list[Segment]:
    """Return the segments of a text, with its marked parts in their styles."""
    segments, done = [], 0
    for mark in marks:
        segments += [
            Segment(text[done : mark.start]),
            Segment(text[mark.start : mark.end], _style(mark.shade, mark.is_unknown, ramp)),
        ]
        done = mark.end
    return [*(segment for segment in segments if segment.text), Segment(text[done:])]


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
