"""Sampling from a model's own distribution under a constraint: sequential Monte Carlo (Gordon et al. 1993).

Masking alone draws each id from what is allowed *now*, and so favours beginnings whose continuations turn out to be
unlikely: q(x) = p(x) / Π (allowed mass) instead of p(x | allowed). Each particle carries w = Π (allowed mass) as its
weight; when the weights differ too much, particles are drawn anew in proportion to them, so that dead ends die out:

    draw ─▶ w ← w · allowed mass ─▶ (Σw)² / Σw² < N/2 ? ─▶ keep particle i about N · w_i / Σw times, w ← mean

For N → ∞ a particle drawn by weight at the end has the distribution p(x | allowed). The mean of the weights estimates,
without bias, the probability that the model itself would keep to the constraint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chargen.engine.engine import Engine, EngineState
from chargen.sampling.batch import DEAD_END, draw_particles, step
from chargen.sampling.rules import OUT, Logits
from chargen.sampling.writer import Beginning, Writer, all_forbidden

FEWEST_EFFECTIVE = 0.5  #: of the particles, below which they are drawn anew


def sample_particles(
    engine: Engine,
    beginning: Beginning,
    logits: Logits,
    state: EngineState,
    writer: Writer,
    count: int,
    rng: np.random.Generator,
) -> tuple[str, str, float]:
    """Return (a text, why it ended, log of the estimated probability of keeping to the constraint, in nats).

    Args:
        engine: the model.
        beginning: what the text begins with.
        logits, state: after it, of one stream.
        writer: a new one.
        count: particles, N.
        rng: random numbers.

    Raises:
        ConfigError: all particles come to a place where everything is forbidden.
    """
    writers = [writer.fork() for _ in range(count)]
    evidence = 0.0
    alive = [k for k in range(count) if not writers[k].ended]
    rows = np.repeat(logits[None], len(alive), axis=0)
    state = engine.select(state, np.zeros(len(alive), dtype=np.intp))
    while alive:
        drawn = draw_particles(rows, [writers[k] for k in alive], rng, beginning)
        at = {k: row for row, k in enumerate(alive)}
        parents = list(range(count))
        weights, total = _normalised(writers)
        if 1.0 / float((weights**2).sum()) < FEWEST_EFFECTIVE * count:
            parents = _systematic(weights, rng).tolist()
            evidence += total
            writers = [writers[parent].fork() for parent in parents]
            for each in writers:
                each.log_weight = 0.0
        alive = [k for k in range(count) if not writers[k].ended]
        if alive:
            kept = [at[parents[k]] for k in alive]
            state = engine.select(state, np.array(kept, dtype=np.intp))
            rows, state = step(engine, [drawn[row] for row in kept], state)
    weights, total = _normalised(writers)
    chosen = writers[int(rng.choice(count, p=weights))]
    return chosen.pop(), chosen.ended, evidence + total


def _normalised(writers: list[Writer]) -> tuple[NDArray[np.float64], float]:
    """Return the weights, which sum to 1, and log of their mean."""
    logs = np.array([writer.log_weight for writer in writers])
    if logs.max() == OUT:  # at temperature 0 what is left has no share; what is at a dead end is nothing all the same
        live = np.array([writer.ended != DEAD_END for writer in writers])
        if not live.any():
            raise all_forbidden(writers[0])
        return live / live.sum(), OUT
    weights = np.exp(logs - logs.max())
    return weights / weights.sum(), float(np.log(weights.mean()) + logs.max())


def _systematic(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw as many parents as there are weights, each about N·w times: with one random number (Kitagawa 1996)."""
    count = len(weights)
    places = (np.arange(count) + rng.random()) / count
    cumulative = np.cumsum(weights)  # a weight of 0 is never drawn, not even for the rounding of the sum
    last = np.searchsorted(cumulative, cumulative[-1])
    parents: NDArray[np.intp] = np.minimum(np.searchsorted(cumulative, places * cumulative[-1], side="right"), last)
    return parents
