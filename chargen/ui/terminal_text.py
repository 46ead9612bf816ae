"""Show untrusted text on a terminal: replace unsafe characters, and measure the width of text.

A terminal executes what it is sent. A model file, a corpus, a label, a file name or an argument can contain an escape
sequence that clears the screen, sets the title or types for the user; a bidi override that shows "evil.txt" as
something else; or a newline that starts a second, forged message. Therefore all untrusted text is changed on its
path to the terminal, one character for one character:

    C0 controls, DEL                          replaced by their symbols: ␛ ␇ ␡ (in a single line ␊ and ␉, too)
    C1 controls, lone surrogates (invalid     replaced by U+FFFD
    bytes), bidi marks, embeddings, overrides
    and isolates, line and paragraph
    separators, invisible format characters
    ZWJ, ZWNJ, variation selectors; U+200B    kept, because scripts and emoji need them
    and U+180E after a letter of a script
    that needs them; tags in a flag

There are two paths to a terminal, and on each of them this happens in one place:

    click.echo, print, sys.stdout.write, warnings, tracebacks ──▶ VisibleStream ──┐
                                                                                  ├──▶ the stream below it ──▶ terminal
    rich: tables, live displays (ui/console.py) ──▶ each segment but rich's own ──┘
                                                    control codes

`cli/main.py` replaces stderr by a `VisibleStream`, and stdout too if it is a terminal: pipes and files get the exact
text. The stream below that of stderr is a `LastingStream`, which both paths write to. Neither path can distinguish a
newline of a message's layout from one in a file name. So code that puts untrusted text into a line calls `visible`
(or `say`, which prints such a line).

The second part of the file divides a text into clusters: what a reader takes for one character. A letter and its
combining marks are one cluster, as are the parts of an emoji and the two halves of a flag. Clusters (the grapheme
clusters of UAX #29) and the widths of characters come from the package wcwidth. It takes 10 ms to import, so ASCII and
Latin letters are divided and measured without it.
"""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

# Sequences in which an invisible character belongs to the script: the tags of a flag, the word separator of Thai, Lao,
# Myanmar and Khmer (U+200B), and the vowel separator of Mongolian (U+180E).
_KEPT = (
    r"(?P<kept>\U0001f3f4[\U000e0020-\U000e007f]{1,7}"
    r"|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]\u200b|[\u1820-\u18aa]\u180e)"
)
_UNSAFE = (
    r"\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ud800-\udfff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
# Not compiled here: `re` compiles and caches them at their first use, and most commands never use them.
_IN_LINE = rf"{_KEPT}|[\x00-\x1f{_UNSAFE}]"
_IN_TEXT = rf"{_KEPT}|[\x00-\x08\x0b-\x1f{_UNSAFE}]"
# What `wrap` does not break: text in quotes, a command to its end, and an option with its value.
_UNBROKEN = (
    r"`[^`]+`|(?<!\w)'(?:[^'\\]|\\.)+'(?!\w)|(?<!\w)\"(?:[^\"\\]|\\.)+\"(?!\w)"
    r"|(?:(?<=: )|(?<=^Try: )|^ *)(?:chargen|pip|python) \S.*?(?=[.;)]*$|[.;,] )|(?<![\w-])--?\w[\w-]* [^\s-]\S*"
)
WRAPPED_INDENT = "  "
MAX_KEPT_CHARS = 8  # length of the longest sequence of _KEPT


def visible(text: str) -> str:
    r"""Return a text as one line without invisible characters and characters that a terminal executes.

    >>> visible("a\nb\x1b[2J")
    'a␊b␛[2J'
    """
    return text if text.isprintable() else re.sub(_IN_LINE, _replacer(_symbol), text)


def visible_text(text: str) -> str:
    r"""Return a text of several lines without such characters; newlines and tabs are kept.

    >>> visible_text("a\nb\x1b[2J")
    'a\nb␛[2J'
    """
    return text if text.isprintable() else re.sub(_IN_TEXT, _replacer(_symbol), text)


def visible_json(line: str) -> str:
    r"""Return a JSON document on one line with escapes for unsafe characters; its value is unchanged.

    >>> visible_json('"a\x9bb"')
    '"a\\u009bb"'
    """
    return line if line.isprintable() else re.sub(_IN_LINE, _replacer(_json_escape), line)


def _replacer(replace: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    return lambda match: match[0] if match["kept"] else replace(match[0])


def _symbol(char: str) -> str:
    return chr(0x2400 + ord(char)) if char < " " else "\u2421" if char == "\x7f" else "\ufffd"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class _StreamOn(io.TextIOBase):
    """A text stream that writes to another one.

    Args:
        below: The stream to write to. It has another owner, and is not closed together with this one.
    """

    def __init__(self, below: TextIO) -> None:
        self.below = below

    def flush(self) -> None:
        """Flush the stream below."""
        self.below.flush()

    def close(self) -> None:
        """Do nothing: the stream below has another owner."""

    def isatty(self) -> bool:
        """Return whether the stream below is a terminal."""
        return self.below.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream below."""
        return self.below.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The error handler of the stream below."""
        return self.below.errors


class VisibleStream(_StreamOn):
    """A text stream that makes text visible before it writes it to another one.

    It remembers the last characters of the previous piece, so that a text in pieces is shown like the whole text.
    """

    _context = ""
    _line = ""  # the start of a line that `show_lines` has not been called with
    show_lines: Callable[[str], None] | None = None  #: called with complete lines instead of writing them

    def write(self, text: str) -> int:
        """Write a text, made visible; return its number of characters."""
        context = self._context
        shown = visible_text(context + text)[len(context) :]
        self._context = (context + text)[-MAX_KEPT_CHARS:]
        if self.show_lines is None:
            self.below.write(shown)
        else:
            lines, newline, self._line = (self._line + shown).rpartition("\n")
            if newline:
                self.show_lines(lines)
        return len(text)

    def end_lines(self) -> None:
        """Write everything to the stream below from now on, with the start of a line that has not been shown."""
        self.show_lines = None
        self.below.write(self._line)
        self._line = ""


class LastingStream(_StreamOn):
    """A text stream for stderr that drops what cannot be written, so that the command continues.

    stderr carries no results. A closed pipe or terminal, or a full disk, is no reason to lose a training run or an exit
    status.
    """

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its number of characters."""
        try:
            self.below.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream below, if that is possible."""
        try:
            self.below.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Discard everything from now on, unless the reader is only slow."""
        if isinstance(error, BlockingIOError):
            return
        with suppress(OSError):  # a replacement in a test has no file descriptor
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self.below.fileno())
            os.close(devnull)


def stream_below(stream: TextIO) -> TextIO:
    """Return the stream below a `VisibleStream`, or any other stream itself.

    For writers that make text visible themselves.
    """
    return stream.below if isinstance(stream, VisibleStream) else stream


def install() -> None:
    """Replace stderr by a `VisibleStream`, and stdout too if it is a terminal."""
    for name in ("stderr", *(["stdout"] if sys.stdout.isatty() else [])):
        stream = getattr(sys, name)
        if not isinstance(stream, VisibleStream):
            setattr(sys, name, VisibleStream(cast(TextIO, LastingStream(stream)) if name == "stderr" else stream))


@contextmanager
def visible_streams() -> Iterator[None]:
    """Install the streams inside the context, and restore the previous ones at its end."""
    before = sys.stdout, sys.stderr
    install()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_raw() -> None:
    """Write the exact text to stdout from now on, even if it is a terminal (option --raw)."""
    sys.stdout = stream_below(sys.stdout)


def say(line: str) -> None:
    """Print one line on stderr, made visible: a newline in it is shown as a symbol. A terminal gets it wrapped."""
    shown = visible(line)
    sys.stderr.write((wrap(shown, terminal_width(sys.stderr)) if sys.stderr.isatty() else shown) + "\n")
    sys.stderr.flush()


def terminal_width(stream: TextIO) -> int:
    """Return the columns of the terminal of a stream; the variable COLUMNS replaces them, and 80 if none is known."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    with suppress(OSError):  # a replacement in a test has no file descriptor
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def wrap(line: str, width: int, indent: str = WRAPPED_INDENT) -> str:
    """Return a line with newlines at spaces, so that no row has more than `width` cells, if that is possible.

    What a reader copies is not broken: paths and other words, what is in quotes, an option with its value, and a
    command. So a row with one of these can be longer. Rows after the first start with `indent`, so that none of
    them is taken for a message of its own.

    >>> print(wrap("note: log.txt is a file; add --file to read it: --file log.txt", 40))
    note: log.txt is a file; add --file to
      read it: --file log.txt
    """
    if not _takes_more(line, width):
        return line
    rows, row = [], ""
    for match in re.finditer(rf" *(?:{_UNBROKEN}|\S)+", line):
        if row.strip() and _takes_more(row + match[0], width):
            rows.append(row)
            row = indent + match[0].lstrip(" ")
        else:
            row += match[0]
    return "\n".join([*rows, row])


def is_shown() -> bool:
    """Return whether text for stdout is made visible; JSON is then escaped by `visible_json`."""
    return isinstance(cast(object, sys.stdout), VisibleStream)


_LATIN = r"[\t\n -~\xa1-\xac\xae-\u02ff\u1e00-\u1eff]*"  # Vietnamese, too; each is a cluster with a width of 1
SEPARATORS = "\u200b\u180e"  # those of _KEPT; they belong to the letter before them
MAX_CLUSTER_CHARS = 16  # of a cluster at the end of a text that is shortened


def clusters(text: str) -> Iterator[str]:
    """Yield the clusters of a text: its characters as a reader counts them. Joined, they are the text.

    >>> [len(cluster) for cluster in clusters("e\\u0302!")]
    [2, 1]
    """
    if re.fullmatch(_LATIN, text):
        yield from text
        return
    from wcwidth import iter_graphemes

    cluster = ""
    for part in iter_graphemes(text):
        if cluster and part in SEPARATORS and visible(cluster[-1] + part)[-1] == part:
            cluster += part
            continue
        if cluster:
            yield cluster
        cluster = part
    if cluster:
        yield cluster


def glyph(cluster: str) -> tuple[str, int]:
    """Return what is drawn for a cluster, and its width in cells of a terminal: mostly 1 or 2."""
    drawn = visible(cluster)
    return drawn, cells(drawn)


def cells(text: str) -> int:
    """Return the width of a text in cells of a terminal.

    >>> cells("là"), cells("漢")
    (2, 2)
    """
    if re.fullmatch(_LATIN, text):
        return len(text)
    from wcwidth import wcswidth

    return wcswidth(visible(text))


def shorten(text: str, width: int) -> str:
    """Return a text as one visible line of at most `width` cells; "…" replaces the middle of a longer one.

    >>> shorten("The quick brown fox", 10)
    'The q… fox'
    """
    if not _takes_more(text, width):
        return "".join(map(visible, clusters(text)))
    tail_width = (width - 1) // 2
    head = _fitting(clusters(text), width - 1 - tail_width)
    tail = _fitting(reversed([*clusters(text[-MAX_CLUSTER_CHARS * (tail_width + 1) :])]), tail_width)
    return "".join([*head, "…", *reversed(tail)])


def _takes_more(text: str, width: int) -> bool:
    """Return whether a text takes more than `width` cells; of a long text, only the start is measured."""
    cells = 0
    for cluster in clusters(text):
        cells += _cluster_width(cluster)
        if cells > width:
            return True
    return False


def _fitting(parts: Iterable[str], width: int) -> list[str]:
    """Return the first clusters that take at most `width` cells together, made visible."""
    kept: list[str] = []
    for cluster in parts:
        width -= _cluster_width(cluster)
        if width < 0:
            break
        kept.append(visible(cluster))
    return kept


def _cluster_width(cluster: str) -> int:
    """Return the width of a cluster on a terminal that draws each character of it: an upper bound for all terminals."""
    if re.fullmatch(_LATIN, cluster):
        return len(cluster)
    from wcwidth import wcwidth

    return sum(map(wcwidth, visible(cluster)))


def is_ideograph(cluster: str) -> bool:
    """Return whether a cluster belongs to a script of double width that has no spaces between words."""
    return not "\uac00" <= cluster[0] <= "\ud7a3" and unicodedata.east_asian_width(cluster[0]) in "WF"
