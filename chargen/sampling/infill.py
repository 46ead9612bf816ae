"""A text that joins two ends: particles write on from the first, and each place where one may stop is weighed.

    prompt ─▶ N texts of `length` characters ─▶ at each place t: log p(suffix | prompt, x₁…x_t) ─▶ one (text, t) drawn

With every length equally likely beforehand, (text, t) drawn in proportion to p(suffix | prompt, x₁…x_t) among what
the model wrote is importance sampling from p(middle | prompt, suffix), exact as N grows. The effective number of
candidates says how well a given N serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chargen.engine.engine import Engine, EngineState, log_softmax
from chargen.sampling.batch import choose, step
from chargen.sampling.rules import OUT, Logits
from chargen.sampling.writer import Beginning, Writer

MOST_AT_ONCE = 512  #: candidates that read the suffix side by side


@dataclass(frozen=True)
class Joined:
    """A middle, and how well it fits."""

    text: str  #: between prompt and suffix
    suffix_log_prob_nats: float  #: of the suffix after it
    effective: float  #: how many equally good candidates there were


def join(
    engine: Engine,
    beginning: Beginning,
    logits: Logits,
    state: EngineState,
    writers: Sequence[Writer],
    suffix: str,
    rng: np.random.Generator,
) -> Joined:
    """Return a text between a beginning and a suffix.

    Args:
        engine: the model.
        beginning: what the text begins with.
        logits, state: after it, of one stream.
        writers: a new one for each particle.
        suffix: not empty, in the form of the training text.
        rng: random numbers.
    """
    ids = beginning.tokenizer.encode(suffix)
    count = len(writers)
    rows = np.repeat(logits[None], count, axis=0)
    state = engine.select(state, np.zeros(count, dtype=np.intp))
    texts, alive = [""] * count, list(range(count))
    # All begin alike, so the empty middle is one candidate for all of them.
    found = [(0, "")] if alive else []
    scores = [suffix_log_prob(engine, rows[:1], engine.select(state, np.zeros(1, dtype=np.intp)), ids)]
    while alive:
        rows[:, beginning.never] = OUT
        drawn = choose(rows, [writers[k] for k in alive], [rng] * len(alive), beginning)
        for k, token_id in zip(alive, drawn, strict=True):
            writers[k].take(token_id)
            texts[k] += writers[k].pop()
        rows, state = step(engine, drawn, state)
        taken = [row for row, k in enumerate(alive) if writers[k].ended in ("", "length")]
        if taken:
            at = np.array(taken, dtype=np.intp)
            scores.append(suffix_log_prob(engine, rows[at], engine.select(state, at), ids))
            found += [(alive[row], texts[alive[row]]) for row in taken]
        kept = [row for row, k in enumerate(alive) if not writers[k].ended]
        if len(kept) < len(alive):
            alive, at = [alive[row] for row in kept], np.array(kept, dtype=np.intp)
            rows, state = rows[at], engine.select(state, at) if kept else state
    log_probs = np.concatenate(scores)
    log_probs[0] += np.log(count)
    weights = np.exp(log_probs - log_probs.max())
    weights /= weights.sum()
    chosen = int(rng.choice(len(weights), p=weights))
    score = float(log_probs[chosen]) - (np.log(count) if chosen == 0 else 0.0)
    return Joined(found[chosen][1], float(score), float(1.0 / (weights**2).sum()))


def suffix_log_prob(engine: Engine, rows: Logits, state: EngineState, ids: np.ndarray) -> np.ndarray:
    """Return log p of ids after each of several states, in nats [B].

    Args:
        engine: the model.
        rows: logits after them, [B, V].
        state: of B streams.
        ids: what follows all of them, [N].
    """
    log_probs = log_softmax(rows)[:, ids[0]]
    if len(ids) > 1:
        B = len(rows)
        for begin in range(0, B, MOST_AT_ONCE):
            some = np.arange(begin, min(B, begin + MOST_AT_ONCE), dtype=np.intp)
            inputs = np.repeat(ids[:-1, None], len(some), axis=1)
            targets = np.repeat(ids[1:, None], len(some), axis=1)
            log_probs[some] += engine.read(inputs, targets, engine.select(state, some))[0].sum(axis=0)
    return log_probs
