"""One text that is being generated: from drawn token ids to characters, and the reason why it ends.

`GeneratedSequence.ended` is one of

    ""           the text is still growing
    "length"     the text has the maximum number of characters
    "newline"    the model wrote a newline, with until = "newline"
    "boundary"   the model ended the document, with until = "boundary"
    "stop"       the model wrote a stop string, which is not part of the text
    "match"      the text is a match of the regular expression
    "dead end"   a particle for which every token id is forbidden
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, ModelError
from chargen.sampling.logits_rules import Logits, apply_temperature
from chargen.sampling.settings import SampleConfig
from chargen.tokenizers.tokenizer import (
    BOUNDARY_ID,
    COMPLETE,
    DEAD,
    MAX_SILENT_IDS,
    Ids,
    StreamingDecoder,
    Tokenizer,
    Utf8Masks,
    utf8_masks,
)

if TYPE_CHECKING:
    from chargen.sampling.processors import LogitsProcessor, Mask, ProcessorState, RegexProcessor, StringMatcher

DEAD_END = "dead end"
MAX_OPEN_IDS = 3  # token ids of a character that is not complete: it has at most three of its bytes


@dataclass(frozen=True, eq=False, repr=False)
class GenerationContext:
    """What all texts that are generated together share: the prompt, the settings and the processors."""

    tokenizer: Tokenizer
    config: SampleConfig
    processors: Sequence[LogitsProcessor]
    regex: RegexProcessor | None  #: one of the processors, which also decides where a text ends
    prompt: str
    prompt_ids: Ids  #: what the model has read: the start ids and the end of the prompt
    document_separator: str | None  #: the text between two documents; None for a model of continuous text

    @cached_property
    def utf8_masks(self) -> Utf8Masks:
        """The token ids that keep a text valid UTF-8, for each state of an incomplete character."""
        return utf8_masks(self.tokenizer, self.document_separator is not None, self.config.allow_invalid_utf8)

    @cached_property
    def open_ids(self) -> list[int]:
        """The last token ids of the prompt, if they are the first bytes of a character that the text completes.

        Only a prompt of token ids, or a prefix cache of a part of a text, can end inside of a character.
        """
        last_ids: list[int] = self.prompt_ids[-MAX_OPEN_IDS:].tolist()
        for start in reversed(range(len(last_ids))):
            state = COMPLETE
            for token_id in last_ids[start:]:
                state = self.utf8_masks.next_state[state][token_id] if state != DEAD else DEAD
            if state not in (COMPLETE, DEAD):
                return last_ids[start:]
        return []

    @cached_property
    def stop_matcher(self) -> StringMatcher | None:
        """The strings before which a text ends; None if there are none."""
        config = self.config
        strings = (*config.stop, "\n") if config.until == "newline" else config.stop
        if not strings:
            return None
        from chargen.sampling.processors import StringMatcher  # only where there are strings to find

        return StringMatcher(map(ord, string) for string in strings)

    def mask_invalid(self, logits: Logits, sequences: Sequence[GeneratedSequence]) -> Logits:
        """Return logits [B, V], one row for each sequence, in which token ids that no valid text contains are −∞."""
        masks = self.utf8_masks.logit_mask
        masked: Logits = logits + (masks if len(masks) == 1 else masks[[each.utf8_state for each in sequences]])
        return masked


class GeneratedSequence:
    """A text that grows by one token id at a time. `fork` makes a copy that can be continued independently."""

    def __init__(self, context: GenerationContext) -> None:
        self._context = context
        self._decoder = StreamingDecoder(context.tokenizer)
        self._states: list[ProcessorState] = [
            processor.initial_state(context.prompt, context.prompt_ids) for processor in context.processors
        ]
        self._stop_matcher = context.stop_matcher
        self._stop_node = 0
        self._held = ""  # characters that may be the start of a stop string
        self._next_utf8_state = context.utf8_masks.next_state
        self._num_silent_ids = 0  # consecutive token ids that completed no character
        self._is_truncated = False  # whether the last token id has more characters than the length allows
        self._ready = ""  # final characters that `pop_text` has not returned yet
        self.utf8_state = COMPLETE  #: how much of a character is incomplete; see `Utf8Masks`
        for token_id in context.open_ids:  # the text starts with the rest of this character
            self._decoder.feed(token_id)
            self.utf8_state = self._next_utf8_state[self.utf8_state][token_id]
        self.num_chars_left = context.config.length
        self.ended = "length" if context.config.length == 0 else ""  #: see the top of this file
        self.log_weight_nats = 0.0  #: log of the probability mass that the constraints left along the text

    def fork(self) -> GeneratedSequence:
        """Return a copy that can be continued independently."""
        other = copy(self)
        other._states = list(self._states)
        other._decoder = self._decoder.fork()
        return other

    def forbidden_mask(self) -> Mask | None:
        """Return which token ids the processors forbid next, [V]; None if they forbid none."""
        masks = [
            processor.forbidden_mask(state)
            for processor, state in zip(self._context.processors, self._states, strict=True)
        ]
        forbidden = [mask for mask in masks if mask is not None]
        if len(forbidden) <= 1:
            return forbidden[0] if forbidden else None
        union: Mask = np.logical_or.reduce(forbidden)
        return union

    def penalties_nats(self) -> NDArray[np.float64] | None:
        """Return how many nats the processors take from each token id, [V]; None if they take none."""
        penalties = [
            processor.penalties_nats(state)
            for processor, state in zip(self._context.processors, self._states, strict=True)
        ]
        active = [nats for nats in penalties if nats is not None]
        return np.sum(active, axis=0) if active else None

    @property
    def can_end(self) -> bool:
        """Whether the text may end here: its last token id and character are complete, and it matches the regex."""
        if self.utf8_state != COMPLETE or self._is_truncated:
            return False
        regex = self._context.regex
        return regex is None or regex.is_match(self._regex_state(regex))

    def append(self, token_id: int) -> bool:
        """Add a drawn token id.

        Returns:
            Whether the token id is part of the text. It is not if it ends the text.

        Raises:
            ModelError: If more than MAX_SILENT_IDS consecutive token ids completed no character.
        """
        context, regex = self._context, self._context.regex
        if regex is not None:
            state = self._regex_state(regex)
            if regex.is_match(state) and not regex.can_continue(state, token_id):
                self._end("match")
                return False
        if token_id == BOUNDARY_ID and context.config.until == "boundary":
            self._add(self._decoder.finish())
            self._end("boundary")
            return False
        if context.processors:
            self._states = [
                processor.advance(state, token_id)
                for processor, state in zip(context.processors, self._states, strict=True)
            ]
        self.utf8_state = self._next_utf8_state[self.utf8_state][token_id]
        self._add_decoded(token_id)
        if regex is not None and not self.ended and regex.is_complete(self._regex_state(regex)):
            self._end("match")
        elif self.num_chars_left <= 0 and not self.ended:
            self._end("length" if regex is None else "match")
        return True

    def pop_text(self) -> str:
        """Return the characters that are final and were not returned before."""
        text, self._ready = self._ready, ""
        return text

    def unpopped_text(self) -> str:
        """Return all characters that `pop_text` has not returned, including those that may start a stop string."""
        return self._ready + self._held

    def _regex_state(self, regex: RegexProcessor) -> ProcessorState:
        return self._states[self._context.processors.index(regex)]

    def _add_decoded(self, token_id: int) -> None:
        """Add the characters that a token id completes."""
        if token_id == BOUNDARY_ID:
            piece = self._decoder.finish() + (self._context.document_separator or "")
        else:
            piece = self._decoder.feed(token_id)
        if piece:
            self._num_silent_ids = 0
            self._add(piece)
            return
        self._num_silent_ids += 1
        if self._num_silent_ids > MAX_SILENT_IDS:
            raise ModelError(
                f"the model wrote {self._num_silent_ids} token ids in a row that complete no character",
                "Its tokenizer is damaged.",
            )

    def _add(self, piece: str) -> None:
        """Add characters up to the maximum length, and end the text before the first stop string."""
        self._is_truncated = len(piece) > self.num_chars_left
        if self._is_truncated:
            piece = piece[: self.num_chars_left]
        self.num_chars_left -= len(piece)
        matcher = self._stop_matcher
        if matcher is None:
            self._ready += piece
            return
        text, node = self._held + piece, self._stop_node
        for end, char in enumerate(piece, len(self._held) + 1):
            node = matcher.step(node, ord(char))
            size = matcher.match_lengths[node]
            if size:  # the stop string that is complete first; if several end here, the longest
                is_newline = text[end - size : end] == "\n" and self._context.config.until == "newline"
                self._ready += text[: end - size]
                self._held = ""
                self.ended = "newline" if is_newline else "stop"
                return
        num_final = len(text) - matcher.depths[node]
        self._ready += text[:num_final]
        self._held, self._stop_node = text[num_final:], node

    def _end(self, reason: str) -> None:
        self._ready += self._held
        self._held = ""
        self.ended = reason


def apply_processors(
    logits: Logits, sequences: Sequence[GeneratedSequence], temperature: float, allow_dead_ends: bool = False
) -> Logits:
    """Apply the penalties and masks of each sequence's processors.

    The weight of each sequence is multiplied by the probability mass, at this temperature, that the masks leave.

    Args:
        logits: [B, V]; at least one token id of each row is not −∞.
        sequences: B sequences.
        temperature: The temperature with which token ids are drawn.
        allow_dead_ends: Whether all token ids of a row may be forbidden. Such a row becomes −∞, its weight 0.

    Returns:
        New logits, [B, V].

    Raises:
        ConfigError: If all token ids of a row are forbidden and `allow_dead_ends` is False.
    """
    num_rows, vocab_size = logits.shape
    penalties = [sequence.penalties_nats() for sequence in sequences]
    if any(nats is not None for nats in penalties):
        logits = logits - np.stack([np.zeros(vocab_size) if nats is None else nats for nats in penalties])
    masks = [sequence.forbidden_mask() for sequence in sequences]
    if not any(mask is not None for mask in masks):
        return logits
    forbidden = np.zeros((num_rows, vocab_size), dtype=np.bool_)
    for row, mask in enumerate(masks):
        if mask is not None:
            forbidden[row] = mask
    masked = np.where(forbidden, -np.inf, logits)
    has_choice = np.asarray(np.isfinite(masked).any(axis=1))
    if not (allow_dead_ends or has_choice.all()):
        raise all_forbidden_error(sequences[int(np.argmin(has_choice))])
    log_masses = _log_mass_left(logits, forbidden, temperature).tolist()
    for sequence, log_mass in zip(sequences, log_masses, strict=True):
        sequence.log_weight_nats += log_mass
    return masked


def all_forbidden_error(sequence: GeneratedSequence) -> ConfigError:
    """Return the error for a text after which every token id is forbidden."""
    return ConfigError(
        f"after {sequence.unpopped_text()[-40:]!r} every character is forbidden", "Relax --max-copy, --ban or --regex."
    )


def _log_mass_left(logits: Logits, forbidden: Mask, temperature: float) -> NDArray[np.float64]:
    """Return the log of the probability mass that a mask leaves of each row, in nats [B]."""
    if temperature == 0.0:
        best_is_forbidden = np.take_along_axis(forbidden, logits.argmax(axis=1)[:, None], 1)[:, 0]
        return np.where(best_is_forbidden, -np.inf, 0.0)
    weights = np.exp(apply_temperature(logits, temperature))
    with np.errstate(divide="ignore"):  # log 0 where nothing is left
        left: NDArray[np.float64] = np.log(np.where(forbidden, 0.0, weights).sum(axis=1) / weights.sum(axis=1))
    return np.minimum(left, 0.0)
