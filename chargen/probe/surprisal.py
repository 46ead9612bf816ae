"""The surprisal of each character of a text, and the characters that the model expected instead.

The surprisals are those of the text's score. The guesses, which are the most likely next characters at each position,
are computed here for any tokenizer.

If each character is one token id, the guesses are the most likely token ids. A character may also be spelled by several
token ids, as in a model of bytes. Its probability is then a product, and a best-first search extends the most likely
incomplete character until no incomplete character is more likely than the last of the best complete ones, so the result
is exact:

    log p   −1.1  E2 ─▶ −1.9  E2 80 ─▶ −2.0  E2 80 99 = ’
            −1.7  e
            −2.6  CC                      for two guesses CC is not extended: ’ and e are more likely

In a sentencepiece model a guess is a piece.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.engines.interface import (
    Engine,
    EngineState,
    Step,
    concatenate_states,
    log_softmax,
    read_context,
    step_through,
)
from chargen.sampling.prefix_cache import PrefixCache
from chargen.tokenizers.direction import reverse_pieces
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, StreamingDecoder, Tokenizer

MASKED_NATS = 1e29  #: a token id with a higher −log p is one that a mask forbids (`cells/weights.py`)
BLOCK_SIZE = 256  #: positions whose distributions and states are in memory at a time


@dataclass(frozen=True)
class Guess:
    """A possible next character (a piece, if the tokenizer is sentencepiece), or the end of the text."""

    text: str  #: "" for the end
    prob: float

    def to_json(self) -> dict[str, Any]:
        """Return the guess as JSON values; the text is null for the end."""
        return {"text": self.text or None, "prob": self.prob}


@dataclass(frozen=True)
class CharSurprisal:
    """One character of a text (a piece, if the tokenizer is sentencepiece), or the end of the text."""

    text: str  #: "" for the end
    log_prob_nats: float  #: log p given everything before it
    unknown: bool = False  #: whether the vocabulary lacks it
    guesses: tuple[Guess, ...] = ()  #: the characters that the model expects here, the most likely first

    @property
    def surprisal_bits(self) -> float:
        """−log₂ p."""
        return (0.0 - self.log_prob_nats) / LN2  # not -x, which is -0.0 for 0

    def to_json(self) -> dict[str, Any]:
        """Return the character as JSON values, with units in the keys."""
        values: dict[str, Any] = {
            "character": self.text,
            "log_prob_nats": self.log_prob_nats,
            "surprisal_bits": self.surprisal_bits,
        }
        if self.unknown:
            values["unknown"] = True
        if self.guesses:
            values["guesses"] = [guess.to_json() for guess in self.guesses]
        return values


def char_surprisals(
    pieces: Iterable[tuple[str, float]],
    end_log_prob_nats: float | None,
    unknown: str,
    guesses: Iterable[tuple[Guess, ...]] | None = None,
) -> Iterator[CharSurprisal]:
    """Yield the characters of a text. Their texts joined are the text, and the sum of their log p is exactly its own.

    Args:
        pieces: Characters and their log p in nats, from the text's Score.
        end_log_prob_nats: Log p of the end, which is yielded last; None if it was not scored.
        unknown: Characters that the vocabulary lacks.
        guesses: Guesses at each position, as `best_guesses` yields them.
    """
    unknown_set = set(unknown)
    end = [] if end_log_prob_nats is None else [("", end_log_prob_nats)]
    for (text, nats), best in zip([*pieces, *end], repeat(()) if guesses is None else guesses, strict=False):
        yield CharSurprisal(text, nats, not unknown_set.isdisjoint(text), best)


def best_guesses(
    engine: Engine, tokenizer: Tokenizer, context: Ids, text: str, num_guesses: int = 5, with_end: bool = False
) -> Iterator[tuple[Guess, ...]]:
    """Yield the most likely characters at the position of each character of a text, and after the last one.

    Args:
        engine: NumPy engine of the model.
        tokenizer: Tokenizer of the model.
        context: Ids before the text, at least one.
        text: Text in the form of the training text.
        num_guesses: Number of guesses at each position.
        with_end: Whether the end of the text can be a guess, as in a model of documents.

    Raises:
        TokenizerError: If the text cannot be encoded.
    """
    steps = _char_steps(engine, tokenizer, context, text)
    while block := list(islice(steps, BLOCK_SIZE)):
        log_probs = np.stack([log_softmax(step.logits)[0] for step in block])
        states = concatenate_states([step.state for step in block])
        yield from map(tuple, find_likely_chars(engine, tokenizer, log_probs, states, num_guesses, with_end))


def text_guesses(
    engine: Engine, checkpoint: Checkpoint, text: str, context: str | None, num_guesses: int
) -> Iterator[tuple[Guess, ...]]:
    """Yield what a model expects at each character of a text in reading order, and last what it expects after the text.

    Args:
        engine: NumPy engine of the model.
        checkpoint: The model.
        text: Normalized text in reading order.
        context: Text that is read before it.
        num_guesses: Number of guesses at each position.

    Raises:
        TokenizerError: If the text cannot be encoded.
    """
    tokenizer, ordered = checkpoint.tokenizer, checkpoint.reorder(text)
    ids, with_end = checkpoint.encode_context(context), checkpoint.has_documents
    guesses = best_guesses(engine, tokenizer, ids, ordered, num_guesses, with_end)
    if not checkpoint.data.is_backward:
        yield from guesses
        return
    decoder = StreamingDecoder(tokenizer)
    ends = accumulate(len(decoder.feed(token_id)) for token_id in tokenizer.encode(ordered).tolist())
    pieces = [ordered[begin:end] for begin, end in pairwise(dict.fromkeys([0, *ends]))]
    *at_pieces, after = guesses
    yield from (at_pieces[group[0]] for group in reverse_pieces(pieces))
    yield after


def guesses_after(engine: Engine, checkpoint: Checkpoint, prefix: PrefixCache, num_guesses: int) -> tuple[Guess, ...]:
    """Return the most likely characters after a text that the model has read, the likeliest first.

    Args:
        engine: NumPy engine of the model.
        checkpoint: The model.
        prefix: The cache of the whole text (`sampling/prefix_cache.py`).
        num_guesses: Number of characters.
    """
    logits, state = engine.step(prefix.ids[-1:], prefix.state)
    log_probs, with_end = log_softmax(logits), checkpoint.has_documents
    return tuple(find_likely_chars(engine, checkpoint.tokenizer, log_probs, state, num_guesses, with_end)[0])


def _char_steps(engine: Engine, tokenizer: Tokenizer, context: Ids, text: str) -> Iterator[Step]:
    """Yield the step before the first token id of each character, and the step after the last character."""
    ids = tokenizer.encode(text)
    decoder = StreamingDecoder(tokenizer)
    char_step = read_context(engine, context)
    for token_id, step in zip(ids.tolist(), step_through(engine, ids, char_step.state), strict=True):
        if decoder.feed(token_id):
            yield char_step
            char_step = step
    yield char_step


def find_likely_chars(
    engine: Engine,
    tokenizer: Tokenizer,
    log_probs: NDArray[np.float64],
    states: EngineState,
    num_guesses: int,
    with_end: bool = False,
) -> list[list[Guess]]:
    """Return the most likely next characters at each of N positions, the best first.

    Args:
        engine: NumPy engine of the model.
        tokenizer: Tokenizer of the model.
        log_probs: Log p of every next token id at each position, in nats, [N, V].
        states: State of N streams, one before each position.
        num_guesses: Number of characters at each position.
        with_end: Whether the end of the text can be a guess, as in a model of documents.
    """
    spelling = _Spelling(tokenizer, with_end)
    searches = [_Search(num_guesses, spelling) for _ in log_probs]
    nodes: list[tuple[EngineState, int]] = []  # a state of several streams, and the number of a stream in it
    for n, search in enumerate(searches):
        nodes.append((states, n))
        search.extend(n, b"", 0.0, log_probs[n])
    while True:
        partials = [(search, partial) for search in searches if (partial := search.next_partial())]
        if not partials:
            break
        parents = [nodes[partial.node] for _, partial in partials]
        before = concatenate_states([engine.select(state, np.array([row])) for state, row in parents])
        logits, after = engine.step(np.array([partial.token_id for _, partial in partials]), before)
        next_log_probs = log_softmax(logits)
        for row, (search, partial) in enumerate(partials):
            nodes.append((after, row))
            search.extend(len(nodes) - 1, partial.spelled, partial.nats, next_log_probs[row])
    return [[Guess(text, math.exp(-nats)) for nats, text in search.complete] for search in searches]


class _Partial(NamedTuple):
    """An incomplete character. The heap orders them by their −log p."""

    nats: float  #: −log p
    node: int  #: number of the state before `token_id`
    spelled: bytes  #: bytes so far, those of `token_id` included
    token_id: int  #: last token id, which has not been read yet


@dataclass(frozen=True)
class _Spelling:
    """Decodes the bytes of token ids to the character that they spell."""

    tokenizer: Tokenizer
    with_end: bool

    def decode(self, spelled: bytes, token_id: int) -> str | None:
        """Return the text that a token id completes; "" for the end or a part of a character; None if it is invalid."""
        if token_id == BOUNDARY_ID:
            return "" if self.with_end and not spelled else None
        if token_id == self.tokenizer.unknown_id:
            return None
        spelled += self.tokenizer.token_bytes(token_id)
        try:
            return spelled.decode("utf-8") or None
        except UnicodeDecodeError as error:
            return "" if error.reason == "unexpected end of data" else None


@dataclass
class _Search:
    """The best-first search at one position."""

    num_guesses: int
    spelling: _Spelling
    complete: list[tuple[float, str]] = field(default_factory=list)  #: (−log p, text), the best first
    partial: list[_Partial] = field(default_factory=list)  #: heap, the most likely first

    def extend(self, node: int, spelled: bytes, nats: float, log_probs: NDArray[np.float64]) -> None:
        """Extend a character by each possible next token id, the most likely first, until no id can change the result.

        Args:
            node: Number of the state before the next token id.
            spelled: Bytes of the character so far.
            nats: −log p of these bytes.
            log_probs: Log p of every next token id, [V].
        """
        for token_id in np.argsort(-log_probs, kind="stable").tolist():
            cost = nats - float(log_probs[token_id])
            is_full = len(self.complete) == self.num_guesses
            if cost > MASKED_NATS or is_full and cost >= self.complete[-1][0]:
                return  # the other token ids are masked, or less likely than the characters found so far
            text = self.spelling.decode(spelled, token_id)
            if text is None:
                continue
            if text or token_id == BOUNDARY_ID:
                insort(self.complete, (cost, text))
                del self.complete[self.num_guesses :]
            else:
                longer = spelled + self.spelling.tokenizer.token_bytes(token_id)
                heapq.heappush(self.partial, _Partial(cost, node, longer, token_id))

    def next_partial(self) -> _Partial | None:
        """Remove and return the most likely incomplete character, if it can still become one of the best."""
        is_full = len(self.complete) == self.num_guesses
        if self.partial and not (is_full and self.partial[0].nats >= self.complete[-1][0]):
            return heapq.heappop(self.partial)
        return None
