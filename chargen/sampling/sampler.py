"""Writing one text: draw one id after another, and yield characters as soon as they stand.

logits [V] ─▶ forbid what no text holds ─▶ guides ─▶ temper, truncate ─▶ draw ─▶ id ─▶ characters
     ▲                                                                          │
     └────────────────────── the stream's next step ◀───────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from chargen.config import SampleConfig
from chargen.engine.engine import Engine, EngineState, Stream
from chargen.sampling.rules import AT_ONCE, MIN_TEMPERATURE, Logits, check_finite, draw, first_above, ruled
from chargen.sampling.spelling import WHOLE
from chargen.sampling.writer import Beginning, Writer, guided
from chargen.text.tokenizer import BOUNDARY_ID, Ids, StreamingDecoder

Draw = Callable[[NDArray[np.float32], float], int]  #: logits [V] and a random number → an id


def prime(engine: Engine, ids: Ids, state: EngineState | None = None) -> tuple[Stream, Logits]:
    """Read ids, at least one: → (a stream that has read them, the logits of the next [V]).

    Raises:
        ModelError: the logits are not finite.
    """
    stream = engine.stream(engine.initial_state(1) if state is None else state)
    for token_id in ids.tolist():
        logits = stream.step(token_id)
    check_finite(logits)
    return stream, logits.astype(np.float64)


def write(
    engine: Engine, beginning: Beginning, stream: Stream, logits: Logits, writer: Writer, rng: np.random.Generator
) -> Iterator[str]:
    """Write a text until it ends.

    Args:
        engine: the model.
        beginning: what the text begins with, and how it goes on.
        stream, logits: after it.
        writer: a new one; it says afterwards why the text ended.
        rng: random numbers.

    Yields:
        What the text goes on with.
    """
    added = beginning.spelling.added
    while not writer.ended:
        logits += added[writer.torn]
        if beginning.guides:
            logits = guided(logits[None], [writer], beginning.config.temperature)[0]
        token_id = draw(ruled(logits, beginning.config), rng)
        writer.take(token_id)
        piece = writer.pop()
        if piece:
            yield piece
        if not writer.ended:
            if token_id == BOUNDARY_ID:  # the next document begins as every one does
                stream = engine.stream(engine.initial_state(1))
            logits = stream.step(token_id).astype(np.float64)


def write_characters(beginning: Beginning, stream: Stream, logits: Logits, rng: np.random.Generator) -> Iterator[str]:
    """Do the same where an id is a character and nothing but its length ends a text, with less work for each."""
    tokenizer, config, left = beginning.tokenizer, beginning.config, beginning.config.length
    texts = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
    added = beginning.spelling.added[WHOLE]
    draw_id, row = _draw(config, added), logits.astype(np.float32)
    draws = None
    while left > 0:
        uniforms = rng.random(min(AT_ONCE, left)).tolist()  # those that single calls would give
        if not draws and not config.truncates and config.temperature > 0.0:
            draws = stream.draws(added, 1.0 / max(config.temperature, MIN_TEMPERATURE))
        if draws:
            yield from map(texts.__getitem__, draws(uniforms))
        else:
            for uniform in uniforms:
                token_id = draw_id(row, uniform)
                yield texts[token_id]
                row = stream.step(token_id)
        left -= AT_ONCE


def write_plainly(beginning: Beginning, stream: Stream, logits: Logits, rng: np.random.Generator) -> Iterator[str]:
    """Do the same where an id is a byte or a piece of text and nothing but its length ends a text."""
    tokenizer, config, left = beginning.tokenizer, beginning.config, beginning.config.length
    decoder, after, torn = StreamingDecoder(tokenizer), beginning.spelling.after, WHOLE
    draws = [_draw(config, added) for added in beginning.spelling.added]
    texts: dict[int, str] = {}  # of ids that are whole characters
    row = logits.astype(np.float32)
    while left > 0:
        for uniform in rng.random(AT_ONCE).tolist():  # those that single calls would give
            token_id = draws[torn](row, uniform)
            before, torn = torn, after[torn][token_id]
            piece = texts.get(token_id) if before == torn == WHOLE else None
            if piece is None:
                piece = decoder.feed(token_id)
                if before == torn == WHOLE and not config.allow_invalid_utf8:
                    texts[token_id] = piece
            if piece:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return
            row = stream.step(token_id)


def _draw(config: SampleConfig, added: NDArray[np.float64]) -> Draw:
    """Return what draws an id: the rules in as few calls as can be."""
    if config.truncates or config.temperature == 0.0:
        return lambda logits, uniform: first_above(uniform, np.exp(ruled(logits + added, config)).cumsum())
    scale, accumulate, x = (
        np.array(1.0 / max(config.temperature, MIN_TEMPERATURE)),
        np.add.accumulate,
        np.empty(len(added)),
    )

    def by_numpy(logits: NDArray[np.float32], uniform: float) -> int:
        np.multiply(logits, scale, x)
        np.add(x, added, x)
        np.subtract(x, x[x.argmax()], x)
        np.exp(x, x)
        accumulate(x, 0, None, x)
        return first_above(uniform, x)

    return by_numpy
