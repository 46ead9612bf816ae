"""How a text becomes the input of an encoder: token ids for the recurrent layers, and a bag of n-grams.

    text ─▶ tokenizer ─▶ the first max_length ids, between two boundaries ─▶ [T, B]
         └▶ n-grams of its characters                (ngram_bag.py)       ─▶ rows and amounts

The tokenizer is one of `chargen/tokenizers/` ("char", "byte", "sp:SIZE") or "words:N" (`words.py`). Its vocabulary is
made of the training texts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import MAX_SEQ_LEN
from chargen.errors import ConfigError
from chargen.networks.ngram_bag import find_ngrams
from chargen.schema import Integer, Record
from chargen.tasks.classification.words import WordTokenizer, read_num_words
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Tokenizer, build_tokenizer, tokenizer_from_json

if TYPE_CHECKING:
    from chargen.networks.encoder import Encoder, EncoderBatch

MAX_LENGTH = Integer(1, MAX_SEQ_LEN)  #: range of `max_length`
SPEC = Record({"tokenizer": Record(), "max_length": MAX_LENGTH})
Ids = NDArray[np.int32]
EDGE = np.array([BOUNDARY_ID], dtype=np.int32)
CHARS_OF_TOKEN = 32  #: before a text is encoded, it is cut to this number of characters for each token that is read


@dataclass(frozen=True)
class TextInput:
    """Encodes texts."""

    tokenizer: Tokenizer | WordTokenizer = field(repr=False)
    max_length: int  #: tokens of a text that the recurrent layers read

    @classmethod
    def build(cls, tokenizer: str, texts: Sequence[str], max_length: int) -> TextInput:
        """Return the input for training texts.

        Args:
            tokenizer: "char", "byte", "sp:SIZE", "sp:FILE.model", "words" or "words:N".
            texts: The training texts.
            max_length: Tokens of a text that the recurrent layers read.

        Raises:
            ConfigError: If there is no such tokenizer.
            TokenizerError: If no vocabulary can be made of the texts.
        """
        MAX_LENGTH.check(max_length, "max_length")
        name, _, option = tokenizer.partition(":")
        if name == WordTokenizer.name:
            return cls(WordTokenizer.build(texts, read_num_words(option)), max_length)
        whole = LongText.from_string("\n".join(texts) + "\n").span()
        return cls(build_tokenizer(tokenizer, whole), max_length)

    def encode(self, text: str) -> Ids:
        """Return the token ids of a text between two boundaries, int32 [2 to max_length + 2]."""
        ids = self.tokenizer.encode(text[: CHARS_OF_TOKEN * self.max_length])
        return np.concatenate([EDGE, ids[: self.max_length], EDGE])

    def batch(self, ids: Sequence[Ids], texts: Sequence[str], encoder: Encoder) -> EncoderBatch:
        """Return texts as the input of an encoder, on its device.

        Args:
            ids: The result of `encode` for each text.
            texts: The texts, B of them.
            encoder: The encoder, which says which n-grams it reads.
        """
        import torch

        from chargen.networks.encoder import EncoderBatch

        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        padded = np.zeros((len(ids), int(lengths.max())), dtype=np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(ids)
        rows, amounts, starts = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(len(ids), np.int64)
        if encoder.config.ngrams:
            idf = encoder.ngrams__idf.cpu().numpy()
            rows, amounts, starts = find_ngrams(texts, encoder.config.ngrams, encoder.config.ngram_rows, idf)
        arrays = (np.ascontiguousarray(padded.T), lengths, rows, amounts, starts)
        return EncoderBatch(*map(torch.from_numpy, arrays)).to(encoder.device)

    def to_json(self) -> dict[str, Any]:
        """Return the description that `from_json` reads."""
        return {"tokenizer": self.tokenizer.to_json(), "max_length": self.max_length}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TextInput:
        """Return the input that `to_json` described.

        Raises:
            ConfigError: If a value is missing or out of range, or there is no such tokenizer.
            TokenizerError: If the description of the tokenizer is damaged.
        """
        SPEC.check(values, "input")
        described = values["tokenizer"]
        read = WordTokenizer.from_json if described.get("name") == WordTokenizer.name else tokenizer_from_json
        tokenizer = read(described)
        if not isinstance(tokenizer, Tokenizer | WordTokenizer):
            raise ConfigError("the input has no tokenizer")
        return cls(tokenizer, values["max_length"])
