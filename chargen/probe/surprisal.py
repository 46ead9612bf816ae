"""The likeliest next characters, whatever the ids of a model are.

A character is one id, or the bytes of several. Its probability is then a product, and the search opens the likeliest
torn character until no torn one is likelier than the last of the best whole ones:

    log p   −1.1  E2 ─▶ −1.9  E2 80 ─▶ −2.0  E2 80 99 = ’
            −1.7  e
            −2.6  CC                      not opened where two are asked for: ’ and e are likelier

So what it finds are the best, exactly. Of a model of pieces a guess is a piece.

Where a text surprises its model, and what the model had thought of instead.

The numbers are those of the text's score, character by character; the guesses beside them are worked out here.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState, concatenate_states, log_softmax
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, StreamingDecoder, Tokenizer

IMPOSSIBLE = 1e29  #: nats: what costs more is an id that a mask rules out (`cells/weights.py`)


@dataclass(frozen=True)
class Guess:
    """What may come next: a character (a piece, of a sentencepiece model), or the end of the text."""

    text: str  #: "" for the end
    prob: float

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text or None, "prob": self.prob}


@dataclass
class _Search:
    """The search at one place."""

    most: int
    whole: list[tuple[float, str]] = field(default_factory=list)  #: (−log p, text), the best first
    torn: list[tuple[float, int, bytes, int]] = field(default_factory=list)  #: heap of (−log p, node, bytes, id)

    def open(self, node: int, spelled: bytes, nats: float, log_probs: NDArray[np.float64], ends: _Spelling) -> None:
        """Add what one more id may make of the bytes so far, the likeliest first, until nothing can matter."""
        for token_id in np.argsort(-log_probs, kind="stable").tolist():
            cost = nats - float(log_probs[token_id])
            if cost > IMPOSSIBLE or len(self.whole) == self.most and cost >= self.whole[-1][0]:
                return  # only masked ids are left, or nothing that is as likely as the best
            text = ends.text(spelled, token_id)
            if text is None:
                continue
            if text or token_id == BOUNDARY_ID:
                insort(self.whole, (cost, text))
                del self.whole[self.most :]
            else:
                heapq.heappush(self.torn, (cost, node, spelled + ends.tokenizer.token_bytes(token_id), token_id))

    def next_torn(self) -> tuple[float, int, bytes, int] | None:
        """Return the likeliest torn character if it may still become one of the best."""
        if self.torn and (len(self.whole) < self.most or self.torn[0][0] < self.whole[-1][0]):
            return heapq.heappop(self.torn)
        return None


@dataclass(frozen=True)
class _Spelling:
    """What ids make of bytes."""

    tokenizer: Tokenizer
    with_end: bool

    def text(self, spelled: bytes, token_id: int) -> str | None:
        """Return the text that an id completes; "" for the end, and while it is torn; None where it makes none."""
        if token_id == BOUNDARY_ID:
            return "" if self.with_end and not spelled else None
        if token_id == self.tokenizer.unknown_id:
            return None
        written = spelled + self.tokenizer.token_bytes(token_id)
        try:
            return written.decode("utf-8") or None
        except UnicodeDecodeError as error:
            return "" if error.reason == "unexpected end of data" else None


def likeliest(
    engine: Engine,
    tokenizer: Tokenizer,
    log_probs: NDArray[np.float64],
    states: EngineState,
    most: int,
    with_end: bool = False,
) -> list[list[Guess]]:
    """Return the likeliest next characters at each of N places, the best first.

    Args:
        engine: the NumPy engine.
        tokenizer: the model's.
        log_probs: of every id at each place, in nats, [N, V].
        states: after what stands before the places, of N streams.
        most: how many for each place.
        with_end: whether a text may end, as a model of documents says.
    """
    spelling = _Spelling(tokenizer, with_end)
    searches = [_Search(most) for _ in log_probs]
    nodes: list[tuple[EngineState, int]] = []  # a state of several streams, and which of them
    for n, search in enumerate(searches):
        nodes.append((states, n))
        search.open(n, b"", 0.0, log_probs[n], spelling)
    while True:
        found = [(search, torn) for search in searches if (torn := search.next_torn())]
        if not found:
            break
        befores = concatenate_states(
            [engine.select(nodes[node][0], np.array([nodes[node][1]])) for _, (_, node, _, _) in found]
        )
        logits, after = engine.step(np.array([token_id for _, (_, _, _, token_id) in found]), befores)
        for row, ((search, (nats, _, spelled, _)), next_log_probs) in enumerate(
            zip(found, log_softmax(logits), strict=True)
        ):
            nodes.append((after, row))
            search.open(len(nodes) - 1, spelled, nats, next_log_probs, spelling)
    return [[Guess(text, math.exp(-nats)) for nats, text in search.whole] for search in searches]


BLOCK = 256  #: places whose distributions and states are in memory at a time


@dataclass(frozen=True)
class CharSurprisal:
    """One character of a text (a piece, of a sentencepiece model)."""

    text: str  #: "" for the end
    log_prob_nats: float  #: log p, given all that stands before it
    unknown: bool = False  #: whether the model does not know it
    guesses: tuple[Guess, ...] = ()  #: what the model held likeliest here, the best first

    @property
    def surprisal_bits(self) -> float:
        """−log₂ p."""
        return -self.log_prob_nats / LN2

    def to_json(self) -> dict[str, Any]:
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


def places(
    pieces: Iterable[tuple[str, float]],
    end_log_prob_nats: float | None,
    unknown: str,
    guesses: Iterable[tuple[Guess, ...]] | None = None,
) -> Iterator[CharSurprisal]:
    """Yield a text's characters; put end to end they are the text, and their log p add up to its own, exactly.

    Args:
        pieces: of the text's score: characters and log p, in nats.
        end_log_prob_nats: of its end, which is the last place then, without a character; None: it was not scored.
        unknown: the characters that the model does not know.
        guesses: for each place, as `best_guesses` yields them.
    """
    strange = set(unknown)
    ends = [] if end_log_prob_nats is None else [("", end_log_prob_nats)]
    for (text, nats), best in zip([*pieces, *ends], repeat(()) if guesses is None else guesses, strict=False):
        yield CharSurprisal(text, nats, not strange.isdisjoint(text), best)


def best_guesses(
    engine: Engine, tokenizer: Tokenizer, context: Ids, text: str, most: int = 5, documents: bool = False
) -> Iterator[tuple[Guess, ...]]:
    """Yield the model's best guesses in each character's place, and behind the last one.

    Args:
        engine: the NumPy engine.
        tokenizer: the model's.
        context: what the text begins after, at least one id.
        text: in the training text's form.
        most: guesses for each place.
        documents: whether the model is one of documents, which may end: the end is a guess then.

    Raises:
        TokenizerError: the text cannot be encoded.
    """
    reading = _read(engine, tokenizer, context, text)
    while block := list(islice(reading, BLOCK)):
        log_probs, states = (
            np.stack([log_probs for log_probs, _ in block]),
            concatenate_states([state for _, state in block]),
        )
        yield from map(tuple, likeliest(engine, tokenizer, log_probs, states, most, documents))


def _read(
    engine: Engine, tokenizer: Tokenizer, context: Ids, text: str
) -> Iterator[tuple[NDArray[np.float64], EngineState]]:
    """Yield (log p of every id, the state) in the place of each character's first id, and behind the last one."""
    state, logits = engine.initial_state(1), np.empty((1, 0), dtype=np.float32)
    for token_id in context.tolist():
        logits, state = engine.step(np.array([token_id]), state)
    decoder, place = StreamingDecoder(tokenizer), (log_softmax(logits)[0], state)
    for token_id in tokenizer.encode(text).tolist():
        logits, state = engine.step(np.array([token_id]), state)
        if decoder.feed(token_id):
            yield place
            place = (log_softmax(logits)[0], state)
    yield place
