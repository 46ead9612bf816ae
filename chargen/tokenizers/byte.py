"""Byte tokenizer: one token per UTF-8 byte. Byte b has token id b + 1 (0 is the boundary); no character is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.errors import TokenizerError
from chargen.text.cleaning import check_unicode
from chargen.tokenizers.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart

FIRST_BYTE_ID = 1


class ByteTokenizer(Tokenizer):
    """Encodes a text as the bytes of its UTF-8 form.

    >>> ByteTokenizer().encode("é").tolist()
    [196, 170]
    """

    name = "byte"
    vocab_size = FIRST_BYTE_ID + 256

    @classmethod
    def build(cls, text: TextPart, option: str) -> ByteTokenizer:
        """Return the tokenizer; it is the same for every text.

        Raises:
            TokenizerError: If `option` is not empty.
        """
        if option:
            raise TokenizerError(f"the byte tokenizer takes no option, but {option!r} was given")
        return cls()

    def encode(self, text: str) -> Ids:
        """Return the token ids of the text's UTF-8 bytes, int32 [number of bytes].

        Raises:
            CorpusError: If the text contains a lone surrogate.
        """
        check_unicode(text, "the text")
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32) + FIRST_BYTE_ID

    def token_bytes(self, token_id: int) -> bytes:
        """Return the byte of a token id; b"" for the boundary."""
        return bytes([token_id - FIRST_BYTE_ID]) if token_id else b""

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads: the name alone."""
        return {"name": self.name}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ByteTokenizer:
        """Return the tokenizer; the description has no settings."""
        return cls()
