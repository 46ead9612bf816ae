"""One text in the making: from drawn ids to characters, and when it ends.

A text ends, with the reason as `ended` says it,

    "length"    cut off after so many characters          "newline", "boundary"   where `until` says
    "stop"      before a stop string                      "match"                 as a match of the regular expression
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.config import SampleConfig
from chargen.errors import ConfigError
from chargen.sampling.guides import Guide, GuideState, Mask, Match
from chargen.sampling.rules import OUT, Logits
from chargen.text.tokenizer import BOUNDARY_ID, Ids, StreamingDecoder, Tokenizer


@dataclass(frozen=True)
class Beginning:
    """What texts begin with, and how they go on: shared by all that are written at once."""

    tokenizer: Tokenizer
    config: SampleConfig
    guides: Sequence[Guide]
    match: Match | None  #: one of the guides
    prompt: str
    ids: Ids  #: what was read, what a text begins after included
    between: str | None  #: what stands between two documents; None for a model of one running stream

    @property
    def never(self) -> list[int]:
        """The ids that no text of this model holds; the boundary is one but where there are documents."""
        never = self.tokenizer.never_written()
        return [token_id for token_id in never if self.between is None or token_id != BOUNDARY_ID]


class Writer:
    """A text that grows by one id after another. `fork` gives a second one that goes its own way."""

    def __init__(self, beginning: Beginning) -> None:
        config = beginning.config
        self._beginning = beginning
        self._decoder = StreamingDecoder(beginning.tokenizer)
        self._states: list[GuideState] = [guide.begin(beginning.prompt, beginning.ids) for guide in beginning.guides]
        self._stops = (*config.stop, "\n") if config.until == "newline" else config.stop
        self._held = ""  # what may be the beginning of a stop string
        self.left = config.length
        self.text = ""  # what is sure to stand, but for what was taken
        self.ended = "length" if config.length == 0 else ""
        self.log_weight = 0.0  # of what the constraints left of the distribution, in nats

    def fork(self) -> Writer:
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

    def take(self, token_id: int) -> bool:
        """Add a drawn id; say whether it was taken, which it is not where it ends the text."""
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
        self._states = [guide.advance(state, token_id) for guide, state in zip(guides, self._states, strict=True)]
        if token_id == BOUNDARY_ID:
            self._add(self._decoder.finish() + (self._beginning.between or ""))
        else:
            self._add(self._decoder.feed(token_id))
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
        piece = piece[: self.left]
        self.left -= len(piece)
        if not self._stops:
            self.text += piece
            return
        whole = self._held + piece
        places = [(whole.find(stop), stop) for stop in self._stops if stop in whole]
        if places:
            place, stop = min(places)
            self.text, self._held = self.text + whole[:place], ""
            self.ended = "newline" if stop == "\n" and self._beginning.config.until == "newline" else "stop"
            return
        keep = max(
            (size for stop in self._stops for size in range(len(stop)) if whole.endswith(stop[:size])), default=0
        )
        self.text += whole[: len(whole) - keep]
        self._held = whole[len(whole) - keep :]

    def _end(self, reason: str) -> None:
        self.text, self._held, self.ended = self.text + self._held, "", reason

    def written(self) -> str:
        """Return what is not taken yet, and what is held back."""
        return self.text + self._held


def guided(rows: Logits, writers: Sequence[Writer], temperature: float) -> Logits:
    """Return logits [B, V] under which nothing that a writer's guides forbid is drawn, and penalties are paid.

    Each writer's weight takes the share of the distribution that is drawn from, tempered, which what forbids has left.

    Raises:
        ConfigError: everything is forbidden to one of them.
    """
    penalties = [writer.penalties() for writer in writers]
    if any(nats is not None for nats in penalties):
        rows = rows - np.stack([np.zeros(rows.shape[1]) if nats is None else nats for nats in penalties])
    masks = [writer.forbidden() for writer in writers]
    if not any(mask is not None for mask in masks):
        return rows
    nothing = np.zeros(rows.shape[1], dtype=np.bool_)
    mask = np.stack([nothing if mask is None else mask for mask in masks])
    kept = np.where(mask, OUT, rows)
    some_left = np.asarray(np.isfinite(kept).any(axis=1))
    for writer, left, share in zip(writers, some_left, _log_shares(rows, mask, temperature), strict=True):
        if not left:
            raise ConfigError(
                f"after {writer.written()[-40:]!r} every character is forbidden",
                "Loosen --max-copy, --ban or --regex.",
            )
        writer.log_weight += float(share)
    return kept


def _log_shares(rows: Logits, mask: Mask, temperature: float) -> NDArray[np.float64]:
    """Return log of how much of each row's distribution a mask leaves, [B]."""
    highest = rows.max(axis=1, keepdims=True)
    if temperature == 0.0:
        return np.where(np.take_along_axis(mask, rows.argmax(axis=1)[:, None], 1)[:, 0], OUT, 0.0)
    weights = np.exp((rows - highest) / temperature)
    with np.errstate(divide="ignore"):  # nothing left is log 0
        shares: NDArray[np.float64] = np.log(np.where(mask, 0.0, weights).sum(axis=1) / weights.sum(axis=1))
    return np.minimum(shares, 0.0)
