"""Many texts through a model: log p of every id, by batches of like length, after a context that is read once.

    sorted by length, in batches of LANES               a batch is cut where an eighth of its lanes have ended,
                                                        and goes on without them:
    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┤
    ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕│▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┤
                    │ ▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕▕                 ├────────┼─────┼────────────────┤

So less than an eighth of what is computed is thrown away, one text of a megabyte among thousands of lines included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine, EngineState
from chargen.text.tokenizer import Ids, Tokenizer

LANES = 128  #: of a batch
MOST_IDS = 1 << 14  #: of a batch read in one piece
MOST_ALONE = 1 << 20  #: of one text: a stream takes a while to reach its speed (`engine/stream.py`)
GRID = 2.0**-26  #: nats: log probabilities are multiples of it, 1.5e-8


def id_log_probs(engine: Engine, tokenizer: Tokenizer, context: Ids, texts: Sequence[Ids]) -> list[NDArray[np.float64]]:
    """Return log p of each id of each text, in nats, to the nearest multiple of GRID.

    Sums of such numbers are exact in float64, in whatever order, up to a hundred million nats: the total of a text is
    the sum of its parts to the last digit.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        context: what every text begins after, at least one id; read once, not scored.
        texts: ids, of any lengths.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    if not lengths.sum():
        return [np.zeros(0) for _ in texts]
    ids = np.concatenate([*texts, context[-1:]]).astype(np.int64)  # the context's last id stands at place −1
    begins = np.cumsum(lengths) - lengths
    state = engine.initial_state(1)
    if len(context) > 1:
        _, state = engine.read(context[:-1, None], context[1:, None], state)
    log_probs = np.empty(len(ids) - 1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    # The longest first: what is begun last is done soon, and no thread is left alone with much.
    batches = [order[max(0, end - LANES) : end] for end in range(len(order), 0, -LANES)]

    def read(batch: NDArray[np.int64]) -> None:
        _read_batch(engine, ids, begins[batch], lengths[batch], state, log_probs)

    for _ in engine.map(read, batches):
        pass
    log_probs = np.rint((log_probs + tokenizer.spelling_nats(ids[:-1].astype(np.int32))) / GRID) * GRID
    return np.split(log_probs, begins[1:])


def _read_batch(
    engine: Engine,
    ids: NDArray[np.int64],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    context: EngineState,
    out: NDArray[np.float64],
) -> None:
    """Read the texts that begin at `begins`, the shortest first, and write log p of their ids to the same places."""
    state, offset = engine.select(context, np.zeros(len(begins), dtype=np.int64)), 0
    while len(begins):
        until = int(lengths[len(lengths) // 8])
        until = min(until, offset + (max(1, MOST_IDS // len(begins)) if len(begins) > 1 else MOST_ALONE))
        steps = np.arange(offset, until)[:, None]  # [T, 1]
        places = begins + np.minimum(steps, lengths - 1)  # [T, B]: a lane that has ended reads its last id again
        inputs = ids[np.where(steps > 0, places - 1, -1)]
        log_probs, state = engine.read(inputs, ids[places], state)
        inside = steps < lengths
        out[places[inside]] = log_probs[inside]
        left = np.flatnonzero(lengths > until)
        if 0 < len(left) < len(lengths):
            state = engine.select(state, left)
        begins, lengths, offset = begins[left], lengths[left], until
