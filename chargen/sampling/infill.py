"""A text that joins two ends: particles write on from the first, and each place where one may stop is weighed.

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

from chargen.engine.engine import Engine, EngineState, log_softmax
from chargen.errors import ConfigError
from chargen.sampling.batch import draw_particles, step
from chargen.sampling.rules import Logits
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

    def grow(self, k: int, writer: Writer) -> bool:
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

    def draw(self, rng: np.random.Generator) -> Joined:
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
        return Joined(self._texts[k][:size], score, float(1.0 / (weights**2).sum()))


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
