"""Read the elements of a JSON array one by one: a single element is in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from chargen.errors import CorpusError
from chargen.text.limits import check_record

_SPACE = re.compile(r"[ \t\r\n]*")


def with_start(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the same text, with a first piece that has more than white space."""
    start = ""
    iterator = iter(pieces)
    for piece in iterator:
        start += piece
        if start.strip():
            break
    yield start
    yield from iterator


def array_elements(pieces: Iterator[str], where: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, parsed element) of a JSON array, with one element in memory at a time.

    Raises:
        CorpusError: If it is not a JSON array.
    """
    buffer = next(pieces).lstrip()[1:]
    decoder = json.JSONDecoder()
    number, position, is_first = 0, 0, True
    while True:
        try:
            position, is_end = _next_element(buffer, position, is_first)
            if is_end:
                if buffer[position:].strip() or any(piece.strip() for piece in pieces):
                    raise CorpusError(f"{where} has more text after its JSON array", "Give JSON lines as .jsonl.")
                return
            value, position = decoder.raw_decode(buffer, position)
        except (ValueError, RecursionError) as error:
            if isinstance(error, CorpusError):
                raise
            more, size = [], 0
            for piece in pieces:  # at least as much as there is, so that the work is linear
                more.append(piece)
                size += len(piece)
                if size >= len(buffer) - position:
                    break
            name = f"{where}, element {number + 1:,}"
            if not more or isinstance(error, RecursionError):
                raise CorpusError(
                    f"{name} is not JSON: {error}", "Give a JSON array, or JSON lines as .jsonl."
                ) from error
            buffer, position = buffer[position:] + "".join(more), 0
            check_record(len(buffer) - size, name)
            continue
        number, is_first = number + 1, False
        yield f"{where}, element {number:,}", value


def _next_element(buffer: str, position: int, is_first: bool) -> tuple[int, bool]:
    """Return (where the next element starts, or the array has ended; whether it has ended).

    Raises:
        ValueError: If the buffer ends before that, or there is no comma.
    """
    position = _SPACE.match(buffer, position).end()  # type: ignore[union-attr]
    if buffer.startswith("]", position):
        return position + 1, True
    if is_first:
        return position, False
    if not buffer.startswith(",", position):
        raise json.JSONDecodeError("a comma or ] is missing", buffer, position)
    return _SPACE.match(buffer, position + 1).end(), False  # type: ignore[union-attr]
