"""The logits processors of OpenAI's protocol: a bias of token ids, and penalties for those that a text already has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from chargen.sampling.processors import LogitsProcessor, ProcessorState
from chargen.tokenizers.tokenizer import Ids


class LogitBias(LogitsProcessor):
    """Adds a bias to the logits of token ids, before the temperature.

    Args:
        bias: What is added to the logit of each token id, in nats; 100 or −100 in effect demands or forbids a token id.
        vocab_size: Number of token ids.
    """

    def __init__(self, bias: Mapping[int, float], vocab_size: int) -> None:
        self._penalties = np.zeros(vocab_size)
        for token_id, nats in bias.items():
            self._penalties[token_id] = -nats

    def initial_state(self, prompt: str, prompt_ids: Ids) -> ProcessorState:
        """Return None: the bias does not depend on the text."""
        return None

    def advance(self, state: ProcessorState, token_id: int) -> ProcessorState:
        """Return None."""
        return None

    def penalties_nats(self, state: ProcessorState) -> NDArray[np.float64] | None:
        """Return minus the bias, [V]."""
        return self._penalties


class CountPenalties(LogitsProcessor):
    """Takes nats from token ids that the generated text already has; the prompt does not count.

    With c the number of times that a token id was generated (OpenAI API reference, frequency and presence penalties):

        logit ← logit − frequency · c − presence · (1 if c > 0, else 0)

    Args:
        presence: Nats that each token id of the text loses; a negative number adds them.
        frequency: Nats that it loses for each time that it was generated.
        vocab_size: Number of token ids, V.
    """

    def __init__(self, presence: float, frequency: float, vocab_size: int) -> None:
        self._presence, self._frequency, self._vocab_size = presence, frequency, vocab_size

    def initial_state(self, prompt: str, prompt_ids: Ids) -> ProcessorState:
        """Return None: no token id was generated."""
        return None

    def advance(self, state: ProcessorState, token_id: int) -> ProcessorState:
        """Return the number of times that each token id was generated, [V]."""
        counts = np.zeros(self._vocab_size, dtype=np.int32) if state is None else state.copy()
        counts[token_id] += 1
        return counts

    def penalties_nats(self, state: ProcessorState) -> NDArray[np.float64] | None:
        """Return how many nats each token id loses, [V]; None at the start."""
        if state is None:
            return None
        nats: NDArray[np.float64] = self._frequency * state + self._presence * (state > 0)
        return nats
