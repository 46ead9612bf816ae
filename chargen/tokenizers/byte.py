"""A UTF-8 byte an id: byte b is id b + 1, and nothing is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chargen.errors import TokenizerError
from chargen.text.cleaning import check_unicode
from chargen.text.long_text import Span
from chargen.tokenizers.tokenizer import Ids, Tokenizer

FIRST_BYTE_ID = 1


class ByteTokenizer(Tokenizer):
    """Text ⇄ the bytes of its UTF-8 form.

    >>> ByteTokenizer().encode("é").tolist()
    [196, 170]
    """

    name = "byte"
    vocab_size = FIRST_BYTE_ID + 256

    @classmethod
    def build(cls, text: Span, option: str) -> ByteTokenizer:
        if option:
            raise TokenizerError(f"the byte tokenizer takes no option, but {option!r} was given")
        return cls()

    def encode(self, text: str) -> Ids:
        check_unicode(text, "the text")
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32) + FIRST_BYTE_ID

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id - FIRST_BYTE_ID]) if token_id else b""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ByteTokenizer:
        return cls()
