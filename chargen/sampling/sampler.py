"""Writing text: read the prompt, then draw one id after another, and yield each character as soon as it is whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chargen.config import SampleConfig
from chargen.engine.engine import Engine, EngineState
from chargen.sampling.rules import draw, forbid, temper
from chargen.text.tokenizer import BOUNDARY_ID, Ids, StreamingDecoder, Tokenizer


def sample(
    engine: Engine,
    tokenizer: Tokenizer,
    context: Ids,
    config: SampleConfig,
    stream: int = 0,
    between: str | None = None,
    state: EngineState | None = None,
) -> Iterator[str]:
    """Yield the text that a model writes after a context, piece by piece.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        context: ids that are read first, at least one.
        config: temperature, length in characters, seed.
        stream: the number of this sample under its seed; each has random numbers of its own, so that no sample
            depends on which others are drawn.
        between: what stands between two documents; None for a model of one running stream, which never ends one.
        state: before the context; None for the state that a text begins with.

    Yields:
        Pieces that together have `config.length` characters.
    """
    never = [token_id for token_id in tokenizer.never_written() if between is None or token_id != BOUNDARY_ID]
    rng = np.random.default_rng([config.seed, stream])
    state = engine.initial_state(1) if state is None else state
    logits = np.empty((1, engine.vocab_size), dtype=np.float32)
    for token_id in context.tolist():
        logits, state = engine.step(np.array([token_id]), state)
    decoder = StreamingDecoder(tokenizer)
    left = config.length
    while left > 0:
        token_id = draw(temper(forbid(logits[0].astype(np.float64), never), config.temperature), rng)
        ended = token_id == BOUNDARY_ID
        piece = (decoder.finish() + (between or "") if ended else decoder.feed(token_id))[:left]
        if piece:
            left -= len(piece)
            yield piece
        if ended:  # the next document begins as every one does
            state = engine.initial_state(1)
        if left > 0:
            logits, state = engine.step(np.array([token_id]), state)
