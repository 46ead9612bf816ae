"""Character tokenizer: one token per character. The vocabulary is the characters of the training text, by code
point.

Id 0 is the boundary, id 1 is the unknown character, and the characters of the text have the token ids from 2 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import TokenizerError
from chargen.schema import format_count
from chargen.text.decoding import code_points
from chargen.text.documents import MARK
from chargen.tokenizers.tokenizer import BOUNDARY_ID, UNICODE_CHARACTERS, Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart

UNKNOWN_ID = 1
FIRST_CHAR_ID = 2
MAX_CHARACTERS = 30_000  #: a text with more distinct characters than any script has is mis-decoded, or is not text


class CharTokenizer(Tokenizer):
    """Encodes a text as one token id per code point.

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
        # Python sorts: the first call of numpy.unique imports numpy.ma, which takes 7 ms.
        codes = _without_surrogates(code_points("".join(sorted(set(characters)))).astype(np.int64))
        if not len(codes):
            raise TokenizerError("a vocabulary needs at least one character")
        self._characters = codes.astype("<u4").tobytes().decode("utf-32-le")
        self.vocab_size = FIRST_CHAR_ID + len(codes)
        # Maps a code point to its id. The last entry is for every code point above the largest known one.
        self._ids = np.full(int(codes[-1]) + 2, UNKNOWN_ID, dtype=np.int32)
        self._ids[codes] = np.arange(FIRST_CHAR_ID, self.vocab_size)
        # Maps a token id to its code point; the unknown id is written as U+FFFD.
        self._codes = np.concatenate([[0, 0xFFFD], codes]).astype("<u4")

    @classmethod
    def build(cls, text: TextPart, option: str) -> CharTokenizer:
        """Return a tokenizer with a token id for each distinct character of the text.

        Raises:
            TokenizerError: If `option` is not empty, or the text has no character or more than MAX_CHARACTERS
                distinct ones.
        """
        if option:
            raise TokenizerError(f"the char tokenizer takes no option, but {option!r} was given")
        codes = np.flatnonzero(text.counts())
        if FIRST_CHAR_ID + len(codes) > MAX_CHARACTERS:
            raise TokenizerError(
                f"the text has {len(codes):,} distinct characters",
                "Such a text is mostly mis-decoded: check --encoding. If it is right: --tokenizer byte or sp:8000.",
            )
        return cls(codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"))

    def extend_vocabulary(self, text: TextPart) -> CharTokenizer:
        """Return a tokenizer that also has the characters of `text`; this one if it has them all."""
        codes = _without_surrogates(np.flatnonzero(text.counts()))
        new = codes[~np.isin(codes, self._codes)].astype("<u4").tobytes().decode("utf-32-le")
        return CharTokenizer(self._characters + new) if new else self

    def encode(self, text: str) -> Ids:
        """Return the token ids of the characters, int32 [number of characters]; UNKNOWN_ID for an unknown character."""
        codes = code_points(text)
        if len(codes) and codes.max() >= len(self._ids):
            codes = np.minimum(codes, len(self._ids) - 1)
        return np.take(self._ids, codes)

    def ascii_table(self) -> bytes | None:
        """Return the token ids of the ASCII characters as bytes, padded to 256; None if one needs more than a byte."""
        if self.vocab_size > 256:
            return None
        return bytes(self.encode("".join(map(chr, range(128)))).tolist()) + bytes(128)

    def encode_documents(self, text: str) -> Ids:
        """Return the token ids of a text of documents; each MARK becomes the boundary."""
        ids = self.encode(text)
        ids[code_points(text) == ord(MARK)] = BOUNDARY_ID
        return ids

    def decode(self, ids: Any) -> str:
        """Return the text of token ids; U+FFFD for the unknown id."""
        ids = np.asarray(ids, dtype=np.int64)
        text: bytes = self._codes[ids[ids > 0]].tobytes()
        return text.decode("utf-32-le")

    def decode_rows(self, ids: NDArray[Any]) -> list[str]:
        """Return the text of each row of token ids, [B, T]."""
        if not ids.all():  # the boundary has no character, so the rows differ in length
            return super().decode_rows(ids)
        text = np.take(self._codes, ids).tobytes().decode("utf-32-le")
        T = ids.shape[1]
        return [text[start : start + T] for start in range(0, len(text), T)] if T else [""] * len(ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 of the character of a token id; b"" for the boundary."""
        return chr(int(self._codes[token_id])).encode() if token_id else b""

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads: the name and the characters, in code point order."""
        return {"name": self.name, "characters": self._characters}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CharTokenizer:
        """Return the tokenizer that `to_json` described.

        Raises:
            TokenizerError: If the characters are missing, unsorted, repeated or surrogates.
        """
        characters = values.get("characters")
        if not isinstance(characters, str):
            raise TokenizerError("the description of the char tokenizer has no characters")
        if len(characters) > UNICODE_CHARACTERS:
            raise TokenizerError(
                f"the description of the char tokenizer has {format_count(len(characters), 'character')}"
            )
        tokenizer = cls(characters)
        if tokenizer._characters != characters:  # `to_json` writes them sorted and without surrogates
            raise TokenizerError("the characters of the char tokenizer are not a sorted set of Unicode characters")
        return tokenizer


def _without_surrogates(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the code points that are characters; a lone surrogate is not one."""
    return codes[(codes < 0xD800) | (codes > 0xDFFF)]
