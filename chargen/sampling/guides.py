"""What the text so far does to its next id, each a small machine whose state is a value.

    the ids so far ─▶ state ─▶ which ids are forbidden now, or how many nats they lose

To add one: a leaf of `Guide` in a file of its own, and a line in `sampling/writing.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.text.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.sampling.constraint import Constraint

Mask = NDArray[np.bool_]
GuideState = Any  #: a value, of the guide that made it


class Guide(ABC):
    """One thing that looks back."""

    @abstractmethod
    def begin(self, prompt: str, ids: Ids) -> GuideState:
        """Return the state after a prompt, given as text and as ids."""

    @abstractmethod
    def advance(self, state: GuideState, token_id: int) -> GuideState:
        """Return the state after one more id."""

    def forbidden(self, state: GuideState) -> Mask | None:
        """Tell which ids are ruled out, [V]; None if none are."""
        return None

    def penalties(self, state: GuideState) -> NDArray[np.float64] | None:
        """Return the nats that ids lose, [V]; None if none do."""
        return None


class Bans(Guide):
    """Forbids the id that would complete a string. The prompt may hold it, and may hold its beginning.

    Args:
        strings: none of them empty.
        tokenizer: of the model. What ids write is compared as UTF-8, so a string may be torn over them anyhow.
    """

    def __init__(self, strings: tuple[str, ...], tokenizer: Tokenizer) -> None:
        banned = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._written = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self._always = np.array([any(string in word for string in banned) for word in self._written])
        after: dict[bytes, list[int]] = {}  # what must stand before an id that is then forbidden
        for string in banned:
            for token_id, word in enumerate(self._written):
                for size in range(1, min(len(word), len(string) - 1) + 1):
                    if string.endswith(word[:size]):
                        after.setdefault(string[: len(string) - size], []).append(token_id)
        self._after = {before: np.array(ids) for before, ids in after.items()}
        self._longest = max(map(len, self._after), default=0)

    def begin(self, prompt: str, ids: Ids) -> bytes:
        return prompt.encode("utf-8", "surrogatepass")[-self._longest :] if self._longest else b""

    def advance(self, state: bytes, token_id: int) -> bytes:
        return (state + self._written[token_id])[-self._longest :] if self._longest else b""

    def forbidden(self, state: bytes) -> Mask | None:
        mask: Mask = self._always.copy()
        for before, ids in self._after.items():
            if state.endswith(before):
                mask[ids] = True
        return mask


class MatchState(NamedTuple):
    """Where a text stands in the automaton of a regular expression."""

    state: int
    left: int  #: characters that may still begin


class Match(Guide):
    """Allows ids after which a match of the whole text can be completed within its length.

    In a state that is a match already nothing is forbidden: the text ends there if the id that is drawn does not lead
    on within the pattern. So a text goes on as long as the model wants to.
    """

    def __init__(self, constraint: Constraint, length: int) -> None:
        constraint.check(length)
        self._constraint, self._length = constraint, length

    def begin(self, prompt: str, ids: Ids) -> MatchState:
        return MatchState(self._constraint.start, self._length)

    def may_end(self, state: MatchState) -> bool:
        """Tell whether the text is a match as it stands."""
        return self._constraint.accepting(state.state)

    def leads_on(self, state: MatchState, token_id: int) -> bool:
        """Tell whether a match can be completed after an id."""
        return bool(self._constraint.allowed(*state)[token_id])

    def is_over(self, state: MatchState) -> bool:
        """Tell whether the text is a match and nothing can be added to it."""
        constraint = self._constraint
        return constraint.accepting(state.state) and not constraint.allowed(*state).any()

    def advance(self, state: MatchState, token_id: int) -> MatchState:
        constraint = self._constraint
        return MatchState(constraint.advance(state.state, token_id), state.left - int(constraint.characters[token_id]))

    def forbidden(self, state: MatchState) -> Mask | None:
        if self._constraint.accepting(state.state):
            return None
        return ~self._constraint.allowed(*state)


def check_spelled(what: str, strings: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Check that a model can write strings.

    Raises:
        ConfigError: its alphabet lacks a character.
    """
    for string in strings:
        lacking = [c for c in dict.fromkeys(string) if tokenizer.unknown(tokenizer.encode(c)).any()]
        if lacking:
            raise ConfigError(
                f"{what} {string!r} can never be written: the model does not know {', '.join(map(repr, lacking))}"
            )
