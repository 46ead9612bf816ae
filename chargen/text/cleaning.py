"""Turn bytes into clean text: decode, unify newlines, and compose characters, with a report of what changed.

    blocks of bytes ─▶ decoded ─▶ without a byte order mark ─▶ one kind of newline ─▶ composed ─▶ pieces of text

Each stage is an iterator over pieces and keeps back only what the next piece can still change, so a text may be longer
than memory. A byte that is invalid in the encoding is an error with its position, unless the settings say that it is
replaced by U+FFFD, or that its line is left out. The report groups the changes, so that ten thousand files give a few
lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import AnyStr

from chargen.config import DataConfig
from chargen.errors import CorpusError, TokenizerError
from chargen.schema import check_string, find_surrogate, format_count
from chargen.text.decoding import LONE_SURROGATE, decode, decode_marked, encoding_hint, likely_encoding, remove_bom

# A run of combining marks, and of letters of scripts that have some, longer than any text has without a space.
LONG_RUN = (
    "[\u0300-\u036f\u0483-\u1dff\u20d0-\u20ff\u2cef-\u2cf1\u2d7f\u2de0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\uabed\ufb1e"
    "\ufe20-\ufe2f\U000101fd-\U00016fff\U0001bc9d-\U0001e94a]{500,}"
)
_AFTER_NEWLINE = "(?<=\n)|(?<=\r)(?!\n)"
MAX_PENDING_CHARS = 1 << 20  #: limit of characters kept back for composition with the next piece; no text needs as many


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
        CorpusError: If the data is binary, or a byte is invalid in the encoding and `config.errors` is "strict".
    """
    if config.errors == "strict":
        pieces = remove_bom(decode(blocks, where, config.encoding, report))
    else:
        marked = remove_bom(decode_marked(blocks, where, config.encoding, report))
        repair = _skip_invalid_lines if config.errors == "skip" else _replace_invalid
        pieces = repair(marked, where, report)
    return clean_text(pieces, where, config, report)


def _replace_invalid(pieces: Iterable[str], where: str, report: CleaningReport) -> Iterator[str]:
    """Yield a text with U+FFFD for each lone surrogate."""
    total = 0
    for piece in pieces:
        text, count = (piece, 0) if piece.isascii() else re.subn(LONE_SURROGATE, "\ufffd", piece)
        total += count
        yield text
    report.add_replaced(where, total)


def _skip_invalid_lines(pieces: Iterable[str], where: str, report: CleaningReport) -> Iterator[str]:
    """Yield a text without the lines that contain a lone surrogate. A line may be long: it is kept in memory."""
    num_skipped, cr = 0, ""  # a CR at the end of the text so far: an LF may follow
    pending: list[str] = []  # pieces of the incomplete line
    for piece in _with_none(pieces):
        text = cr + (piece or "")
        cr = "\r" if piece is not None and text.endswith("\r") else ""
        first, *lines = re.split(_AFTER_NEWLINE, text.removesuffix(cr))
        pending.append(first)
        if lines or piece is None:
            lines = ["".join(pending), *lines]
            pending = [] if piece is None else [lines.pop()]
        good = [line for line in lines if line.isascii() or not re.search(LONE_SURROGATE, line)]
        num_skipped += len(lines) - len(good)
        yield "".join(good)
    report.add_skipped_lines(where, num_skipped)


def clean_text(pieces: Iterable[str], where: str, config: DataConfig, report: CleaningReport) -> Iterator[str]:
    """Bring newlines and composed characters of a decoded text to one form; see `clean`."""
    if config.newline == "lf":
        pieces = unify_newlines(pieces, "\r\n", lambda count: report.add_newlines(where, count))
    if config.normalize == "nfc":
        pieces = _compose(pieces, where, report)
    return iter(pieces)


def normalize_text(text: str, config: DataConfig) -> str:
    """Return a text with the newlines and the composed characters that the settings require."""
    if "\r" not in text and (text.isascii() or unicodedata.is_normalized("NFC", text)):
        return text  # such a text is the same in every form
    return "".join(clean_text([text], "", config, CleaningReport()))


def check_unicode(text: str, what: str) -> None:
    """Check that a text can be written in UTF-8.

    Raises:
        CorpusError: If it contains a lone surrogate, as an argument with invalid bytes does.
    """
    position = find_surrogate(text)
    if position is not None:
        raise CorpusError(f"{what} is not valid UTF-8 at character {position + 1}", "Convert it to UTF-8.")


def check_given_text(text: str, name: str) -> None:
    """Check that what a model is given to read is a text.

    Raises:
        TokenizerError: If it contains a lone surrogate, which is no character.
        TypeError: If it is not a string; the message has the name.
    """
    check_string(text, name)
    position = find_surrogate(text)
    if position is not None:
        raise TokenizerError(
            f"the text has a lone surrogate, U+{ord(text[position]):04X}, at character {position + 1:,}",
            "Decode its bytes with errors='replace', or leave it out.",
        )


def quote_characters(characters: Iterable[str], limit: int = 40) -> str:
    r"""Return characters as a list for a message, each in quotes and with its code; control characters are escaped.

    >>> quote_characters("€\x1b")
    "'€' (U+20AC), '\\x1b' (U+001B)"
    """
    quoted = [f"{char!r} (U+{ord(char):04X})" for char in characters]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))


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
    num_changed, is_after_cr = 0, False
    for piece in pieces:
        text = piece.removeprefix(lf) if is_after_cr else piece  # the LF of a CRLF: its CR has become an LF already
        is_after_cr = piece.endswith(cr) or (is_after_cr and not piece)
        if cr in text:
            num_changed += text.count(cr)
            text = text.replace(crlf, lf).replace(cr, lf)
        yield text
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
    return unicodedata.normalize("NFC", re.sub(LONG_RUN, _sort_marks, text))


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
    _wide: list[tuple[str, str]] = field(default_factory=list)
    _plain: list[str] = field(default_factory=list)
    _unread_records: list[str] = field(default_factory=list)
    _replaced: list[tuple[str, int]] = field(default_factory=list)
    _skipped_lines: list[tuple[str, int]] = field(default_factory=list)
    _nulls: list[tuple[str, int]] = field(default_factory=list)
    _empty: list[tuple[str, int]] = field(default_factory=list)
    _skipped: list[str] = field(default_factory=list)
    _skipped_records: list[str] = field(default_factory=list)
    _num_more_skipped: int = 0
    _invalid_block: bytes = b""
    has_invalid_bytes: bool = False  #: whether bytes were found that are invalid in the given encoding

    def add_wide(self, where: str, encoding: str) -> None:
        """Add a text that was read in the encoding that its byte order mark states."""
        self._wide.append((where, encoding))

    def add_invalid(self, block: bytes) -> None:
        """Add a block with bytes that are invalid in the given encoding; the first one is kept for `encoding_hint`."""
        self.has_invalid_bytes = True
        self._invalid_block = self._invalid_block or block

    def encoding_hint(self) -> str:
        """Return which encoding the invalid bytes are probably in, as a sentence for a person."""
        return encoding_hint(likely_encoding(self._invalid_block))

    def add_plain(self, where: str) -> None:
        """Add a file that was read as plain text, although its name says that it has fields."""
        self._plain.append(where)

    def add_unread_records(self, where: str) -> None:
        """Add a text that was read as plain text, although each of its lines has the form of a JSON object."""
        self._unread_records.append(where)

    def add_replaced(self, where: str, count: int) -> None:
        """Add the number of invalid byte sequences and lone surrogates of a text that became U+FFFD."""
        if count:
            self._replaced.append((where, count))

    def add_skipped_lines(self, where: str, count: int) -> None:
        """Add the number of lines of a plain text that were left out because they are invalid."""
        if count:
            self._skipped_lines.append((where, count))

    def add_skipped_record(self, error: CorpusError) -> None:
        """Add the error of a line or record that was left out; the first few are named."""
        if len(self._skipped_records) < MAX_NAMED:
            self._skipped_records.append(error.message)
        else:
            self._num_more_skipped += 1

    def add_nulls(self, where: str, count: int) -> None:
        """Add the number of records that were left out because their text is null."""
        if count:
            self._nulls.append((where, count))

    def add_empty(self, where: str, count: int) -> None:
        """Add the number of records whose text is empty: they add nothing to a corpus."""
        if count:
            self._empty.append((where, count))

    def add_newlines(self, where: str, count: int) -> None:
        """Add the number of newlines of a text that became LF."""
        self._newlines.append((where, count))

    def add_composed(self, where: str, before: int, after: int) -> None:
        """Add the number of characters of a text before and after it was composed to NFC."""
        self._composed.append((where, before, after))

    def add_note(self, note: str) -> None:
        """Add a sentence for the user, for example about files that were skipped."""
        self._skipped.append(note)

    def merge(self, other: CleaningReport) -> None:
        """Add everything from another report."""
        lists = (
            "_wide",
            "_plain",
            "_unread_records",
            "_replaced",
            "_skipped_lines",
            "_nulls",
            "_empty",
            "_newlines",
            "_composed",
        )
        for name in (*lists, "_skipped"):
            getattr(self, name).extend(getattr(other, name))
        records = self._skipped_records + other._skipped_records
        self._skipped_records = records[:MAX_NAMED]
        self._num_more_skipped += other._num_more_skipped + len(records[MAX_NAMED:])

    def notes(self) -> tuple[str, ...]:
        """Return the report as sentences."""
        newlines = [(where, (count,)) for where, count in self._newlines]
        composed = [(where, (before, after)) for where, before, after in self._composed]
        replaced, skipped, nulls, empty = (
            [(where, (count,)) for where, count in changes]
            for changes in (self._replaced, self._skipped_lines, self._nulls, self._empty)
        )
        return (
            *_describe([(where, ()) for where, _ in self._wide], _describe_wide),
            *_describe([(where, ()) for where in self._plain], _describe_plain),
            *_describe([(where, ()) for where in self._unread_records], _describe_unread_records),
            *_describe(replaced, _describe_replaced),
            *_describe(skipped, _describe_skipped_lines),
            *(f"skipped: {message}" for message in self._skipped_records),
            *([f"skipped: {self._num_more_skipped:,} more"] if self._num_more_skipped else []),
            *_describe(nulls, _describe_nulls),
            *_describe(empty, _describe_empty),
            *_describe(newlines, _describe_newlines),
            *_describe(composed, _describe_composed),
            *self._skipped,
        )


def _describe_wide() -> str:
    return "read as UTF-16 or UTF-32, as its byte order mark says"


def _describe_plain() -> str:
    return "read as plain text, although its name says that it has fields: --text-field NAME reads the text in one"


def _describe_unread_records() -> str:
    return (
        "read as plain text, although each line has the form of a JSON object: --json-lines reads the text in its "
        "field "
        "'text', or in that of --text-field NAME"
    )


def _describe_replaced(count: int) -> str:
    return f"{format_count(count, 'invalid byte sequence')} became U+FFFD"


def _describe_skipped_lines(count: int) -> str:
    return f"{format_count(count, 'invalid line was', 'invalid lines were')} left out"


def _describe_nulls(count: int) -> str:
    return f"{format_count(count, 'record whose text is null was', 'records whose text is null were')} left out"


def _describe_empty(count: int) -> str:
    return f"{format_count(count, 'record has an empty text', 'records have an empty text')}, which adds nothing"


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
