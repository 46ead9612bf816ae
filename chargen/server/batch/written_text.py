"""One text that the worker writes for a request: its characters, its tokens, and why it ended."""

from __future__ import annotations

from typing import Any

import numpy as np

from chargen.sampling.sequence import GeneratedSequence, GenerationContext
from chargen.server.batch.log_probs import TokenLogProb
from chargen.tokenizers.tokenizer import BOUNDARY_ID


class WrittenText:
    """A text that grows by one token id at a time.

    The worker appends to it; the event loop reads `pieces` and `tokens`, which only grow, and `ended`.

    Args:
        context: The settings of the text.
        seed: The seed of the request.
        number: The number of the text under its seed, from 0.
        max_tokens: Number of tokens after which the text ends; None if only its characters are limited.
        num_top: Number of alternatives of each token; None if no log probabilities are wanted.
    """

    def __init__(
        self, context: GenerationContext, seed: int, number: int, max_tokens: int | None, num_top: int | None
    ) -> None:
        self.context, self.number, self.num_top = context, number, num_top
        self.sequence = GeneratedSequence(context)
        self.rng = np.random.default_rng([seed, number])
        self.group = _group_key(context)
        self.last_id = -1  #: the id that the model reads next
        self.pieces: list[str] = []  #: the text so far, in pieces that are final
        self.tokens: list[tuple[int, TokenLogProb | None]] = []  #: (position of its first character, log probability)
        self.num_tokens = 0
        self.ended = self.sequence.ended  #: why the text ended, as in `sampling/sequence.py`; "" while it grows
        self._max_tokens = max_tokens

    def append(self, token_id: int, log_prob: TokenLogProb | None) -> None:
        """Add a drawn token id.

        Raises:
            ModelError: If the model writes no characters.
        """
        sequence = self.sequence
        position = self.context.config.length - sequence.num_chars_left
        is_part = sequence.append(token_id)
        self.last_id = token_id
        if is_part or token_id == BOUNDARY_ID:
            self.num_tokens += 1
            self.tokens.append((position, log_prob))
        piece = sequence.pop_text()
        if not sequence.ended and self.num_tokens == self._max_tokens:
            piece += sequence.unpopped_text()
            sequence.ended = "length"
        if piece:
            self.pieces.append(piece)
        self.ended = sequence.ended  # last: whoever sees it finds the whole text

    @property
    def finish_reason(self) -> str | None:
        """Why the text ended, in the words of OpenAI's protocol; None while it grows."""
        if not self.ended:
            return None
        return "length" if self.ended == "length" else "stop"

    @property
    def mean_log_prob_nats(self) -> float:
        """The mean log probability of the tokens; 0 for an empty text."""
        values = [log_prob.log_prob_nats for _, log_prob in self.tokens if log_prob is not None]
        return sum(values) / len(values) if values else 0.0


def _group_key(context: GenerationContext) -> Any:
    """Return a key that is equal for texts whose next token ids can be drawn together."""
    if context.processors:
        return id(context)
    config = context.config
    return (
        config.temperature,
        tuple(value for _, value in config.active_rules),
        tuple(id(rule) for rule, _ in config.active_rules),
    )
