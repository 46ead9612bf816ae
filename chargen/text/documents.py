"""Documents: what a text is made of where it is not one stream: lines, paragraphs, files, or what a separator parts.

In a clean text of documents each is followed by MARK, which stands in place of whatever parted them and becomes the
boundary id. No document is empty. MARK is a lone surrogate, which is no character: no encoding gives one, and text that
comes in with one is refused. In UTF-8 it is written with `surrogatepass`, as three bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from chargen.errors import CorpusError

MARK = "\ud800"
OLD_MARK = "\ufdd0"  #: the mark of earlier versions: a noncharacter, which a text may contain; some hashes are of it
NONE, LINE, BLANK, FILE = "none", "line", "blank", "file"


def separator(kind: str) -> str:
    """Return what is put between two documents where they are written one after another."""
    return {NONE: "", LINE: "\n", BLANK: "\n\n", FILE: "\n\n"}.get(kind, f"\n{kind}\n")


def split_documents(pieces: Iterable[str], kind: str) -> Iterator[str]:
    """Yield a text with a MARK after each of its documents.

    Args:
        pieces: of the clean text, cut anywhere.
        kind: "line", "blank" (lines in between), "file" (the text is one), or the separator itself.

    Raises:
        CorpusError: the text has a MARK already.
    """
    inside = False  # a document
    for piece in _parted(_without_marks(pieces), kind):
        text = re.sub(f"{MARK}+", MARK, piece)
        text = text if inside else text.removeprefix(MARK)
        if text:
            inside = not text.endswith(MARK)
            yield text
    if inside:
        yield MARK


def _without_marks(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        if MARK in piece:
            raise CorpusError("the text has a lone surrogate (U+D800), which is no character", "Convert it to UTF-8.")
        yield piece


def _parted(pieces: Iterable[str], kind: str) -> Iterator[str]:
    """Yield the text with MARKs in place of separators; where two follow each other there are two."""
    if kind == FILE:
        yield from pieces
        return
    pattern, white = _pattern(kind)
    held = ""
    for piece in pieces:
        text, done = held + piece, 0
        for found in pattern.finditer(text):
            if found.end() == len(text):
                break  # what comes may belong to it
            yield text[done : found.start()] + MARK
            done = found.end()
        tail = len(text.rstrip(white)) if white else len(text) - len(kind) - 2
        cut = max(done, tail)
        yield text[done:cut]
        held = text[cut:]
    yield pattern.sub(MARK, held.rstrip(white) if white else held)


def _pattern(kind: str) -> tuple[re.Pattern[str], str]:
    """Return what parts two documents, and the white space that may be the beginning of it."""
    if kind == LINE:
        return re.compile(r"\n+"), "\n"
    if kind == BLANK:
        return re.compile(r"[ \t]*\n(?:[ \t]*\n)+"), " \t\n"
    return re.compile(rf"\n?{re.escape(kind)}\n?"), ""
