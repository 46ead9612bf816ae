"""The keyboard of a terminal: keys as they are pressed, and whether one waits.

`click.getchar` will not do here: it reads 32 bytes, which tears a pasted letter of several bytes, cannot tell whether a
key waits, and leaves the terminal echoing between two keys.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
import time
from types import TracebackType
from typing import Protocol

from chargen.ui.keys import PASTE, Key, decode

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
