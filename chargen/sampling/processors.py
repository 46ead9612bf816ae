"""Logits processors: constraints and penalties that depend on the text so far.

    token ids so far ─▶ state ─▶ mask of the token ids that are forbidden now, or the nats that token ids lose

A processor is a small state machine whose state is a value. To add one, write a subclass of `LogitsProcessor` and
append it in `Generator` (`sampling/generate.py`).

    StringMatcher        finds many strings at once in a growing text (Aho & Corasick 1975)
    BannedStrings        --ban: forbids the token id that would complete a string
    RegexProcessor       --regex: allows the token ids after which the whole text can still match
    RepetitionPenalty    --dry: takes nats from token ids that would continue a repetition
    CopyFilter           --max-copy, in `copy_filter.py`
    LogitBias, CountPenalties    of the server, in `openai_processors.py`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.text.cleaning import quote_characters
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.sampling.regex import Constraint

Mask = NDArray[np.bool_]
ProcessorState = Any  # a value; only the processor that made it knows its type

NUM_SYMBOLS = 0x110000  # symbols of a string matcher: code points or bytes
ROOT = 0  # the node of the empty prefix
MAX_STRING_CHARS = 1 << 18  # characters of all strings of an option together: 262,144, about 30 MB


class LogitsProcessor(ABC):
    """A constraint or a penalty that depends on the text so far."""

    @abstractmethod
    def initial_state(self, prompt: str, prompt_ids: Ids) -> ProcessorState:
        """Return the state after the prompt, which is given as text and as token ids."""

    @abstractmethod
    def advance(self, state: ProcessorState, token_id: int) -> ProcessorState:
        """Return the state after one more token id."""

    def forbidden_mask(self, state: ProcessorState) -> Mask | None:
        """Return which token ids must not come next, [V]; None if all may."""
        return None

    def penalties_nats(self, state: ProcessorState) -> NDArray[np.float64] | None:
        """Return how many nats each token id loses, [V]; None if none does."""
        return None


# ── many strings at once ──────────────────────────────────────────────────────


class StringMatcher:
    """An automaton that finds all of several strings in a text (Aho & Corasick 1975).

        strings  he, she, hers              there is one node for each prefix of a string
        text     u s h e r s                after "ushe" the node is "she": the longest prefix that the text ends with
                       ▲ "she" and "he" end here

    One step costs one symbol, however many and long the strings are. A node is a whole number, which the caller keeps.

    Args:
        strings: Strings of symbols (code points or bytes); none of them is empty.
    """

    def __init__(self, strings: Iterable[Iterable[int]]) -> None:
        self._edges: dict[int, int] = {}  # node · NUM_SYMBOLS + symbol → node
        self.depths = [0]  #: length of each node's prefix
        self.match_lengths = [0]  #: length of the longest string that the text ends with at each node; 0 if none
        self.paths = [self._insert(string) for string in strings]  #: nodes of each string, from the root on
        self.failure_links = [ROOT] * len(self.depths)  #: node of the longest proper suffix that is a prefix
        self.breadth_first = self._link()  #: all nodes but the root, by ascending depth

    def step(self, node: int, symbol: int) -> int:
        """Return the node after one more symbol."""
        while (child := self._edges.get(node * NUM_SYMBOLS + symbol)) is None:
            if node == ROOT:
                return ROOT
            node = self.failure_links[node]
        return child

    def walk(self, node: int, symbols: Iterable[int]) -> int:
        """Return the node after several symbols."""
        for symbol in symbols:
            node = self.step(node, symbol)
        return node

    def _insert(self, string: Iterable[int]) -> list[int]:
        """Add the nodes of a string and return them."""
        path = [ROOT]
        for symbol in string:
            node = self._edges.setdefault(path[-1] * NUM_SYMBOLS + symbol, len(self.depths))
            if node == len(self.depths):
                self.depths.append(len(path))
                self.match_lengths.append(0)
            path.append(node)
        self.match_lengths[path[-1]] = len(path) - 1
        return path

    def _link(self) -> list[int]:
        """Set the failure links and return the nodes in breadth-first order."""
        children: dict[int, list[tuple[int, int]]] = {}
        for key, node in self._edges.items():
            children.setdefault(key // NUM_SYMBOLS, []).append((key % NUM_SYMBOLS, node))
        order: list[int] = []
        queue = deque([ROOT])
        while queue:
            parent = queue.popleft()
            for symbol, node in children.get(parent, ()):
                self.failure_links[node] = self.step(self.failure_links[parent], symbol) if parent != ROOT else ROOT
                self.match_lengths[node] = self.match_lengths[node] or self.match_lengths[self.failure_links[node]]
                order.append(node)
                queue.append(node)
        return order


class BannedStrings(LogitsProcessor):
    """Forbids every token id that would complete one of several strings.

    The prompt may contain a banned string, or its first characters, which the generated text must then not complete.

    Args:
        strings: The banned strings; none of them is empty.
        tokenizer: The tokenizer of the model. The texts of token ids are compared as UTF-8 bytes, so a string is found
            however it is split into token ids.
        document_separator: The text of the boundary token: what separates two documents.
    """

    def __init__(self, strings: tuple[str, ...], tokenizer: Tokenizer, document_separator: str = "") -> None:
        banned = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._token_bytes = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self._token_bytes[BOUNDARY_ID] = document_separator.encode()
        self._matcher = StringMatcher(banned)
        self._max_string_bytes = max(map(len, banned))
        self._always_forbidden = np.array([self._contains_match(word) for word in self._token_bytes])
        self._forbidden_at = self._completing_ids(banned)
        # The nearest node on the chain of failure links, the node itself included, that forbids token ids.
        self._next_forbidding = [ROOT] * len(self._matcher.depths)
        for node in self._matcher.breadth_first:
            failure = self._matcher.failure_links[node]
            self._next_forbidding[node] = node if node in self._forbidden_at else self._next_forbidding[failure]

    def initial_state(self, prompt: str, prompt_ids: Ids) -> int:
        """Return the matcher's node after the prompt."""
        tail = prompt[-self._max_string_bytes :].encode("utf-8", "surrogatepass")
        return self._matcher.walk(ROOT, tail[-self._max_string_bytes :])

    def advance(self, state: int, token_id: int) -> int:
        """Return the matcher's node after one more token id."""
        return self._matcher.walk(state, self._token_bytes[token_id])

    def forbidden_mask(self, state: int) -> Mask | None:
        """Return which token ids would complete a banned string, [V]."""
        mask: Mask = self._always_forbidden.copy()
        node = self._next_forbidding[state]
        while node != ROOT:
            mask[self._forbidden_at[node]] = True
            node = self._next_forbidding[self._matcher.failure_links[node]]
        return mask

    def _contains_match(self, word: bytes) -> bool:
        """Return whether a word contains a banned string."""
        node = ROOT
        for byte in word:
            node = self._matcher.step(node, byte)
            if self._matcher.match_lengths[node]:
                return True
        return False

    def _completing_ids(self, banned: list[bytes]) -> dict[int, NDArray[np.int_]]:
        """Return, for each node, the token ids that start with the rest of a string whose prefix is the node."""
        ids_by_prefix: dict[bytes, list[int]] = {}
        for token_id, word in enumerate(self._token_bytes):
            for size in range(1, min(len(word), self._max_string_bytes) + 1):
                ids_by_prefix.setdefault(word[:size], []).append(token_id)
        max_token_bytes = max(map(len, self._token_bytes))
        ids_by_node: dict[int, set[int]] = {}
        for string, path in zip(banned, self._matcher.paths, strict=True):
            for size in range(1, min(max_token_bytes, len(string) - 1) + 1):
                if string[-size:] in ids_by_prefix:
                    ids_by_node.setdefault(path[-1 - size], set()).update(ids_by_prefix[string[-size:]])
        return {node: np.array(sorted(ids)) for node, ids in ids_by_node.items()}


def check_can_write(what: str, strings: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Check that the vocabulary of a model contains all characters of some strings.

    Args:
        what: What the strings are, for the message: "the stop string".
        strings: The strings.
        tokenizer: The tokenizer of the model.

    Raises:
        ConfigError: If a character is missing.
    """
    if tokenizer.unknown_id is None:
        return
    characters = "".join(dict.fromkeys("".join(strings)))
    unknown = {char for char in characters if tokenizer.is_unknown(tokenizer.encode(char)).any()}
    for string in strings if unknown else ():
        missing = [char for char in dict.fromkeys(string) if char in unknown]
        if missing:
            raise ConfigError(
                f"{what} {string[:80]!r} can never be written: the model does not know {quote_characters(missing)}"
            )


def check_total_size(option: str, strings: tuple[str, ...]) -> None:
    """Check that the strings of an option fit into a `StringMatcher`.

    Raises:
        ConfigError: If they have more than MAX_STRING_CHARS characters together.
    """
    num_chars = sum(map(len, strings))
    if num_chars > MAX_STRING_CHARS:
        raise ConfigError(
            f"all {option} strings together have {num_chars:,} characters, but may have at most {MAX_STRING_CHARS:,}",
            f"Give fewer or shorter ones to --{option}.",
        )


# ── regular expressions ───────────────────────────────────────────────────────


class RegexState(NamedTuple):
    """A state of the automaton of a regular expression, and the remaining length."""

    state: int
    num_chars_left: int  #: how many characters may still be started


class RegexProcessor(LogitsProcessor):
    """Allows the token ids after which the whole text can still become a match within its length.

    In a state where the text is a match already, nothing is forbidden: the text ends there if the drawn token id does
    not continue the pattern. So a text goes on for as long as the model continues it.

    Raises:
        ConfigError: If the shortest match is longer than `length` characters.
    """

    def __init__(self, constraint: Constraint, length: int) -> None:
        constraint.check_length(length)
        self._constraint = constraint
        self._length = length

    def initial_state(self, prompt: str, prompt_ids: Ids) -> RegexState:
        """Return the start state; the prompt is not part of the match."""
        return RegexState(self._constraint.start, self._length)

    def advance(self, state: RegexState, token_id: int) -> RegexState:
        """Return the state after one more token id, which must be allowed."""
        num_chars_left = state.num_chars_left - int(self._constraint.num_chars[token_id])
        return RegexState(self._constraint.advance(state.state, token_id), num_chars_left)

    def forbidden_mask(self, state: RegexState) -> Mask | None:
        """Return which token ids lead to no match, [V]; None where the text is a match already."""
        if self.is_match(state):
            return None
        return ~self._constraint.allowed_mask(*state)

    def is_match(self, state: RegexState) -> bool:
        """Return whether the text is a match now."""
        return self._constraint.is_accepting(state.state)

    def can_continue(self, state: RegexState, token_id: int) -> bool:
        """Return whether a match can be completed after a token id."""
        return bool(self._constraint.allowed_mask(*state)[token_id])

    def is_complete(self, state: RegexState) -> bool:
        """Return whether the text is a match to which nothing can be added."""
        return self.is_match(state) and not self._constraint.allowed_mask(*state).any()


# ── repetition ────────────────────────────────────────────────────────────────

MAX_OCCURRENCES = 64  # earlier occurrences of a sequence that are compared: the latest ones
MAX_COUNTED = 300  # length of a repetition, in token ids, from which on the penalty does not grow any more
MAX_ALLOWED = 1000  # limit of `allowed`
MAX_PENALTY_NATS = 1e9  # effectively forbids a token id, and is small enough that differences between logits are kept
HISTORY = 1 << 15  # token ids that are searched for repetitions: at least these, at most twice as many (bounded memory)


class _IndexedIds:
    """A sequence of token ids, with an index from each run of `width` token ids to the positions that follow it."""

    def __init__(self, ids: list[int], width: int) -> None:
        self.ids: list[int] = []
        self.positions: dict[int, list[int]] = {}  # hash of a sequence → positions after its occurrences
        self._width = width
        for token_id in ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Add a token id."""
        if len(self.ids) >= self._width:
            self.positions.setdefault(hash(tuple(self.ids[-self._width :])), []).append(len(self.ids))
        self.ids.append(token_id)


class RepetitionState(NamedTuple):
    """The first `size` token ids of a sequence, which another text with the same start may have made longer."""

    sequence: _IndexedIds
    size: int


class RepetitionPenalty(LogitsProcessor):
    """Takes nats from token ids that would continue a repetition.

    This is DRY, "don't repeat yourself" (p-e-w 2024, text-generation-webui pull request 5677). If the last n token ids
    occurred before, and n > allowed, the token id that followed them there loses

        multiplier · base^(n − allowed − 1) nats

    so a loop becomes ever less probable, and frequent single characters are not penalised. n counts token ids.
    In a long text only the last HISTORY to 2 · HISTORY token ids are searched.

    Args:
        multiplier: Nats for the shortest repetition that is penalised.
        base: Factor for each further repeated token id.
        allowed: Length of a repetition that is not penalised, in token ids.
        vocab_size: V.

    Raises:
        ConfigError: If `allowed` is above MAX_ALLOWED.
    """

    def __init__(self, multiplier: float, base: float, allowed: int, vocab_size: int) -> None:
        if allowed > MAX_ALLOWED:
            raise ConfigError(f"dry_allowed is {allowed:,}, but must be at most {MAX_ALLOWED:,}")
        self._multiplier = multiplier
        self._base = base
        self._width = allowed + 1
        self._vocab_size = vocab_size

    def initial_state(self, prompt: str, prompt_ids: Ids) -> RepetitionState:
        """Return the index of the prompt, whose sequences must not be repeated either."""
        return RepetitionState(_IndexedIds(prompt_ids.tolist(), self._width), len(prompt_ids))

    def advance(self, state: RepetitionState, token_id: int) -> RepetitionState:
        """Return the index with one more token id."""
        sequence, size = state
        if size >= 2 * HISTORY:
            sequence = _IndexedIds(sequence.ids[size - HISTORY : size], self._width)
            size = HISTORY
        elif len(sequence.ids) != size:  # another text was continued from this state: copy the common start
            sequence = _IndexedIds(sequence.ids[:size], self._width)
        sequence.append(token_id)
        return RepetitionState(sequence, size + 1)

    def penalties_nats(self, state: RepetitionState) -> NDArray[np.float64] | None:
        """Return how many nats each token id loses, [V]; None if none would continue a repetition."""
        longest = self._longest_repetitions(state)
        if not longest:
            return None
        nats = np.zeros(self._vocab_size)
        for token_id, n in longest.items():
            nats[token_id] = self._penalty_nats(n - self._width)
        return nats

    def _longest_repetitions(self, state: RepetitionState) -> dict[int, int]:
        """Return, for each token id that followed the last token ids before, the length of the longest repetition."""
        (sequence, size), width = state, self._width
        if size < width:
            return {}
        ids = sequence.ids
        last = ids[size - width : size]
        positions = sequence.positions.get(hash(tuple(last)), [])
        longest: dict[int, int] = {}
        for position in positions[-MAX_OCCURRENCES:]:
            if position >= size or ids[position - width : position] != last:
                continue  # it belongs to another text, or it is another sequence with the same hash
            n = width
            while n < min(position, MAX_COUNTED) and ids[position - n - 1] == ids[size - n - 1]:
                n += 1
            longest[ids[position]] = max(n, longest.get(ids[position], 0))
        return longest

    def _penalty_nats(self, exponent: int) -> float:
        try:
            return min(self._multiplier * self._base**exponent, MAX_PENALTY_NATS)
        except OverflowError:
            return MAX_PENALTY_NATS
