"""Split a text into documents: lines, paragraphs, files, or what is between separators.

In a clean text of documents, each document is followed by MARK. It replaces the separator, and becomes the boundary
token. No document is empty. MARK is a lone surrogate, which is not a character: no encoding produces one, and text that
contains one is refused. In UTF-8 it is written with `surrogatepass`, as three bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from chargen.errors import CorpusError
from chargen.registry import most_similar
from chargen.schema import format_value

UTF8_ERRORS = "surrogatepass"  #: encodes MARK, a lone surrogate, as three bytes
MARK = "\ud800"
OLD_MARK = "\ufdd0"  #: the mark of earlier versions; some stored hashes contain it, although texts may contain it, too
NONE, LINE, BLANK, FILE = "none", "line", "blank", "file"
KINDS = (NONE, LINE, BLANK, FILE)  #: what else is given is a separator
#: Our kinds, and words that other people have for them.
KIND_WORDS = {
    LINE: "newline newlines row rows sentence sentences \\n",
    BLANK: "paragraph paragraphs stanza stanzas empty \\n\\n",
    FILE: "folder document documents",
}


class SeparatorSearch:
    """Finds out whether a separator occurs in texts that pass by.

    Args:
        kind: The document setting; only a separator is searched for.
    """

    def __init__(self, kind: str) -> None:
        self._separator = "" if kind in KINDS else kind
        self.has_found = not self._separator  #: whether the separator occurs, or nothing is searched for

    def watch(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the pieces of a text, unchanged."""
        tail = ""  # of the text so far: a separator may be split
        for piece in pieces:
            if not self.has_found:
                self.has_found = self._separator in tail + piece
                tail = (tail + piece)[1 - len(self._separator) :] if len(self._separator) > 1 else ""
            yield piece


def separator_error(kind: str) -> CorpusError:
    """Return the error that a separator does not occur, with the kind that was probably meant."""
    words = {word: each for each, others in KIND_WORDS.items() for word in others.split()}
    meant = words.get(kind.strip().casefold()) or most_similar(kind.strip(), KINDS)
    hint = f"Did you mean {meant!r}? " if meant else ""
    message = f"the separator {format_value(kind)} does not occur in the text"
    return CorpusError(message, f"{hint}Kinds: {', '.join(KINDS)}, or a separator string.")


def separator(kind: str) -> str:
    """Return the text that is written between two documents."""
    return {NONE: "", LINE: "\n", BLANK: "\n\n", FILE: "\n\n"}.get(kind, f"\n{kind}\n")


def split_documents(pieces: Iterable[str], kind: str) -> Iterator[str]:
    """Yield a text with a MARK after each of its documents, and without the separators.

    Args:
        pieces: Pieces of the clean text, split anywhere.
        kind: "line", "blank" (blank lines separate documents), "file" (the text is one document), or a separator.

    Raises:
        CorpusError: If the text contains a lone surrogate.
    """
    is_inside_document = False
    for piece in _replace_separators(_check_marks(pieces), kind):
        text = re.sub(f"{MARK}+", MARK, piece)
        text = text if is_inside_document else text.removeprefix(MARK)
        if text:
            is_inside_document = not text.endswith(MARK)
            yield text
    if is_inside_document:
        yield MARK


def _check_marks(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        if MARK in piece:
            raise CorpusError("the text has a lone surrogate (U+D800), which is no character", "Convert it to UTF-8.")
        yield piece


def _replace_separators(pieces: Iterable[str], kind: str) -> Iterator[str]:
    """Yield the text with a MARK for each separator; consecutive separators give consecutive MARKs."""
    if kind == FILE:
        yield from pieces
        return
    pattern, whitespace = _separator_pattern(kind)
    pending = ""  # the end of the text so far, which may be the start of a separator
    for piece in pieces:
        text, done = pending + piece, 0
        end = len(text.rstrip(whitespace))  # found once, not by a copy of the rest for each match: a piece may be long
        for match in pattern.finditer(text):
            if match.end() >= end:
                break  # the separator may continue in the next piece
            yield text[done : match.start()] + MARK
            done = match.end()
        cut = max(done, end if whitespace else len(text) - len(kind) - 2)
        yield text[done:cut]
        pending = text[cut:]
    yield pattern.sub(MARK, pending.rstrip(whitespace) if whitespace else pending)


def _separator_pattern(kind: str) -> tuple[re.Pattern[str], str]:
    """Return the pattern of a separator, and the white space that it can begin with."""
    if kind == LINE:
        return re.compile(r"\n+"), "\n"
    if kind == BLANK:
        return re.compile(r"[ \t]*\n(?:[ \t]*\n)+"), " \t\n"
    return re.compile(rf"\n?{re.escape(kind)}\n?"), ""
