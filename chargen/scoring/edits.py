"""Single edits of a text that raise its probability most: a spelling mistake shows itself.

    replace   a character by another            x<i · c   · x>i
    delete    a character                       x<i ·     · x>i
    insert    one                               x<i · c   · x≥i
    swap      two neighbours                    x<i · x_{i+1} x_i · x>i+1

Texts of different length are compared by log p(text, and its end | context): a shorter text has fewer characters to pay
for, but it has to end where it does. The end of a running stream's text is a newline. That is log p of whole texts, and
no noisy channel (Kernighan, Church & Gale 1990): how likely each slip of a finger is plays no part.

What is exact: every value that is returned, of a text read from the place of its edit to its end. What is not: which
edits are tried. Of the characters that could be put in at a place, those are that the model holds likeliest there
(`characters`); and of all edits those are read to the end that are best `lookahead` ids behind the edit (`finalists`),
since a mistake troubles a model for a few characters only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState, concatenate_states, log_softmax
from chargen.errors import ConfigError
from chargen.probe.surprisal import likeliest
from chargen.tokenizers.tokenizer import Ids, Tokenizer

BATCH_SIZE = 256  #: edits that are read side by side
MAX_CHARS = 1000  #: of a text; the work grows with the square of it


@dataclass(frozen=True)
class Edit:
    """A change of one place, in characters of the text in the training text's form."""

    kind: str  #: "replace", "delete", "insert" or "swap"
    begin: int
    removed: str
    inserted: str

    def apply(self, text: str) -> str:
        return text[: self.begin] + self.inserted + text[self.begin + len(self.removed) :]


@dataclass(frozen=True)
class Suggestion:
    """An edit and what it gains. Both log p count the end of the text."""

    edit: Edit
    text: str  #: after the edit
    log_prob_nats: float  #: of that text and its end
    gain_nats: float  #: over the text as it was

    @property
    def gain_bits(self) -> float:
        return self.gain_nats / LN2

    def to_json(self) -> dict[str, Any]:
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


@dataclass(frozen=True)
class _Reading:
    """A text as it was read, with the state before each of its ids kept."""

    ids: Ids  #: the end included, [N]
    states: list[EngineState]  #: after the first n ids, n = 0…N
    log_probs: NDArray[np.float64]  #: of every id in the place of id n, [N + 1, V]
    spelling: NDArray[np.float64]  #: what an id costs beside that, [V]
    sums: NDArray[np.float64]  #: log p of the first n ids, [N + 1]


def suggest(
    engine: Engine,
    tokenizer: Tokenizer,
    context: Ids,
    end: Ids,
    text: str,
    normal: Callable[[str], str] = str,
    most: int = 5,
    characters: int = 16,
    finalists: int = 128,
    lookahead: int = 8,
) -> list[Suggestion]:
    """Return the edits that raise log p of the text and its end most, the best first; fewer if no more raise it.

    Args:
        engine: the NumPy engine.
        tokenizer: the model's.
        context: what the text begins after, at least one id.
        end: what follows a text: the boundary, or a newline's ids; no ids for a model that knows no end. Then edits
            that only cut off the end of the text are left out: they raise the probability of every text.
        text: in the training text's form.
        normal: what brings a text into that form; an inserted mark may join a letter.
        most: suggestions.
        characters: how many are tried in each place.
        finalists: how many edits are read to the end.
        lookahead: ids behind an edit after which they are chosen.

    Raises:
        TokenizerError: the text cannot be encoded.
        ConfigError: the text is too long.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(
            f"a text of {len(text):,} characters is too long for suggestions: the most is {MAX_CHARS:,}",
            "Give it sentence by sentence, a line each.",
        )
    before = _read(engine, tokenizer, context, np.concatenate([tokenizer.encode(text), end]))
    found: dict[str, Edit] = {text: Edit("replace", 0, "", "")}  # no edit
    for edit in _edits(text, _characters(engine, tokenizer, before, text, characters)):
        edited = normal(edit.apply(text))
        if len(end) or not text.startswith(edited):
            found.setdefault(edited, edit)
    del found[text]
    texts = list(found)
    tails = [_Tail.of(before.ids, np.concatenate([tokenizer.encode(edited), end])) for edited in texts]
    gains = _gains(engine, before, [tail.cut(lookahead) for tail in tails])
    chosen = np.argsort(-gains, kind="stable")[:finalists]
    gains = _gains(engine, before, [tails[i] for i in chosen])
    best = [k for k in np.argsort(-gains, kind="stable")[:most] if gains[k] > 0]
    whole = float(before.sums[-1])
    return [
        Suggestion(found[texts[chosen[k]]], texts[chosen[k]], whole + float(gains[k]), float(gains[k])) for k in best
    ]


def _edits(text: str, characters: Sequence[Sequence[str]]) -> Iterator[Edit]:
    """Yield the edits of a text; `characters` holds those to try in each place, the end included."""
    for i, char in enumerate(text):
        yield Edit("delete", i, char, "")
        if i + 1 < len(text):
            yield Edit("swap", i, text[i : i + 2], text[i + 1] + char)
        for other in characters[i]:
            yield Edit("replace", i, char, other)
    for i, others in enumerate(characters):
        for other in others:
            yield Edit("insert", i, "", other)


def _characters(engine: Engine, tokenizer: Tokenizer, before: _Reading, text: str, most: int) -> list[list[str]]:
    """Return the likeliest characters in each place of a text, [len(text) + 1]; newlines only if it has some itself."""
    prefixes = [_Tail.of(before.ids, tokenizer.encode(text[:i])) for i in range(len(text) + 1)]
    log_probs, states = [], []
    for prefix in prefixes:  # of most tokenizers there is nothing left to read
        state, here = before.states[prefix.begin], before.log_probs[prefix.begin]
        for token_id in prefix.ids.tolist():
            logits, state = engine.step(np.array([token_id]), state)
            here = log_softmax(logits)[0]
        log_probs.append(here)
        states.append(state)
    guesses = likeliest(engine, tokenizer, np.stack(log_probs), concatenate_states(states), most)
    unwanted = {"\n", "\r"} - set(text)
    return [[c for c in dict.fromkeys(guess.text[:1] for guess in best) if c not in unwanted] for best in guesses]


@dataclass(frozen=True)
class _Tail:
    """What is left to read of an edited text behind the ids that it begins with as the text before it does.

    before    0 · · · begin · · · · · same · · · N
    edited    0 · · · begin · · · same' · · · M
                      └── ids ──┴── as before ──┘
    """

    begin: int
    ids: Ids
    resumes: int  #: how many of `ids` are its own
    old_resumes: int  #: where the text before goes on as this one does
    old_end: int  #: the ids of the text before that `ids` stand for end here

    @classmethod
    def of(cls, old: Ids, new: Ids) -> _Tail:
        size = min(len(old), len(new))
        differ = np.flatnonzero(old[:size] != new[:size])
        begin = int(differ[0]) if len(differ) else size
        rest = size - begin
        differ = np.flatnonzero(old[::-1][:rest] != new[::-1][:rest])
        same = int(differ[0]) if len(differ) else rest
        return cls(begin, new[begin:], len(new) - begin - same, len(old) - same, len(old))

    def cut(self, lookahead: int) -> _Tail:
        """Return the tail that ends so many ids after the texts are the same again."""
        size = min(len(self.ids), self.resumes + lookahead)
        return _Tail(
            self.begin, self.ids[:size], self.resumes, self.old_resumes, self.old_resumes + size - self.resumes
        )


def _read(engine: Engine, tokenizer: Tokenizer, context: Ids, ids: Ids) -> _Reading:
    state, logits = engine.initial_state(1), np.empty((1, 0), dtype=np.float32)
    for token_id in context.tolist():
        logits, state = engine.step(np.array([token_id]), state)
    states, log_probs = [state], [log_softmax(logits)[0]]
    for token_id in ids.tolist():
        logits, state = engine.step(np.array([token_id]), state)
        states.append(state)
        log_probs.append(log_softmax(logits)[0])
    spelling = tokenizer.unk_log_prob_nats(np.arange(engine.vocab_size, dtype=np.int32))
    each = np.stack(log_probs)[np.arange(len(ids)), ids] + spelling[ids]
    return _Reading(ids, states, np.stack(log_probs), spelling, np.concatenate([[0.0], np.cumsum(each)]))


def _gains(engine: Engine, before: _Reading, tails: Sequence[_Tail]) -> NDArray[np.float64]:
    """Return log p of each tail less that of what stood there before, in nats, [len(tails)]."""
    gains = np.array([before.sums[tail.begin] - before.sums[tail.old_end] for tail in tails])
    order = sorted(range(len(tails)), key=lambda i: len(tails[i].ids))
    for first in range(0, len(order), BATCH_SIZE):
        batch = order[first : first + BATCH_SIZE]
        lengths = np.array([len(tails[i].ids) for i in batch])
        ids = np.zeros((int(lengths.max()), len(batch)), dtype=np.int64)  # [T, B]
        for b, i in enumerate(batch):
            ids[: lengths[b], b] = tails[i].ids
        log_probs = np.stack([before.log_probs[tails[i].begin] for i in batch])  # [B, V]
        state = concatenate_states([before.states[tails[i].begin] for i in batch])
        streams = np.arange(len(batch))
        for t, now in enumerate(ids):
            inside = t < lengths
            gains[batch] += np.where(inside, log_probs[streams, now] + before.spelling[now], 0.0)
            if t + 1 < len(ids):
                logits, state = engine.step(now, state)
                log_probs = log_softmax(logits)
    return gains
