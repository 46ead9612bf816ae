"""Bytes → clean text: the encoding, the newlines, composed characters, each strictly and with a word on what changed.

A byte that is not in the encoding is an error with its place, never a replacement character.
"""

from __future__ import annotations

import codecs
import gzip
import unicodedata
import zlib

from chargen.config import DataConfig
from chargen.errors import CorpusError

GZIP_MAGIC = b"\x1f\x8b"
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def clean(data: bytes, where: str, config: DataConfig, notes: list[str]) -> str:
    """Decode bytes and bring newlines and composed characters to one form, as `config` says.

    Appends to `notes` what it changed.

    Raises:
        CorpusError: gzip data that is damaged, binary data, or bytes outside the encoding.
    """
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"{where} is a damaged gzip file ({error})", "Fetch or compress it again.") from error
    text = _decode(data, where, config.encoding)
    if text.startswith("\ufeff"):
        text = text[1:]
    formed = normal_form(text, config)
    if config.newline == "lf" and "\r" in text:
        notes.append(f"{where}: {text.count(chr(13)):,} CR or CRLF line ends became LF (--newline keep leaves them)")
    if config.normalize == "nfc" and not unicodedata.is_normalized("NFC", text):
        notes.append(
            f"{where}: composed to NFC, {len(text):,} → {len(formed):,} characters (--normalize none leaves them)"
        )
    return formed


def normal_form(text: str, config: DataConfig) -> str:
    """Return the text with one kind of newline and composed characters, as far as the settings say so."""
    if config.newline == "lf":
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text) if config.normalize == "nfc" else text


def check_encoding(encoding: str) -> None:
    """Check that there is an encoding of this name.

    Raises:
        CorpusError: there is none.
    """
    try:
        codecs.lookup(encoding)
    except (LookupError, ValueError) as error:
        raise _no_encoding(encoding) from error


def _decode(data: bytes, where: str, encoding: str) -> str:
    check_encoding(encoding)
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    binary = not wide and not data.startswith(UTF16_MARKS) and _looks_binary(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if binary:
            raise CorpusError(f"{where} is a binary file, not a text", _BINARY_HINT) from error
        place = error.start + len(data) - len(error.object)  # a decoder may have taken a byte order mark off
        line = data.count(b"\n", 0, place) + 1
        name = "utf-16" if data.startswith(UTF16_MARKS) and not wide else "cp1258 or --encoding latin-1"
        raise CorpusError(
            f"{where} is not {encoding}: byte 0x{data[place]:02X} at offset {place:,} (line {line:,})",
            f"Name its encoding, as in --encoding {name}, or convert it to UTF-8.",
        ) from error
    except LookupError as error:  # a codec, but not one of texts: "hex"
        raise _no_encoding(encoding) from error
    except UnicodeError as error:
        raise CorpusError(f"{where} is not {encoding}: {error}", "Name its encoding with --encoding.") from error
    if binary and "\0" in text:
        raise CorpusError(f"{where} is a binary file, not a text", _BINARY_HINT)
    return text


_BINARY_HINT = "If it is UTF-16, say --encoding utf-16; else extract its text first."


def _no_encoding(encoding: str) -> CorpusError:
    return CorpusError(f"no encoding named {encoding!r}", "Try utf-8, utf-16, cp1258, latin-1 or shift_jis.")


def _looks_binary(data: bytes) -> bool:
    """Tell whether bytes hold what no text in a one-byte or UTF-8 encoding holds: NULs, or many control codes."""
    control = sum(data.count(bytes([code])) for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b")
    return b"\0" in data or control * 10 > len(data) > 0
