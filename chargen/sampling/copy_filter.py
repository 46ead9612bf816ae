"""Forbid copies: token ids that would extend a run of characters from the training text beyond N characters.

    training text ─▶ sorted hashes of its windows of N + 1 characters, in the cache ─┐
    the last N characters of the text, extended by each possible character ──────────┴▶ mask [V]

The hash of a window is H = B · h(first N characters) + (last character) mod p (`text/hashing.py`). So the hashes of all
one-character extensions of a text lie in one range of about 2²⁰ numbers out of 2⁶¹. One binary search finds those that
occur in the training text, and the difference between H and the start of the range is the forbidden character itself,
for a vocabulary of any size.

No copy is missed. With n characters of training text and V token ids, a token id is forbidden by mistake with a
probability of at most nVN/2⁶¹: 10⁻⁹ for a million characters, 65 token ids and N = 40.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chargen.checkpoint import Checkpoint
from chargen.config import check_count
from chargen.data.held_out import training_keys
from chargen.errors import ConfigError, CorpusError
from chargen.sampling.processors import LogitsProcessor, Mask
from chargen.sampling.training_text_index import (
    NUM_CODE_POINTS,
    TrainingText,
    find_training_text,
    index_path,
    open_index,
    window_hashes,
    write_index,
)
from chargen.text.hashing import BASE, PRIME, Hashes, hash_text
from chargen.tokenizers.reversed_text import ReversedPart, reversed_key
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer

MAX_COPY = 10_000  # limit of max_copy, in characters
MAX_CHARS = 1 << 28  # limit of the training text: its index has 2 GiB
MAX_CACHED_ENTRIES = 1 << 16  # limit of the cached continuations of incomplete characters, some hundred bytes each


class CopyState(NamedTuple):
    """The end of the text so far. It is a value: a new state is made for each token id."""

    window: str  #: the last N characters, or all there are
    hash: int  #: hash of the window
    incomplete: bytes  #: the first bytes of a character that is not complete yet


INITIAL_STATE = CopyState("", 0, b"")


class CopyIndex:
    """Finds the token ids that would make a run of more than `max_copy` characters that occurs in a text.

    A token id of several characters is forbidden if any of them would end such a run. Where a token id is a part of a
    character, the last part is forbidden.

    Args:
        hashes: The hashes of all windows of max_copy + 1 characters of the text, sorted, without duplicates; see
            `window_hashes`.
        max_copy: The longest run that may be copied, in characters.
        tokenizer: The tokenizer of the model.

    Raises:
        ConfigError: If `max_copy` is out of range.
    """

    def __init__(self, hashes: Hashes, max_copy: int, tokenizer: Tokenizer) -> None:
        check_max_copy(max_copy)
        self.max_copy = max_copy
        self._hashes = hashes
        self._tokenizer = tokenizer
        self._continuations_after: dict[bytes, _Continuations] = {}
        self._powers = [pow(BASE, k, PRIME) for k in range(max_copy + 1)]

    def state_after(self, text: str, state: CopyState = INITIAL_STATE) -> CopyState:
        """Return the state after some text, for example a prompt."""
        window = (state.window + text)[-self.max_copy :]
        return CopyState(window, hash_text(window), b"")

    def advance(self, state: CopyState, token_id: int) -> CopyState:
        """Return the state after one more token id. The boundary resets it: no copy crosses the end of a document."""
        if token_id == BOUNDARY_ID:
            return INITIAL_STATE
        continuations = self._continuations(state.incomplete)
        window, value = state.window, state.hash
        for char in continuations.texts[token_id]:
            if len(window) == self.max_copy:
                value -= ord(window[0]) * self._powers[-2]
                window = window[1:]
            value = (value * BASE + ord(char)) % PRIME
            window += char
        return CopyState(window, value, continuations.incomplete[token_id])

    def forbidden_mask(self, state: CopyState) -> Mask:
        """Return which token ids would make a run that is too long, [V].

        All of them may: after a text of a single letter nothing else can follow. The caller reports that.
        """
        continuations = self._continuations(state.incomplete)
        mask = np.zeros(len(continuations.texts), dtype=np.bool_)
        for prefix, range_start in self._ranges(state, continuations):
            for char in self._characters(range_start):
                if prefix + char in continuations.ids:
                    mask[continuations.ids[prefix + char]] = True
        return mask

    def _ranges(self, state: CopyState, continuations: _Continuations) -> Iterator[tuple[str, int]]:
        """Yield each prefix of a token's text with the start of the hash range of its extensions.

        Most prefixes whose range contains no hash are left out.
        """
        num_missing = self.max_copy - len(state.window)  # characters until there is a whole window
        if not continuations.max_depth:  # a token id is at most one character: one range; integers are faster
            if not num_missing:
                yield "", state.hash * BASE % PRIME
        elif num_missing <= continuations.max_depth and len(self._hashes):
            base_starts = np.array(self._range_starts(state, continuations.max_depth), dtype=np.uint64)
            starts = base_starts[continuations.depths] + continuations.hashes
            starts = np.minimum(starts, starts - np.uint64(PRIME))
            indices = np.minimum(self._hashes.searchsorted(starts), len(self._hashes) - 1)
            # The last hash may be below the start of a range: then the difference wraps to a very large number.
            has_hash = self._hashes[indices] - starts < np.uint64(NUM_CODE_POINTS)
            for k in np.flatnonzero(has_hash & (continuations.depths >= num_missing)).tolist():
                yield continuations.prefixes[k], int(starts[k])

    def _characters(self, range_start: int) -> Iterator[str]:
        """Yield the last characters of the windows whose hashes are in the range that starts here."""
        index = int(self._hashes.searchsorted(np.uint64(range_start)))
        while index < len(self._hashes) and (code := int(self._hashes[index]) - range_start) < NUM_CODE_POINTS:
            yield chr(code)
            index += 1

    def _range_starts(self, state: CopyState, max_depth: int) -> list[int]:
        """Return the start of the next character's hash range after 0, 1, …, max_depth more characters of code 0."""
        window, value = state.window, state.hash
        starts = [value * BASE % PRIME]
        for depth in range(1, max_depth + 1):
            dropped = depth - 1 - (self.max_copy - len(window))  # index of the character that leaves the window
            if 0 <= dropped < len(window):
                value -= ord(window[dropped]) * self._powers[len(window) - 1 - dropped]
            starts.append(value * pow(BASE, depth + 1, PRIME) % PRIME)
        return starts

    def _continuations(self, incomplete: bytes) -> _Continuations:
        continuations = self._continuations_after.get(incomplete)
        if continuations is None:
            if len(self._continuations_after) * self._tokenizer.vocab_size >= MAX_CACHED_ENTRIES:
                self._continuations_after.clear()
            continuations = _Continuations(self._tokenizer, incomplete, self.max_copy)
            self._continuations_after[incomplete] = continuations
        return continuations


class _Continuations:
    """The text that each token id writes after the first bytes of a character, and the prefixes of these texts.

    A prefix is the text before some character of a token: "" for all, and for "the" also "t" and "th".
    """

    def __init__(self, tokenizer: Tokenizer, incomplete: bytes, max_copy: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.texts: list[str] = []  #: text of each token id
        self.incomplete: list[bytes] = []  #: for each token id, the first bytes of the next character
        ids_by_start: dict[str, list[int]] = {}
        for token_id in range(tokenizer.vocab_size):
            decoder.setstate((incomplete, 0))
            text = decoder.decode(tokenizer.token_bytes(token_id))
            self.texts.append(text)
            self.incomplete.append(decoder.getstate()[0])
            for end in range(1, len(text) + 1):
                ids_by_start.setdefault(text[:end], []).append(token_id)
        self.ids = {start: np.array(ids) for start, ids in ids_by_start.items()}  #: token ids whose text starts so
        prefixes = {start[:-1] for start in ids_by_start} or {""}
        hashes = {prefix: hash_text(prefix[-max_copy:]) * BASE % PRIME for prefix in prefixes}
        # Sorted so that the binary searches visit ascending numbers, which are near each other in memory.
        self.prefixes = sorted(hashes, key=lambda prefix: (len(prefix), hashes[prefix]))
        self.hashes = np.array([hashes[prefix] for prefix in self.prefixes], dtype=np.uint64)
        self.depths = np.array([len(prefix) for prefix in self.prefixes])
        self.max_depth = int(self.depths[-1])


class CopyFilter(LogitsProcessor):
    """Forbids the token ids that would make too long a run from the training text."""

    def __init__(self, index: CopyIndex) -> None:
        self._index = index

    def initial_state(self, prompt: str, prompt_ids: Ids) -> CopyState:
        """Return the state after the prompt, whose end counts as a part of a copied run."""
        return self._index.state_after(prompt)

    def advance(self, state: CopyState, token_id: int) -> CopyState:
        """Return the state after one more token id."""
        return self._index.advance(state, token_id)

    def forbidden_mask(self, state: CopyState) -> Mask | None:
        """Return which token ids would make a run that is too long, [V]."""
        return self._index.forbidden_mask(state)


def load_copy_index(
    checkpoint: Checkpoint,
    max_copy: int,
    corpus: Sequence[str] = (),
    model_path: Path | None = None,
    note: Callable[[str], object] | None = None,
) -> CopyIndex:
    """Return the index of a model's training text, from the cache if it was built before.

    Args:
        checkpoint: The model.
        max_copy: The longest run that may be copied, in characters, 1 to MAX_COPY.
        corpus, model_path: Where the text is; see `find_training_text`. A named corpus is always checked.
        note: Is called with a message if the index in the cache was damaged; None drops it.

    Raises:
        ConfigError: If `max_copy` is out of range.
        CorpusError: If the text is not found, is another one, or has more than MAX_CHARS characters.
        StorageError: If the index cannot be written.
    """
    check_max_copy(max_copy)
    learned = TrainingText.from_checkpoint(checkpoint)
    if learned.num_chars > MAX_CHARS:
        raise CorpusError(
            f"the model was trained on {learned.num_chars:,} characters, but --max-copy supports {MAX_CHARS:,} at most",
            "Leave out --max-copy.",
        )
    text = find_training_text(checkpoint, corpus) if corpus else None
    # The hash is of the clean text, so it covers the effect of all data settings.
    part = " ".join(training_keys(learned.data, learned.num_chars)).removeprefix("0 ")
    part = reversed_key(part) if learned.data.is_backward else part
    what = f"copies 1 {learned.sha256} {part}"
    text_key, key = (hashlib.sha256(each.encode()).hexdigest() for each in (what, f"{what} {max_copy}"))
    path = index_path(text_key, max_copy)
    hashes = open_index(path, key, note or (lambda text: None))
    if hashes is None:
        text = text or find_training_text(checkpoint, (), model_path)
        text = ReversedPart(text) if learned.data.is_backward else text
        hashes = write_index(path, window_hashes(text, max_copy + 1), {"sha256": key})
    return CopyIndex(hashes, max_copy, checkpoint.tokenizer)


def check_max_copy(max_copy: int) -> None:
    """Check the maximum length of a copy.

    Raises:
        ConfigError: If it is not a whole number from 1 to MAX_COPY.
    """
    check_count("max_copy", max_copy)
    if max_copy > MAX_COPY:
        raise ConfigError(f"max_copy is {max_copy:,}, but must be at most {MAX_COPY:,}")
