"""Parse JSON records, and read the elements of a JSON array one by one: a single element is in memory at a time.

Of a record only its text is used. So a number may have any size, and be NaN or Infinity, which many programs write. But
an object that has a key twice is an error, because one of the two values would be lost.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chargen.errors import CorpusError
from chargen.schema import format_value
from chargen.text.decoding import BOM
from chargen.text.limits import check_record

_SPACE = re.compile(r"[ \t\r\n]*")
_CUT_NUMBER = re.compile(r"[-+.eE0-9]*\Z")  #: what follows a value at the end of a part of the text, as the "." of "1."
HOW_TO_CORRECT = "Give a JSON array, or JSON lines as .jsonl."
NOT_JSON, REPEATED_KEY, HAS_BOM = "is not JSON: ", "has the key ", "it starts with a byte order mark (U+FEFF)"
TOO_DEEP = "it is nested too deeply"
MAX_TOKEN_CHARS = 16  #: no name or escape that can be cut, as in "-Infinity", is longer


class RecordParser:
    """A parser of JSON records; see the top of the file.

    Args:
        parse_int: What makes a number of the digits of a whole number.
    """

    def __init__(self, parse_int: Callable[[str], int | float] = float) -> None:
        self._repeated: list[str] = []  # keys that an object of the current record has twice
        self._decoder = json.JSONDecoder(object_pairs_hook=self._make_object, parse_int=parse_int)

    def parse(self, text: str, position: int = 0) -> tuple[Any, int, str]:
        """Return (the value that starts at a position, where it ends, what is wrong with it).

        What is wrong is a verb phrase for a message, or "". The value can then be left out.

        Raises:
            JSONDecodeError: If there is no JSON value.
            RecursionError: If it is nested too deeply.
        """
        self._repeated.clear()
        value, end = self._decoder.raw_decode(text, position)
        return value, end, f"{REPEATED_KEY}{format_value(self._repeated[0])} twice" if self._repeated else ""

    def parse_line(self, line: str) -> tuple[Any, str]:
        """Return (the value of a line, what is wrong with the line)."""
        if line.startswith(BOM):
            return None, f"{NOT_JSON}{HAS_BOM}"
        try:
            value, end, wrong = self.parse(line, _skip_space(line, 0))
            end = _skip_space(line, end)
            if end < len(line):
                raise json.JSONDecodeError("Extra data", line, end)
        except json.JSONDecodeError as error:
            return None, f"{NOT_JSON}{describe(error)} (column {error.colno:,})"
        except RecursionError:
            return None, f"{NOT_JSON}{TOO_DEEP}"
        return value, wrong

    def _make_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self._repeated.append(next(key for key, count in counts.items() if count > 1))
        return values


def how_to_correct(wrong: str) -> str:
    """Return what the user can do about a record, as a sentence.

    Args:
        wrong: What is wrong with the record, from `RecordParser` or `array_elements`.
    """
    if REPEATED_KEY in wrong:
        return "Remove or rename one of the two."
    if wrong.endswith(HAS_BOM):
        return "Remove it: such a mark can only be at the start of a file."
    return "Remove a level of brackets." if wrong.endswith(TOO_DEEP) else "Each line must be one JSON object."


def describe(error: json.JSONDecodeError) -> str:
    """Return what the parser did not like, without the position, which is that in a part of the text."""
    return error.msg.removesuffix(" at")


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


def array_elements(pieces: Iterator[str], where: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (name, parsed element, what is wrong with it) of a JSON array, with one element in memory at a time.

    Raises:
        CorpusError: If it is not a JSON array.
    """
    first = next(pieces)
    begin = len(first) - len(first.lstrip()) + 1  # after the "["
    num_lines, buffer = first.count("\n", 0, begin), first[begin:]
    parser = RecordParser()
    number, begin = 0, 0  # of the element, and where it or the comma before it starts
    while True:
        name = f"{where}, element {number + 1:,}"
        try:
            position, is_end = _next_element(buffer, begin, number == 0)
            if is_end:
                if buffer[position:].strip() or any(piece.strip() for piece in pieces):
                    raise CorpusError(f"{where} has more text after its JSON array", "Give JSON lines as .jsonl.")
                return
            value, end, wrong = parser.parse(buffer, position)
            if _CUT_NUMBER.match(buffer, end):
                raise json.JSONDecodeError("a comma or ] is missing", buffer, end)
        except (json.JSONDecodeError, RecursionError) as error:
            more = _read_more(pieces, len(buffer) - begin) if _is_incomplete(error, buffer) else ""
            if not more:
                raise _syntax_error(error, name, num_lines, buffer, position) from error
            check_record(len(buffer) - begin, name)
            num_lines += buffer.count("\n", 0, begin)
            buffer, begin = buffer[begin:] + more, 0
            continue
        if wrong:
            wrong = f"(line {num_lines + buffer.count(chr(10), 0, position) + 1:,}) {wrong}"
        number, begin = number + 1, end
        yield name, value, wrong


def _is_incomplete(error: Exception, buffer: str) -> bool:
    """Return whether an element could not be parsed because it goes on after the buffer."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated") or error.pos >= len(buffer.rstrip()) - MAX_TOKEN_CHARS


def _read_more(pieces: Iterator[str], size: int) -> str:
    """Return at least as many characters as there are already, so that the work is linear; "" at the end."""
    more: list[str] = []
    num_chars = 0
    for piece in pieces:
        more.append(piece)
        num_chars += len(piece)
        if num_chars >= size:
            break
    return "".join(more)


def _syntax_error(error: Exception, name: str, num_lines: int, buffer: str, position: int) -> CorpusError:
    """Return the error for an element, with its line in the file."""
    at, wrong = position, f"{NOT_JSON}{TOO_DEEP}"
    if isinstance(error, json.JSONDecodeError):
        at, wrong = error.pos, f"{NOT_JSON}{describe(error)}"
    return CorpusError(f"{name} (line {num_lines + buffer.count(chr(10), 0, at) + 1:,}) {wrong}", HOW_TO_CORRECT)


def _skip_space(text: str, position: int) -> int:
    """Return the position of the next character that is no white space."""
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _next_element(buffer: str, position: int, is_first: bool) -> tuple[int, bool]:
    """Return (where the next element starts, or the array has ended; whether it has ended).

    Raises:
        JSONDecodeError: If the buffer ends before that, or there is no comma.
    """
    position = _skip_space(buffer, position)
    if buffer.startswith("]", position):
        return position + 1, True
    if is_first:
        return position, False
    if not buffer.startswith(",", position):
        raise json.JSONDecodeError("a comma or ] is missing", buffer, position)
    return _skip_space(buffer, position + 1), False
