"""Where a text surprises its model, and what the model had thought of instead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
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
    surprisal_bits: float  #: −log₂ p, given all that stands before it
    unknown: bool  #: whether the model does not know it
    guesses: tuple[Guess, ...]  #: what the model held likeliest here, the best first

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"character": self.text, "surprisal_bits": self.surprisal_bits}
        if self.unknown:
            values["unknown"] = True
        if self.guesses:
            values["guesses"] = [guess.to_json() for guess in self.guesses]
        return values


def places(
    engine: Engine,
    tokenizer: Tokenizer,
    context: Ids,
    text: str,
    most: int = 5,
    documents: bool = False,
    end: Ids | None = None,
) -> Iterator[Place]:
    """Yield a text's characters, each with its surprisal and the model's best guesses in its place.

    The surprisals add up to −log₂ p of the text; put end to end the characters are the text.

    Args:
        engine: the NumPy engine.
        tokenizer: the model's.
        context: what the text begins after, at least one id.
        text: in the training text's form.
        most: guesses for each place; 0 for none.
        documents: whether the model is one of documents, which may end: the end is a guess then.
        end: what follows a text, if that counts too: the last place then is the end, without a character.

    Raises:
        TokenizerError: the text cannot be encoded.
    """
    reading = _read(engine, tokenizer, context, text, end)
    while block := list(islice(reading, BLOCK)):
        guesses: list[list[Guess]] = [[] for _ in block]
        if most:
            log_probs, states = np.stack([b[3] for b in block]), joined([b[4] for b in block])
            guesses = likeliest(engine, tokenizer, log_probs, states, most, documents)
        for (written, bits, unknown, _, _), best in zip(block, guesses, strict=True):
            yield Place(written, bits, unknown, tuple(best))


def _read(
    engine: Engine, tokenizer: Tokenizer, context: Ids, text: str, end: Ids | None
) -> Iterator[tuple[str, float, bool, NDArray[np.float64], EngineState]]:
    """Yield (character, surprisal, unknown, log p of every id in its first one's place, the state there)."""
    ids = tokenizer.encode(text)
    unknown, spelling_nats = tokenizer.unknown(ids), tokenizer.spelling_nats(ids)
    state, logits = engine.initial_state(1), np.empty((1, 0), dtype=np.float32)
    for token_id in context.tolist():
        logits, state = engine.step(np.array([token_id]), state)
    decoder, place, nats = StreamingDecoder(tokenizer), 0, 0.0
    log_probs, before = log_softmax(logits)[0], state  # at the first id of the character
    here = log_probs
    for n, token_id in enumerate(ids.tolist()):
        nats -= float(here[token_id] + spelling_nats[n])
        logits, state = engine.step(np.array([token_id]), state)
        here = log_softmax(logits)[0]
        written = decoder.feed(token_id)
        if written:  # an unknown character is shown as it stands in the text
            shown = text[place : place + len(written)]
            yield shown, nats / LN2, bool(unknown[n]), log_probs, before
            place, nats, log_probs, before = place + len(written), 0.0, here, state
    if end is not None:
        for token_id in end.tolist():
            nats -= float(here[token_id])
            logits, state = engine.step(np.array([token_id]), state)
            here = log_softmax(logits)[0]
        yield "", nats / LN2, False, log_probs, before
