"""Where a text surprises its model, and what the model had thought of instead.

The numbers are those of the text's score, character by character; the guesses beside them are worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine, EngineState, log_softmax
from chargen.engine.guesses import Guess, likeliest
from chargen.engine.states import joined
from chargen.text.tokenizer import Ids, StreamingDecoder, Tokenizer

LN2 = math.log(2)
BLOCK = 256  #: places whose distributions and states are in memory at a time


@dataclass(frozen=True)
class Place:
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
) -> Iterator[Place]:
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
        yield Place(text, nats, not strange.isdisjoint(text), best)


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
        log_probs, states = np.stack([log_probs for log_probs, _ in block]), joined([state for _, state in block])
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
