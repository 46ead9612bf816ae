"""Which ids may come next so that a text stays valid UTF-8: a few states, a mask for each, made once.

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

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.text.tokenizer import BOUNDARY_ID, Tokenizer

WHOLE = 0  #: the state in which no character is torn
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


class Spelling(NamedTuple):
    """Masks over V ids for each of S states, and the state after each id."""

    added: NDArray[np.float64]  #: to the logits, [S, V]: 0, or −∞ for an id that must not come
    after: list[list[int]]  #: the state after an id that may come


@lru_cache(maxsize=4)
def spelling(tokenizer: Tokenizer, documents: bool, allow_invalid: bool = False) -> Spelling:
    """Return the masks for a tokenizer.

    Args:
        tokenizer: the model's.
        documents: whether the model is one of documents, in which the boundary may come.
        allow_invalid: whether bytes may come that are not valid UTF-8; there is one state then.
    """
    V = tokenizer.vocab_size
    never = [*tokenizer.masked_ids(documents), *([] if tokenizer.unknown_id is None else [tokenizer.unknown_id])]
    if allow_invalid or tokenizer.one_id_a_char:
        after = np.zeros((1, V), dtype=np.int64)
    else:
        after = np.full((NUM_STATES, V), DEAD)
        after[:, BOUNDARY_ID] = [WHOLE, *[DEAD] * (NUM_STATES - 1)]
        for token_id in range(1, V):
            word = tokenizer.token_bytes(token_id)
            if _is_text(word):
                after[WHOLE, token_id] = WHOLE
            else:
                after[:, token_id] = [_walk(word, state) for state in range(NUM_STATES)]
    after[:, never] = DEAD
    return Spelling(np.where(after == DEAD, -np.inf, 0.0), after.tolist())


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
