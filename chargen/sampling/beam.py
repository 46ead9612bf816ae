"""Beam search: the likeliest text that keeping the W likeliest beginnings, letter by letter, finds.

It is no sample: the likeliest text of a model is duller than any that it would write. Texts that end by themselves are
compared with those that go on by their whole log p, the end included.
"""

from __future__ import annotations

import numpy as np

from chargen.engine.engine import Engine, EngineState
from chargen.sampling.batch import step
from chargen.sampling.rules import OUT, Logits, log_mass
from chargen.sampling.writer import Beginning, Writer, all_forbidden, guided


def beam_search(
    engine: Engine, beginning: Beginning, logits: Logits, state: EngineState, writer: Writer, width: int
) -> tuple[str, str]:
    """Return (the likeliest text that was found, why it ended).

    Args:
        engine: the model.
        beginning: what the text begins with. Of its settings those count that rule out or end.
        logits, state: after it, of one stream.
        writer: a new one.
        width: beginnings that are kept, W.

    Raises:
        ConfigError: all that is kept comes to a place where everything is forbidden.
    """
    beams, log_probs, rows = [writer], np.zeros(1), logits[None].copy()
    best: tuple[float, Writer] | None = (0.0, writer) if writer.ended else None
    while beams and best is None or beams and log_probs.max() > best[0]:  # type: ignore[index]
        rows = beginning.spelled(rows - log_mass(rows)[:, None], beams)
        totals = (log_probs[:, None] + guided(rows, beams, 1.0, dead_ends=True)).ravel()
        order = np.argsort(-totals, kind="stable")[: 2 * width]
        grown: list[Writer] = []
        parents, ids, kept = [], [], []
        for place in order.tolist():
            if totals[place] == OUT or len(grown) == width:
                break
            parent, token_id = divmod(place, rows.shape[1])
            child = beams[parent].fork()
            child.take(token_id)
            if child.ended:
                if best is None or totals[place] > best[0]:
                    best = float(totals[place]), child
                continue
            grown.append(child)
            parents.append(parent)
            ids.append(token_id)
            kept.append(float(totals[place]))
        if not grown and best is None:
            raise all_forbidden(beams[0])
        beams, log_probs = grown, np.array(kept)
        if beams:
            rows, state = step(engine, ids, engine.select(state, np.array(parents, dtype=np.intp)))
    assert best is not None  # a text ends at its length
    return best[1].pop(), best[1].ended
