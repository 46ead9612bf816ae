"""Bytes → clean text: the encoding, the newlines, composed characters, each strictly and with a word on what changed.

    blocks of bytes ─▶ decoded ─▶ without a byte order mark ─▶ one kind of newline ─▶ composed ─▶ pieces of text

Every stage takes and gives an iterator, and holds back no more than what the next block may still change, so that a
text may be longer than memory. A byte that is not in the encoding is an error with its place, never a replacement
character.

What the clean-up of texts changed, gathered so that ten thousand files give a few lines.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

from chargen.config import DataConfig
from chargen.errors import CorpusError

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Codecs that never give a lone surrogate; of all others what they give is looked at.
WITHOUT_SURROGATES = ("utf-8", "utf-8-sig", "iso8859-1", "cp1252", "cp1258", "ascii") + tuple(
    f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")
)
# More marks, and letters of scripts that have some, than a text has in a row without a space or a newline.
LONG_RUN = re.compile(
    "[\u0300-\u036f\u0483-\u1dff\u20d0-\u20ff\u2cef-\u2cf1\u2d7f\u2de0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\uabed\ufb1e"
    "\ufe20-\ufe2f\U000101fd-\U00016fff\U0001bc9d-\U0001e94a]{500,}"
)
MAX_HELD = 1 << 20  #: characters held back to be composed with what follows: far more than any text needs


def clean(blocks: Iterable[bytes], where: str, config: DataConfig, findings: CleaningReport) -> Iterator[str]:
    """Decode a text and bring newlines and composed characters to one form, as `config` says.

    Args:
        blocks: the text's bytes, cut anywhere.
        where: what to call it.
        config: encoding, newline and normalisation.
        findings: told what was changed.

    Yields:
        Pieces of the text; put end to end they do not depend on where the blocks were cut.

    Raises:
        CorpusError: binary data, or bytes outside the encoding.
    """
    return clean_text(_without_mark(_decoded(blocks, where, config.encoding)), where, config, findings)


def clean_text(pieces: Iterable[str], where: str, config: DataConfig, findings: CleaningReport) -> Iterator[str]:
    """Do the same with what is text already."""
    if config.newline == "lf":
        pieces = _with_lf(pieces, where, findings)
    if config.normalize == "nfc":
        pieces = _composed(pieces, where, findings)
    return iter(pieces)


def normalize_text(text: str, config: DataConfig) -> str:
    """Return the text with one kind of newline and composed characters, as far as the settings say so."""
    if text.isascii() and "\r" not in text:
        return text  # every form of it is this one
    return "".join(clean_text([text], "", config, CleaningReport()))


def check_encoding(encoding: str) -> None:
    """Check that there is a text encoding of this name.

    Raises:
        CorpusError: there is none.
    """
    try:
        b" ".decode(encoding)
        codecs.getincrementaldecoder(encoding)
    except UnicodeError:
        return  # there is one, for which a space is too short a text
    except (LookupError, ValueError) as error:
        raise CorpusError(
            f"no encoding named {encoding!r}", "Try utf-8, utf-16, cp1258, latin-1 or shift_jis."
        ) from error


def _decoded(blocks: Iterable[bytes], where: str, encoding: str) -> Iterator[str]:
    check_encoding(encoding)
    blocks = _begun(blocks)
    name = codecs.lookup(encoding).name
    wide = name.startswith(("utf-16", "utf-32"))
    decoder: codecs.IncrementalDecoder | None = None
    marked = binary = False
    offset = lines = 0  # of the bytes before a block
    for block, last in _and_an_end(blocks):
        if decoder is None:
            marked = block.startswith(UTF16_MARKS)
            bare = name in ("utf-16", "utf-32") and not marked and not block.startswith(codecs.BOM_UTF32_BE)
            decoder = codecs.getincrementaldecoder(f"{name}-le" if bare else name)()
        binary = binary or not wide and not marked and _looks_binary(block)
        try:
            text = decoder.decode(block, last)
        except UnicodeDecodeError as error:
            if binary:
                raise _binary(where) from error
            begin = error.start + len(block) - len(error.object)  # the decoder held bytes back, or took a mark off
            line = lines + block.count(b"\n", 0, max(0, begin)) + 1
            other = "utf-16" if marked and not wide else "cp1258 or --encoding latin-1"
            raise CorpusError(
                f"{where} is not {encoding}: byte 0x{error.object[error.start]:02X} "
                f"at offset {offset + begin:,} (line {line:,})",
                f"Name its encoding, as in --encoding {other}, or convert it to UTF-8.",
            ) from error
        except UnicodeError as error:
            raise CorpusError(f"{where} is not {encoding}: {error}", "Name its encoding with --encoding.") from error
        if (binary and "\0" in text) or (wide and _mostly_nul(text)):
            raise _binary(where)
        if name not in WITHOUT_SURROGATES and not text.isascii():
            _check_surrogates(text, f"{where} is not {encoding}", lines)
        offset += len(block)
        lines += block.count(b"\n")
        yield text


def _mostly_nul(text: str) -> bool:
    """Tell whether characters, not bytes, are NULs: a device without an end, or an image of a disk."""
    return text.count("\0") * 10 > len(text)


def _check_surrogates(text: str, what: str, lines: int) -> None:
    """Refuse what some codecs give (UTF-7, escapes): halves of characters, which no text has."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = lines + text.count("\n", 0, error.start) + 1
        raise CorpusError(
            f"{what}: it gives a lone surrogate, U+{ord(text[error.start]):04X} (line {line:,}), which is no character",
            "Convert it to UTF-8.",
        ) from error


def _begun(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same blocks, the first of them long enough for a byte order mark."""
    iterator, head = iter(blocks), b""
    for block in iterator:
        head += block
        if len(head) >= len(codecs.BOM_UTF32_BE):
            break
    yield head
    yield from iterator


def _and_an_end(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    yield b"", True


def _binary(where: str) -> CorpusError:
    return CorpusError(
        f"{where} is a binary file, not a text", "If it is UTF-16, say --encoding utf-16; else extract its text first."
    )


def _looks_binary(data: bytes) -> bool:
    """Tell whether bytes hold what no text in a one-byte or UTF-8 encoding holds: NULs, or many control codes."""
    control = len(data) - len(data.translate(None, CONTROL_CODES))
    return b"\0" in data or control * 10 > len(data) > 0


CONTROL_CODES = bytes(code for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b")


def _without_mark(pieces: Iterable[str]) -> Iterator[str]:
    first = True
    for piece in pieces:
        yield piece.removeprefix("\ufeff") if first else piece
        first = first and not piece


def _with_lf(pieces: Iterable[str], where: str, findings: CleaningReport) -> Iterator[str]:
    changed, held = 0, ""
    for piece in pieces:
        whole = held + piece
        held = "\r" if whole.endswith("\r") else ""  # a "\n" may follow it
        whole = whole.removesuffix("\r")
        if "\r" in whole:
            changed += whole.count("\r")
            whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        yield whole
    if held:
        changed += 1
        yield "\n"
    if changed:
        findings.line_ends(where, changed)


def _composed(pieces: Iterable[str], where: str, findings: CleaningReport) -> Iterator[str]:
    before = after = 0
    changed, held = False, ""
    for piece in _and_an_empty(pieces):
        whole = held + (piece or "")
        cut = len(whole) if piece is None or len(whole) > MAX_HELD + len(piece) else _safe_cut(whole, len(held))
        ready, held = whole[:cut], whole[cut:]
        before += len(ready)
        composed = nfc(ready)
        if composed != ready:
            ready, changed = composed, True
        after += len(ready)
        yield ready
    if changed:
        findings.composed(where, before, after)


def _and_an_empty(pieces: Iterable[str]) -> Iterator[str | None]:
    yield from pieces
    yield None


def nfc(text: str) -> str:
    """Return a text in Unicode's composed form NFC, in a time that is linear in its length.

    Python puts a run of combining marks in order by insertion, which of a million marks takes ten minutes. So a long
    run is sorted first, by the same rule: stable, by combining class, within what class 0 does not part.
    """
    if unicodedata.is_normalized("NFC", text):  # which marks out of order are not, at first sight
        return text
    return unicodedata.normalize("NFC", LONG_RUN.sub(_in_order, text))


def _in_order(run: re.Match[str]) -> str:
    decomposed = "".join(_decomposed(char) for char in run.group())
    groups = groupby(decomposed, lambda char: unicodedata.combining(char) == 0)
    return "".join("".join(g) if alone else "".join(sorted(g, key=unicodedata.combining)) for alone, g in groups)


@lru_cache(maxsize=4096)
def _decomposed(char: str) -> str:
    return unicodedata.normalize("NFD", char)


def _safe_cut(text: str, begin: int) -> int:
    """Return the last place at which a text can be cut and its parts composed alone; 0 if there is none.

    Args:
        text: it.
        begin: before this place there is none, but for 0.
    """
    for place in range(len(text) - 1, max(begin - 1, 0), -1):
        if has_boundary_before(text[place]):
            return place
    return 0


def has_boundary_before(char: str) -> bool:
    """Tell whether a character is never composed with the one before it; of a few that are not, it also says no."""
    if char < "\u0300":
        return True
    medial = (
        "\u1160" <= char <= "\u11ff" or "\U00016d67" <= char <= "\U00016d68"
    )  # vowels and finals: Hangul, Kirat Rai
    return not medial and unicodedata.category(char)[0] != "M"


def check_unicode(text: str, what: str) -> None:
    """Check that a text can be written in UTF-8.

    Raises:
        CorpusError: it holds a lone surrogate, as an argument with broken bytes does.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{what} is not valid UTF-8 at character {error.start + 1}", "Convert it to UTF-8."
        ) from error


MAX_NAMED = 3  #: texts that a kind of change names; of more it says how many there were


@dataclass
class CleaningReport:
    """Changes by kind, in the order of the texts."""

    _line_ends: list[tuple[str, int]] = field(default_factory=list)
    _composed: list[tuple[str, int, int]] = field(default_factory=list)
    _left_out: list[str] = field(default_factory=list)

    def line_ends(self, where: str, count: int) -> None:
        """Count line ends that became LF."""
        self._line_ends.append((where, count))

    def composed(self, where: str, before: int, after: int) -> None:
        """Count the characters of a text before and after it was composed to NFC."""
        self._composed.append((where, before, after))

    def left_out(self, note: str) -> None:
        """Say what was passed over."""
        self._left_out.append(note)

    def add(self, others: CleaningReport) -> None:
        """Add what was found of another text."""
        self._line_ends += others._line_ends
        self._composed += others._composed
        self._left_out += others._left_out

    def notes(self) -> tuple[str, ...]:
        """Return them as sentences."""
        ends = [(where, (count,)) for where, count in self._line_ends]
        composed = [(where, (before, after)) for where, before, after in self._composed]
        return (
            *_sentences(ends, "{:,} CR or CRLF line ends became LF (--newline keep leaves them)"),
            *_sentences(composed, "composed to NFC, {:,} → {:,} characters (--normalize none leaves them)"),
            *self._left_out,
        )


def _sentences(changes: Sequence[tuple[str, tuple[int, ...]]], form: str) -> list[str]:
    if len(changes) <= MAX_NAMED:
        return [f"{where}: {form.format(*numbers)}" for where, numbers in changes]
    totals = (sum(column) for column in zip(*(numbers for _, numbers in changes), strict=True))
    return [f"{len(changes):,} texts: {form.format(*totals)}"]
