"""A long text in the direction of a backward model: in pieces, without all of it in memory."""

from __future__ import annotations

from collections.abc import Iterator

from chargen.text.documents import MARK
from chargen.text.long_text import LongText, Span, TextPart
from chargen.tokenizers.direction import first_cut, reverse

BLOCK_CHARS = 1 << 20  #: characters of a long text that are reversed at a time


class ReversedPart(TextPart):
    """A part of a text as a backward model reads it: reversed, or with each of its documents reversed.

    Args:
        part: The part in reading order.
    """

    def __init__(self, part: TextPart) -> None:
        self._part, self.text = part, part.text

    @property
    def num_chars(self) -> int:
        """Number of characters of the part."""
        return self._part.num_chars

    @property
    def key(self) -> str:
        """A string that, together with the hash of the text, identifies the part."""
        return reversed_key(self._part.key)

    def pieces(self) -> Iterator[str]:
        """Yield the reversed part in pieces. A document is in memory as a whole."""
        return self._documents() if self.text.has_documents else self._blocks_from_the_end()

    def _documents(self) -> Iterator[str]:
        pending: list[str] = []  # the start of a document
        for piece in self._part.pieces():
            whole, mark, rest = piece.rpartition(MARK)
            if mark:
                yield reverse("".join([*pending, whole, mark]))
                pending = []
            pending.append(rest)
        yield reverse("".join(pending))

    def _blocks_from_the_end(self) -> Iterator[str]:
        end, rest = self.num_chars, ""
        while end > 0:
            begin = max(0, end - BLOCK_CHARS)
            block = self._part.read(begin, end) + rest
            cut = first_cut(block) if begin else 0
            yield reverse(block[cut:])
            rest, end = block[:cut], begin

    def utf8_pieces(self) -> Iterator[bytes]:
        """Yield the reversed part in pieces, as UTF-8."""
        return (piece.encode("utf-8", "surrogatepass") for piece in self.pieces())

    def read(self, begin: int = 0, end: int | None = None) -> str:
        """Return a part of the reversed part; positions count from its start. The whole part is in memory meanwhile."""
        return "".join(self.pieces())[begin:end]

    def excerpt(self, num_chars: int) -> str:
        """Return the same excerpt as of the part in reading order, reversed."""
        return reverse(self._part.excerpt(num_chars))


def reversed_key(key: str) -> str:
    """Return `TextPart.key` of a part that is reversed."""
    return f"reversed {key}"


def reverse_span(span: Span) -> Span:
    """Return a copy of a part of a text with its letters, or those of each of its documents, reversed."""
    copy = LongText(span.text.has_documents)
    for piece in ReversedPart(span).pieces():
        copy.write(piece)
    return copy.span()
