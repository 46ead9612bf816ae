"""Which next ids would make a sample copy: a run of more than N characters that stands in the training text.

    training text ─▶ hashes of all its stretches of N + 1 characters, sorted, in the cache ─┐
    the last N characters of the sample, extended by each character ────────────────────────┴▶ mask [V]

A stretch's hash is H = B · h(first N characters) + (last character) mod p (`text/hashing.py`). So all extensions
of a sample lie in one range of 2²⁰ or so numbers out of 2⁶¹, one binary search finds those that stand in the text, and
what H exceeds the range's beginning by is the forbidden character itself, whatever the size of the vocabulary.

No copy passes. Of n characters of text and V of a vocabulary, one is forbidden in error with a probability of
nVN/2⁶¹ at most: 10⁻⁹ for a million characters, 65 letters and N = 40.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import check_count
from chargen.data import token_store as encode
from chargen.errors import ConfigError, CorpusError
from chargen.sampling.processors import LogitsProcessor, Mask
from chargen.sampling.training_text_index import (
    CODES,
    TrainingText,
    open_hashes,
    stretch_hashes,
    training_text,
    write_hashes,
)
from chargen.text.hashing import BASE, PRIME, Hashes, hash_text
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer

LONGEST_RUN = 10_000  #: characters that a copy may be allowed to have
MAX_CHARS = 1 << 28  #: of a training text: an index of 2 GiB
MAX_REMEMBERED = 1 << 16  #: continuations of torn characters that are kept, some hundred bytes each


class CopyState(NamedTuple):
    """Where a sample stands: a value, to be kept or given twice."""

    window: str  #: the last N characters, or all there are
    hash: int  #: of those
    torn: bytes  #: of a character that is not whole yet


START = CopyState("", 0, b"")


class CopyIndex:
    """Says of each next id whether it would make a run of more than `most_chars` characters of a text.

    Args:
        hashes: of all stretches of one character more in it, sorted, each once; see `text/stretches.py`.
        most_chars: the longest run that may be copied.
        tokenizer: of the model. An id of several characters is forbidden if any of them would end such a run; where an
            id is a part of a character, the last part of one is.
    """

    def __init__(self, hashes: Hashes, most_chars: int, tokenizer: Tokenizer) -> None:
        check_most_chars(most_chars)
        self.most_chars = most_chars
        self._hashes = hashes
        self._tokenizer = tokenizer
        self._after: dict[bytes, _Continuations] = {}
        self._powers = [pow(BASE, k, PRIME) for k in range(most_chars + 1)]

    def read(self, text: str, state: CopyState = START) -> CopyState:
        """Return the state after a text, a prompt for example."""
        window = (state.window + text)[-self.most_chars :]
        return CopyState(window, hash_text(window), b"")

    def advance(self, state: CopyState, token_id: int) -> CopyState:
        """Return the state after one more id. With the boundary a document ends, and nothing is copied across that."""
        if token_id == BOUNDARY_ID:
            return START
        after = self._continuations(state.torn)
        window, value = state.window, state.hash
        for char in after.texts[token_id]:
            if len(window) == self.most_chars:
                value -= ord(window[0]) * self._powers[-2]
                window = window[1:]
            value = (value * BASE + ord(char)) % PRIME
            window += char
        return CopyState(window, value, after.torn[token_id])

    def forbidden_mask(self, state: CopyState) -> NDArray[np.bool_]:
        """Tell of each id whether it would make too long a run, [V].

        All may be: of a text of one letter there is nothing else to write. The caller tells.
        """
        after = self._continuations(state.torn)
        mask = np.zeros(len(after.texts), dtype=np.bool_)
        for prefix, begin in self._ranges(state, after):
            for char in self._characters(begin):
                if prefix + char in after.ids:
                    mask[after.ids[prefix + char]] = True
        return mask

    def _ranges(self, state: CopyState, after: _Continuations) -> Iterator[tuple[str, int]]:
        """Yield what an id may write first, with the beginning of the range of what follows it; most empty ones not."""
        missing = self.most_chars - len(state.window)  # characters, before which there is no whole stretch
        if not after.deepest:  # an id is a character at most: one range, and numbers are faster than arrays
            if not missing:
                yield "", state.hash * BASE % PRIME
        elif missing <= after.deepest and len(self._hashes):
            begins = np.array(self._begins(state, after.deepest), dtype=np.uint64)[after.depths] + after.hashes
            begins = np.minimum(begins, begins - np.uint64(PRIME))
            places = np.minimum(self._hashes.searchsorted(begins), len(self._hashes) - 1)
            # The last hash of all may lie below a range: then the difference is a very large number.
            filled = (self._hashes[places] - begins < np.uint64(CODES)) & (after.depths >= missing)
            for k in np.flatnonzero(filled).tolist():
                yield after.prefixes[k], int(begins[k])

    def _characters(self, begin: int) -> Iterator[str]:
        """Yield the characters whose stretches stand in the text, of the range that begins here."""
        place = int(self._hashes.searchsorted(np.uint64(begin)))
        while place < len(self._hashes) and (code := int(self._hashes[place]) - begin) < CODES:
            yield chr(code)
            place += 1

    def _begins(self, state: CopyState, deepest: int) -> list[int]:
        """Return where the range of the next character begins, after 0, 1, … more characters that are all 0."""
        N, window, value = self.most_chars, state.window, state.hash
        begins = [value * BASE % PRIME]
        for depth in range(1, deepest + 1):
            gone = depth - 1 - (N - len(window))  # the place of the character that the next one pushes out
            if 0 <= gone < len(window):
                value -= ord(window[gone]) * self._powers[len(window) - 1 - gone]
            begins.append(value * pow(BASE, depth + 1, PRIME) % PRIME)
        return begins

    def _continuations(self, torn: bytes) -> _Continuations:
        after = self._after.get(torn)
        if after is None:
            if len(self._after) * self._tokenizer.vocab_size >= MAX_REMEMBERED:
                self._after.clear()
            after = self._after[torn] = _Continuations(self._tokenizer, torn, self.most_chars)
        return after


class _Continuations:
    """What every id writes after the bytes of a torn character, and the beginnings of that.

    A prefix is what an id writes before some character of it: "" for all, and of "the" also "t" and "th".
    """

    def __init__(self, tokenizer: Tokenizer, torn: bytes, most_chars: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.texts: list[str] = []
        self.torn: list[bytes] = []
        beginnings: dict[str, list[int]] = {}
        for token_id in range(tokenizer.vocab_size):
            decoder.setstate((torn, 0))
            text = decoder.decode(tokenizer.token_bytes(token_id))
            self.texts.append(text)
            self.torn.append(decoder.getstate()[0])
            for end in range(1, len(text) + 1):
                beginnings.setdefault(text[:end], []).append(token_id)
        self.ids = {text: np.array(ids) for text, ids in beginnings.items()}  #: those that write this first
        hashes = {text[:-1]: hash_text(text[:-1][-most_chars:]) * BASE % PRIME for text in beginnings} or {"": 0}
        # In an order in which numbers that rise are looked for: near ones in turn.
        self.prefixes = sorted(hashes, key=lambda prefix: (len(prefix), hashes[prefix]))
        self.hashes = np.array([hashes[prefix] for prefix in self.prefixes], dtype=np.uint64)
        self.depths = np.array([len(prefix) for prefix in self.prefixes])
        self.deepest = int(self.depths[-1])


class CopyFilter(LogitsProcessor):
    """Forbids an id that would make too long a run that stands in the training text."""

    def __init__(self, index: CopyIndex) -> None:
        self._index = index

    def initial_state(self, prompt: str, prompt_ids: Ids) -> CopyState:
        return self._index.read(prompt)

    def advance(self, state: CopyState, token_id: int) -> CopyState:
        return self._index.advance(state, token_id)

    def forbidden_mask(self, state: CopyState) -> Mask | None:
        return self._index.forbidden_mask(state)


def copy_index(
    checkpoint: Checkpoint,
    most_chars: int,
    corpus: Sequence[str] = (),
    model_path: Path | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> CopyIndex:
    """Return the index of the text that a model learned from, from the cache if it was made before.

    Args:
        checkpoint: the model.
        most_chars: the longest run that may be copied, 1 to LONGEST_RUN.
        corpus, model_path: where the text is; see `training_text`. A corpus that is given is looked at in any case.
        note: is told if the index in the cache was damaged.

    Raises:
        ConfigError: `most_chars` is out of its range.
        CorpusError: the text is not at hand, another one, or longer than MOST_CHARS.
        StorageError: the index cannot be written.
    """
    check_most_chars(most_chars)
    learned = TrainingText.of(checkpoint)
    if learned.num_chars > MAX_CHARS:
        raise CorpusError(
            f"the model learned from {learned.num_chars:,} characters, but copies can be forbidden of "
            f"{MAX_CHARS:,} at most",
            "Leave out --max-copy.",
        )
    text = training_text(checkpoint, corpus) if corpus else None
    # The hash is of the clean text, so it says all that the data's settings do to it.
    key = hashlib.sha256(f"copies 1 {learned.sha256} {learned.num_chars} {most_chars}".encode()).hexdigest()
    path = encode.CACHE / f"{key[:32]}{encode.INDEX_SUFFIX}"
    hashes = open_hashes(path, key, note)
    if hashes is None:
        text = text or training_text(checkpoint, (), model_path)
        hashes = write_hashes(path, stretch_hashes(text, most_chars + 1), {"sha256": key})
    return CopyIndex(hashes, most_chars, checkpoint.tokenizer)


def check_most_chars(most_chars: int) -> None:
    """Check that a run of so many characters can be looked for.

    Raises:
        ConfigError: it cannot.
    """
    check_count("max_copy", most_chars)
    if most_chars > LONGEST_RUN:
        raise ConfigError(f"max_copy is {most_chars:,}, but must be at most {LONGEST_RUN:,}")
