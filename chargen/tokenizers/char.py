"""A character an id: the vocabulary is every character of the training text, in code point order.

Id 0 is the boundary and id 1 the unknown character; the text's own begin at 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chargen.errors import TokenizerError
from chargen.text.documents import MARK
from chargen.text.long_text import Span, code_points
from chargen.tokenizers.tokenizer import BOUNDARY_ID, UNICODE_CHARACTERS, Ids, Tokenizer

FIRST_CHAR_ID = 2
UNKNOWN_ID = 1
MAX_CHARACTERS = 30_000  #: more distinct ones than any script has: the text is mis-decoded or not text


class CharTokenizer(Tokenizer):
    """Text ⇄ ids, one for each code point.

    >>> tokenizer = CharTokenizer("abc")
    >>> tokenizer.encode("cab!").tolist()
    [4, 2, 3, 1]
    >>> tokenizer.decode([4, 2, 3])
    'cab'
    """

    name = "char"
    is_char_level = True
    unknown_id = UNKNOWN_ID

    def __init__(self, characters: str) -> None:
        codes = np.unique(code_points(characters).astype(np.int64))
        codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]  # a lone surrogate is no character
        if not len(codes):
            raise TokenizerError("a vocabulary needs at least one character")
        self._characters = codes.astype("<u4").tobytes().decode("utf-32-le")
        self.vocab_size = FIRST_CHAR_ID + len(codes)
        # A table from code point to id; the last row stands for every code point above the largest known one.
        self._ids = np.full(int(codes[-1]) + 2, UNKNOWN_ID, dtype=np.int32)
        self._ids[codes] = np.arange(FIRST_CHAR_ID, self.vocab_size)
        self._codes = np.concatenate([[0, 0xFFFD], codes]).astype("<u4")

    @classmethod
    def build(cls, text: Span, option: str) -> CharTokenizer:
        if option:
            raise TokenizerError(f"the char tokenizer takes no option, but {option!r} was given")
        codes = np.flatnonzero(text.counts())
        if FIRST_CHAR_ID + len(codes) > MAX_CHARACTERS:
            raise TokenizerError(
                f"the text has {len(codes):,} distinct characters",
                "Such a text is mostly mis-decoded: look at --encoding. If it is right: --tokenizer byte or sp:8000.",
            )
        return cls(codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"))

    def extend_vocabulary(self, text: Span) -> CharTokenizer:
        codes = np.flatnonzero(text.counts())
        codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]
        new = codes[~np.isin(codes, self._codes)].astype("<u4").tobytes().decode("utf-32-le")
        return CharTokenizer(self._characters + new) if new else self

    def encode(self, text: str) -> Ids:
        codes = code_points(text)
        if len(codes) and codes.max() >= len(self._ids):
            codes = np.minimum(codes, len(self._ids) - 1)
        return np.take(self._ids, codes)

    def ascii_table(self) -> bytes | None:
        return (
            bytes(self.encode("".join(map(chr, range(128)))).tolist()) + bytes(128) if self.vocab_size <= 256 else None
        )

    def encode_documents(self, text: str) -> Ids:
        ids = self.encode(text)
        ids[code_points(text) == ord(MARK)] = BOUNDARY_ID
        return ids

    def decode(self, ids: Any) -> str:
        ids = np.asarray(ids, dtype=np.int64)
        text: bytes = self._codes[ids[ids > 0]].tobytes()
        return text.decode("utf-32-le")

    def token_bytes(self, token_id: int) -> bytes:
        return chr(int(self._codes[token_id])).encode() if token_id else b""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "characters": self._characters}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CharTokenizer:
        characters = values.get("characters")
        if not isinstance(characters, str):
            raise TokenizerError("the description of the char tokenizer has no characters")
        if len(characters) > UNICODE_CHARACTERS:
            raise TokenizerError(f"the description of the char tokenizer has {len(characters):,} characters")
        made = cls(characters)
        if made._characters != characters:  # as `to_json` wrote them they are sorted, and none is a surrogate
            raise TokenizerError("the characters of the char tokenizer are not a sorted set of Unicode characters")
        return made
