"""A beginning as the model has read it, kept so that a changed beginning is not read again from its first character.

    ids      0 · · · · · · 64 · · · · · · 128 · · · · · N−1
    states   ▲             ▲              ▲             ▲     before these ids

A text that differs from id k on is read again from the state before k that is nearest. So a letter more costs one
step, a letter less at most STRIDE, whatever the text's length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import LN2
from chargen.engines.interface import Engine, EngineState, common_prefix_length
from chargen.tokenizers.tokenizer import Ids, Tokenizer

STRIDE = 64  #: ids between two states that are kept: a few kilobytes each, and a few milliseconds to read again


@dataclass(frozen=True)
class PrefixCache:
    """What the model knows after a part of a text. A value: it can be gone on from more than once.

    `sample` goes on from it with `context=reading.ids[-1:]` and `state=reading.state`.
    """

    ids: Ids  #: what was read, what a text begins after included, [N]
    states: tuple[EngineState, ...]  #: before the ids 0, STRIDE, 2·STRIDE, …
    state: EngineState  #: before the last id
    log_probs: NDArray[np.float64]  #: of each id but the first, in nats, [N − 1]
    num_start: int  #: ids that a text begins after
    num_ids: int  #: of the whole text, those included
    num_chars: int  #: of the whole text
    unknown_chars: int  #: of the whole text
    unk_log_prob_nats: float  #: what the unknown ones add to its log p

    @property
    def share(self) -> float:
        """How much of the text was read, 0 to 1."""
        return len(self.ids) / self.num_ids

    @property
    def bits_per_char(self) -> float | None:
        """The whole text's −log₂ p per character, as `score` gives it; None for an empty text, or one not yet read."""
        if len(self.ids) < self.num_ids or not self.num_chars:
            return None
        nats = float(self.log_probs[self.num_start - 1 :].sum()) + self.unk_log_prob_nats
        return -nats / LN2 / self.num_chars


def read(
    engine: Engine, tokenizer: Tokenizer, start: Ids, text: str, before: PrefixCache | None = None
) -> Iterator[PrefixCache]:
    """Yield readings of ever longer parts of a text, STRIDE ids apart, the last of the whole.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        start: what a text begins after, at least one id.
        text: what to read, in the training text's form.
        before: any reading by the same model; what it shares with this text is not read again.

    Raises:
        TokenizerError: the text cannot be encoded.
    """
    encoded = tokenizer.encode(text)
    ids = np.concatenate([start, encoded])
    unknown, unk_log_prob_nats = (
        int(tokenizer.unknown(encoded).sum()),
        float(tokenizer.unk_log_prob_nats(encoded).sum()),
    )
    about, last = (len(start), len(ids), len(text), unknown, unk_log_prob_nats), len(ids) - 1
    at, state, states, log_probs = _nearest(engine, ids, before)
    while True:
        then = min(last, (at // STRIDE + 1) * STRIDE)
        if then > at:
            inputs, targets = ids[at:then, None], ids[at + 1 : then + 1, None]  # [T, 1]
            found, state = engine.read(inputs, targets, state)
            log_probs = np.concatenate([log_probs, found[:, 0]])
            states = (*states, state) if then % STRIDE == 0 else states
        yield PrefixCache(ids[: then + 1], states, state, log_probs, *about)
        if then == last:
            return
        at = then


def _nearest(
    engine: Engine, ids: Ids, before: PrefixCache | None
) -> tuple[int, EngineState, tuple[EngineState, ...], NDArray[Any]]:
    """Return (the id to read on from, the state before it, those before it that are kept, log p up to it)."""
    if before is None:
        state = engine.initial_state(1)
        return 0, state, (state,), np.empty(0)
    same = common_prefix_length(ids, before.ids)
    if same == len(before.ids):
        return same - 1, before.state, before.states, before.log_probs
    kept = max(0, same - 1) // STRIDE  # the id at the place itself must be the same: its log p is kept
    return kept * STRIDE, before.states[kept], before.states[: kept + 1], before.log_probs[: kept * STRIDE]
