"""Text from outside, made safe to look at: the only file that decides what reaches a terminal.

A terminal obeys what it is sent. A model file, a corpus, a label, a file name or an argument can hold an escape
sequence that clears the screen, sets the title or types for the user, a bidi override that shows "evil.txt" as
something else, or a newline that begins a second, forged message. Everything from outside is therefore changed on its
way to the terminal, one character for one character:

    C0 controls, DEL                          their picture: ␛ ␇ ␡ (in one-line contexts ␊ and ␉ too)
    C1 controls, lone surrogates (invalid     U+FFFD
    bytes), bidi marks, embeddings, overrides
    and isolates, line and paragraph
    separators, invisible format characters
    ZWJ, ZWNJ, variation selectors; U+200B    kept: scripts and emoji need them
    and U+180E after a letter of a script
    that needs them; tags in a flag

There are two paths to a terminal, and each has one place where this happens:

    click.echo, print, sys.stdout.write, warnings, tracebacks ──▶ VisibleStream ──┐
                                                                                  ├──▶ the stream below it ──▶ terminal
    rich: tables, live displays (ui/console.py) ──▶ each segment but rich's own ──┘
                                                    control codes

`cli/main.py` puts a `VisibleStream` in the place of stderr always, and of stdout where that is a terminal: pipes and
files get exactly the text. That of stderr stands on a `LastingStream`, which both paths write to. Neither path can tell
a newline of a message's layout from one of a file name, so code that puts text from outside into a line calls `visible`
(or `say`, which prints such a line).

What a reader takes for one character, and how many cells of a terminal it fills.

A letter and its combining marks are one, as are the parts of an emoji and the two halves of a flag. (A part of
Unicode's rules for grapheme clusters, UAX #29: what joins is what has no width of its own, what follows a joiner, and a
flag's second half.)
"""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from rich.cells import cell_len

# Sequences in which an invisible character is part of the writing: a flag's tags, the word and vowel separators of
# Thai, Lao, Myanmar and Khmer (U+200B), and of Mongolian (U+180E).
_KEPT = (
    r"(?P<kept>\U0001f3f4[\U000e0020-\U000e007f]{1,7}"
    r"|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]\u200b|[\u1820-\u18aa]\u180e)"
)
_UNSAFE = (
    r"\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ud800-\udfff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
# `re` compiles them when they are first needed, and keeps them: most commands never need them.
_IN_LINE = rf"{_KEPT}|[\x00-\x1f{_UNSAFE}]"
_IN_TEXT = rf"{_KEPT}|[\x00-\x08\x0b-\x1f{_UNSAFE}]"
MAX_KEPT = 8  #: characters of the longest sequence that is kept


def visible(text: str) -> str:
    r"""Return a text as one line in which nothing is hidden and nothing acts on the terminal.

    >>> visible("a\nb\x1b[2J")
    'a␊b␛[2J'
    """
    return text if text.isprintable() else re.sub(_IN_LINE, _replaced(_picture), text)


def visible_text(text: str) -> str:
    r"""Return the same of a text of several lines: newlines and tabs stay.

    >>> visible_text("a\nb\x1b[2J")
    'a\nb␛[2J'
    """
    return text if text.isprintable() else re.sub(_IN_TEXT, _replaced(_picture), text)


def visible_json(line: str) -> str:
    r"""Return a JSON document of one line with escapes for what is unsafe; its value is the same.

    >>> visible_json('"a\x9bb"')
    '"a\\u009bb"'
    """
    return line if line.isprintable() else re.sub(_IN_LINE, _replaced(_json_escape), line)


def _replaced(picture: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    return lambda found: found[0] if found["kept"] else picture(found[0])


def _picture(char: str) -> str:
    return chr(0x2400 + ord(char)) if char < " " else "\u2421" if char == "\x7f" else "\ufffd"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class _StreamOn(io.TextIOBase):
    """A text stream that stands on another one.

    Args:
        below: the stream that is written to. It belongs to somebody else, and is not closed with this one.
    """

    def __init__(self, below: TextIO) -> None:
        self.below = below

    def flush(self) -> None:
        self.below.flush()

    def close(self) -> None:
        """Do nothing: the stream below belongs to somebody else."""

    def isatty(self) -> bool:
        return self.below.isatty()

    def fileno(self) -> int:
        return self.below.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.below.errors


class VisibleStream(_StreamOn):
    """A text stream that writes what it is given to another one, made visible.

    What stands before a piece is remembered, so that a text in pieces is shown as the whole would be.
    """

    _before = ""

    def write(self, text: str) -> int:
        context = self._before
        self.below.write(visible_text(context + text)[len(context) :])
        self._before = (context + text)[-MAX_KEPT:]
        return len(text)


class LastingStream(_StreamOn):
    """A text stream for stderr, which carries no results: what it does not take is dropped, and work goes on.

    Its pipe or terminal may be closed, or its disk full: neither is a reason to lose a training or an exit status.
    """

    def write(self, text: str) -> int:
        try:
            self.below.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            self.below.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send everything from now on nowhere, unless the other side is only slow."""
        if isinstance(error, BlockingIOError):
            return
        with suppress(OSError):  # a test's stand-in has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.below.fileno())
            os.close(nowhere)


def stream_below(stream: TextIO) -> TextIO:
    """Return the stream below a `VisibleStream`, any other as it is: for writers that make text visible themselves."""
    return stream.below if isinstance(stream, VisibleStream) else stream


def install() -> None:
    """Put a `VisibleStream` in the place of stderr, and in that of stdout if it is a terminal."""
    for name in ("stderr", *(["stdout"] if sys.stdout.isatty() else [])):
        stream = getattr(sys, name)
        if not isinstance(stream, VisibleStream):
            setattr(sys, name, VisibleStream(cast(TextIO, LastingStream(stream)) if name == "stderr" else stream))


@contextmanager
def visible_streams() -> Iterator[None]:
    """Install the streams; put back those that were there before."""
    before = sys.stdout, sys.stderr
    install()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_raw() -> None:
    """Let stdout have exactly the text, even where it is a terminal."""
    sys.stdout = stream_below(sys.stdout)


def say(line: str) -> None:
    """Print one line on stderr; a newline in it is shown as one."""
    sys.stderr.write(visible(line) + "\n")
    sys.stderr.flush()


def is_shown() -> bool:
    """Tell whether stdout is a terminal that text is made visible for: JSON for it goes through `visible_json`."""
    return isinstance(cast(object, sys.stdout), VisibleStream)


JOINER = "\u200d"
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
SKIN_TONES = range(0x1F3FB, 0x1F400)


def clusters(text: str) -> Iterator[str]:
    """Yield a text's characters as a reader counts them; joined they are the text.

    >>> [len(cluster) for cluster in clusters("e\\u0302!")]
    [2, 1]
    """
    if text.isascii():
        yield from text
        return
    cluster = ""
    for char in text:
        if cluster and _joins(cluster, char):
            cluster += char
        else:
            if cluster:
                yield cluster
            cluster = char
    if cluster:
        yield cluster


def glyph(cluster: str) -> tuple[str, int]:
    """Return what is drawn for a cluster, and how many cells it fills: 0, 1 or 2."""
    if cluster.isascii() and cluster.isprintable():
        return cluster, 1
    drawn = visible(cluster)
    return drawn, min(2, cell_len(drawn))


def is_ideograph(cluster: str) -> bool:
    """Tell whether a cluster is of a script that puts no spaces between words and fills two cells."""
    return not "\uac00" <= cluster[0] <= "\ud7a3" and unicodedata.east_asian_width(cluster[0]) in "WF"


def _joins(cluster: str, char: str) -> bool:
    if char.isascii() or unicodedata.category(cluster[-1]) == "Cc":
        return False
    if cluster.endswith(JOINER):
        return unicodedata.category(char) == "So"
    if ord(char) in FLAG_LETTERS:
        return len(cluster) == 1 and ord(cluster) in FLAG_LETTERS
    if ord(char) in SKIN_TONES:
        return unicodedata.category(cluster[0]) == "So"
    return (
        cell_len(char) == 0 and visible(cluster[-MAX_KEPT:] + char)[-1] == char
    )  # what is shown as a symbol stands alone
