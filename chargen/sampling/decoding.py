"""Writing one text: draw one id after another, and yield characters as soon as they stand.

logits [V] ─▶ forbid what no text holds ─▶ guides ─▶ temper, truncate ─▶ draw ─▶ id ─▶ characters
     ▲                                                                          │
     └────────────────────── the stream's next step ◀───────────────────────────┘

Writing many texts side by side: one step of all of them is one batch of matrix products.

    logits [B, V] ─▶ forbid what no text holds ─▶ guides, a row each ─▶ temper, truncate ─▶ draw, a row each ─▶ ids [B]
         ▲                                                                                                      │
         └─────────────────────────────── engine: one step of all rows ◀────────────────────────────────────────┘

Each text has random numbers of its own, so what it says does not depend on which others are written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.config import SampleConfig
from chargen.engines.interface import Engine, EngineState, Stream
from chargen.sampling.logits_rules import (
    AT_ONCE,
    MIN_TEMPERATURE,
    OUT,
    Logits,
    check_finite,
    draw,
    draw_rows,
    first_above,
    warp_logits,
)
from chargen.sampling.sequence import GeneratedSequence, GenerationContext, apply_processors
from chargen.tokenizers.tokenizer import BOUNDARY_ID, WHOLE, Ids, StreamingDecoder

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
    engine: Engine,
    beginning: GenerationContext,
    stream: Stream,
    logits: Logits,
    writer: GeneratedSequence,
    rng: np.random.Generator,
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
            logits = apply_processors(logits[None], [writer], beginning.config.temperature)[0]
        token_id = draw(warp_logits(logits, beginning.config), rng)
        writer.take(token_id)
        piece = writer.pop()
        if piece:
            yield piece
        if not writer.ended:
            if token_id == BOUNDARY_ID:  # the next document begins as every one does
                stream = engine.stream(engine.initial_state(1))
            logits = stream.step(token_id).astype(np.float64)


def write_characters(
    beginning: GenerationContext, stream: Stream, logits: Logits, rng: np.random.Generator
) -> Iterator[str]:
    """Do the same where an id is a character and nothing but its length ends a text, with less work for each."""
    tokenizer, config, left = beginning.tokenizer, beginning.config, beginning.config.length
    texts = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
    added = beginning.spelling.added[WHOLE]
    draw_id, row = _draw(config, added), logits.astype(np.float32)
    draws = None
    while left > 0:
        uniforms = rng.random(min(AT_ONCE, left)).tolist()  # those that single calls would give
        if not draws and not config.has_truncation and config.temperature > 0.0:
            draws = stream.draws(added, 1.0 / max(config.temperature, MIN_TEMPERATURE))
        if draws:
            yield from map(texts.__getitem__, draws(uniforms))
        else:
            for uniform in uniforms:
                token_id = draw_id(row, uniform)
                yield texts[token_id]
                row = stream.step(token_id)
        left -= AT_ONCE


def write_plainly(
    beginning: GenerationContext, stream: Stream, logits: Logits, rng: np.random.Generator
) -> Iterator[str]:
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
    if config.has_truncation or config.temperature == 0.0:
        return lambda logits, uniform: first_above(uniform, np.exp(warp_logits(logits + added, config)).cumsum())
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


DEAD_END = "dead end"  #: how a particle ended to which everything was forbidden


def write_many(
    engine: Engine,
    beginning: GenerationContext,
    logits: Logits,
    state: EngineState,
    writers: Sequence[GeneratedSequence],
    rngs: Sequence[np.random.Generator],
) -> Iterator[tuple[int, str]]:
    """Write texts side by side, until all have ended.

    Args:
        engine: the model.
        beginning: what they share.
        logits, state: after it, of one stream.
        writers: a new one for each text; they say afterwards why each ended.
        rngs: a generator for each.

    Yields:
        (which text, what it goes on with).
    """
    alive = [k for k, writer in enumerate(writers) if not writer.ended]
    rows = np.repeat(logits[None], len(alive), axis=0)
    lanes = engine.stream_batch(engine.select(state, np.zeros(len(alive), dtype=np.intp)))
    while alive:
        drawn = choose(rows, [writers[k] for k in alive], [rngs[k] for k in alive], beginning)
        kept = []
        for row, (k, token_id) in enumerate(zip(alive, drawn, strict=True)):
            writer = writers[k]
            writer.take(token_id)
            piece = writer.pop()
            if piece:
                yield k, piece
            if not writer.ended:
                kept.append(row)
        if len(kept) < len(alive):
            alive, drawn = [alive[row] for row in kept], [drawn[row] for row in kept]
            lanes = lanes.select(np.array(kept, dtype=np.intp))
        if alive:
            fresh = begun(drawn)
            if len(fresh):
                lanes.reset(fresh)
            rows = lanes.step(np.array(drawn)).astype(np.float64)


def draw_ids(
    engine: Engine,
    beginning: GenerationContext,
    logits: Logits,
    state: EngineState,
    rngs: Sequence[np.random.Generator],
    num_ids: int,
) -> Ids:
    """Draw as many ids for each text as it has characters, [T, B]: all there is to do where nothing else ends a text.

    The same as `write_many`, without the work for each character. `num_ids` is the number drawn in all, these included.
    """
    config, count = beginning.config, len(rngs)
    ids = np.empty((config.length, count), dtype=np.int32)
    if not config.length:
        return ids
    added = beginning.spelling.added[WHOLE]
    ids[0] = draw_rows(warp_logits(np.tile(logits + added, (count, 1)), config), _random(rngs, 1)[0])
    lanes = engine.stream_batch(engine.select(state, np.zeros(count, dtype=np.intp)), num_ids)
    inverse = 1.0 / max(config.temperature, MIN_TEMPERATURE)
    draws = None if config.has_truncation or config.temperature == 0.0 else lanes.draws(added, inverse)
    if draws:
        lanes.step(ids[0])
    for begin in range(1, config.length, AT_ONCE):
        uniforms = _random(rngs, min(AT_ONCE, config.length - begin))
        if draws:
            for t, drawn in enumerate(draws(uniforms), begin):
                ids[t] = drawn
        else:
            for t, row in enumerate(uniforms, begin):
                ids[t] = draw_rows(warp_logits(lanes.step(ids[t - 1]) + added, config), row)
    return ids


def _random(rngs: Sequence[np.random.Generator], count: int) -> NDArray[np.float64]:
    """Return so many random numbers of each generator, [count, B]: those that single calls would give."""
    return np.stack([rng.random(count) for rng in rngs], axis=1)


def step(engine: Engine, ids: Sequence[int], state: EngineState) -> tuple[Logits, EngineState]:
    """Read an id a stream; with the boundary a document ends, and what follows is read as every beginning is."""
    fresh = begun(ids)
    if len(fresh):
        state = engine.reset(state, fresh)
    logits, state = engine.step(np.array(ids), state)
    return logits.astype(np.float64), state


def begun(ids: Sequence[int]) -> NDArray[np.intp]:
    """Return the streams whose id is the boundary: there a document has ended, and another begins."""
    return np.array([row for row, token_id in enumerate(ids) if token_id == BOUNDARY_ID], dtype=np.intp)


def choose(
    rows: Logits,
    writers: Sequence[GeneratedSequence],
    rngs: Sequence[np.random.Generator],
    beginning: GenerationContext,
) -> list[int]:
    """Draw an id for each row of logits [B, V]."""
    config, rows = beginning.config, beginning.spelled(rows, writers)
    if beginning.guides:
        rows = apply_processors(rows, writers, config.temperature)
    found: list[int] = draw_rows(warp_logits(rows, config), np.array([rng.random() for rng in rngs])).tolist()
    return found


def draw_particles(
    rows: Logits, writers: Sequence[GeneratedSequence], rng: np.random.Generator, beginning: GenerationContext
) -> dict[int, int]:
    """Draw an id for each row of logits [B, V]; return those that the writers took, by their rows.

    A writer to which everything is forbidden gets none: it has ended, and its weight is 0.
    """
    rows = beginning.spelled(rows, writers)
    if beginning.guides:
        rows = apply_processors(rows, writers, beginning.config.temperature, dead_ends=True)
    live = np.flatnonzero(rows.max(axis=1) > OUT)
    for row in set(range(len(writers))) - set(live.tolist()):
        writers[row].ended = DEAD_END
    if not len(live):
        return {}
    uniforms = np.array([rng.random() for _ in live])
    drawn: list[int] = draw_rows(warp_logits(rows[live], beginning.config), uniforms).tolist()
    return {row: token_id for row, token_id in zip(live.tolist(), drawn, strict=True) if writers[row].take(token_id)}
