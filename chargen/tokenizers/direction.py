r"""The direction in which a model reads a text: forward, or backward from its last letter to its first.

A backward model reads every text reversed. So it predicts each letter from the text after it, and what it generates is
the text before a prompt:

    reading order    T h e   e n d .           what a person reads and writes
    model order      . d n e   e h T           what a backward model reads and generates

Letters are reversed, not code points: a combining mark stays after its letter. A letter is a base character with
everything that is joined to it: combining marks (Vietnamese in NFD, Thai, Devanagari), the parts of a Hangul syllable,
the parts of an emoji (skin tones, tags, what follows a zero width joiner), and a whole run of the regional indicators
that make flags. These are almost the extended grapheme clusters of Unicode (UAX #29). They differ where the rules of
Unicode depend on the characters before, because reversing must be its own inverse, for every text:

    reverse(reverse(text)) == text        so p(text) = p_model(reverse(text)) adds up to 1 over all texts

Two parts of a malformed text have no letter to stay with, and keep their place: marks at the start of a text, and zero
width joiners at its end. In a text of documents, each document is reversed in its place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from chargen.errors import ConfigError
from chargen.schema import format_value
from chargen.text.documents import MARK

ZWJ = "\u200d"  #: zero width joiner: also what follows it belongs to the letter
FLAG_LETTERS = "\U0001f1e6-\U0001f1ff"  #: regional indicators; two of them are a flag
#: Characters that belong to the letter before them, besides those of the categories Mn, Mc and Me: the zero width
#: non-joiner, vowel and final consonants of Hangul, Thai and Lao AM, half-width marks, skin tones and emoji tags.
OTHER_MARKS = "[\u200c\u1160-\u11ff\ud7b0-\ud7fb\u0e33\u0eb3\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"

Edges = list[tuple[int, int]]  #: begin and end of parts of a text


class LetterPatterns(NamedTuple):
    """What finds the letters of a text."""

    marks: re.Pattern[str]  #: characters at the start of a text that belong to no letter
    letter: re.Pattern[str]  #: a letter; it does not start with a mark


def reverse(text: str) -> str:
    """Return a text with its letters in the opposite order; of documents, each one in its place.

    >>> reverse("chữ"), reverse("a\\N{COMBINING ACUTE ACCENT}b") == "ba\\N{COMBINING ACUTE ACCENT}"
    ('ữhc', True)
    """
    patterns, documents = _letter_patterns(text), text.split(MARK)
    if patterns is None:
        return MARK.join([document[::-1] for document in documents])
    return MARK.join(["".join([part[b:e] for b, e in _letters_backward(part, patterns)]) for part in documents])


def reverse_pieces(texts: Sequence[str]) -> list[list[int]]:
    """Return the order in which the pieces of a text are the pieces of the reversed text.

    Args:
        texts: The pieces of a text, [N]; characters, or pieces of several characters.

    Returns:
        The indices of the pieces, in groups. A group is one character; or several pieces which together are whole
        letters, because a piece cannot be a part of two letters. The reversed text consists of the reversed groups.
    """
    text, edges = "".join(texts), [0, *accumulate(map(len, texts))]
    patterns = _letter_patterns(text)
    letters = _letters_backward(text, patterns) if patterns else [(i, i + 1) for i in reversed(range(len(text)))]
    if len(edges) == len(text) + 1:
        return [[i] for begin, end in letters for i in range(begin, end)]
    if _has_parts_of_letters(text):
        return [list(range(len(texts)))]
    whole = {0, *(end for _, end in letters)}
    cuts = [i for i, edge in enumerate(edges) if edge in whole]
    return [list(range(begin, end)) for begin, end in zip(cuts[-2::-1], cuts[:0:-1], strict=True)]


def text_before(prompt: str, generated: str) -> str:
    """Return the text before a prompt that a backward model generated, in reading order.

    Marks at the start of `generated` would belong to the first letter of the prompt, and change it; they are left out.

    Args:
        prompt: The prompt in reading order; `check_prompt` accepts it.
        generated: What the model generated, in model order.
    """
    if not prompt:
        return reverse(generated)
    joined = prompt[:1] + generated.rstrip(ZWJ)
    patterns = _letter_patterns(joined)
    first = patterns.letter.match(joined) if patterns else None  # the prompt's first letter with what is joined to it
    return reverse(joined[first.end() if first else 1 :])


def check_prompt(prompt: str) -> None:
    """Check that a prompt consists of whole letters, so that a text can be written before it.

    Raises:
        ConfigError: If it starts with a combining mark, or ends with a zero width joiner.
    """
    if _has_parts_of_letters(prompt):
        raise ConfigError(
            f"the prompt {format_value(prompt)} is not made of whole letters: it starts with a combining mark, or ends "
            "with a joiner",
            "Give the whole letter: a backward model writes the text before the prompt.",
        )


def _has_parts_of_letters(text: str) -> bool:
    """Return whether a text starts with a mark or ends with a joiner."""
    patterns = _letter_patterns(text)
    return patterns is not None and (text.endswith(ZWJ) or patterns.marks.match(text) is not None)


def _letter_patterns(text: str) -> LetterPatterns | None:
    """Return the patterns of the letters of this text; None if each character is one."""
    if text.isascii():
        return None
    characters = set(text)
    marks = "".join(sorted(c for c in characters if unicodedata.category(c)[0] == "M" or re.match(OTHER_MARKS, c)))
    has_flags = any(FLAG_LETTERS[0] <= c <= FLAG_LETTERS[-1] for c in characters)
    return _compile_patterns(marks) if marks or has_flags or ZWJ in characters else None


@lru_cache(maxsize=64)
def _compile_patterns(marks: str) -> LetterPatterns:
    mark = f"[{re.escape(marks)}]|" if marks else ""
    joined = f"(?:{mark}{ZWJ}+[^{ZWJ}])"
    return LetterPatterns(
        re.compile(f"{joined}+"), re.compile(f"[{FLAG_LETTERS}](?:[{FLAG_LETTERS}]|{joined})*|[^{ZWJ}]{joined}*")
    )


def _letters_backward(text: str, patterns: LetterPatterns) -> Edges:
    """Return the edges of the letters of a document, in the order in which the reversed document has them."""
    end = len(text.rstrip(ZWJ))
    marks = patterns.marks.match(text, 0, end)
    begin = marks.end() if marks else 0
    letters = [match.span() for match in patterns.letter.finditer(text, begin, end)]
    return [*([(0, begin)] if begin else []), *reversed(letters), *([(end, len(text))] if end < len(text) else [])]


def first_cut(text: str) -> int:
    """Return a position between two letters that does not depend on the text before; the end if there is none."""
    patterns = _letter_patterns(text)
    if patterns is None:
        return 1
    flag = re.compile(f"[{FLAG_LETTERS}]")
    edges = (match.end() for match in patterns.letter.finditer(text))
    return next((i for i in edges if i < len(text) and text[i - 1] != ZWJ and not flag.match(text[i])), len(text))
