"""One text in the making: from drawn ids to characters, and when it ends.

A text ends, with the reason as `ended` says it,

    "length"    cut off after so many characters          "newline", "boundary"   where `until` says
    "stop"      before a stop string                      "match"                 as a match of the regular expression
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chargen.config import SampleConfig
from chargen.errors import ConfigError, ModelError
from chargen.sampling.logits_rules import Logits, apply_temperature
from chargen.sampling.processors import LogitsProcessor, Mask, ProcessorState, RegexProcessor
from chargen.tokenizers.tokenizer import (
    BOUNDARY_ID,
    MAX_SILENT_IDS,
    WHOLE,
    Ids,
    Spelling,
    StreamingDecoder,
    Tokenizer,
    spelling,
)

if TYPE_CHECKING:
    from chargen.sampling.processors import Strings


@dataclass(frozen=True)
class GenerationContext:
    """What texts begin with, and how they go on: shared by all that are written at once."""

    tokenizer: Tokenizer
    config: SampleConfig
    guides: Sequence[LogitsProcessor]
    match: RegexProcessor | None  #: one of the guides
    prompt: str
    ids: Ids  #: what was read, what a text begins after included
    between: str | None  #: what stands between two documents; None for a model of one running stream

    @cached_property
    def spelling(self) -> Spelling:
        """The ids that may come next, by how much of a character stands."""
        return spelling(self.tokenizer, self.between is not None, self.config.allow_invalid_utf8)

    @cached_property
    def stops(self) -> Strings | None:
        """The strings before which a text ends; None if there are none."""
        config = self.config
        strings = (*config.stop, "\n") if config.until == "newline" else config.stop
        if not strings:
            return None
        from chargen.sampling.processors import Strings  # only for those who look for some

        return Strings(map(ord, string) for string in strings)

    def spelled(self, rows: Logits, writers: Sequence[GeneratedSequence]) -> Logits:
        """Return logits [B, V], a row for each writer, under which nothing is drawn that no text holds."""
        added = self.spelling.added
        allowed: Logits = rows + (added if len(added) == 1 else added[[writer.torn for writer in writers]])
        return allowed


class GeneratedSequence:
    """A text that grows by one id after another. `fork` gives a second one that goes its own way."""

    def __init__(self, beginning: GenerationContext) -> None:
        config = beginning.config
        self._beginning = beginning
        self._decoder = StreamingDecoder(beginning.tokenizer)
        self._states: list[ProcessorState] = [
            guide.begin(beginning.prompt, beginning.ids) for guide in beginning.guides
        ]
        self._stops, self._node = beginning.stops, 0  # the automaton, and where it stands
        self._held = ""  # what may be the beginning of a stop string
        self._after, self._silent = beginning.spelling.after, 0
        self.torn = WHOLE  #: the state of `spelling.py`: how much of a character stands
        self.left, self._is_cut = config.length, False  # whether the last id writes more than there was room for
        self.text = ""  # what is sure to stand, but for what was taken
        self.ended = "length" if config.length == 0 else ""
        self.log_weight = 0.0  # of what the constraints left of the distribution, in nats

    def fork(self) -> GeneratedSequence:
        """Return a copy that goes on by itself."""
        other = copy(self)
        other._states = list(self._states)
        other._decoder = self._decoder.fork()
        return other

    def forbidden(self) -> Mask | None:
        """Tell which ids a guide rules out now, [V]; None if none are."""
        masks = [guide.forbidden(state) for guide, state in zip(self._beginning.guides, self._states, strict=True)]
        some = [mask for mask in masks if mask is not None]
        return np.logical_or.reduce(some) if len(some) > 1 else some[0] if some else None

    def penalties(self) -> NDArray[np.float64] | None:
        """Return the nats that ids lose now, [V]; None if none do."""
        nats = [guide.penalties(state) for guide, state in zip(self._beginning.guides, self._states, strict=True)]
        some = [each for each in nats if each is not None]
        return np.sum(some, axis=0) if some else None

    @property
    def may_stop(self) -> bool:
        """Whether the text may end as it stands: with a whole character, all of its last id, and as a match."""
        match = self._beginning.match
        if self.torn != WHOLE or self._is_cut:
            return False
        return match is None or match.may_end(self._states[self._beginning.guides.index(match)])

    def take(self, token_id: int) -> bool:
        """Add a drawn id; say whether it was taken, which it is not where it ends the text.

        Raises:
            ModelError: many ids came in a row and completed no character.
        """
        match = self._beginning.match
        if match is not None:
            at = self._states[self._beginning.guides.index(match)]
            if match.may_end(at) and not match.leads_on(at, token_id):
                self._end("match")
                return False
        if token_id == BOUNDARY_ID and self._beginning.config.until == "boundary":
            self._add(self._decoder.finish())
            self._end("boundary")
            return False
        guides = self._beginning.guides
        if guides:
            self._states = [guide.advance(state, token_id) for guide, state in zip(guides, self._states, strict=True)]
        self.torn = self._after[self.torn][token_id]
        if token_id == BOUNDARY_ID:
            piece = self._decoder.finish() + (self._beginning.between or "")
        else:
            piece = self._decoder.feed(token_id)
        self._silent = 0 if piece else self._silent + 1
        if piece:
            self._add(piece)
        elif self._silent > MAX_SILENT_IDS:
            raise ModelError(
                f"the model wrote {self._silent} ids in a row that complete no character", "Its tokenizer is damaged."
            )
        if match is not None and not self.ended and match.is_over(self._states[guides.index(match)]):
            self._end("match")
        elif self.left <= 0 and not self.ended:
            self._end("length" if match is None else "match")
        return True

    def pop(self) -> str:
        """Return what is sure to stand and was not returned before."""
        text, self.text = self.text, ""
        return text

    def _add(self, piece: str) -> None:
        self._is_cut = len(piece) > self.left
        if self._is_cut:
            piece = piece[: self.left]
        self.left -= len(piece)
        if self._stops is None:
            self.text += piece
            return
        whole, node = self._held + piece, self._node
        for end, char in enumerate(piece, len(self._held) + 1):
            node = self._stops.step(node, ord(char))
            size = self._stops.ends[node]
            if size:  # the first string to be whole; of several that end here the longest
                is_newline = whole[end - size : end] == "\n" and self._beginning.config.until == "newline"
                self.text, self._held = self.text + whole[: end - size], ""
                self.ended = "newline" if is_newline else "stop"
                return
        kept = len(whole) - self._stops.depths[node]
        self.text += whole[:kept]
        self._held, self._node = whole[kept:], node

    def _end(self, reason: str) -> None:
        self.text, self._held, self.ended = self.text + self._held, "", reason

    def written(self) -> str:
        """Return what is not taken yet, and what is held back."""
        return self.text + self._held


def apply_processors(
    rows: Logits, writers: Sequence[GeneratedSequence], temperature: float, dead_ends: bool = False
) -> Logits:
    """Return logits [B, V] under which nothing that a writer's guides forbid is drawn, and penalties are paid.

    Each writer's weight takes the share of the distribution that is drawn from, tempered, which what forbids has left.

    Args:
        rows: logits, of which some id of each row may come.
        writers: one for each row.
        temperature: that the rows are drawn with.
        dead_ends: whether everything may be forbidden to some of the writers: their rows are −∞, their weights 0.

    Raises:
        ConfigError: everything is forbidden to one of them, and there must be no dead ends.
    """
    penalties = [writer.penalties() for writer in writers]
    if any(nats is not None for nats in penalties):
        rows = rows - np.stack([np.zeros(rows.shape[1]) if nats is None else nats for nats in penalties])
    masks = [writer.forbidden() for writer in writers]
    if not any(mask is not None for mask in masks):
        return rows
    nothing = np.zeros(rows.shape[1], dtype=np.bool_)
    mask = np.stack([nothing if mask is None else mask for mask in masks])
    kept = np.where(mask, -np.inf, rows)
    some_left = np.asarray(np.isfinite(kept).any(axis=1))
    if not (dead_ends or some_left.all()):
        raise all_forbidden(writers[int(np.argmin(some_left))])
    for writer, share in zip(writers, _log_shares(rows, mask, temperature).tolist(), strict=True):
        writer.log_weight += share
    return kept


def all_forbidden(writer: GeneratedSequence) -> ConfigError:
    """Return the error for a text that nothing may follow."""
    return ConfigError(
        f"after {writer.written()[-40:]!r} every character is forbidden", "Loosen --max-copy, --ban or --regex."
    )


def _log_shares(rows: Logits, mask: Mask, temperature: float) -> NDArray[np.float64]:
    """Return log of how much of each row's distribution a mask leaves, [B]."""
    if temperature == 0.0:
        return np.where(np.take_along_axis(mask, rows.argmax(axis=1)[:, None], 1)[:, 0], -np.inf, 0.0)
    weights = np.exp(apply_temperature(rows, temperature))
    with np.errstate(divide="ignore"):  # nothing left is log 0
        shares: NDArray[np.float64] = np.log(np.where(mask, 0.0, weights).sum(axis=1) / weights.sum(axis=1))
    return np.minimum(shares, 0.0)
