"""A stream of texts in chunks that fit memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chargen.errors import ChargenError

CHUNK_TEXTS = 8192  #: so many that texts of like length are found among them
CHUNK_CHARS = 1 << 21  #: or so many characters together


def chunked(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists of up to CHUNK_TEXTS texts, or somewhat above CHUNK_CHARS characters.

    >>> [len(chunk) for chunk in chunked(["ab"] * 10_000)]
    [8192, 1808]
    """
    chunk: list[str] = []
    chars = 0
    try:
        for text in texts:
            chunk.append(text)
            chars += len(text)
            if len(chunk) == CHUNK_TEXTS or chars >= CHUNK_CHARS:
                yield chunk
                chunk, chars = [], 0
    except ChargenError:  # a bad line; those before it are none the worse
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
