"""Suggest the single edits of a text that raise its probability most, which finds typing errors.

    replace   a character by another            x<i · c   · x>i
    delete    a character                       x<i ·     · x>i
    insert    a character                       x<i · c   · x≥i
    swap      two neighbouring characters       x<i · x_{i+1} x_i · x>i+1

Texts of different length are compared by log p(text, end | context): a shorter text has fewer characters that cost
something, but it has to end. In a model of continuous text the end is a newline. Whole texts are compared by the model
alone. This is not a noisy channel (Kernighan, Church & Gale 1990): how likely each typing error is plays no part.

Every returned value is exact: the edited text is scored from the edit to its end. The choice of the edits that are
tried is not exhaustive. At each position only the `num_chars` most likely characters are inserted. All edits are then
scored up to `lookahead` token ids after the edit, because an error makes only the next few characters unlikely, and the
best `num_finalists` of them are scored to the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import LN2, check_count
from chargen.engines.interface import (
    Engine,
    EngineState,
    common_prefix_length,
    concatenate_states,
    log_softmax,
    read_context,
    step_through,
)
from chargen.errors import ConfigError
from chargen.probe.surprisal import find_likely_chars
from chargen.tokenizers.tokenizer import Ids, Tokenizer

BATCH_SIZE = 256  #: edits that are scored together
MAX_CHARS = 1000  #: limit of a text; the work grows with the square of its length


@dataclass(frozen=True)
class Edit:
    """A change at one position of a text in the form of the training text."""

    kind: str  #: "replace", "delete", "insert" or "swap"
    begin: int  #: position of the change, in characters from 0
    removed: str
    inserted: str

    @classmethod
    def between(cls, kind: str, text: str, edited: str) -> Edit:
        """Return the edit that makes one text of another: it replaces what is between their common ends."""
        begin = len(commonprefix([text, edited]))
        num_same = len(commonprefix([text[begin:][::-1], edited[begin:][::-1]]))
        return cls(kind, begin, text[begin : len(text) - num_same], edited[begin : len(edited) - num_same])

    def apply(self, text: str) -> str:
        """Return the edited text."""
        return text[: self.begin] + self.inserted + text[self.begin + len(self.removed) :]


@dataclass(frozen=True)
class Suggestion:
    """An edit and its gain. All log probabilities include the end of the text."""

    edit: Edit
    text: str  #: the edited text
    log_prob_nats: float  #: log p of the edited text
    gain_nats: float  #: how much higher that is than log p of the text before the edit

    @property
    def gain_bits(self) -> float:
        """The gain in bits."""
        return self.gain_nats / LN2

    def to_json(self) -> dict[str, Any]:
        """Return the suggestion as JSON values, with units in the keys."""
        edit = self.edit
        return {
            "kind": edit.kind,
            "begin": edit.begin,
            "removed": edit.removed,
            "inserted": edit.inserted,
            "text": self.text,
            "log_prob_with_end_nats": self.log_prob_nats,
            "gain_nats": self.gain_nats,
            "gain_bits": self.gain_bits,
        }


def suggest(
    engine: Engine,
    checkpoint: Checkpoint,
    text: str,
    context: str | None = None,
    num_suggestions: int = 5,
    limits: SearchLimits | None = None,
) -> list[Suggestion]:
    """Return the edits that raise log p of a text and its end most, the best first; fewer if no other edit raises it.

    A model that knows no end of a text compares texts without their end. Edits that only cut off the last characters
    are then left out, because they raise the probability of every text.

    Args:
        engine: NumPy engine of the model.
        checkpoint: The model.
        text: Text in any form.
        context: Text before it, which is read but not scored.
        num_suggestions: Maximum number of suggestions.
        limits: How many edits are tried; None for the defaults.

    Raises:
        TokenizerError: If the text cannot be encoded.
        ConfigError: If the text is too long, or `num_suggestions` is not a count.
    """
    num_suggestions = check_count("num_suggestions", num_suggestions, 0)
    limits = limits or SearchLimits()
    text = checkpoint.reorder(checkpoint.normalize(text))
    if len(text) > MAX_CHARS:
        raise ConfigError(
            f"a text of {len(text):,} characters is too long for suggestions: the maximum is {MAX_CHARS:,}",
            "Split it into lines with one sentence each.",
        )
    tokenizer = checkpoint.tokenizer
    end_ids = checkpoint.end_ids
    end = np.zeros(0, dtype=np.int32) if end_ids is None else end_ids
    original = _read_text(
        engine, tokenizer, checkpoint.encode_context(context), np.concatenate([tokenizer.encode(text), end])
    )
    edits: dict[str, Edit] = {}
    for edit in _possible_edits(text, _likely_chars(engine, tokenizer, original, text, limits.num_chars)):
        edited = checkpoint.normalize(edit.apply(text))  # an inserted combining mark may change the letter before it
        if edited != text and (len(end) or not text.startswith(edited)):
            edits.setdefault(edited, edit)
    texts = list(edits)
    tails = [_Tail.between(original.ids, np.concatenate([tokenizer.encode(edited), end])) for edited in texts]
    gains = _gains(engine, original, [tail.shortened(limits.lookahead) for tail in tails])
    finalists = np.argsort(-gains, kind="stable")[: limits.num_finalists]
    gains = _gains(engine, original, [tails[i] for i in finalists])
    suggestions = []
    for k in np.argsort(-gains, kind="stable")[:num_suggestions]:
        if gains[k] > 0:
            edited, gain = texts[finalists[k]], float(gains[k])
            edit, log_prob_nats = edits[edited], float(original.sums[-1]) + gain
            if checkpoint.data.is_backward:
                edited = checkpoint.reorder(edited)
                edit = Edit.between(edit.kind, checkpoint.reorder(text), edited)
            suggestions.append(Suggestion(edit, edited, log_prob_nats, gain))
    return suggestions


@dataclass(frozen=True)
class SearchLimits:
    """How many edits `suggest` tries."""

    num_chars: int = 16  #: characters that are inserted at each position
    num_finalists: int = 128  #: edits that are scored to the end of the text
    lookahead: int = 8  #: token ids after an edit that are scored to choose the finalists


def _possible_edits(text: str, chars: Sequence[Sequence[str]]) -> Iterator[Edit]:
    """Yield the edits of a text.

    Args:
        text: Text of N characters.
        chars: Characters to insert at each position, the end included, [N + 1].
    """
    for i, char in enumerate(text):
        yield Edit("delete", i, char, "")
        if i + 1 < len(text):
            yield Edit("swap", i, text[i : i + 2], text[i + 1] + char)
        for other in chars[i]:
            yield Edit("replace", i, char, other)
    for i, others in enumerate(chars):
        for other in others:
            yield Edit("insert", i, "", other)


@dataclass(frozen=True)
class _TextStates:
    """A text of N token ids, its end included, with the state and the distribution before each and after the last."""

    ids: Ids  #: [N]
    states: list[EngineState]  #: state after the first n token ids, n = 0…N
    log_probs: NDArray[np.float64]  #: log p of every next token id in these states, [N + 1, V]
    spelling: NDArray[np.float64]  #: additional cost of each token id that stands for unknown characters, [V]
    sums: NDArray[np.float64]  #: log p of the first n token ids, [N + 1]


def _read_text(engine: Engine, tokenizer: Tokenizer, context: Ids, ids: Ids) -> _TextStates:
    first = read_context(engine, context)
    steps = [first, *step_through(engine, ids, first.state)]
    log_probs = np.stack([log_softmax(step.logits)[0] for step in steps])
    spelling = tokenizer.unk_log_prob_nats(np.arange(engine.vocab_size, dtype=np.int32))
    id_log_probs = log_probs[np.arange(len(ids)), ids] + spelling[ids]
    sums = np.concatenate([[0.0], np.cumsum(id_log_probs)])
    return _TextStates(ids, [step.state for step in steps], log_probs, spelling, sums)


def _likely_chars(
    engine: Engine, tokenizer: Tokenizer, original: _TextStates, text: str, num_chars: int
) -> list[list[str]]:
    """Return the most likely characters at each position, [len(text) + 1]; newlines only if the text has any."""
    log_probs, states = [], []
    for i in range(len(text) + 1):
        ids = tokenizer.encode(text[:i])
        num_same = common_prefix_length(original.ids, ids)
        next_log_probs, state = original.log_probs[num_same], original.states[num_same]
        for step in step_through(engine, ids[num_same:], state):  # no token ids are left, except for sentencepiece
            next_log_probs, state = log_softmax(step.logits)[0], step.state
        log_probs.append(next_log_probs)
        states.append(state)
    guesses = find_likely_chars(engine, tokenizer, np.stack(log_probs), concatenate_states(states), num_chars)
    excluded = {"\n", "\r"} - set(text)
    return [[c for c in dict.fromkeys(guess.text[:1] for guess in best) if c not in excluded] for best in guesses]


@dataclass(frozen=True)
class _Tail:
    """The token ids of an edited text that have to be scored: those after its common prefix with the original text.

    original  0 · · · begin · · · · · same · · · N
    edited    0 · · · begin · · · same' · · · M
                      └─── ids ───┴── as in the original ──┘
    """

    begin: int  #: length of the common prefix
    ids: Ids  #: token ids after it
    num_changed: int  #: how many of `ids` are before the common suffix
    original_same: int  #: position in the original text where the common suffix starts
    original_end: int  #: `ids` replace the token ids of the original text from `begin` to here

    @classmethod
    def between(cls, original: Ids, edited: Ids) -> _Tail:
        """Return the tail of an edited text."""
        begin = common_prefix_length(original, edited)
        num_same = common_prefix_length(original[begin:][::-1], edited[begin:][::-1])
        return cls(begin, edited[begin:], len(edited) - begin - num_same, len(original) - num_same, len(original))

    def shortened(self, lookahead: int) -> _Tail:
        """Return the tail that ends `lookahead` token ids after the start of the common suffix."""
        size = min(len(self.ids), self.num_changed + lookahead)
        end = self.original_same + size - self.num_changed
        return _Tail(self.begin, self.ids[:size], self.num_changed, self.original_same, end)


def _gains(engine: Engine, original: _TextStates, tails: Sequence[_Tail]) -> NDArray[np.float64]:
    """Return log p of each tail minus log p of the token ids that it replaces, in nats, [len(tails)]."""
    gains = np.array([original.sums[tail.begin] - original.sums[tail.original_end] for tail in tails])
    order = sorted(range(len(tails)), key=lambda i: len(tails[i].ids))
    for first in range(0, len(order), BATCH_SIZE):
        batch = order[first : first + BATCH_SIZE]
        lengths = np.array([len(tails[i].ids) for i in batch])
        ids = np.zeros((int(lengths.max()), len(batch)), dtype=np.int64)  # [T, B]
        for b, i in enumerate(batch):
            ids[: lengths[b], b] = tails[i].ids
        log_probs = np.stack([original.log_probs[tails[i].begin] for i in batch])  # [B, V]
        state = concatenate_states([original.states[tails[i].begin] for i in batch])
        rows = np.arange(len(batch))
        for t, current in enumerate(ids):
            is_inside = t < lengths
            gains[batch] += np.where(is_inside, log_probs[rows, current] + original.spelling[current], 0.0)
            if t + 1 < len(ids):
                logits, state = engine.step(current, state)
                log_probs = log_softmax(logits)
    return gains
