"""Many strings looked for at once in a text that grows: the automaton of Aho & Corasick (1975).

    strings  he, she, hers                 a node for each beginning of a string
    text     u s h e r s                   after "ushe" the node is "she": the longest beginning that the text ends with
                   ▲ "she" and "he" end    one step a symbol, however many and long the strings are

Symbols are numbers: code points of text, or bytes.

What the text so far does to its next id, each a small machine whose state is a value.

    the ids so far ─▶ state ─▶ which ids are forbidden now, or how many nats they lose

To add one: a leaf of `LogitsProcessor` in a file of its own, and a line in `sampling/writing.py`.

A penalty on repeated sequences: DRY, "don't repeat yourself" (p-e-w 2024, text-generation-webui pull request 5677).

If the last n ids stood in the text before, n > allowed, the id that followed them there loses

    multiplier · base^(n − allowed − 1) nats

so that a loop becomes ever dearer, and single letters cost nothing however often they come. Here n counts ids. Of a
long text the last ids are looked back at, HISTORY of them at least.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.sampling.regex import Constraint


WIDTH = 0x110000  #: symbols, at most
ROOT = 0  #: the node of the empty beginning


class Strings:
    """An automaton for strings, none of them empty. A node is a whole number, and belongs to the caller."""

    def __init__(self, strings: Iterable[Iterable[int]]) -> None:
        self._edges: dict[int, int] = {}  # node · WIDTH + symbol → node
        self.depths = [0]  #: of each node: how many symbols it stands for
        self.ends = [0]  #: of each node: symbols of the longest string that the text ends with there; 0: of none
        self.paths = [self._insert(string) for string in strings]  #: of each string: its nodes, the root first
        self.failures = [ROOT] * len(self.depths)  #: of each node: that of its longest end that is a beginning too
        self.order = self._link()  #: the nodes but for the root, the short beginnings first

    def step(self, node: int, symbol: int) -> int:
        """Return the node after one more symbol."""
        while (after := self._edges.get(node * WIDTH + symbol)) is None:
            if node == ROOT:
                return ROOT
            node = self.failures[node]
        return after

    def walk(self, node: int, symbols: Iterable[int]) -> int:
        """Return the node after some symbols."""
        for symbol in symbols:
            node = self.step(node, symbol)
        return node

    def _insert(self, string: Iterable[int]) -> list[int]:
        path = [ROOT]
        for symbol in string:
            node = self._edges.setdefault(path[-1] * WIDTH + symbol, len(self.depths))
            if node == len(self.depths):
                self.depths.append(len(path))
                self.ends.append(0)
            path.append(node)
        self.ends[path[-1]] = len(path) - 1
        return path

    def _link(self) -> list[int]:
        children: dict[int, list[tuple[int, int]]] = {}
        for key, node in self._edges.items():
            children.setdefault(key // WIDTH, []).append((key % WIDTH, node))
        order: list[int] = []
        queue = deque([ROOT])
        while queue:
            parent = queue.popleft()
            for symbol, node in children.get(parent, ()):
                self.failures[node] = self.step(self.failures[parent], symbol) if parent != ROOT else ROOT
                self.ends[node] = self.ends[node] or self.ends[self.failures[node]]
                order.append(node)
                queue.append(node)
        return order


Mask = NDArray[np.bool_]
MAX_STRING_CHARS = 1 << 18  #: of all strings of an option together: 262,144, about 30 MB
ProcessorState = Any  #: a value, of the guide that made it


class LogitsProcessor(ABC):
    """One thing that looks back."""

    @abstractmethod
    def begin(self, prompt: str, ids: Ids) -> ProcessorState:
        """Return the state after a prompt, given as text and as ids."""

    @abstractmethod
    def advance(self, state: ProcessorState, token_id: int) -> ProcessorState:
        """Return the state after one more id."""

    def forbidden(self, state: ProcessorState) -> Mask | None:
        """Tell which ids are ruled out, [V]; None if none are."""
        return None

    def penalties(self, state: ProcessorState) -> NDArray[np.float64] | None:
        """Return the nats that ids lose, [V]; None if none do."""
        return None


class BannedStrings(LogitsProcessor):
    """Forbids the id that would complete a string. The prompt may hold it, and may hold its beginning.

    Args:
        strings: none of them empty.
        tokenizer: of the model. What ids write is compared as UTF-8, so a string may be torn over them anyhow.
        between: what the boundary writes: what stands between two documents.
    """

    def __init__(self, strings: tuple[str, ...], tokenizer: Tokenizer, between: str = "") -> None:

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


class RegexState(NamedTuple):
    """Where a text stands in the automaton of a regular expression."""

    state: int
    left: int  #: characters that may still begin


class RegexProcessor(LogitsProcessor):
    """Allows ids after which a match of the whole text can be completed within its length.

    In a state that is a match already nothing is forbidden: the text ends there if the id that is drawn does not lead
    on within the pattern. So a text goes on as long as the model wants to.
    """

    def __init__(self, constraint: Constraint, length: int) -> None:
        constraint.check(length)
        self._constraint, self._length = constraint, length

    def begin(self, prompt: str, ids: Ids) -> RegexState:
        return RegexState(self._constraint.start, self._length)

    def may_end(self, state: RegexState) -> bool:
        """Tell whether the text is a match as it stands."""
        return self._constraint.accepting(state.state)

    def leads_on(self, state: RegexState, token_id: int) -> bool:
        """Tell whether a match can be completed after an id."""
        return bool(self._constraint.allowed(*state)[token_id])

    def is_over(self, state: RegexState) -> bool:
        """Tell whether the text is a match and nothing can be added to it."""
        constraint = self._constraint
        return constraint.accepting(state.state) and not constraint.allowed(*state).any()

    def advance(self, state: RegexState, token_id: int) -> RegexState:
        constraint = self._constraint
        return RegexState(constraint.advance(state.state, token_id), state.left - int(constraint.characters[token_id]))

    def forbidden(self, state: RegexState) -> Mask | None:
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
    unknown = {char for char in characters if tokenizer.is_unknown(tokenizer.encode(char)).any()}
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


MAX_PLACES = 64  #: where a sequence stood, that are looked at: the latest
MAX_COUNTED = 300  #: repeated ids, beyond which the penalty no longer grows
MAX_ALLOWED = 1000  #: repeated ids that may cost nothing
MAX_PENALTY_NATS = 1e9  #: as good as forbidden, and small enough that other differences are kept
HISTORY = 1 << 15  #: ids that are looked back at, at least; at most twice as many: memory does not grow with a text


class _Texts:
    """Ids in a row, and where each sequence of `width` of them stands: the id after it."""

    def __init__(self, ids: list[int], width: int) -> None:
        self.ids: list[int] = []
        self.places: dict[int, list[int]] = {}  # by the hash of the sequence
        self._width = width
        for token_id in ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        if len(self.ids) >= self._width:
            self.places.setdefault(hash(tuple(self.ids[-self._width :])), []).append(len(self.ids))
        self.ids.append(token_id)


class History(NamedTuple):
    """The first `size` ids of a text that may have grown further since, in another's hands."""

    texts: _Texts
    size: int


class RepetitionPenalty(LogitsProcessor):
    """Takes nats from ids that would go on repeating.

    Args:
        multiplier, base, allowed: see above.
        vocab_size: V.

    Raises:
        ConfigError: `allowed` is above MAX_ALLOWED.
    """

    def __init__(self, multiplier: float, base: float, allowed: int, vocab_size: int) -> None:
        if allowed > MAX_ALLOWED:
            raise ConfigError(f"dry_allowed is {allowed:,}, but must be at most {MAX_ALLOWED:,}")
        self._multiplier, self._base, self._allowed, self._vocab_size = multiplier, base, allowed, vocab_size

    def begin(self, prompt: str, ids: Ids) -> History:
        return History(_Texts(ids.tolist(), self._allowed + 1), len(ids))

    def advance(self, state: History, token_id: int) -> History:
        texts, size = state
        if size >= 2 * HISTORY:
            texts, size = _Texts(texts.ids[size - HISTORY : size], self._allowed + 1), HISTORY
        elif len(texts.ids) != size:  # another went on from here: this one gets a text of its own
            texts = _Texts(texts.ids[:size], self._allowed + 1)
        texts.append(token_id)
        return History(texts, size + 1)

    def penalties(self, state: History) -> NDArray[np.float64] | None:
        texts, size = state
        ids, width = texts.ids, self._allowed + 1
        last = ids[size - width : size] if size >= width else []
        places = texts.places.get(hash(tuple(last)), []) if last else []
        longest: dict[int, int] = {}
        for place in [place for place in places[-MAX_PLACES:] if place < size]:
            if ids[place - width : place] != last:
                continue  # another sequence with the same hash
            n = width
            while n < min(place, MAX_COUNTED) and ids[place - n - 1] == ids[size - n - 1]:
                n += 1
            longest[ids[place]] = max(n, longest.get(ids[place], 0))
        if not longest:
            return None
        nats = np.zeros(self._vocab_size)
        for token_id, n in longest.items():
            nats[token_id] = self._penalty_nats(n - width)
        return nats

    def _penalty_nats(self, further: int) -> float:
        try:
            return min(self._multiplier * self._base**further, MAX_PENALTY_NATS)
        except OverflowError:
            return MAX_PENALTY_NATS
