"""Decode blocks of bytes to pieces of text, and say which encoding invalid bytes are probably in.

A piece is decoded for each block, so that nothing of a slow input is held back but an incomplete character. What is
invalid is never dropped in silence. Two functions decode:

    decode         an error that names the byte, its offset and its line
    decode_marked  each invalid byte sequence becomes one lone surrogate, U+DC00 + its first byte, which no text has;
                   the caller then refuses, replaces or skips the lines and records that contain one

A text that starts with a byte order mark of UTF-16 or UTF-32 is read in that encoding where UTF-8 was expected, because
no UTF-8 starts with these bytes; a note says so. Every other encoding is only suggested (`likely_encoding`).
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import AnyStr, Protocol

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.text.documents import UTF8_ERRORS

BOM = "\ufeff"
# The marks of UTF-32 come first: that of UTF-32-LE starts with that of UTF-16-LE.
WIDE_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Codecs that never produce a lone surrogate. The output of all other codecs is checked.
CODECS_WITHOUT_SURROGATES = ("utf-8", "utf-8-sig", "iso8859-1", "cp1252", "cp1258", "ascii") + tuple(
    f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")
)
NOT_OF_TEXTS = ("idna", "punycode", "undefined")  #: encodings of domain names, and one that decodes nothing
HOW_TO_NAME = "Try utf-8, utf-16, cp1258, latin-1 or shift_jis."
HOW_TO_ACCEPT = "Or convert it to UTF-8, or use --errors replace or skip."
LONE_SURROGATE = "[\ud800-\udfff]"  #: a pattern; like the others, it is compiled when it is first used
MARK_ERRORS = "chargen.mark"  #: name of the error handler that `decode_marked` registers
# What a file of a format that is no text starts with, and what to do. Most other formats are recognised by their NULs.
BINARY_FORMATS = {
    rb"PAR1[\0-\x08\x0e-\x1a\x1c-\x1f]": "It is a Parquet table: give it as a file whose name ends in .parquet.",
    rb"%PDF-\d\.\d": "It is a PDF document: extract its text first, for example with pdftotext.",
    rb"RIFF(?s:....)WAVE": "It is a recording (WAV). A model of series reads it: chargen train FILE.wav --tokenizer "
    "mulaw:256.",
    rb"PK\x03\x04": "It is a ZIP archive or an office document: extract its text first.",
}
CONTROL_CODES = bytes(code for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b")  #: codes that no text contains
#: From this number and share of them on, bytes that are no valid text are a binary file. Compressed data has 10 %.
MIN_CONTROL_CODES, MIN_CONTROL_SHARE = 8, 0.05


class BinaryFileError(CorpusError):
    """A file is not a text in any encoding."""


class EncodingNotes(Protocol):
    """Receives what was found out about the encoding of a text."""

    def add_wide(self, where: str, encoding: str) -> None:
        """Add a text that was read in the encoding that its byte order mark states."""

    def add_invalid(self, block: bytes) -> None:
        """Add a block with bytes that are invalid in the given encoding."""


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
        raise CorpusError(f"no encoding named {encoding!r}", HOW_TO_NAME) from error


def is_wide(encoding: str) -> bool:
    """Return whether every character of an encoding has two bytes or more: NUL bytes are then usual."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def decode(
    blocks: Iterable[bytes], where: str, encoding: str, notes: EncodingNotes, otherwise: str = HOW_TO_ACCEPT
) -> Iterator[str]:  # fmt: skip
    """Yield the pieces of a text; see the top of the file.

    Args:
        blocks: The bytes of the text, split anywhere.
        where: Name of the text, for error messages.
        encoding: The encoding of the text.
        notes: Receives the encoding that a byte order mark states.
        otherwise: What the user can do about invalid bytes apart from naming another encoding, for the hint.

    Raises:
        CorpusError: If the data is binary, or a byte is invalid in the encoding.
    """
    offset = lines = 0  # bytes and newlines before the block
    for block, is_last, name, decoder in _with_decoder(blocks, where, encoding, "strict", notes):
        is_binary = not is_wide(name) and _is_binary(block)
        if not offset and binary_format(block):
            raise _binary_error(where, block)
        try:
            text = decoder.decode(block, is_last)
        except UnicodeDecodeError as error:
            if is_binary:
                raise _binary_error(where, block) from error
            # The decoder may have kept bytes of earlier blocks, or have removed a byte order mark.
            begin = error.start + len(block) - len(error.object)
            line = lines + block.count(b"\n", 0, max(0, begin)) + 1
            raise CorpusError(
                f"{where} is not {encoding}: byte 0x{error.object[error.start]:02X} "
                f"at offset {offset + begin:,} (line {line:,})",
                f"{encoding_hint(likely_encoding(block))} {otherwise}",
            ) from error
        except UnicodeError as error:
            raise CorpusError(f"{where} is not {encoding}: {error}", "Name its encoding with --encoding.") from error
        if (is_binary and "\0" in text) or (is_wide(name) and _is_mostly_nul(text)):
            raise _binary_error(where, block, likely_encoding(block))
        if name not in CODECS_WITHOUT_SURROGATES and not text.isascii():
            _check_surrogates(text, f"{where} is not {encoding}", lines)
        offset += len(block)
        lines += block.count(b"\n")
        yield text


def decode_marked(
    blocks: Iterable[bytes], where: str, encoding: str, notes: EncodingNotes, has_nuls: bool = False,
    is_strict: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Yield the pieces of a text in which invalid bytes are marked by lone surrogates; see the top of the file.

    Args:
        blocks, where, encoding: As for `decode`.
        notes: Receives the encoding that a byte order mark states, and the first block that has invalid bytes.
        has_nuls: Whether NUL bytes are usual in the text.
        is_strict: Whether the caller refuses invalid bytes. Such bytes with a NUL in the first block are then reported
            as a binary file; if the caller accepts them, there must also be many control codes. A NUL alone is an
            ordinary character.

    Raises:
        CorpusError: If the encoding cannot be used, the text is probably UTF-16 without a byte order mark, or the data
            is binary.
    """
    codecs.register_error(MARK_ERRORS, _mark)
    is_first = is_valid = True
    for block, is_last, name, decoder in _with_decoder(blocks, where, encoding, MARK_ERRORS, notes):
        if is_first and binary_format(block):
            raise _binary_error(where, block)
        if is_first and not has_nuls and not is_wide(name) and (wide := _likely_wide(block)):
            raise _binary_error(where, block, wide)
        try:
            text = decoder.decode(block, is_last)
        except UnicodeError as error:  # some codecs cannot go on after an error
            raise CorpusError(f"{where} is not {encoding}: {error}", "Name its encoding with --encoding.") from error
        if is_valid and not text.isascii() and re.search(LONE_SURROGATE, text):
            is_valid = False
            notes.add_invalid(block)
        # In most encodings with one byte per character, all bytes are valid.
        is_doubtful = is_first and not (is_valid and name == "utf-8") and not has_nuls and not is_wide(name)
        if is_doubtful and b"\0" in block and ((is_strict and not is_valid) or _has_control_codes(block)):
            raise _binary_error(where, block)
        is_first = False
        yield text


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Replace an invalid byte sequence by one lone surrogate."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(0xDC00 + error.object[error.start]), error.end


def _with_decoder(
    blocks: Iterable[bytes], where: str, encoding: str, errors: str, notes: EncodingNotes
) -> Iterator[tuple[bytes, bool, str, codecs.IncrementalDecoder]]:
    """Yield (block, False, name of the codec, decoder) for each block, then the same for b"" with True."""
    check_encoding(encoding)
    name = codecs.lookup(encoding).name
    if name in NOT_OF_TEXTS:
        raise CorpusError(f"{where} cannot be read: {encoding!r} is not an encoding of texts", HOW_TO_NAME)
    decoder: codecs.IncrementalDecoder | None = None
    for block, is_last in _with_end(with_mark_first(blocks, tuple(WIDE_BOMS))):
        if decoder is None:
            wide = next((wide for bom, wide in WIDE_BOMS.items() if block.startswith(bom)), None)
            if wide and name in ("utf-8", "utf-8-sig"):
                name = wide
                notes.add_wide(where, wide)
            default_to_le = name in ("utf-16", "utf-32") and not wide
            decoder = codecs.getincrementaldecoder(f"{name}-le" if default_to_le else name)(errors)
        yield block, is_last, name, decoder


def with_mark_first(pieces: Iterable[AnyStr], marks: tuple[AnyStr, ...]) -> Iterator[AnyStr]:
    """Yield the same data, with a first piece that is long enough to tell whether it starts with one of the marks."""
    iterator = iter(pieces)
    first: AnyStr | None = None
    for piece in iterator:
        first = piece if first is None else first + piece
        if first and not any(len(first) < len(mark) and mark.startswith(first) for mark in marks):
            break
    if first:
        yield first
    yield from iterator


def remove_bom(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the same text without a byte order mark at its start."""
    is_first = True
    for piece in pieces:
        yield piece.removeprefix(BOM) if is_first else piece
        is_first = is_first and not piece


def _with_end(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield (block, False) for each block, then (b"", True)."""
    for block in blocks:
        yield block, False
    yield b"", True


def _is_binary(data: bytes) -> bool:
    """Return whether bytes contain what no text in UTF-8 or a one-byte encoding does: a NUL, or many control codes."""
    return b"\0" in data or _count_control_codes(data) * 10 > len(data) > 0


def _has_control_codes(data: bytes) -> bool:
    """Return whether there are more control codes than in a text with a few damaged places."""
    return _count_control_codes(data) >= max(MIN_CONTROL_CODES, MIN_CONTROL_SHARE * len(data))


def _count_control_codes(data: bytes) -> int:
    return len(data) - len(data.translate(None, CONTROL_CODES))


def _is_mostly_nul(text: str) -> bool:
    """Return whether over 10 % of the characters are NUL, as in a device without an end or a disk image."""
    return text.count("\0") * 10 > len(text)


def binary_format(block: bytes) -> str:
    """Return what to do with a file in one of BINARY_FORMATS, by its first bytes; "" for any other file."""
    return next((hint for magic, hint in BINARY_FORMATS.items() if re.match(magic, block)), "")


def _binary_error(where: str, block: bytes, likely: str = "") -> CorpusError:
    if likely.startswith("utf-16"):
        return CorpusError(f"{where} is probably UTF-16 without a byte order mark", f"Use --encoding {likely}.")
    hint = binary_format(block) or "If it is UTF-16, use --encoding utf-16; otherwise extract its text first."
    return BinaryFileError(f"{where} is a binary file, not a text", hint)


def _check_surrogates(text: str, what: str, lines: int) -> None:
    """Refuse lone surrogates, which some codecs produce (UTF-7, escapes). They are not characters."""
    if found := re.search(LONE_SURROGATE, text):
        line = lines + text.count("\n", 0, found.start()) + 1
        raise CorpusError(
            f"{what}: it gives a lone surrogate, U+{ord(found[0]):04X} (line {line:,}), which is no character",
            "Convert it to UTF-8.",
        )


# ── which encoding is likely ──────────────────────────────────────────────────────────────────────────────────────────


def likely_encoding(data: bytes) -> str:
    """Return the encoding that bytes which are not UTF-8 are probably in; "" if none of the usual ones fits.

    An encoding fits if it decodes all of the bytes, and what is not ASCII in the result is what its languages use. This
    is a suggestion for a person: nothing is decoded with it unless it is named.

    Args:
        data: A part of the text, which may end within a character.
    """
    if wide := next((wide for bom, wide in WIDE_BOMS.items() if data.startswith(bom)), "") or _likely_wide(data):
        return wide
    for encoding, fits in _CANDIDATES.items():
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(data)
        except UnicodeError:
            continue
        if fits(text):
            return encoding
    return ""


def encoding_hint(encoding: str) -> str:
    """Return the sentence that suggests an encoding; "" stands for none in particular."""
    if encoding:
        return f"It is probably {encoding}: check with --encoding {encoding}."
    return "Name its encoding, as in --encoding cp1252."


def _likely_wide(data: bytes) -> str:
    """Return "utf-16-le" or "utf-16-be" if most of every second byte is NUL, as in English text; else ""."""
    pairs = len(data) // 2
    if pairs < 4 or b"\0" not in data:
        return ""
    low, high = data[0 : 2 * pairs : 2].count(0), data[1 : 2 * pairs : 2].count(0)
    if high * 2 > pairs and not low:
        return "utf-16-le"
    return "utf-16-be" if low * 2 > pairs and not high else ""


def _share(text: str, is_one: Callable[[str], bool]) -> float:
    """Return the share of the characters beyond ASCII for which a function returns True."""
    others = [char for char in text if char > "\x7f"]
    return sum(map(is_one, others)) / len(others) if others else 0.0


def _is_mostly_not_ascii(text: str) -> bool:
    """Return whether more than half of the letters are beyond ASCII, as in scripts other than Latin."""
    letters = [char for char in text if char.isalpha()]
    return sum(char > "\x7f" for char in letters) * 2 > len(letters)


def _is_japanese(text: str) -> bool:
    return _is_mostly_not_ascii(text) and _share(text, lambda char: "\u3040" <= char <= "\u30ff") > 0.2


def _is_korean(text: str) -> bool:
    return _is_mostly_not_ascii(text) and _share(text, lambda char: "\uac00" <= char <= "\ud7a3") > 0.8


def _is_chinese(text: str) -> bool:
    return _is_mostly_not_ascii(text) and _share(text, lambda char: "\u3000" <= char <= "\u9fff") > 0.7


def _is_cyrillic(text: str) -> bool:
    """Return whether a text is mostly in lower-case Cyrillic letters: KOI8-R read as cp1251 is in capitals."""
    return _is_mostly_not_ascii(text) and _share(text, lambda char: "а" <= char <= "ё") > 0.6


def _is_vietnamese(text: str) -> bool:
    """Return whether a text has tone marks that all follow vowels, and letters that only Vietnamese has."""
    marks = [at for at, char in enumerate(text) if unicodedata.combining(char)]
    num_after_vowels = sum(text[at - 1].lower() in "aăâeêioôơuưy" for at in marks if at)
    return len(marks) == num_after_vowels > 0 and bool(set(text) & set("ĂăĐđƠơƯư"))


def _is_western(text: str) -> bool:
    """Return whether what is not ASCII are accented letters of Western Europe and typographic signs."""
    return not _is_mostly_not_ascii(text) and _share(text, lambda char: char in _WESTERN) > 0.9


_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüŒœŸÿ¿¡«»‘’‚“”„–—…•€£§©®°´·\xa0ºª½¼²³±×µ™")
_CANDIDATES: dict[str, Callable[[str], bool]] = {
    "shift_jis": _is_japanese,
    "euc_jp": _is_japanese,
    "euc_kr": _is_korean,
    "gb18030": _is_chinese,
    "big5": _is_chinese,
    "cp1251": _is_cyrillic,
    "koi8-r": _is_cyrillic,
    "cp1258": _is_vietnamese,
    "cp1252": _is_western,
}


def code_points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Return the code points of a text, [N]: uint8 for ASCII, else uint32. A lone surrogate is a code point, too."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", UTF8_ERRORS), dtype="<u4")
