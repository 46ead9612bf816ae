"""The contract of every tokenizer, and the decoder that streams.

Ids are whole numbers below `vocab_size`. Id 0 is the boundary: it stands before and after a document and has no text.
A tokenizer whose `unknown_id` is None can hold any text; one that has an `unknown_id` (1) reads a character that it
does not know as that id, and says how many there were: never as another character. It never writes one.

The law: `decode(encode(x)) == x` for any x without unknown characters, whole or streamed id by id.

Which ids may come next so that a text stays valid UTF-8: a few states, a mask for each, made once.

    state   what must follow                                  state   what must follow
    0       a character, a piece of text, or the end          4       after E0: A0–BF, then state 1
    1       one more byte of a character, 80–BF               5       after ED: 80–9F, then state 1
    2       two more                                          6       after F0: 90–BF, then state 2
    3       three more                                        7       after F4: 80–8F, then state 2

These are the byte sequences of the Unicode Standard, table 3-7: no overlong forms, no surrogates, nothing above
U+10FFFF. An id that writes nothing (an unknown piece, a control piece) is never drawn, and the boundary only in a model
of documents, where no character is torn.
"""

from __future__ import annotations

import codecs
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import TokenizerError
from chargen.registry import Registry
from chargen.text.documents import MARK, NONE
from chargen.text.long_text import LongText, Span

BOUNDARY_ID = 0
UNICODE_CHARACTERS = 0x110000 - 0x800  #: code points that can stand in a text (surrogates cannot)

Ids = NDArray[np.int32]


class Tokenizer(ABC):
    """Text ⇄ ids."""

    name: str
    vocab_size: int
    unknown_id: int | None = None
    is_char_level = False  #: whether a text has as many ids as characters, whatever it says
    uses_frequencies = False  #: whether how often the text says something shapes the vocabulary, not only what it says

    @classmethod
    @abstractmethod
    def build(cls, text: Span, option: str) -> Tokenizer:
        """Make a tokenizer for a text. `option` is what follows the colon in `--tokenizer sp:1000`.

        Raises:
            TokenizerError: the option is not one that this tokenizer takes, or the text gives no vocabulary.
        """

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Return the ids of a text, shape [N]."""

    def encode_documents(self, text: str) -> Ids:
        """Return the ids of a text of documents: the boundary for each MARK."""
        parts = [self.encode(document) for document in text.split(MARK)]
        ends = [np.array([BOUNDARY_ID], dtype=np.int32)] * len(parts)
        return np.concatenate([ids for pair in zip(parts, ends, strict=True) for ids in pair])[:-1]

    def ascii_table(self) -> bytes | None:
        """Return what `bytes.translate` makes ids of ASCII text with, where an id is one character and fits a byte."""
        return None

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return what an id writes, as UTF-8; b"" for the boundary. A character may be split over several ids."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return all that `from_json` needs, as values that `json` can write."""

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tokenizer:
        """Make the tokenizer that `to_json` described.

        Raises:
            TokenizerError: the values are damaged.
        """

    def extend_vocabulary(self, text: Span) -> Tokenizer:
        """Return this tokenizer with an id for everything that a text holds; itself where it has that already."""
        return self

    def decode(self, ids: Any) -> str:
        """Return the text of a sequence of ids; U+FFFD for the unknown id and for a torn UTF-8 sequence."""
        return b"".join(self.token_bytes(int(i)) for i in ids).decode("utf-8", "replace")

    def is_unknown(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which ids stand for an unknown character, shape [N]."""
        return np.zeros(len(ids), dtype=np.bool_) if self.unknown_id is None else np.asarray(ids == self.unknown_id)

    def unk_log_prob_nats(self, ids: Ids) -> NDArray[np.float64]:
        """Return log p(the character | its id), [N]: 0, but for an unknown one.

        The unknown id's mass is shared out evenly over all characters that the vocabulary lacks. So p stays a
        distribution over every character of Unicode, and an unknown one costs what it should.
        """
        return np.where(self.is_unknown(ids), -math.log(UNICODE_CHARACTERS - (self.vocab_size - 2)), 0.0)

    def masked_ids(self, documents: bool) -> list[int]:
        """Return the ids that can never come in a text: a model gives them the probability 0.

        They are the ids that write nothing. The boundary is one of them, except in a model of documents. The unknown id
        is not: in scoring it stands for the characters that the vocabulary lacks.

        Args:
            documents: whether the model is one of documents, which the boundary ends.
        """
        return [] if documents else [BOUNDARY_ID]

    def special_ids(self) -> list[int]:
        """Return the ids that no running text holds: the boundary and the unknown id."""
        return [BOUNDARY_ID] if self.unknown_id is None else [BOUNDARY_ID, self.unknown_id]


class StreamingDecoder:
    """Turns ids into text as they come, holding back bytes until their character is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def fork(self) -> StreamingDecoder:
        """Return a second one that stands where this one does."""
        other = StreamingDecoder(self._tokenizer)
        other._utf8.setstate(self._utf8.getstate())
        return other

    def feed(self, token_id: int) -> str:
        """Return the text that this id completes; "" while a character is still torn."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what was held back: "" or one U+FFFD for a character that never became whole."""
        return self._utf8.decode(b"", final=True)


TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    {
        "char": "chargen.tokenizers.char:CharTokenizer",
        "byte": "chargen.tokenizers.byte:ByteTokenizer",
        "sp": "chargen.tokenizers.sentencepiece:SentencePieceTokenizer",
    },
)


def build_tokenizer(spec: str, text: str | Span) -> Tokenizer:
    """Make the tokenizer that `spec` names ("char", "byte", "sp:1000", "sp:FILE.model") for a text.

    Raises:
        ConfigError: no tokenizer has this name.
        TokenizerError: it cannot be made for this text.
    """
    name, _, option = spec.partition(":")
    return TOKENIZERS.get(name).build(LongText.from_string(text).span() if isinstance(text, str) else text, option)


def uses_frequencies(spec: str) -> bool:
    """Tell whether the tokenizer that `spec` names must not be built on text that a model is measured on.

    Raises:
        ConfigError: no tokenizer has this name.
    """
    return TOKENIZERS.get(spec.partition(":")[0]).uses_frequencies


def tokenizer_from_json(values: Mapping[str, Any]) -> Tokenizer:
    """Make the tokenizer that a model file carries.

    Raises:
        TokenizerError: the description is damaged.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise TokenizerError("the description of the tokenizer has no name")
    return TOKENIZERS.get(values["name"]).from_json(values)


def encoder(tokenizer: Tokenizer, documents: str) -> Callable[[str], Ids]:
    """Return how a tokenizer encodes a clean text: with the boundary for each MARK, if it is one of documents."""
    return tokenizer.encode if documents == NONE else tokenizer.encode_documents


def start_ids(tokenizer: Tokenizer, documents: str = NONE) -> Ids:
    """Return what a text begins after.

    That is the boundary in a model of documents, and a newline in one of a running stream; the boundary there too where
    no newline is known.
    """
    ids = tokenizer.encode("\n")
    bounded = documents != NONE or tokenizer.is_unknown(ids).any()
    return np.array([BOUNDARY_ID], dtype=np.int32) if bounded else ids


COMPLETE = 0  #: the state in which no character is torn
DEAD = -1  #: no state: the bytes are not valid UTF-8
NUM_STATES = 8
MAX_SILENT_IDS = 8  #: ids in a row that complete no character; of valid UTF-8 there are at most three

# (first byte, last byte, state before, state after)
RANGES = (
    (0x00, 0x7F, 0, 0), (0xC2, 0xDF, 0, 1), (0xE0, 0xE0, 0, 4), (0xE1, 0xEC, 0, 2), (0xED, 0xED, 0, 5),
    (0xEE, 0xEF, 0, 2), (0xF0, 0xF0, 0, 6), (0xF1, 0xF3, 0, 3), (0xF4, 0xF4, 0, 7),
    (0x80, 0xBF, 1, 0), (0x80, 0xBF, 2, 1), (0x80, 0xBF, 3, 2),
    (0xA0, 0xBF, 4, 1), (0x80, 0x9F, 5, 1), (0x90, 0xBF, 6, 2), (0x80, 0x8F, 7, 2),
)  # fmt: skip


class Utf8Masks(NamedTuple):
    """Masks over V ids for each of S states, and the state after each id."""

    logit_mask: NDArray[np.float64]  #: to the logits, [S, V]: 0, or −∞ for an id that must not come
    next_state: list[list[int]]  #: the state after an id that may come


@lru_cache(maxsize=4)
def utf8_masks(tokenizer: Tokenizer, documents: bool, allow_invalid: bool = False) -> Utf8Masks:
    """Return the masks for a tokenizer.

    Args:
        tokenizer: the model's.
        documents: whether the model is one of documents, in which the boundary may come.
        allow_invalid: whether bytes may come that are not valid UTF-8; there is one state then.
    """
    V = tokenizer.vocab_size
    never = [*tokenizer.masked_ids(documents), *([] if tokenizer.unknown_id is None else [tokenizer.unknown_id])]
    if allow_invalid or tokenizer.is_char_level:
        after = np.zeros((1, V), dtype=np.int64)
    else:
        after = np.full((NUM_STATES, V), DEAD)
        after[:, BOUNDARY_ID] = [COMPLETE, *[DEAD] * (NUM_STATES - 1)]
        for token_id in range(1, V):
            word = tokenizer.token_bytes(token_id)
            if _is_text(word):
                after[COMPLETE, token_id] = COMPLETE
            else:
                after[:, token_id] = [_walk(word, state) for state in range(NUM_STATES)]
    after[:, never] = DEAD
    return Utf8Masks(np.where(after == DEAD, -np.inf, 0.0), after.tolist())


def _is_text(word: bytes) -> bool:
    try:
        word.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _walk(word: bytes, state: int) -> int:
    for byte in word:
        if state == DEAD:
            break
        state = _step_table()[state][byte]
    return state


@lru_cache(maxsize=1)
def _step_table() -> list[list[int]]:
    """Return the state after each byte in each state, [NUM_STATES][256]."""
    table = np.full((NUM_STATES, 256), DEAD)
    for first, last, before, after in RANGES:
        table[before, first : last + 1] = after
    return table.tolist()
