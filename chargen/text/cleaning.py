"""Turn bytes into clean text: decode, unify newlines, and compose characters, with a report of what changed.

    blocks of bytes ─▶ decoded ─▶ without a byte order mark ─▶ one kind of newline ─▶ composed ─▶ pieces of text

Each stage is an iterator over pieces and keeps back only what the next piece can still change, so a text may be longer
than memory. A byte that is invalid in the encoding is an error with its position; it never becomes a replacement
character. The report groups the changes, so that ten thousand files give a few lines.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import AnyStr

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.schema import format_count

BOM = "\ufeff"
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Codecs that never produce a lone surrogate. The output of all other codecs is checked.
CODECS_WITHOUT_SURROGATES = ("utf-8", "utf-8-sig", "iso8859-1", "cp1252", "cp1258", "ascii") + tuple(
    f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")
)
# A run of combining marks, and of letters of scripts that have some, longer than any text has without a space.
LONG_RUN = re.compile(
    "[\u0300-\u036f\u0483-\u1dff\u20d0-\u20ff\u2cef-\u2cf1\u2d7f\u2de0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\uabed\ufb1e"
    "\ufe20-\ufe2f\U000101fd-\U00016fff\U0001bc9d-\U0001e94a]{500,}"
)
MAX_PENDING_CHARS = 1 << 20  #: limit of characters kept back for composition with the next piece; no text needs as many
CONTROL_CODES = bytes(code for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b")  #: codes that no text contains


def clean(blocks: Iterable[bytes], where: str, config: DataConfig, report: CleaningReport) -> Iterator[str]:
    """Decode a text, and bring newlines and composed characters to one form.

    Args:
        blocks: The bytes of the text, split anywhere.
        where: Name of the text, for error messages and the report.
        config: Encoding, newline and normalisation.
        report: Receives what was changed.

    Yields:
        Pieces of the text. Their concatenation does not depend on where the blocks were split.

    Raises:
        CorpusError: If the data is binary, or a byte is invalid in the encoding.
    """
    return clean_text(remove_bom(_decode(blocks, where, config.encoding), BOM), where, config, report)


def clean_text(pieces: Iterable[str], where: str, config: DataConfig, report: CleaningReport) -> Iterator[str]:
    """Bring newlines and composed characters of a decoded text to one form; see `clean`."""
    if config.newline == "lf":
        pieces = unify_newlines(pieces, "\r\n", lambda count: report.add_newlines(where, count))
    if config.normalize == "nfc":
        pieces = _compose(pieces, where, report)
    return iter(pieces)


def normalize_text(text: str, config: DataConfig) -> str:
    """Return a text with the newlines and the composed characters that the settings require."""
    if text.isascii() and "\r" not in text:
        return text  # such a text is the same in every form
    return "".join(clean_text([text], "", config, CleaningReport()))


def check_encoding(encoding: str) -> None:
    """Check that a text encoding of this name exists.

    Raises:
        CorpusError: If it does not.
    """
    try:
        b" ".decode(encoding)
        codecs.getincrementaldecoder(encoding)
    except UnicodeError:
        return  # it exists, but a single space is too short for it
    except (LookupError, ValueError) as error:
        raise CorpusError(
            f"no encoding named {encoding!r}", "Try utf-8, utf-16, cp1258, latin-1 or shift_jis."
        ) from error


def check_unicode(text: str, what: str) -> None:
    """Check that a text can be written in UTF-8.

    Raises:
        CorpusError: If it contains a lone surrogate, as an argument with invalid bytes does.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{what} is not valid UTF-8 at character {error.start + 1}", "Convert it to UTF-8."
        ) from error


def quote_characters(characters: Iterable[str], limit: int = 40) -> str:
    r"""Return characters as a list for a message, each in quotes and with its code; control characters are escaped.

    >>> quote_characters("€\x1b")
    "'€' (U+20AC), '\\x1b' (U+001B)"
    """
    quoted = [f"{char!r} (U+{ord(char):04X})" for char in characters]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))


def _decode(blocks: Iterable[bytes], where: str, encoding: str) -> Iterator[str]:
    check_encoding(encoding)
    name = codecs.lookup(encoding).name
    is_wide = name.startswith(("utf-16", "utf-32"))
    decoder: codecs.IncrementalDecoder | None = None
    has_utf16_bom = is_binary = False
    offset = lines = 0  # bytes and newlines before the block
    for block, is_last in _with_end(_with_long_first(blocks, len(codecs.BOM_UTF32_BE))):
        if decoder is None:
            has_utf16_bom = block.startswith(UTF16_BOMS)
            has_bom = has_utf16_bom or block.startswith(codecs.BOM_UTF32_BE)
            default_to_le = name in ("utf-16", "utf-32") and not has_bom
            decoder = codecs.getincrementaldecoder(f"{name}-le" if default_to_le else name)()
        is_binary = is_binary or not is_wide and not has_utf16_bom and _is_binary(block)
        try:
            text = decoder.decode(block, is_last)
        except UnicodeDecodeError as error:
            if is_binary:
                raise _binary_error(where) from error
            # The decoder may have kept bytes of earlier blocks, or have removed a byte order mark.
            begin = error.start + len(block) - len(error.object)
            line = lines + block.count(b"\n", 0, max(0, begin)) + 1
            suggested = "utf-16" if has_utf16_bom and not is_wide else "cp1258 or --encoding latin-1"
            raise CorpusError(
                f"{where} is not {encoding}: byte 0x{error.object[error.start]:02X} "
                f"at offset {offset + begin:,} (line {line:,})",
                f"Name its encoding, as in --encoding {suggested}, or convert it to UTF-8.",
            ) from error
        except UnicodeError as error:
            raise CorpusError(f"{where} is not {encoding}: {error}", "Name its encoding with --encoding.") from error
        if (is_binary and "\0" in text) or (is_wide and _is_mostly_nul(text)):
            raise _binary_error(where)
        if name not in CODECS_WITHOUT_SURROGATES and not text.isascii():
            _check_surrogates(text, f"{where} is not {encoding}", lines)
        offset += len(block)
        lines += block.count(b"\n")
        yield text


def _is_mostly_nul(text: str) -> bool:
    """Return whether over 10 % of the characters are NUL, as in a device without an end or a disk image."""
    return text.count("\0") * 10 > len(text)


def _check_surrogates(text: str, what: str, lines: int) -> None:
    """Refuse lone surrogates, which some codecs produce (UTF-7, escapes). They are not characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = lines + text.count("\n", 0, error.start) + 1
        raise CorpusError(
            f"{what}: it gives a lone surrogate, U+{ord(text[error.start]):04X} (line {line:,}), which is no character",
            "Convert it to UTF-8.",
        ) from error


def _with_end(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield (block, False) for each block, then (b"", True)."""
    for block in blocks:
        yield block, False
    yield b"", True


def _binary_error(where: str) -> CorpusError:
    return CorpusError(
        f"{where} is a binary file, not a text",
        "If it is UTF-16, use --encoding utf-16; otherwise extract its text first.",
    )


def _is_binary(data: bytes) -> bool:
    """Return whether bytes contain what no text in UTF-8 or a one-byte encoding does: a NUL, or many control codes."""
    num_control = len(data) - len(data.translate(None, CONTROL_CODES))
    return b"\0" in data or num_control * 10 > len(data) > 0


def _with_long_first(pieces: Iterable[AnyStr], min_size: int) -> Iterator[AnyStr]:
    """Yield the same data, with a first piece of at least `min_size`, or of everything."""
    iterator = iter(pieces)
    parts, size = [], 0
    for piece in iterator:
        parts.append(piece)
        size += len(piece)
        if size >= min_size:
            break
    if parts:
        yield parts[0][:0].join(parts)
    yield from iterator


def remove_bom(pieces: Iterable[AnyStr], bom: AnyStr) -> Iterator[AnyStr]:
    """Yield the same data without a byte order mark at the start.

    Args:
        pieces: Pieces of a text, or of its bytes.
        bom: The mark: a character, or its bytes.
    """
    is_first = True
    for piece in _with_long_first(pieces, len(bom)):
        yield piece.removeprefix(bom) if is_first else piece
        is_first = False


def unify_newlines(
    pieces: Iterable[AnyStr], crlf: AnyStr, on_change: Callable[[int], object] | None = None
) -> Iterator[AnyStr]:
    """Yield the same data with each CRLF and CR replaced by LF, wherever the pieces were split.

    Args:
        pieces: Pieces of a text, or of its bytes.
        crlf: "\\r\\n", or its bytes.
        on_change: Called at the end with the number of newlines that were replaced, if there were any.
    """
    cr, lf = crlf[:1], crlf[1:]
    num_changed, pending = 0, crlf[:0]
    for piece in pieces:
        text = pending + piece
        pending = cr if text.endswith(cr) else crlf[:0]  # an LF may follow it
        text = text.removesuffix(cr)
        if cr in text:
            num_changed += text.count(cr)
            text = text.replace(crlf, lf).replace(cr, lf)
        yield text
    if pending:
        num_changed += 1
        yield lf
    if num_changed and on_change:
        on_change(num_changed)


def _compose(pieces: Iterable[str], where: str, report: CleaningReport) -> Iterator[str]:
    """Yield a text in Unicode's composed form NFC, wherever the pieces were split."""
    num_before = num_after = 0
    is_changed, pending = False, ""
    for piece in _with_none(pieces):
        text = pending + (piece or "")
        is_final = piece is None or len(text) > MAX_PENDING_CHARS + len(piece)
        cut = len(text) if is_final else _last_boundary(text, len(pending))
        ready, pending = text[:cut], text[cut:]
        num_before += len(ready)
        composed = to_nfc(ready)
        if composed != ready:
            ready, is_changed = composed, True
        num_after += len(ready)
        yield ready
    if is_changed:
        report.add_composed(where, num_before, num_after)


def _with_none(pieces: Iterable[str]) -> Iterator[str | None]:
    """Yield the pieces, then None for the end."""
    yield from pieces
    yield None


def to_nfc(text: str) -> str:
    """Return a text in Unicode's composed form NFC, in a time that is linear in its length.

    Python orders a run of combining marks by insertion sort, which takes ten minutes for a million marks. So a long run
    is sorted first by the same rule: stable, by combining class, between characters of class 0.
    """
    if unicodedata.is_normalized("NFC", text):  # a text with marks out of order is not
        return text
    return unicodedata.normalize("NFC", LONG_RUN.sub(_sort_marks, text))


def _sort_marks(run: re.Match[str]) -> str:
    decomposed = "".join(_decompose(char) for char in run.group())
    groups = groupby(decomposed, lambda char: unicodedata.combining(char) == 0)
    return "".join(
        "".join(g) if is_class_0 else "".join(sorted(g, key=unicodedata.combining)) for is_class_0, g in groups
    )


@lru_cache(maxsize=4096)
def _decompose(char: str) -> str:
    return unicodedata.normalize("NFD", char)


def _last_boundary(text: str, begin: int) -> int:
    """Return the last position from `begin` on where a text can be split and composed in parts; 0 if there is none."""
    for position in range(len(text) - 1, max(begin - 1, 0), -1):
        if has_boundary_before(text[position]):
            return position
    return 0


def has_boundary_before(char: str) -> bool:
    """Return whether a character is never composed with the one before it; False also for a few that never are."""
    if char < "\u0300":
        return True
    # Vowels and final consonants of Hangul and Kirat Rai.
    is_medial = "\u1160" <= char <= "\u11ff" or "\U00016d67" <= char <= "\U00016d68"
    return not is_medial and unicodedata.category(char)[0] != "M"


MAX_NAMED = 3  #: if more texts than this have the same kind of change, the report gives their number


@dataclass
class CleaningReport:
    """What cleaning changed, by kind, in the order of the texts."""

    _newlines: list[tuple[str, int]] = field(default_factory=list)
    _composed: list[tuple[str, int, int]] = field(default_factory=list)
    _skipped: list[str] = field(default_factory=list)

    def add_newlines(self, where: str, count: int) -> None:
        """Add the number of newlines of a text that became LF."""
        self._newlines.append((where, count))

    def add_composed(self, where: str, before: int, after: int) -> None:
        """Add the number of characters of a text before and after it was composed to NFC."""
        self._composed.append((where, before, after))

    def add_skipped(self, note: str) -> None:
        """Add a note about files that were skipped."""
        self._skipped.append(note)

    def merge(self, other: CleaningReport) -> None:
        """Add everything from another report."""
        self._newlines += other._newlines
        self._composed += other._composed
        self._skipped += other._skipped

    def notes(self) -> tuple[str, ...]:
        """Return the report as sentences."""
        newlines = [(where, (count,)) for where, count in self._newlines]
        composed = [(where, (before, after)) for where, before, after in self._composed]
        return (
            *_describe(newlines, _describe_newlines),
            *_describe(composed, _describe_composed),
            *self._skipped,
        )


def _describe_newlines(count: int) -> str:
    line_ends = format_count(count, "CR or CRLF line end")
    return f"{line_ends} became LF (--newline keep leaves them)"


def _describe_composed(before: int, after: int) -> str:
    return f"composed to NFC, {before:,} → {format_count(after, 'character')} (--normalize none leaves them)"


def _describe(changes: Sequence[tuple[str, tuple[int, ...]]], describe: Callable[..., str]) -> list[str]:
    """Return a note for each text, or a single note about all of them if they are more than MAX_NAMED."""
    if len(changes) <= MAX_NAMED:
        return [f"{where}: {describe(*numbers)}" for where, numbers in changes]
    totals = (sum(column) for column in zip(*(numbers for _, numbers in changes), strict=True))
    return [f"{len(changes):,} texts: {describe(*totals)}"]
