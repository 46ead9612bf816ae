"""Files, folders, standard input, URLs and named sources → one clean text, with a word on what was found.

arguments ─▶ texts (`reading.py`) ─▶ put end to end in one `LongText`, a newline between two where it lacks
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.registry import did_you_mean
from chargen.text import sources
from chargen.text.decode import check_encoding
from chargen.text.documents import NONE, marked
from chargen.text.findings import Findings
from chargen.text.longtext import LongText
from chargen.text.reading import PACKED, Text, is_remote, open_texts, stream_texts
from chargen.text.standing import standing_text

DEFAULTS = DataConfig()


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from."""

    content: LongText
    name: str  #: short, fit for a run's name: "tinyshakespeare"
    arguments: tuple[str, ...] = ()  #: what was read, as it was named
    files: int = 0
    entropy_nats_per_char: float | None = None  #: for made sources, where it is known exactly
    notes: tuple[str, ...] = field(default=())

    @property
    def text(self) -> str:
        """The whole text in memory."""
        return self.content.read()

    @property
    def num_chars(self) -> int:
        return self.content.survey.num_chars

    @property
    def sha256(self) -> str:
        """The hash of the text's UTF-8 bytes."""
        return self.content.survey.sha256


def read_corpus(arguments: Sequence[str], config: DataConfig = DEFAULTS, stdin: BinaryIO | None = None) -> Corpus:
    """Read one or several texts and put them end to end.

    Args:
        arguments: each a file, a folder (read recursively, in sorted order), a URL, "-" for `stdin`, or a corpus's
            name. A file or folder of that name goes before a named corpus.
        config: encoding, newline, normalisation, and the field of a record that is its text.
        stdin: where "-" reads; `sys.stdin.buffer` unless given.

    Returns:
        The corpus. A text that does not end with a newline gets one before the next text begins; with documents, every
        one of them ends with a mark instead.

    Raises:
        CorpusError: an argument cannot be found, read or decoded, or there is no text in any of them.
        StorageError: a long text finds no room on the disk.
    """
    check_encoding(config.encoding)
    if len(arguments) == 1 and (content := standing_text(arguments[0], config)):
        return Corpus(content, _name(arguments), tuple(arguments), files=1)
    reader = _Reader(config, stdin)
    for argument in arguments:
        reader.read(argument)
    if not reader.content.num_bytes:
        raise CorpusError(
            f"no text in {', '.join(arguments) or 'nothing'}", "Give a file with at least two characters."
        )
    entropy = reader.entropies[0] if reader.texts == 1 and reader.entropies else None
    notes = reader.findings.notes()
    return Corpus(reader.content, _name(arguments), tuple(arguments), reader.files, entropy, notes)


class _Reader:
    """Puts what arguments name end to end."""

    def __init__(self, config: DataConfig, stdin: BinaryIO | None) -> None:
        self._parted = config.documents != NONE
        self.content = LongText(self._parted)
        self.findings = Findings()
        self.entropies: list[float | None] = []
        self.texts = self.files = 0
        self._config, self._stdin = config, stdin

    def read(self, argument: str) -> None:
        # os.path says no of what cannot be a file's name, where Path raises.
        if argument == "-":
            stream = self._stdin or sys.stdin.buffer
            self._add(stream_texts(stream, "standard input", self._config, self.findings))
        elif argument and os.path.isdir(argument):
            self._add_folder(Path(argument))
        elif argument and (os.path.exists(argument) or is_remote(argument)):
            with closing(open_texts(argument, self._config, self.findings)) as texts:
                some = self._add(texts)
            if not some:
                raise CorpusError(f"{argument} is empty", "Give a file with at least two characters.")
            self.files += 1
        elif sources.is_source(argument):
            made = sources.read_source(argument)
            self._add([iter([made.text])])
            self.entropies.append(made.entropy_nats_per_char)
        else:
            raise CorpusError(f"no file, folder or corpus named {argument!r}", _hint_for(Path(argument)))

    def _add(self, texts: Iterable[Text]) -> bool:
        """Add texts and say whether there was a character in them."""
        before = self.texts
        for text in texts:
            empty = True
            for piece in marked(text, self._config.documents) if self._parted else text:
                if empty and piece:
                    empty = False
                    self.texts += 1
                    if self.content.num_bytes and not self._parted and not self.content.ends_with_newline():
                        self.content.write("\n")
                self.content.write(piece)
        return self.texts > before

    def _add_folder(self, folder: Path) -> None:
        """Add every text below a folder, in sorted order; hidden files are passed over, others named if left out."""
        left_out: list[str] = []
        before = self.files
        for path in sorted(folder.rglob("*")):
            if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
                continue
            mark, texts = self.content.num_bytes, self.texts
            found = Findings()
            try:
                with closing(open_texts(str(path), self._config, found)) as opened:
                    self.files += self._add(opened)
            except CorpusError:
                left_out.append(str(path.relative_to(folder)))
                self.content.cut(mark)
                self.texts = texts
            else:
                self.findings.add(found)
        if left_out:
            shown = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
            files = "1 file that is" if len(left_out) == 1 else f"{len(left_out):,} files that are"
            self.findings.left_out(f"{folder}: left out {files} not {self._config.encoding} text ({shown})")
        if self.files == before:
            raise CorpusError(
                f"no text in the folder {folder}", "It is read recursively; hidden files are passed over."
            )


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
    stem = first.rstrip("/").rpartition("/")[2] if is_remote(first) else first
    stem = Path(first).resolve().name if os.path.exists(first) else stem
    if PurePath(stem).suffix in PACKED:
        stem = PurePath(stem).stem
    stem = stem.rpartition(".")[0] or stem
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "run"
