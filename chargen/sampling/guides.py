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
from chargen.text.tokenizer import BOUNDARY_ID, Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.sampling.constraint import Constraint

Mask = NDArray[np.bool_]
MAX_STRING_CHARS = 1 << 18  #: of all strings of an option together: 262,144, about 30 MB
ROOT = 0  #: where no beginning of a string stands
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
        between: what the boundary writes: what stands between two documents.
    """

    def __init__(self, strings: tuple[str, ...], tokenizer: Tokenizer, between: str = "") -> None:
        from chargen.sampling.strings import Strings  # only for those who look for some

        banned = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._written = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self._written[BOUNDARY_ID] = between.encode()
        self._automaton = automaton = Strings(banned)
        self._always = np.array([self._completes(word) for word in self._written])
        self._longest = max(map(len, banned))
        by_prefix: dict[bytes, list[int]] = {}  # what ids write first
        for token_id, word in enumerate(self._written):
            for size in range(1, min(len(word), self._longest) + 1):
                by_prefix.setdefault(word[:size], []).append(token_id)
        longest_word = max(map(len, self._written))
        found: dict[int, set[int]] = {}  # the ids that are forbidden after a beginning of a string
        for string, path in zip(banned, automaton.paths, strict=True):
            for size in range(1, min(longest_word, len(string) - 1) + 1):
                if string[-size:] in by_prefix:
                    found.setdefault(path[-1 - size], set()).update(by_prefix[string[-size:]])
        self._after = {node: np.array(sorted(ids)) for node, ids in found.items()}
        self._links = [ROOT] * len(automaton.depths)  # the longest end of a node, itself too, with ids in `_after`
        for node in automaton.order:
            self._links[node] = node if node in self._after else self._links[automaton.failures[node]]

    def begin(self, prompt: str, ids: Ids) -> int:
        tail = prompt[-self._longest :].encode("utf-8", "surrogatepass")
        return self._automaton.walk(ROOT, tail[-self._longest :])

    def advance(self, state: int, token_id: int) -> int:
        return self._automaton.walk(state, self._written[token_id])

    def forbidden(self, state: int) -> Mask | None:
        mask: Mask = self._always.copy()
        node = self._links[state]
        while node != ROOT:
            mask[self._after[node]] = True
            node = self._links[self._automaton.failures[node]]
        return mask

    def _completes(self, word: bytes) -> bool:
        """Tell whether a banned string stands in a word."""
        node = ROOT
        for byte in word:
            node = self._automaton.step(node, byte)
            if self._automaton.ends[node]:
                return True
        return False


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
    if tokenizer.unknown_id is None:
        return
    characters = "".join(dict.fromkeys("".join(strings)))
    unknown = {char for char in characters if tokenizer.unknown(tokenizer.encode(char)).any()}
    for string in strings if unknown else ():
        lacking = [char for char in dict.fromkeys(string) if char in unknown]
        if lacking:
            raise ConfigError(
                f"{what} {string[:80]!r} can never be written: the model does not know "
                f"{', '.join(map(repr, lacking[:20]))}"
            )


def check_size(what: str, strings: tuple[str, ...]) -> None:
    """Check that strings are not too many and too long to be looked for.

    Raises:
        ConfigError: they are.
    """
    chars = sum(map(len, strings))
    if chars > MAX_STRING_CHARS:
        raise ConfigError(
            f"all {what} strings together have {chars:,} characters, but may have at most {MAX_STRING_CHARS:,}",
            f"Give fewer or shorter ones to --{what}.",
        )
