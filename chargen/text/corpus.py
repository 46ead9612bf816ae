"""Files, folders, standard input and named sources → one clean text, with a word on what was found.

What the clean-up of a text changed (`decode.py`) is counted and reported in `Corpus.notes`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.registry import did_you_mean
from chargen.text import sources
from chargen.text.decode import check_encoding, clean

DEFAULTS = DataConfig()


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from."""

    text: str
    name: str  #: short, fit for a run's name: "tinyshakespeare"
    arguments: tuple[str, ...] = ()  #: what was read, as it was named
    files: int = 0
    entropy_nats_per_char: float | None = None  #: for made sources, where it is known exactly
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def sha256(self) -> str:
        """The hash of the text's UTF-8 bytes; a lone surrogate (which no clean file holds) counts as its three."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def read_corpus(arguments: Sequence[str], config: DataConfig = DEFAULTS, stdin: BinaryIO | None = None) -> Corpus:
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
    check_encoding(config.encoding)
    for argument in arguments:
        # os.path says no of what cannot be a file's name, where Path raises.
        path = Path(argument)
        if argument == "-":
            texts.append(clean((stdin or sys.stdin.buffer).read(), "standard input", config, notes))
        elif argument and os.path.isdir(argument):
            found = _read_folder(path, config, notes)
            files += len(found)
            texts.extend(found)
        elif argument and os.path.exists(argument):
            texts.append(_read_file(path, config, notes))
            files += 1
        elif sources.is_source(argument):
            made = sources.read_source(argument)
            texts.append(made.text)
            entropies.append(made.entropy_nats_per_char)
        else:
            raise CorpusError(f"no file, folder or corpus named {argument!r}", _hint_for(path))
    texts = [text for text in texts if text]
    text = "".join(t if t.endswith("\n") else t + "\n" for t in texts[:-1]) + "".join(texts[-1:])
    if not text:
        raise CorpusError(
            f"no text in {', '.join(arguments) or 'nothing'}", "Give a file with at least two characters."
        )
    entropy = entropies[0] if len(texts) == 1 and entropies else None
    return Corpus(text, _name(arguments), tuple(arguments), files, entropy, tuple(notes))


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
    beside = sorted(path.parent.iterdir()) if os.path.isdir(path.parent) else []
    paths = {p.name: str(p) for p in beside} | {name: name for name in sources.names()}
    near = did_you_mean(path.name, paths)
    for name, whole in paths.items():
        near = near.replace(repr(name), repr(whole))
    return f"{near} (`chargen corpora` lists the corpora that have a name)".strip()


def _name(arguments: Sequence[str]) -> str:
    """A run's name for these arguments: the first one's stem, of letters, digits, '-' and '_'."""
    first = arguments[0] if arguments else "run"
    if first == "-":
        return "stdin"
    stem = Path(first).resolve().name if os.path.exists(first) else first
    stem = stem.removesuffix(".gz")
    stem = stem.rpartition(".")[0] or stem
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "run"
