"""Properties of the characters of a text that a unit of a network may track: quotes, brackets, lines, words, tones.

A property has a value at each character: what is true after this character has been read. So the opening quote is
inside the quotes, and the closing one is outside, like the state of a network that has read it.

    text                  say "hi (a)"\n
    inside quotes         000011111110 0
    bracket depth         000000001100 0
    position in the line  123456789… 0        a newline starts the next line, at position 0
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_EACH = 10  #: pieces with and without a yes/no property; with fewer, some unit of many tracks it by chance
TAB_WIDTH = 4  # columns of a tab in an indentation
#: Pairs of quotes on one line or in one paragraph. An apostrophe in or before a word ('tis) is none.
QUOTED = re.compile(
    r'"(?:[^"\n]|\n(?!\n))*"|“(?:[^”\n]|\n(?!\n))*”|„(?:[^“”\n]|\n(?!\n))*[“”]|«(?:[^»\n]|\n(?!\n))*»'
    r"|「[^」\n]*」|『[^』\n]*』|‘(?:[^’\n]|(?<=\w)’(?=\w))*’(?!\w)|(?<!\w)'(?=\S)(?:[^'\n]|(?<=\w)'(?=\w))*(?<=\S)'(?!\w)"  # noqa: RUF001
)
BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】"}  # noqa: RUF001 - the wide forms are meant
TONES = {"\u0301": "sắc", "\u0300": "huyền", "\u0309": "hỏi", "\u0303": "ngã", "\u0323": "nặng"}
VIETNAMESE = re.compile("[ơưƠƯ\u1ea0-\u1ef9]|[ou]\u031b")  # letters of hardly any other language

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TextProperty:
    """A property of each character of a text.

    Attributes:
        name: What it is, as it is shown.
        is_binary: Whether its values are only 0 (no) and 1 (yes).
        values: Its value after each character, float64 [N].
    """

    name: str
    is_binary: bool
    values: Values

    @property
    def varies(self) -> bool:
        """Whether its values differ enough to say what tracks it: see `MIN_EACH`."""
        if self.is_binary:
            return bool(min(self.values.sum(), (1.0 - self.values).sum()) >= MIN_EACH)
        return bool(len(self.values) and np.ptp(self.values) > 0)

    def at(self, positions: NDArray[np.intp]) -> TextProperty:
        """Return the property at these characters only."""
        return TextProperty(self.name, self.is_binary, self.values[positions])


def text_properties(text: str) -> list[TextProperty]:
    """Return all properties of a text, also those that do not vary in it.

    The tones of Vietnamese are among them only if the text has letters of Vietnamese.
    """
    properties = [TextProperty(name, is_binary, values(text)) for name, is_binary, values in PROPERTIES]
    return properties + (_tone_properties(text) if VIETNAMESE.search(text) else [])


def inside_quotes(text: str) -> Values:
    """Return 1 from an opening quote to before its closing one, else 0. A quote without its pair counts for nothing."""
    values = np.zeros(len(text))
    for match in QUOTED.finditer(text):
        values[match.start() : match.end() - 1] = 1.0
    return values


def line_positions(text: str) -> Values:
    """Return the number of characters since the last newline."""
    indices = np.arange(len(text))
    newlines = np.array([char == "\n" for char in text], dtype=np.bool_)
    last_newline = np.maximum.accumulate(np.where(newlines, indices, -1)) if len(text) else indices
    return (indices - last_newline).astype(np.float64)


def indentations(text: str) -> Values:
    """Return the columns of white space at the start of the line, as far as it has been read; 0 after a newline."""
    values, width, is_start = np.zeros(len(text)), 0, True
    for index, char in enumerate(text):
        if char == "\n":
            width, is_start = 0, True
        elif is_start and char in " \t":
            width += TAB_WIDTH if char == "\t" else 1
        else:
            is_start = False
        values[index] = width
    return values


def bracket_depths(text: str) -> Values:
    """Return how many brackets are open. A bracket without its pair, as in ":(", counts for nothing."""
    changes = np.zeros(len(text))
    is_open: list[tuple[str, int]] = []  # (the bracket that closes it, the position of the opening one)
    for index, char in enumerate(text):
        if char in BRACKETS:
            is_open.append((BRACKETS[char], index))
        elif any(closing == char for closing, _ in is_open):
            while is_open:
                closing, start = is_open.pop()
                if closing == char:
                    changes[start] += 1.0
                    changes[index] -= 1.0
                    break
    return np.cumsum(changes)


def inside_words(text: str) -> Values:
    """Return 1 at letters, digits, marks, and apostrophes between letters, else 0."""
    return np.array([float(is_inside) for is_inside in _in_word(text)])


def _in_word(text: str) -> Iterator[bool]:
    for index, char in enumerate(text):
        if char in "'’" and 0 < index < len(text) - 1:  # noqa: RUF001
            yield text[index - 1].isalpha() and text[index + 1].isalpha()
        else:
            yield char.isalnum() or unicodedata.category(char)[0] == "M"


def _tone_properties(text: str) -> list[TextProperty]:
    """Return whether the syllable has a tone mark, as far as it has been read: any one, and each of the five."""
    seen = {tone: np.zeros(len(text)) for tone in TONES}
    current = ""
    for index, (char, in_word) in enumerate(zip(text, _in_word(text), strict=True)):
        marks = unicodedata.normalize("NFD", char)
        current = next((mark for mark in marks if mark in TONES), current) if in_word else ""
        if current:
            seen[current][index] = 1.0
    any_tone = np.sum([*seen.values()], axis=0)
    return [
        TextProperty("tone mark on the syllable", True, any_tone),
        *(TextProperty(f"tone {TONES[mark]}", True, values) for mark, values in seen.items()),
    ]


#: The properties of every text: name, whether it is yes or no, and the function of the text.
PROPERTIES: tuple[tuple[str, bool, Callable[[str], Values]], ...] = (
    ("inside quotes", True, inside_quotes),
    ("position in the line", False, line_positions),
    ("indentation", False, indentations),
    ("bracket depth", False, bracket_depths),
    ("inside a word", True, inside_words),
)
