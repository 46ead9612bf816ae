"""Methods in which several texts compete: beam search, sequential Monte Carlo, and infilling.

Beam search returns the most probable texts that it finds while it keeps the W most probable prefixes of each length. It
is not a sample: the most probable text of a model is duller than its samples. A text that ends by itself is compared
with longer ones by its whole log probability, the end included.

Sequential Monte Carlo samples from the model's own distribution under a constraint (Gordon et al. 1993). Masking alone
draws each token id from what is allowed *now*, so it prefers prefixes whose continuations are improbable:
q(x) = p(x) / Π (allowed mass) instead of p(x | allowed). Each particle is a text with the weight w = Π (allowed mass).
When the weights differ too much, the particles are resampled in proportion to them, so that dead ends disappear:

    draw ─▶ w ← w · allowed mass ─▶ (Σw)² / Σw² < N/2 ? ─▶ keep particle i about N · w_i / Σw times, w ← mean

For N → ∞, a particle that is drawn by its weight at the end has the distribution p(x | allowed). The mean weight is an
unbiased estimate of the probability that a text of the model satisfies the constraint.

Infilling finds a text between a prompt and a suffix by importance sampling:

    prompt ─▶ N texts of `length` characters ─▶ log p(suffix | prompt, x₁…x_t) at each position t ─▶ draw one (text, t)

If all lengths are equally probable beforehand, and (text, t) is drawn in proportion to p(suffix | prompt, x₁…x_t), the
result is a sample from p(middle | prompt, suffix), exact as N grows. The effective number of candidates says how well
the N texts served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import Engine, EngineState, log_softmax
from chargen.errors import ConfigError
from chargen.sampling.decoding import PrimedPrompt, draw_particle_ids, step
from chargen.sampling.logits_rules import Logits, first_above, log_sum_exp, softmax
from chargen.sampling.sequence import DEAD_END, GeneratedSequence, all_forbidden_error, apply_processors
from chargen.tokenizers.tokenizer import Ids

MIN_EFFECTIVE_SHARE = 0.5  # below this share of effective particles, the particles are resampled
MAX_SUFFIX_BATCH = 512  # candidates that read the suffix at the same time


# ── beam search ───────────────────────────────────────────────────────────────


class _BestTexts:
    """The most probable complete texts so far, each text once, the most probable first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._entries: list[tuple[float, str, GeneratedSequence]] = []

    def add(self, sequence: GeneratedSequence, log_prob: float) -> None:
        text = sequence.unpopped_text()
        same = next((entry for entry in self._entries if entry[1] == text), None)
        if same is None or log_prob > same[0]:
            others = [entry for entry in self._entries if entry is not same]
            self._entries = sorted([*others, (log_prob, text, sequence)], key=lambda entry: -entry[0])[: self._count]

    def can_improve(self, log_prob: float) -> bool:
        """Return whether a prefix of this probability can become one of the best texts."""
        return len(self._entries) < self._count or log_prob > self._entries[-1][0]

    def sequences(self) -> list[GeneratedSequence]:
        return [sequence for _, _, sequence in self._entries]


def beam_search(
    prompt: PrimedPrompt, sequence: GeneratedSequence, width: int, count: int = 1
) -> list[GeneratedSequence]:
    """Return the most probable distinct texts that beam search finds, the most probable first.

    Args:
        prompt: The prompt. Of the settings, only constraints and the conditions that end a text have an effect.
        sequence: A new sequence.
        width: How many prefixes are kept, W.
        count: How many texts to return, at most `width`. Fewer are returned if the beam finds fewer.

    Raises:
        ConfigError: If every token id is forbidden after all kept prefixes.
    """
    if sequence.ended:
        return [sequence]
    engine, state = prompt.engine, prompt.state
    beams = [sequence]
    log_probs = np.zeros(1)
    logits = prompt.repeated_logits(1)
    best = _BestTexts(count)
    while beams and best.can_improve(float(log_probs.max())):
        logits = prompt.context.mask_invalid(logits - log_sum_exp(logits)[:, None], beams)
        totals = (log_probs[:, None] + apply_processors(logits, beams, 1.0, allow_dead_ends=True)).ravel()
        children: list[GeneratedSequence] = []
        parents, ids, child_log_probs = [], [], []
        for index in np.argsort(-totals, kind="stable")[: 2 * width].tolist():
            if totals[index] == -np.inf or len(children) == width:
                break
            parent, token_id = divmod(index, logits.shape[1])
            child = beams[parent].fork()
            child.append(token_id)
            if not child.ended:
                children.append(child)
                parents.append(parent)
                ids.append(token_id)
                child_log_probs.append(float(totals[index]))
            elif best.can_improve(float(totals[index])):
                best.add(child, float(totals[index]))
        if not children and not best.sequences():
            raise all_forbidden_error(beams[0])
        beams, log_probs = children, np.array(child_log_probs)
        if beams:
            logits, state = step(engine, ids, engine.select(state, np.array(parents, dtype=np.intp)))
    return best.sequences()


# ── sequential Monte Carlo ────────────────────────────────────────────────────


def sample_particles(
    prompt: PrimedPrompt, sequence: GeneratedSequence, num_particles: int, rng: np.random.Generator
) -> tuple[GeneratedSequence, float]:
    """Sample a text from the model's own distribution under the constraints.

    Args:
        prompt: The prompt.
        sequence: A new sequence.
        num_particles: N.
        rng: Random numbers.

    Returns:
        The text, and the log of the estimated probability that a text satisfies the constraints, in nats.

    Raises:
        ConfigError: If all particles reach a dead end.
    """
    engine = prompt.engine
    particles = [sequence.fork() for _ in range(num_particles)]
    log_evidence = 0.0  # log of the mean weight before the last resampling, in nats
    active = [k for k in range(num_particles) if not particles[k].ended]
    logits = prompt.repeated_logits(len(active))
    state = prompt.repeated_state(len(active))
    while active:
        ids = draw_particle_ids(logits, [particles[k] for k in active], rng, prompt.context)
        row_of = {k: row for row, k in enumerate(active)}
        parents = list(range(num_particles))
        weights, log_mean_weight = _normalized_weights(particles)
        if 1.0 / float((weights**2).sum()) < MIN_EFFECTIVE_SHARE * num_particles:
            parents = _resample(weights, rng)
            log_evidence += log_mean_weight
            particles = [particles[parent].fork() for parent in parents]
            for particle in particles:
                particle.log_weight_nats = 0.0
        active = [k for k in range(num_particles) if not particles[k].ended]
        if active:
            rows = [row_of[parents[k]] for k in active]
            state = engine.select(state, np.array(rows, dtype=np.intp))
            logits, state = step(engine, [ids[row] for row in rows], state)
    weights, log_mean_weight = _normalized_weights(particles)
    chosen = first_above(weights.cumsum(), rng.random())
    return particles[chosen], log_evidence + log_mean_weight


def _normalized_weights(particles: list[GeneratedSequence]) -> tuple[NDArray[np.float64], float]:
    """Return the particles' weights, normalised to a sum of 1, and the log of their mean before that, in nats."""
    log_weights = np.array([particle.log_weight_nats for particle in particles])
    highest = log_weights.max()
    if highest == -np.inf:  # at temperature 0, what is left may have no mass; a dead end still has the weight 0
        is_live = np.array([particle.ended != DEAD_END for particle in particles])
        if not is_live.any():
            raise all_forbidden_error(particles[0])
        return is_live / is_live.sum(), -np.inf
    return softmax(log_weights), float(np.log(np.exp(log_weights - highest).mean()) + highest)


def _resample(weights: NDArray[np.float64], rng: np.random.Generator) -> list[int]:
    """Draw N parents, each about N · weight times, with one random number (systematic resampling, Kitagawa 1996)."""
    cumulative = np.cumsum(weights)
    uniforms = (np.arange(len(weights)) + rng.random()) / len(weights)
    return [first_above(cumulative, uniform) for uniform in uniforms]


# ── infilling ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Infill:
    """A text between a prompt and a suffix."""

    text: str  #: without prompt and suffix
    suffix_log_prob_nats: float  #: log probability of the suffix after the prompt and this text
    effective_candidates: float  #: the number of equally good candidates that would be as informative


def sample_infill(
    prompt: PrimedPrompt, particles: Sequence[GeneratedSequence], suffix: str, rng: np.random.Generator
) -> Infill:
    """Sample a text between a prompt and a suffix.

    Args:
        prompt: The prompt.
        particles: New sequences, N.
        suffix: A string that is not empty, normalised like the training text.
        rng: Random numbers.

    Raises:
        ConfigError: If no text may precede the suffix.
    """
    engine = prompt.engine
    suffix_ids = prompt.context.tokenizer.encode(suffix)
    candidates = _InfillCandidates(len(particles))
    if particles[0].can_end:  # all particles have the same start, so the empty text is one candidate for all of them
        log_probs = suffix_log_probs(engine, prompt.repeated_logits(1), prompt.repeated_state(1), suffix_ids)
        candidates.add_empty(log_probs)
    active = [k for k, particle in enumerate(particles) if not particle.ended]
    logits = prompt.repeated_logits(len(active))
    state = prompt.repeated_state(len(active))
    while active:
        ids = draw_particle_ids(logits, [particles[k] for k in active], rng, prompt.context)
        active = [active[row] for row in ids]
        if not active:
            break
        state = engine.select(state, np.array(list(ids), dtype=np.intp))
        logits, state = step(engine, list(ids.values()), state)
        ending = [row for row, k in enumerate(active) if candidates.extend(k, particles[k])]
        if ending:
            rows = np.array(ending, dtype=np.intp)
            log_probs = suffix_log_probs(engine, logits[rows], engine.select(state, rows), suffix_ids)
            candidates.add([active[row] for row in ending], log_probs)
        growing = [row for row, k in enumerate(active) if not particles[k].ended]
        if len(growing) < len(active):
            active = [active[row] for row in growing]
            rows = np.array(growing, dtype=np.intp)
            logits = logits[rows]
            state = engine.select(state, rows) if growing else state
    return candidates.draw(rng)


class _InfillCandidates:
    """The candidates so far. Each is a particle, the length of its text, and the log probability of the suffix."""

    def __init__(self, num_particles: int) -> None:
        self._texts = [""] * num_particles
        self._popped = [""] * num_particles
        self._ends: list[tuple[int, int]] = []  # (particle, length of its text in characters)
        self._log_probs: list[NDArray[np.float64]] = []
        self._first_bonus_nats = 0.0  # added to the first candidate if it represents all particles

    def add_empty(self, log_prob: NDArray[np.float64]) -> None:
        """Add the empty text, before all other candidates. It counts once for each particle."""
        self._ends.append((0, 0))
        self._first_bonus_nats = math.log(len(self._texts))
        self._log_probs.append(log_prob + self._first_bonus_nats)

    def extend(self, k: int, particle: GeneratedSequence) -> bool:
        """Store the new text of particle k, and return whether it may end here."""
        self._popped[k] += particle.pop_text()
        if particle.ended not in ("", "length", "match"):
            return False  # the last token id ended the text and is not part of it
        self._texts[k] = self._popped[k] + particle.unpopped_text()
        return particle.can_end

    def add(self, particles: list[int], log_probs: NDArray[np.float64]) -> None:
        """Add the current texts of particles, with the log probability of the suffix after each."""
        self._ends += [(k, len(self._texts[k])) for k in particles]
        self._log_probs.append(log_probs)

    def draw(self, rng: np.random.Generator) -> Infill:
        """Draw a candidate in proportion to the probability of the suffix.

        Raises:
            ConfigError: If there is none.
        """
        if not self._ends:
            raise ConfigError("no text was found that may precede the suffix", "Relax --regex, --ban or --max-copy.")
        log_probs = np.concatenate(self._log_probs)
        weights = softmax(log_probs)
        chosen = first_above(weights.cumsum(), rng.random())
        k, size = self._ends[chosen]
        log_prob = float(log_probs[chosen]) - (0.0 if chosen else self._first_bonus_nats)
        return Infill(self._texts[k][:size], log_prob, float(1.0 / (weights**2).sum()))


def suffix_log_probs(engine: Engine, logits: Logits, state: EngineState, suffix_ids: Ids) -> NDArray[np.float64]:
    """Return the log probability of a suffix after each of several texts, in nats [B].

    Args:
        engine: The model.
        logits: The next logits of B streams, [B, V].
        state: The state of these streams.
        suffix_ids: The token ids of the suffix, [N].
    """
    log_probs = log_softmax(logits)[:, suffix_ids[0]]
    if len(suffix_ids) > 1:
        batch_size = len(logits)
        for start in range(0, batch_size, MAX_SUFFIX_BATCH):
            rows = np.arange(start, min(batch_size, start + MAX_SUFFIX_BATCH), dtype=np.intp)
            inputs = np.repeat(suffix_ids[:-1, None], len(rows), axis=1)
            targets = np.repeat(suffix_ids[1:, None], len(rows), axis=1)
            log_probs[rows] += engine.read(inputs, targets, engine.select(state, rows))[0].sum(axis=0)
    return log_probs
