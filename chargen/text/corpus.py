"""Files, folders, standard input and named sources → one clean text, with a word on what was found.

Bytes are decoded strictly: a byte that is not in the encoding is an error with its place, never a replacement
character. What a clean-up changed is counted and reported in `Corpus.notes`.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.registry import did_you_mean
from chargen.text import sources

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from."""

    text: str
    name: str  #: short, fit for a run's name: "tinyshakespeare"
    arguments: tuple[str, ...] = ()  #: what was read, as it was named
    files: int = 0
    entropy_nats_per_char: float | None = None  #: for made sources, where it is known exactly
    notes: tuple[str, ...] = field(default=())

    @property
    def sha256(self) -> str:
        """The hash of the text's UTF-8 bytes; a lone surrogate (which no clean file holds) counts as its three."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def read_corpus(arguments: Sequence[str], config: DataConfig, stdin: BinaryIO | None = None) -> Corpus:
    """Read one or several texts and put them end to end.

    Args:
        arguments: each a file, a folder (read recursively, in sorted order), "-" for `stdin`, or a corpus's name.
            A file or folder of that name goes before a named corpus.
        config: encoding, newline and normalisation.
        stdin: where "-" reads; `sys.stdin.buffer` unless given.

    Returns:
        The corpus. A text that does not end with a newline gets one before the next text begins.

    Raises:
        CorpusError: an argument cannot be found, read or decoded, or there is no text in any of them.
    """
    texts: list[str] = []
    notes: list[str] = []
    entropies: list[float | None] = []
    files = 0
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            texts.append(clean((stdin or sys.stdin.buffer).read(), "standard input", config, notes))
        elif path.is_dir():
            found = _read_folder(path, config, notes)
            files += len(found)
            texts.extend(found)
        elif path.exists():
            texts.append(_read_file(path, config, notes))
            files += 1
        elif sources.is_source(argument):
            made = sources.read_source(argument)
            texts.append(made.text)
            entropies.append(made.entropy_nats_per_char)
        else:
            raise CorpusError(f"no file, folder or corpus named {argument!r}", _hint_for(path))
    text = "".join(t if t.endswith("\n") or t is texts[-1] else t + "\n" for t in texts if t)
    if not text:
        raise CorpusError(
            f"no text in {', '.join(arguments) or 'nothing'}", "Give a file with at least two characters."
        )
    entropy = entropies[0] if len(texts) == 1 and entropies else None
    return Corpus(text, _name(arguments), tuple(arguments), files, entropy, tuple(notes))


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


def _decode(data: bytes, where: str, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise CorpusError(
            f"no encoding named {encoding!r}", "Try utf-8, utf-16, cp1258, latin-1 or shift_jis."
        ) from error
    except UnicodeDecodeError as error:
        if _looks_binary(data):
            raise CorpusError(f"{where} is a binary file, not a text", "Extract its text first.") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{where} is not {encoding}: byte 0x{data[error.start]:02X} at offset {error.start:,} (line {line:,})",
            "Name its encoding, as in --encoding cp1258 or --encoding latin-1, or convert it to UTF-8.",
        ) from error
    if _looks_binary(data[: 1 << 16]) and "\0" in text:
        raise CorpusError(f"{where} is a binary file, not a text", "If it is UTF-16, say --encoding utf-16.")
    return text


def _looks_binary(data: bytes) -> bool:
    """Tell whether bytes hold what no text in a one-byte or UTF-8 encoding holds: NULs, or many control codes."""
    control = sum(data.count(bytes([code])) for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b")
    return b"\0" in data or control * 10 > len(data) > 0


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_file(path: Path, config: DataConfig, notes: list[str]) -> str:
    text = clean(_read_bytes(path), str(path), config, notes)
    if not text:
        raise CorpusError(f"{path} is empty", "Give a file with at least two characters.")
    return text


def _read_folder(folder: Path, config: DataConfig, notes: list[str]) -> list[str]:
    """Read every text below a folder, in sorted order; hidden files are passed over, others named if left out."""
    texts: list[str] = []
    left_out: list[str] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            text = clean(_read_bytes(path), str(path), config, notes)
        except ChargenError:
            left_out.append(str(path.relative_to(folder)))
            continue
        if text:
            texts.append(text)
    if left_out:
        shown = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        notes.append(f"{folder}: left out {len(left_out):,} files that are not {config.encoding} text ({shown})")
    if not texts:
        raise CorpusError(f"no text in the folder {folder}", "It is read recursively; hidden files are passed over.")
    return texts


def _hint_for(path: Path) -> str:
    beside = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(str(path), [*beside, *sources.names()])
    return f"{near} (`chargen corpora` lists the corpora that have a name)".strip()


def _name(arguments: Sequence[str]) -> str:
    """A run's name for these arguments: the first one's stem, of letters, digits, '-' and '_'."""
    first = arguments[0] if arguments else "run"
    if first == "-":
        return "stdin"
    stem = Path(first).resolve().name if Path(first).exists() else first
    stem = stem.removesuffix(".gz").rpartition(".")[0] or stem
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "run"
