"""The interface of every tokenizer, the streaming decoder, and the masks that keep generated text valid UTF-8.

Token ids are integers from 0 to `vocab_size` − 1. Id 0 is the boundary: it comes before and after each document and
has no text. A tokenizer with `unknown_id` None can encode every text. A tokenizer with an `unknown_id` (1) encodes each
character outside its vocabulary as this token id, so that unknown characters can be counted and never become another
character. The unknown id is never generated.

Law: `decode(encode(x)) == x` for every x without unknown characters, decoded at once or id by id.

A token can be part of a character's UTF-8 bytes. So a small automaton states which token ids may come next: it has one
mask over the vocabulary per state, computed once per tokenizer.

    state   bytes that must follow                            state   bytes that must follow
    0       none: a character is complete                     4       after E0: A0–BF, then state 1
    1       one more byte of the character, 80–BF             5       after ED: 80–9F, then state 1
    2       two more                                          6       after F0: 90–BF, then state 2
    3       three more                                        7       after F4: 80–8F, then state 2

These are the byte sequences of the Unicode Standard, table 3-7: no overlong forms, no surrogates, nothing above
U+10FFFF. A token id without text (an unknown piece, a control piece) is never drawn. The boundary is drawn only by a
model of documents, and only in state 0.
"""

from __future__ import annotations

import codecs
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import TokenizerError
from chargen.text.documents import MARK, NONE
from chargen.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from chargen.text.long_text import TextPart
    from chargen.text.series.quantizer import Quantizer

BOUNDARY_ID = 0
UNICODE_CHARACTERS = 0x110000 - 0x800  #: number of code points that a text can contain (surrogates are excluded)

Ids = NDArray[np.int32]


class Tokenizer(ABC):
    """Encodes texts as token ids, and decodes token ids to texts."""

    name: str
    vocab_size: int
    unknown_id: int | None = None
    is_char_level = False  #: whether every text has exactly one token id per character
    quantizer: Quantizer | None = None  #: how numbers become characters, if the texts are series of numbers
    uses_frequencies = False  #: whether the vocabulary depends on how often pieces occur, not only on which occur

    @classmethod
    @abstractmethod
    def build(cls, text: TextPart, option: str) -> Tokenizer:
        """Return a tokenizer for a text.

        Args:
            text: The training text.
            option: What follows the colon in `--tokenizer sp:1000`; "" without a colon.

        Raises:
            TokenizerError: If the tokenizer does not take this option, or no vocabulary can be made from the text.
        """

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Return the token ids of a text, int32 [N]."""

    def encode_documents(self, text: str) -> Ids:
        """Return the token ids of a text of documents, int32 [N]; each MARK becomes the boundary."""
        parts = [self.encode(document) for document in text.split(MARK)]
        ends = [np.array([BOUNDARY_ID], dtype=np.int32)] * len(parts)
        return np.concatenate([ids for pair in zip(parts, ends, strict=True) for ids in pair])[:-1]

    def ascii_table(self) -> bytes | None:
        """Return a table for `bytes.translate` that maps ASCII text to token ids, one byte per token id.

        Return None if a token id is not always one character, or does not fit in a byte.
        """
        return None

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return the text of a token id as UTF-8; b"" for the boundary. A character may have several token ids."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return everything that `from_json` needs, as values that JSON can represent."""

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer that `to_json` described.

        Raises:
            TokenizerError: If the values are damaged.
        """

    def check_text(self, text: str, name: str) -> None:
        """Check that a text is of the kind that the tokenizer is for; characters outside its vocabulary are allowed.

        Args:
            text: A text that the user gave.
            name: Its name, for the error message.

        Raises:
            TokenizerError: If it is not, because the tokenizer is for series of numbers.
        """
        if self.quantizer is not None:
            self.quantizer.check_text(text, name)

    def extend_vocabulary(self, text: TextPart) -> Tokenizer:
        """Return a tokenizer that also has token ids for everything in `text`; this one if it needs none."""
        return self

    def decode(self, ids: Any) -> str:
        """Return the text of token ids; U+FFFD for the unknown id and for an incomplete UTF-8 sequence."""
        return b"".join(self.token_bytes(int(i)) for i in ids).decode("utf-8", "replace")

    def decode_rows(self, ids: NDArray[Any]) -> list[str]:
        """Return the text of each row of token ids, [B, T]."""
        return [self.decode(row) for row in ids]

    def is_unknown(self, ids: Ids) -> NDArray[np.bool_]:
        """Return which token ids are the unknown id, bool [N]."""
        return np.zeros(len(ids), dtype=np.bool_) if self.unknown_id is None else np.asarray(ids == self.unknown_id)

    def unk_log_prob_nats(self, ids: Ids) -> NDArray[np.float64]:
        """Return log p(character | its token id) in nats, float64 [N]; 0 for every known character.

        The probability of the unknown id is divided evenly among all characters outside the vocabulary. So p is a
        distribution over all characters of Unicode, and an unknown character is not scored better than it should be.
        """
        return np.where(self.is_unknown(ids), -math.log(UNICODE_CHARACTERS - (self.vocab_size - 2)), 0.0)

    def masked_ids(self, documents: bool) -> list[int]:
        """Return the token ids that can never occur in a text: a model gives them probability 0.

        They are the token ids without text. The boundary is one of them, except in a model of documents. The unknown id
        is not: in scoring it represents all characters outside the vocabulary.

        Args:
            documents: Whether the model is trained on documents, which the boundary ends.
        """
        return [] if documents else [BOUNDARY_ID]

    def special_ids(self) -> list[int]:
        """Return the token ids that are part of no character: the boundary, and the unknown id if there is one."""
        return [BOUNDARY_ID] if self.unknown_id is None else [BOUNDARY_ID, self.unknown_id]


class StreamingDecoder:
    """Decodes token ids one at a time and keeps the bytes of a character until it is complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def fork(self) -> StreamingDecoder:
        """Return a copy that continues from the same state."""
        other = StreamingDecoder(self._tokenizer)
        other._utf8.setstate(self._utf8.getstate())
        return other

    def feed(self, token_id: int) -> str:
        """Return the text that this token id completes; "" while a character is incomplete."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return the rest of the text: "", one U+FFFD for a character that is incomplete, or more for other bytes."""
        return self._utf8.decode(b"", final=True)


def build_tokenizer(spec: str, text: str | TextPart) -> Tokenizer:
    """Return the tokenizer that `spec` names ("char", "byte", "sp:1000", "sp:FILE.model"), built for a text.

    Raises:
        ConfigError: If no tokenizer has this name.
        TokenizerError: If the tokenizer cannot be built for this text.
    """
    from chargen.text.long_text import LongText  # only here: a model is opened without it

    name, _, option = spec.partition(":")
    return TOKENIZERS.get(name).build(LongText.from_string(text).span() if isinstance(text, str) else text, option)


def uses_frequencies(spec: str) -> bool:
    """Return whether the tokenizer that `spec` names must not be built from text that the model is evaluated on.

    Raises:
        ConfigError: If no tokenizer has this name.
    """
    return TOKENIZERS.get(spec.partition(":")[0]).uses_frequencies


def tokenizer_from_json(values: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that a model file describes.

    Raises:
        ConfigError: If no tokenizer has this name.
        TokenizerError: If the description is damaged.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise TokenizerError("the description of the tokenizer has no name")
    return TOKENIZERS.get(values["name"]).from_json(values)


def encoder(tokenizer: Tokenizer, documents: str) -> Callable[[str], Ids]:
    """Return the function that encodes a clean text: with the boundary for each MARK if the model is of documents."""
    return tokenizer.encode if documents == NONE else tokenizer.encode_documents


def start_ids(tokenizer: Tokenizer, documents: str = NONE) -> Ids:
    """Return the token ids that a model reads before the first character of a text, int32 [N].

    A model of documents starts from the boundary. A model of continuous text starts from a newline, or from the
    boundary if the vocabulary has no newline.
    """
    ids = tokenizer.encode("\n")
    use_boundary = documents != NONE or tokenizer.is_unknown(ids).any()
    return np.array([BOUNDARY_ID], dtype=np.int32) if use_boundary else ids


def unknown_characters(text: str, tokenizer: Tokenizer, found: dict[str, bool] | None = None) -> str:
    """Return the characters of a text that a tokenizer does not know, each once; `found` keeps what it finds."""
    found = {} if found is None else found
    chars = dict.fromkeys(text)
    found.update((c, bool(tokenizer.is_unknown(tokenizer.encode(c)).any())) for c in chars if c not in found)
    return "".join(char for char in chars if found[char])


COMPLETE = 0  #: the state in which no character is incomplete
DEAD = -1  #: the state after bytes that are not valid UTF-8
NUM_STATES = 8
MAX_SILENT_IDS = 8  #: limit of consecutive token ids that complete no character; valid UTF-8 has at most three

# (first byte, last byte, state before, state after)
RANGES = (
    (0x00, 0x7F, 0, 0), (0xC2, 0xDF, 0, 1), (0xE0, 0xE0, 0, 4), (0xE1, 0xEC, 0, 2), (0xED, 0xED, 0, 5),
    (0xEE, 0xEF, 0, 2), (0xF0, 0xF0, 0, 6), (0xF1, 0xF3, 0, 3), (0xF4, 0xF4, 0, 7),
    (0x80, 0xBF, 1, 0), (0x80, 0xBF, 2, 1), (0x80, 0xBF, 3, 2),
    (0xA0, 0xBF, 4, 1), (0x80, 0x9F, 5, 1), (0x90, 0xBF, 6, 2), (0x80, 0x8F, 7, 2),
)  # fmt: skip


class Utf8Masks(NamedTuple):
    """An automaton for valid UTF-8 with S states: the token ids, of V, that may come next, and the state after each."""

    logit_mask: NDArray[np.float64]  #: [S, V]: to be added to the logits; 0, or −∞ for a token id that must not come
    next_state: list[list[int]]  #: [S][V]: DEAD for a token id that must not come


@lru_cache(maxsize=4)
def utf8_masks(tokenizer: Tokenizer, documents: bool, allow_invalid: bool = False) -> Utf8Masks:
    """Return the masks for a tokenizer.

    Args:
        tokenizer: The model's tokenizer.
        documents: Whether the model is of documents, so that the boundary may come.
        allow_invalid: Whether invalid UTF-8 is allowed. There is only one state then.
    """
    V = tokenizer.vocab_size
    forbidden = tokenizer.masked_ids(documents)
    if tokenizer.unknown_id is not None:
        forbidden = [*forbidden, tokenizer.unknown_id]
    if allow_invalid or tokenizer.is_char_level:
        next_state = np.zeros((1, V), dtype=np.int64)
    else:
        next_state = np.full((NUM_STATES, V), DEAD)
        next_state[:, BOUNDARY_ID] = [COMPLETE, *[DEAD] * (NUM_STATES - 1)]
        for token_id in range(1, V):
            token = tokenizer.token_bytes(token_id)
            if _is_valid_utf8(token):
                next_state[COMPLETE, token_id] = COMPLETE
            else:
                next_state[:, token_id] = [_run_automaton(token, state) for state in range(NUM_STATES)]
    next_state[:, forbidden] = DEAD
    return Utf8Masks(np.where(next_state == DEAD, -np.inf, 0.0), next_state.tolist())


def _is_valid_utf8(token: bytes) -> bool:
    try:
        token.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _run_automaton(token: bytes, state: int) -> int:
    """Return the state after the bytes of a token."""
    for byte in token:
        if state == DEAD:
            break
        state = _transition_table()[state][byte]
    return state


@lru_cache(maxsize=1)
def _transition_table() -> list[list[int]]:
    """Return the state after each byte in each state, [NUM_STATES][256]."""
    table = np.full((NUM_STATES, 256), DEAD)
    for first, last, before, after in RANGES:
        table[before, first : last + 1] = after
    return table.tolist()
