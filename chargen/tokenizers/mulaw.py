"""μ-law tokenizer: one token per value of a series of numbers, such as a recording.

The reader has turned each value into a level, and each level into one of 256 Braille patterns
(`text/series/quantizer.py`). Id 0 is the boundary, id 1 is an unknown character, and level k has token id k + 2. Unlike
an alphabet, the vocabulary does not depend on the text. The tokenizer keeps the quantizer, so that a model knows the
range and the sampling rate of what it generates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.config import MULAW
from chargen.errors import TokenizerError
from chargen.text.decoding import code_points
from chargen.text.series.quantizer import FIRST_CHARACTER, Quantizer, parse_levels
from chargen.tokenizers.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart

UNKNOWN_ID = 1
FIRST_LEVEL_ID = 2


class MuLawTokenizer(Tokenizer):
    """Encodes a series that was quantized by a quantizer.

    >>> tokenizer = MuLawTokenizer(Quantizer(levels=4))
    >>> tokenizer.encode(tokenizer.quantizer.encode([-1.0, 0.1, 1.0])).tolist()
    [2, 4, 5]
    """

    name = MULAW
    is_char_level = True
    unknown_id = UNKNOWN_ID
    quantizer: Quantizer

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer = quantizer
        self.vocab_size = FIRST_LEVEL_ID + quantizer.levels
        # Maps a token id to its code point; the unknown id is written as U+FFFD.
        self._codes = np.array([0, 0xFFFD, *range(FIRST_CHARACTER, FIRST_CHARACTER + quantizer.levels)], dtype="<u4")

    @classmethod
    def build(cls, text: TextPart, option: str) -> MuLawTokenizer:
        """Return a tokenizer of values from −1 to 1 without a sampling rate.

        `data/dataset.py` makes the tokenizer of a corpus that was read as a series, with its quantizer.

        Args:
            text: A text of levels.
            option: The number of levels, 256 by default.

        Raises:
            TokenizerError: If `option` is no number of levels, or the text has another character.
        """
        quantizer = Quantizer(parse_levels(option))
        codes = np.flatnonzero(text.counts())
        others = codes[(codes < FIRST_CHARACTER) | (codes >= FIRST_CHARACTER + quantizer.levels)]
        if len(others):
            raise TokenizerError(
                f"the tokenizer {MULAW} needs a series, but the corpus is a text with {chr(others[0])!r}",
                "Give a WAV file or a file of numbers, or another --tokenizer.",
            )
        return cls(quantizer)

    def encode(self, text: str) -> Ids:
        """Return the token ids of a text of levels, int32 [number of values]; UNKNOWN_ID for another character."""
        levels = code_points(text).astype(np.int64) - FIRST_CHARACTER
        is_level = (levels >= 0) & (levels < self.quantizer.levels)
        return np.where(is_level, levels + FIRST_LEVEL_ID, UNKNOWN_ID).astype(np.int32)

    def decode(self, ids: Any) -> str:
        """Return the text of token ids; U+FFFD for the unknown id."""
        ids = np.asarray(ids, dtype=np.int64)
        text: bytes = self._codes[ids[ids > 0]].tobytes()
        return text.decode("utf-32-le")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 of the character of a token id; b"" for the boundary."""
        return chr(int(self._codes[token_id])).encode() if token_id else b""

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads: the name and the quantizer."""
        return {"name": self.name, "quantizer": self.quantizer.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MuLawTokenizer:
        """Return the tokenizer that `to_json` described.

        Raises:
            TokenizerError: If the description has no quantizer.
            ConfigError: If a value of the quantizer is missing or out of range.
        """
        if not isinstance(values.get("quantizer"), Mapping):
            raise TokenizerError(f"the description of the tokenizer {MULAW} has no quantizer")
        return cls(Quantizer.from_json(values["quantizer"]))
