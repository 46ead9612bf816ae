"""What a terminal sends, as keys.

    "abc"          Key("text", "abc")       several characters in one read are one key, and one step to undo
    "\x1b[A"       Key("up")
    "\x1b"         Key("escape"), if nothing follows it soon
    "\x1b[200~Xin chào\r\x1b[201~"          Key("text", "Xin chào\n"): a paste is never taken for keys

Sequences that have no name here (function keys, Alt with a key) are read whole and dropped, so that none leaves its
tail in the text. (ECMA-48 for their form, xterm's for their meaning.)

The keyboard of a terminal: keys as they are pressed, and whether one waits.

`click.getchar` will not do here: it reads 32 bytes, which tears a pasted letter of several bytes, cannot tell whether a
key waits, and leaves the terminal echoing between two keys.

The terminal as a page to write on: its size, its rows, the cursor, and two bars below.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
import time
from types import TracebackType
from typing import NamedTuple, Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.style import Style


class Key(NamedTuple):
    """One key: its name; "text" for characters that are written, with them."""

    name: str
    text: str = ""


PASTE, PASTE_END = "\x1b[200~", "\x1b[201~"
NAMES = {
    **{"A": "up", "B": "down", "C": "right", "D": "left", "F": "end", "H": "home", "Z": "shift-tab"},
    **dict.fromkeys(["4~", "8~"], "end"),
    **{chr(code): f"ctrl-{chr(code + 96)}" for code in range(1, 27)},
    **{"\t": "tab", "\r": "enter", "\n": "enter", "\b": "backspace", "\x7f": "backspace"},
}
TOKEN = re.compile(
    r"(?P<text>[^\0-\x1f\x7f-\x9f]+)"
    r"|\x1b\[\[[A-E]"  # F1 to F5 of a Linux console, no arrows
    r"|\x1b?\x1b(?:\[(?P<parameters>[0-?]*)[ -/]*(?P<csi>[@-Z\\-~])|O(?P<ss3>[ -~]))"  # an arrow; with Alt too
    r"|\x1b[^\x1b\x03\x04]"  # Alt with a key
    r"|(?P<control>[\0-\x1f\x7f-\x9f])",
    re.DOTALL,
)
TORN = re.compile(r"\x1b?\x1b(?:\[\[?[0-?]*[ -/]*|O)?\Z")
DROPPED = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def decode(received: str, more: bool = True) -> tuple[list[Key], str]:
    """Return the keys that were pressed, and what was received of one that is not whole.

    Args:
        received: what came from the terminal, after what an earlier call left over.
        more: whether something may follow at once; without, nothing is left over.
    """
    keys: list[Key] = []
    place = 0
    while place < len(received):
        if received.startswith(PASTE, place):
            begin, end = place + len(PASTE), received.find(PASTE_END, place)
            if end < 0 and more:
                break
            keys.append(Key("text", _pasted(received[begin : end if end >= 0 else None])))
            place = end + len(PASTE_END) if end >= 0 else len(received)
            continue
        if more and TORN.match(received, place):
            break
        found = TOKEN.match(received, place)
        assert found is not None, "every character begins a token"
        place = found.end()
        name = _name(found)
        if name:
            keys.append(Key(name, found["text"] or ""))
    return [key for key in keys if key != Key("text")], received[place:]


def _name(token: re.Match[str]) -> str | None:
    if token["text"]:
        return "text"
    if token["control"]:
        return "escape" if token["control"] == "\x1b" else NAMES.get(token["control"])
    if token["csi"] == "~":
        return NAMES.get(token["parameters"].partition(";")[0] + "~")
    return NAMES.get(token["csi"] or token["ss3"] or "")


def _pasted(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(DROPPED)


ESCAPE_WAIT_S = 0.05  #: what a terminal needs at most to send the rest of a key's sequence
PASTE_WAIT_S = 1.0  #: and the rest of a paste
TICK_S = 0.02  #: between two looks, where the system cannot wait for a key


class Keyboard(Protocol):
    """Where keys come from, while it is entered."""

    def __enter__(self) -> Keyboard: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def waits(self, wait_s: float = 0.0) -> bool:
        """Tell whether something was pressed, as soon as it was, within a span of time."""

    def read(self, wait_s: float) -> list[Key]:
        """Return what was pressed, as soon as it was, within a span of time."""


if sys.platform == "win32":
    import msvcrt

    SEQUENCES = {"H": "A", "P": "B", "M": "C", "K": "D", "O": "F", "G": "H", "\x0f": "Z"}

    class TerminalKeyboard:
        """The console's keys, by the C runtime, which gives UTF-16 and two units for a key without a character."""

        def __enter__(self) -> TerminalKeyboard:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            return None

        def waits(self, wait_s: float = 0.0) -> bool:
            until = time.monotonic() + wait_s
            while not msvcrt.kbhit():
                if time.monotonic() >= until:
                    return False
                time.sleep(TICK_S)
            return True

        def read(self, wait_s: float) -> list[Key]:
            if not self.waits(wait_s):
                return []
            units = ""
            while msvcrt.kbhit():
                unit = msvcrt.getwch()
                if unit == "\0" or (unit == "\xe0" and msvcrt.kbhit()):  # alone it is the letter à
                    unit = f"\x1b[{SEQUENCES.get(msvcrt.getwch(), '0~')}"
                units += unit
            text = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            return decode(text, more=False)[0]

else:
    import select
    import termios

    class TerminalKeyboard:
        """Standard input, byte by byte: nothing echoed, and no key a signal, so that the last state is always ours."""

        def __init__(self) -> None:
            self._in = sys.stdin.fileno()
            self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
            self._held = ""

        def __enter__(self) -> TerminalKeyboard:
            self._before = termios.tcgetattr(self._in)
            raw = termios.tcgetattr(self._in)
            raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP)
            raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
            raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._in, termios.TCSANOW, raw)
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            try:
                termios.tcflush(self._in, termios.TCIFLUSH)  # what was pasted too late is no command for the shell
                termios.tcsetattr(self._in, termios.TCSANOW, self._before)
            except termios.error as gone:
                if gone.args[0] not in (errno.EIO, errno.ENOTTY, errno.EBADF):
                    raise  # in all three the terminal is gone, and its settings with it

        def waits(self, wait_s: float = 0.0) -> bool:
            return bool(select.select([self._in], [], [], wait_s)[0])

        def read(self, wait_s: float) -> list[Key]:
            if self._held:
                wait_s = PASTE_WAIT_S if self._held.startswith(PASTE) else ESCAPE_WAIT_S
            if not self.waits(wait_s):
                keys, self._held = decode(self._held, more=False)
                return keys
            received = os.read(self._in, 1 << 16)
            if not received:
                return [Key("ctrl-d")]  # the terminal was closed
            keys, self._held = decode(self._held + self._utf8.decode(received))
            return keys


DIM, BAR = Style(dim=True), Style(reverse=True)
# Pastes are marked as such; a row that the terminal finds longer than we do stays one row.
MODES_ON, MODES_OFF = "\x1b[?2004h\x1b[?7l", "\x1b[?2004l\x1b[?7h"
UNKNOWN_SIZE = (80, 24)
ERASE = Control((ControlType.ERASE_IN_LINE, 2)).segment


class Screen:
    """The terminal's second screen, while it is entered; the first is found again as it was.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[list[Segment]] = []
        self._size = self._cursor = (0, 0)

    def __enter__(self) -> Screen:
        self._console.set_alt_screen(True)
        self._mode(MODES_ON)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mode(MODES_OFF)
        self._console.set_alt_screen(False)

    def size(self) -> tuple[int, int]:
        """Return the terminal's columns and rows as they are now, which a variable COLUMNS does not say."""
        columns, rows = os.get_terminal_size(self._console.file.fileno())
        return (columns, rows) if columns and rows else UNKNOWN_SIZE

    def draw(self, rows: list[tuple[str, str]], cursor: tuple[int, int], bars: list[str]) -> None:
        """Show typed and written text, and put the cursor where the typed one ends.

        Only rows that changed are sent. The typed part of the cursor's row is sent last, so that the cursor stands
        where the terminal thinks that it ends: of an emoji's width no two of them agree.
        """
        width, height = self.size()
        new = [[Segment(typed), Segment(written, DIM)] for typed, written in rows]
        new += [[]] * (height - len(bars) - len(new))
        new += [[Segment(set_cell_size(bar, width - 1), BAR if at == 0 else DIM)] for at, bar in enumerate(bars)]
        out: list[Segment] = []
        if self._size != (width, height):
            self._size, self._shown = (width, height), []
            out.append(Control.clear().segment)
        for y, segments in enumerate(new[:height]):
            if y >= len(self._shown) or segments != self._shown[y]:
                out += [Control.move_to(0, y).segment, ERASE, *segments]
        if not out and cursor == self._cursor:
            return
        row, column = cursor
        out += [Control.move_to(0, row).segment, Segment(rows[row][0] if column else "")]
        self._shown, self._cursor = new, cursor
        self._console.print(Segments(out), end="", crop=False)

    def _mode(self, sequence: str) -> None:
        if not self._console.legacy_windows:
            self._console.file.write(sequence)
            self._console.file.flush()


def joined(parts: list[str], width: int, between: str = "  ") -> str:
    """Join the parts that fit, the first of them at least, cut short if it must be.

    >>> joined(["temp 0.8", "seed 7", "a long name"], 20)
    'temp 0.8  seed 7'
    """
    line = ""
    for part in parts:
        longer = f"{line}{between}{part}" if line else part
        if line and cell_len(longer) > width:
            continue
        line = longer
    return line if cell_len(line) <= width else set_cell_size(line, width)
