"""A stream of texts in chunks that fit memory.

A text that comes again has the score it had, to the last digit, though it is read among others: of that ties are made.
It holds for the first REMEMBERED short texts of a stream, and for all within a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chargen.errors import ChargenError
from chargen.scoring.scorer import Score

CHUNK_TEXTS = 8192  #: so many that texts of like length are found among them
CHUNK_CHARS = 1 << 21  #: or so many characters together
REMEMBERED, SHORT = 1 << 16, 200  #: texts, characters


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


def score_chunks(texts: Iterable[str], score: Callable[[list[str]], list[Score]]) -> Iterator[Score]:
    """Yield the scores of texts in their order.

    Args:
        texts: any number of them.
        score: scores a list of texts that are all different.
    """
    seen: dict[str, Score] = {}
    for chunk in chunked(texts):
        new = [text for text in dict.fromkeys(chunk) if text not in seen]
        found = dict(zip(new, score(new), strict=True))
        yield from (seen[text] if text in seen else found[text] for text in chunk)
        room = REMEMBERED - len(seen)
        seen.update([(text, it) for text, it in found.items() if len(text) <= SHORT][:room])
