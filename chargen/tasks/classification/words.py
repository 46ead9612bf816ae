"""Words as tokens: lower case, no punctuation, the most frequent N words of the training texts; all others are <unk>.

    "Don't PANIC! 你好 👍"  ─▶  dont panic 你 好 👍  ─▶  ids

    id 0  <pad>: before and after each text            id 1  <unk>: a word that is not in the vocabulary
    id 2  the most frequent word of the training texts, and so on

Text without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) would be one word for each sentence. So
each letter and each vowel sign of these scripts is a word. Emoji and other symbols are words of their own, too.

This is no tokenizer of `chargen/tokenizers/`, because it is not lossless: no text can be generated from its ids.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import TokenizerError
from chargen.schema import format_value

PAD_ID, UNKNOWN_ID = 0, 1
FIRST_WORD_ID = 2
DEFAULT_WORDS = 20_000
MAX_WORDS = 1_000_000
MAX_WORD_CHARS = 100  #: a longer word is cut
REMOVED = "'\u2019\u02bc\uff07\u200c\u200d"  #: apostrophes, so that "don't" is one word, and signs that join letters
#: how the Unicode names of letters begin that are written without spaces between words
NO_SPACES = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


class WordTokenizer:
    """The vocabulary of the most frequent words.

    Args:
        words: The words of the vocabulary, the most frequent first.
    """

    name = "words"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.vocab_size = FIRST_WORD_ID + len(self.words)
        self._ids = {word: FIRST_WORD_ID + i for i, word in enumerate(self.words)}

    @classmethod
    def build(cls, texts: Iterable[str], max_words: int) -> WordTokenizer:
        """Return the tokenizer of the most frequent words of texts; of words that are equally frequent, the first.

        Args:
            texts: The training texts.
            max_words: Number N of words.

        Raises:
            TokenizerError: If there is no word.
        """
        counts = Counter(word for text in texts for word in split_words(text))
        if not counts:
            raise TokenizerError(
                "the training texts have no words, only punctuation or white space", "Use --tokenizer char."
            )
        return cls([word for word, _ in counts.most_common(max_words)])

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the ids of the words of a text, int32 [N].

        >>> WordTokenizer(["the", "film"]).encode("The film, THE best!").tolist()
        [2, 3, 2, 1]
        """
        return np.array([self._ids.get(word, UNKNOWN_ID) for word in split_words(text)], dtype=np.int32)

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads: the name and the words."""
        return {"name": self.name, "words": list(self.words)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WordTokenizer:
        """Return the tokenizer that `to_json` described.

        Raises:
            TokenizerError: If the words are missing, or are not different words in the form of `split_words`.
        """
        words = values.get("words")
        if not isinstance(words, list) or not 0 < len(words) <= MAX_WORDS:
            raise TokenizerError("the description of the tokenizer has no words, or too many")
        for word in words:
            if not isinstance(word, str) or split_words(word[: MAX_WORD_CHARS + 1]) != [word]:
                raise TokenizerError(f"{format_value(word)} in the vocabulary is not a word in lower case")
        if len(set(words)) < len(words):
            raise TokenizerError("a word is in the vocabulary twice")
        return cls(words)


def split_words(text: str) -> list[str]:
    """Return the words of a text.

    >>> split_words("Don't PANIC! 你好 👍")
    ['dont', 'panic', '你', '好', '👍']
    """
    return [word[:MAX_WORD_CHARS] for word in text.lower().translate(_SIMPLE).split()]


class _SimpleCharacters(dict[int, str]):
    """What each code point becomes before a text is split at spaces; filled when a character is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = _simplify(chr(code))
        return self[code]


def _simplify(char: str) -> str:
    """Return a character that is part of a word, a space for any other, or a word that is this character."""
    category, name = unicodedata.category(char), unicodedata.name(char, "")
    if char in REMOVED or name.startswith("VARIATION SELECTOR"):
        return ""
    if category[0] in "LMN":
        return f" {char} " if name.startswith(NO_SPACES) else char
    return f" {char} " if category in ("So", "Sk") else " "


_SIMPLE = _SimpleCharacters()


def read_num_words(option: str) -> int:
    """Return the number N of "words:N"; DEFAULT_WORDS for an empty option.

    Raises:
        TokenizerError: If it is no number from 1 to MAX_WORDS.
    """
    if not option:
        return DEFAULT_WORDS
    is_number = option.isascii() and option.isdecimal() and len(option) <= 9
    if not (is_number and 1 <= int(option) <= MAX_WORDS):
        raise TokenizerError(
            f"words:{option[:20]} has no number of words from 1 to {MAX_WORDS:,}",
            "For example: --tokenizer words:20000.",
        )
    return int(option)
