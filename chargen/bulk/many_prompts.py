"""Generate texts after many prompts at once: each prompt is read as a single stream, then all texts are one batch.

    prompt 0   read ─▶ state, logits ┐
    prompt 1   read ─▶ state, logits ├─▶ one batch of streams ─▶ N texts of each prompt
    prompt 2   read ─▶ state, logits ┘

Each text has its own random numbers, as in `generate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np

from chargen.engines.interface import Engine, EngineState, concatenate_states
from chargen.engines.numpy_engine import NumpyEngine
from chargen.sampling.backward import BackwardGenerator
from chargen.sampling.decoding import generate_batch
from chargen.sampling.generate import Generator, Sample
from chargen.sampling.logits_rules import Logits
from chargen.sampling.sequence import GenerationContext


@dataclass(frozen=True)
class PrimedPrompts:
    """Prompts that a model has read, in place of a `PrimedPrompt`: the first texts continue the first prompt."""

    engine: Engine
    context: GenerationContext  #: context of the first prompt, whose settings all prompts have
    logits: Logits  #: the logits of the first token id of each text, [B, V]
    state: EngineState  #: the state of B streams

    def repeated_state(self, num_texts: int) -> EngineState:
        """Return the state of the streams."""
        return self.state

    def repeated_logits(self, num_texts: int) -> Logits:
        """Return the logits of the streams, [B, V]."""
        return self.logits


def sample_prompts(generators: Sequence[Generator | BackwardGenerator], numbers: Sequence[range]) -> list[list[Sample]]:
    """Generate texts after several prompts.

    Args:
        generators: The generator of each prompt, [P], all with the same model and settings.
        numbers: The numbers, under the seed, of the texts of each prompt, [P].

    Returns:
        The texts of each prompt, [P].
    """
    batched = [each for each in generators if isinstance(each, Generator) and isinstance(each.engine, NumpyEngine)]
    if len(batched) < len(generators):  # states of other engines cannot be joined; a backward text is reordered
        return [list(each.samples(texts)) for each, texts in zip(generators, numbers, strict=True)]
    owners = [k for k, texts in enumerate(numbers) for _ in texts]
    if not owners:
        return [[] for _ in generators]
    primed = [each.prime() for each in batched]
    many = PrimedPrompts(
        batched[0].engine,
        batched[0].context,
        np.stack([primed[k].logits for k in owners]),
        concatenate_states([primed[k].state for k in owners]),
    )
    sequences = [batched[k].new_sequence() for k in owners]
    flat_numbers = [number for texts in numbers for number in texts]
    rngs = [batched[k].rng(number) for k, number in zip(owners, flat_numbers, strict=True)]
    parts = [StringIO() for _ in owners]
    for k, piece in generate_batch(many, sequences, rngs):
        parts[k].write(piece)
    found: list[list[Sample]] = [[] for _ in generators]
    for k, number, sequence, text in zip(owners, flat_numbers, sequences, parts, strict=True):
        found[k].append(Sample(text.getvalue(), sequence.ended, number, sequence.log_weight_nats))
    return found
