"""Beam search: the likeliest text that keeping the W likeliest beginnings, letter by letter, finds.

It is no sample: the likeliest text of a model is duller than any that it would write. Texts that end by themselves are
compared with those that go on by their whole log p, the end included.

Sampling from a model's own distribution under a constraint: sequential Monte Carlo (Gordon et al. 1993).

Masking alone draws each id from what is allowed *now*, and so favours beginnings whose continuations turn out to be
unlikely: q(x) = p(x) / Π (allowed mass) instead of p(x | allowed). Each particle carries w = Π (allowed mass) as its
weight; when the weights differ too much, particles are drawn anew in proportion to them, so that dead ends die out:

    draw ─▶ w ← w · allowed mass ─▶ (Σw)² / Σw² < N/2 ? ─▶ keep particle i about N · w_i / Σw times, w ← mean

For N → ∞ a particle drawn by weight at the end has the distribution p(x | allowed). The mean of the weights estimates,
without bias, the probability that the model itself would keep to the constraint.

A text that joins two ends: particles write on from the first, and each place where one may stop is weighed.

    prompt ─▶ N texts of `length` characters ─▶ at each place t: log p(suffix | prompt, x₁…x_t) ─▶ one (text, t) drawn

With every length equally likely beforehand, (text, t) drawn in proportion to p(suffix | prompt, x₁…x_t) among what
the model wrote is importance sampling from p(middle | prompt, suffix), exact as N grows. The effective number of
candidates says how well a given N serves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import Engine, EngineState, log_softmax
from chargen.errors import ConfigError
from chargen.sampling.decoding import DEAD_END, draw_particles, step
from chargen.sampling.logits_rules import Logits, log_sum_exp
from chargen.sampling.sequence import GeneratedSequence, GenerationContext, all_forbidden, apply_processors


def beam_search(
    engine: Engine,
    beginning: GenerationContext,
    logits: Logits,
    state: EngineState,
    writer: GeneratedSequence,
    width: int,
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
    best: tuple[float, GeneratedSequence] | None = (0.0, writer) if writer.ended else None
    while beams and best is None or beams and log_probs.max() > best[0]:  # type: ignore[index]
        rows = beginning.spelled(rows - log_sum_exp(rows)[:, None], beams)
        totals = (log_probs[:, None] + apply_processors(rows, beams, 1.0, dead_ends=True)).ravel()
        order = np.argsort(-totals, kind="stable")[: 2 * width]
        grown: list[GeneratedSequence] = []
        parents, ids, kept = [], [], []
        for place in order.tolist():
            if totals[place] == -np.inf or len(grown) == width:
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


MIN_EFFECTIVE = 0.5  #: of the particles, below which they are drawn anew


def sample_particles(
    engine: Engine,
    beginning: GenerationContext,
    logits: Logits,
    state: EngineState,
    writer: GeneratedSequence,
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
        if 1.0 / float((weights**2).sum()) < MIN_EFFECTIVE * count:
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


def _normalised(writers: list[GeneratedSequence]) -> tuple[NDArray[np.float64], float]:
    """Return the weights, which sum to 1, and log of their mean."""
    logs = np.array([writer.log_weight for writer in writers])
    if (
        logs.max() == -np.inf
    ):  # at temperature 0 what is left has no share; what is at a dead end is nothing all the same
        live = np.array([writer.ended != DEAD_END for writer in writers])
        if not live.any():
            raise all_forbidden(writers[0])
        return live / live.sum(), -np.inf
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


MAX_AT_ONCE = 512  #: candidates that read the suffix side by side


@dataclass(frozen=True)
class Infill:
    """A middle, and how well it fits."""

    text: str  #: between prompt and suffix
    suffix_log_prob_nats: float  #: of the suffix after it
    effective_candidates: float  #: how many equally good candidates there were


def join(
    engine: Engine,
    beginning: GenerationContext,
    logits: Logits,
    state: EngineState,
    writers: Sequence[GeneratedSequence],
    suffix: str,
    rng: np.random.Generator,
) -> Infill:
    """Return a text between a beginning and a suffix.

    Args:
        engine: the model.
        beginning: what the text begins with.
        logits, state: after it, of one stream.
        writers: a new one for each particle.
        suffix: not empty, in the form of the training text.
        rng: random numbers.

    Raises:
        ConfigError: nothing may stand before the suffix.
    """
    ids = beginning.tokenizer.encode(suffix)
    candidates = _Candidates(len(writers))
    if writers[0].may_stop:  # all begin alike, so the empty middle is one candidate for all of them
        one = engine.select(state, np.zeros(1, dtype=np.intp))
        candidates.add_empty(suffix_log_prob(engine, logits[None], one, ids))
    alive = [k for k, writer in enumerate(writers) if not writer.ended]
    rows = np.repeat(logits[None], len(alive), axis=0)
    state = engine.select(state, np.zeros(len(alive), dtype=np.intp))
    while alive:
        drawn = draw_particles(rows, [writers[k] for k in alive], rng, beginning)
        alive = [alive[row] for row in drawn]
        if not alive:
            break
        rows, state = step(engine, list(drawn.values()), engine.select(state, np.array(list(drawn), dtype=np.intp)))
        stopping = [row for row, k in enumerate(alive) if candidates.grow(k, writers[k])]
        if stopping:
            at = np.array(stopping, dtype=np.intp)
            found = suffix_log_prob(engine, rows[at], engine.select(state, at), ids)
            candidates.add([alive[row] for row in stopping], found)
        going = [row for row, k in enumerate(alive) if not writers[k].ended]
        if len(going) < len(alive):
            alive, at = [alive[row] for row in going], np.array(going, dtype=np.intp)
            rows, state = rows[at], engine.select(state, at) if going else state
    return candidates.draw(rng)


class _Candidates:
    """The middles so far: which text of N, up to which of its characters, and log p of the suffix behind it."""

    def __init__(self, count: int) -> None:
        self._texts, self._popped = [""] * count, [""] * count
        self._places: list[tuple[int, int]] = []  #: (which text, characters of it)
        self._scores: list[NDArray[np.float64]] = []
        self._bonus = 0.0  #: of the first, in nats: the empty middle stands for all texts

    def add_empty(self, log_prob: NDArray[np.float64]) -> None:
        """Add the empty middle, before any other."""
        self._places.append((0, 0))
        self._bonus = math.log(len(self._texts))
        self._scores.append(log_prob + self._bonus)

    def grow(self, k: int, writer: GeneratedSequence) -> bool:
        """Take over what text k has by now; say whether it may stop there."""
        self._popped[k] += writer.pop()
        if writer.ended not in ("", "length", "match"):
            return False  # the last id ended it, and is no part of it
        self._texts[k] = self._popped[k] + writer.written()
        return writer.may_stop

    def add(self, texts: list[int], log_probs: NDArray[np.float64]) -> None:
        """Add these texts as they are now, with log p of the suffix behind each."""
        self._places += [(k, len(self._texts[k])) for k in texts]
        self._scores.append(log_probs)

    def draw(self, rng: np.random.Generator) -> Infill:
        """Draw one in proportion to p(suffix | it).

        Raises:
            ConfigError: there is none.
        """
        if not self._places:
            raise ConfigError(
                "no text was found that may stand before the suffix", "Loosen --regex, --ban or --max-copy."
            )
        log_probs = np.concatenate(self._scores)
        weights = np.exp(log_probs - log_probs.max())
        weights /= weights.sum()
        chosen = int(rng.choice(len(weights), p=weights))
        k, size = self._places[chosen]
        score = float(log_probs[chosen]) - (0.0 if chosen else self._bonus)
        return Infill(self._texts[k][:size], score, float(1.0 / (weights**2).sum()))


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
        for begin in range(0, B, MAX_AT_ONCE):
            some = np.arange(begin, min(B, begin + MAX_AT_ONCE), dtype=np.intp)
            inputs = np.repeat(ids[:-1, None], len(some), axis=1)
            targets = np.repeat(ids[1:, None], len(some), axis=1)
            log_probs[some] += engine.read(inputs, targets, engine.select(state, some))[0].sum(axis=0)
    return log_probs
