"""Add a constant to the logits of some token ids, so that they are drawn more or less often, or never."""

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
