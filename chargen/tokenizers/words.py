"""Words in any script: which token ids are inside of words, and which always start one.

A word is a sequence of letters, marks, digits, apostrophes and underscores. In a script without spaces between words,
it reaches from one punctuation mark to the next.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from chargen.config.model import NO_WORD, WORD, WORD_START
from chargen.tokenizers.tokenizer import Tokenizer

WORD_CATEGORIES = "LMN"  #: first letters of the Unicode categories of letters, marks and digits
OTHER_WORD_CHARS = "_'\N{RIGHT SINGLE QUOTATION MARK}"


def is_word_char(char: str) -> bool:
    """Return whether a character is a part of a word.

    >>> [is_word_char(char) for char in "aệ字_' ."]
    [True, True, True, True, True, False, False]
    """
    return unicodedata.category(char)[0] in WORD_CATEGORIES or char in OTHER_WORD_CHARS


def word_kinds(tokenizer: Tokenizer) -> NDArray[np.uint8]:
    """Return the kind of each token id, uint8 [V]: `NO_WORD`, `WORD`, or `WORD_START` for a piece such as " the"."""
    kinds = np.full(tokenizer.vocab_size, NO_WORD, dtype=np.uint8)
    special = set(tokenizer.special_ids())
    for token_id in range(tokenizer.vocab_size):
        if token_id not in special:
            kinds[token_id] = _find_kind(tokenizer.token_bytes(token_id))
    return kinds


def _find_kind(token: bytes) -> int:
    """Return the kind of a token: of its last character, and a start if another one precedes its last word."""
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:  # a part of a character
        return WORD
    if not text or not is_word_char(text[-1]):
        return NO_WORD
    return WORD if all(map(is_word_char, text)) else WORD_START
