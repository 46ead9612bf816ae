"""One text that the worker writes for a request: its characters, its tokens, and why it ended."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np

from chargen.sampling.sequence import GeneratedSequence, GenerationContext
from chargen.server.batch.log_probs import TokenLogProb
from chargen.tokenizers.tokenizer import BOUNDARY_ID


class WrittenText:
    """A text that grows by one token id at a time.

    The worker appends to it; the event loop reads `read_text`, `tokens`, which only grow, and `ended`.

    Args:
        context: The settings of the text.
        seed: The seed of the request.
        number: The number of the text under its seed, from 0.
        max_tokens: Number of tokens after which the text ends; None if only its characters are limited.
        num_top: Number of alternatives of each token; None if the log probabilities of the tokens are not wanted.
        is_ranked: Whether their mean is wanted, to compare the text with others (`best_of`).
    """

    def __init__(
        self,
        context: GenerationContext,
        seed: int,
        number: int,
        max_tokens: int | None = None,
        num_top: int | None = None,
        is_ranked: bool = False,
    ) -> None:
        self.context, self.number, self.num_top = context, number, num_top
        self.has_log_probs = is_ranked or num_top is not None  #: whether `append` gets log probabilities
        self.sequence = GeneratedSequence(context)
        self.rng = np.random.default_rng([seed, number])
        self.group = _group_key(context)
        self.last_id = -1  #: the id that the model reads next
        #: (position of its first character, log probability) of each token, if log probabilities are wanted
        self.tokens: list[tuple[int, TokenLogProb | None]] = []
        self.num_tokens = 0
        self.ended = self.sequence.ended  #: why the text ended, as in `sampling/sequence.py`; "" while it grows
        self._max_tokens = max_tokens
        self._pieces: list[str] = []
        self._sum_nats = 0.0  # sum of the log probabilities of the tokens

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
            if log_prob is not None:
                self._sum_nats += log_prob.log_prob_nats
            if self.num_top is not None:
                self.tokens.append((position, log_prob))
        piece = sequence.pop_text()
        if not sequence.ended and self.num_tokens == self._max_tokens:
            piece += sequence.unpopped_text()
            sequence.ended = "length"
        if piece:
            self._pieces.append(piece)
        self.ended = sequence.ended  # set last, so that the text is complete when another thread reads it

    def read_text(self, start: int = 0) -> tuple[str, int]:
        """Return the text from a place on, and the place after it, from which the next call continues."""
        pieces = self._pieces[start:]
        return "".join(pieces), start + len(pieces)

    @property
    def finish_reason(self) -> str | None:
        """Why the text ended, in the words of OpenAI's protocol; None while it grows."""
        if not self.ended:
            return None
        return "length" if self.ended == "length" else "stop"

    @property
    def mean_log_prob_nats(self) -> float:
        """The mean log probability of the tokens; 0 for an empty text, or if log probabilities are not wanted."""
        return self._sum_nats / self.num_tokens if self.num_tokens else 0.0


class WrittenChars(WrittenText):
    """A text of a model of characters that only its length, or the end of its document, ends.

    It is what `WrittenText` is, with a fifth of the work for each token id: the ids are decoded when they are read.
    """

    @staticmethod
    def can_be(context: GenerationContext, has_log_probs: bool) -> bool:
        """Return whether a text with these settings is such a text."""
        is_plain = not context.processors and context.stop_matcher is None and not has_log_probs
        is_one_document = context.document_separator is None or context.config.until == "boundary"
        return is_plain and is_one_document and context.tokenizer.is_char_level

    def __init__(self, context: GenerationContext, seed: int, number: int) -> None:
        super().__init__(context, seed, number)
        self._ids: list[int] = []

    def append(self, token_id: int, log_prob: TokenLogProb | None) -> None:
        """Add a drawn token id."""
        self.last_id = token_id
        self.num_tokens += 1
        if token_id == BOUNDARY_ID:
            self.ended = "boundary"
            return
        self._ids.append(token_id)
        if self.num_tokens == self.context.config.length:
            self.ended = "length"

    def read_text(self, start: int = 0) -> tuple[str, int]:
        """Return the text from a place on, and the place after it."""
        ids = self._ids[start:]
        return self.context.tokenizer.decode(ids), start + len(ids)


def _group_key(context: GenerationContext) -> int:
    """Return a number that is equal for texts whose next token ids can be drawn together, while these texts exist."""
    if context.processors:
        return id(context)
    config = context.config
    return _number_of((config.temperature, *((id(rule), value) for rule, value in config.active_rules)))


_numbers = count(-1, -1)  # an id is never negative


@lru_cache(maxsize=1024)
def _number_of(settings: tuple[Any, ...]) -> int:
    """Return a number for settings: the same one while they are in the cache, and never that of other settings."""
    return next(_numbers)
