"""A regular expression as a constraint on token ids: which token ids may come next so that the whole text is a match.

    pattern ──▶ automaton over bytes ──▶ automaton over token ids, trimmed ──▶ characters to a match, [S, V]

A token id is followed byte by byte, so a piece of a word, a character and a byte are all exact. Only states from which
the model's token ids can still complete a match are kept. For each (state, token id) the smallest number of characters
of any match after it is known, so `allowed_mask` is one comparison. A character counts at its first byte.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.sampling.regex_automaton import byte_automaton, literals, too_large_error
from chargen.text.cleaning import check_unicode, quote_characters
from chargen.tokenizers.tokenizer import Tokenizer

MAX_CELLS = 1 << 24  # states × token ids, 8 bytes each; also of all automata together that are kept for later calls
MAX_KEPT = 8  # automata that are kept for later calls
DEAD = -1  # marks that no match is possible
NEVER = np.iinfo(np.int32).max  # characters to a match where there is none

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Constraint:
    """An automaton over V token ids with S states. A state is a whole number, which the caller keeps.

    To write a match of at most `length` characters, start in `start` with num_chars_left = length. Draw a token id from
    `allowed_mask(state, num_chars_left)`, subtract `num_chars[token_id]`, and call `advance`. Stop in a state that
    `is_accepting`, at the latest where nothing is allowed any more. With `length` ≥ `min_length` there is always either
    an allowed token id or an accepting state.
    """

    pattern: str
    next_state: Ints  #: [S, V]; DEAD where a token id is not allowed
    cost: Ints  #: [S, V]; characters that the token id starts plus the fewest that complete a match after it, or NEVER
    num_chars: Ints  #: [V]; characters that start in a token id
    accepts: Bools  #: [S]; whether the text so far is a match
    min_length: int  #: characters of the shortest match
    start: int = 0

    def check_length(self, length: int) -> None:
        """Check that a match fits into `length` characters.

        Raises:
            ConfigError: If the shortest match is longer.
        """
        if self.min_length > length:
            raise ConfigError(
                f"the shortest match of {self.pattern!r} has {self.min_length:,} characters, the length is {length:,}",
                f"Use --length {self.min_length} or more.",
            )

    def allowed_mask(self, state: int, num_chars_left: int) -> Bools:
        """Return the token ids after which a match can still be completed, [V].

        Args:
            state: The current state.
            num_chars_left: How many characters may still start, including those of the next token id.
        """
        allowed: Bools = np.less_equal(self.cost[state], min(num_chars_left, NEVER - 1))
        return allowed

    def advance(self, state: int, token_id: int) -> int:
        """Return the state after a token id.

        Raises:
            ConfigError: If no match continues with this token id.
        """
        next_state: int = self.next_state.item(state, token_id)
        if next_state == DEAD:
            raise ConfigError(f"no match of {self.pattern!r} continues with token id {token_id} from state {state}")
        return next_state

    def is_accepting(self, state: int) -> bool:
        """Return whether the text that led to a state is a match."""
        return bool(self.accepts[state])


_kept: OrderedDict[tuple[str, Tokenizer], Constraint] = OrderedDict()  # automata of the last calls, the newest last
_kept_lock = Lock()  # requests of a server compile in several threads


def compile_regex(pattern: str, tokenizer: Tokenizer) -> Constraint:
    r"""Compile a regular expression to an automaton over a tokenizer's token ids.

    The syntax is that of Rust's `regex`: nearly Python's, without look-around, back-references and \b, with \p{Greek}
    and [\w&&[^_]]. \w, \d, \s and (?i) follow Unicode; `.` matches all but \n, (?s:.) matches all. The whole text
    has to match. The automata of the last calls are kept, as far as they fit into MAX_CELLS together.

    Raises:
        ChargenError: If the extra chargen[regex] is not installed.
        ConfigError: If the pattern is not valid or too large, or the model's characters cannot write a match.
    """
    key = pattern, tokenizer
    with _kept_lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    constraint = _compile(pattern, tokenizer)
    with _kept_lock:
        _kept[key] = constraint
        while len(_kept) > MAX_KEPT or sum(each.cost.size for each in _kept.values()) > MAX_CELLS:
            _kept.popitem(last=False)
    return constraint


def _compile(pattern: str, tokenizer: Tokenizer) -> Constraint:
    """Compile a regular expression, as `compile_regex` does, which also lists the errors."""
    check_unicode(pattern, "the regular expression")
    words = _token_words(tokenizer)
    table, column_of_byte, start, accepting = _byte_table(pattern, words)
    table, class_words, group_of_id = _group_ids(table, words, column_of_byte)
    num_chars = np.array([_count_starts(word) for word in words], dtype=np.int32)
    group_chars = num_chars[np.unique(group_of_id, return_index=True)[1]]  # equal for all token ids of a group
    byte_states, next_state = _reachable_states(table, class_words, start, MAX_CELLS // len(words), pattern)
    accepts = np.isin(byte_states, accepting)
    chars_to_match = _chars_to_match(next_state, group_chars, accepts)
    if chars_to_match[0] == NEVER:
        raise _no_match_error(pattern, tokenizer)

    # Drop the states from which no match can be completed, and renumber the others.
    is_live = chars_to_match < NEVER
    new_number = np.append(np.where(is_live, np.cumsum(is_live) - 1, DEAD), DEAD).astype(np.int32)
    next_state = next_state[is_live]
    cost = group_chars + np.append(chars_to_match, 0)[next_state]
    cost = np.where(new_number[next_state] >= 0, cost, NEVER).astype(np.int32)
    return Constraint(
        pattern=pattern,
        next_state=new_number[next_state][:, group_of_id],
        cost=cost[:, group_of_id],
        num_chars=num_chars,
        accepts=accepts[is_live],
        min_length=int(chars_to_match[0]),
    )


def _token_words(tokenizer: Tokenizer) -> list[bytes]:
    """Return the UTF-8 bytes of each token id; b"" for those that are never generated."""
    words = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    for token_id in tokenizer.special_ids():
        words[token_id] = b""
    return words


def _byte_table(pattern: str, words: list[bytes]) -> tuple[Ints, Ints, int, list[int]]:
    """Return the automaton of a pattern over the bytes of the token ids.

    Returns:
        The state after each byte, [S + 1, bytes], whose last row is the dead state; each byte's column in it, [256];
        the start; the accepting states.

    Raises:
        ConfigError: If the pattern is not valid, or the table has more than MAX_CELLS entries.
    """
    alphabet = bytes(sorted(set(b"".join(words))))
    automaton = byte_automaton(pattern, alphabet)
    num_states = automaton.num_states
    if num_states * len(alphabet) > MAX_CELLS:
        raise too_large_error(pattern, f"{num_states:,} states over bytes")
    edges = np.frombuffer(automaton.edges, dtype=np.int32).reshape(-1, 3)
    column_of_byte = np.zeros(256, dtype=np.int32)
    column_of_byte[list(alphabet)] = np.arange(len(alphabet))
    table = np.full((num_states + 1, len(alphabet)), num_states, dtype=np.int32)
    table[edges[:, 0], column_of_byte[edges[:, 1]]] = edges[:, 2]
    return table, column_of_byte, automaton.start, automaton.accepting


def _count_starts(word: bytes) -> int:
    """Count the characters that start in a byte string: the bytes that are not UTF-8 continuation bytes."""
    return sum(byte & 0xC0 != 0x80 for byte in word)


def _group_ids(table: Ints, words: list[bytes], column_of_byte: Ints) -> tuple[Ints, list[bytes], Ints]:
    """Group the token ids that the automaton does not distinguish: for `.`, 5,000 characters are a few groups.

    Args:
        table: The state after each byte, [S, bytes].
        words: The bytes of V token ids; b"" for one that is never generated.
        column_of_byte: Each byte's column in the table, [256].

    Returns:
        The table with one column for each class of equivalent bytes, [S, classes]; the distinct words over classes;
        the group (index of the word) of each token id, [V].
    """
    distinct: dict[bytes, int] = {}
    class_of_column = [distinct.setdefault(states.tobytes(), len(distinct)) for states in table.T]
    columns = np.frombuffer(b"".join(distinct), dtype=table.dtype).reshape(-1, len(table)).T
    class_of_byte = np.array(class_of_column, dtype=np.uint8)[column_of_byte].tobytes()
    groups: dict[tuple[bytes, int], int] = {}
    group_of_id = [
        groups.setdefault((word.translate(class_of_byte), _count_starts(word)), len(groups)) for word in words
    ]
    return np.ascontiguousarray(columns), [word for word, _ in groups], np.array(group_of_id)


def _reachable_states(table: Ints, words: list[bytes], start: int, max_states: int, pattern: str) -> tuple[Ints, Ints]:
    """Find the states that whole words lead to, by breadth-first search.

    Returns:
        Their numbers in the table, [S], the start first; the state after each word, [S, G].

    Raises:
        ConfigError: If there are more than `max_states`.
    """
    dead = len(table) - 1
    order = np.array(sorted(range(len(words)), key=lambda g: -len(words[g])))
    lengths = np.array([len(words[g]) for g in order])
    letters = np.zeros((len(words), lengths[0]), dtype=np.int64)
    for row, g in enumerate(order):
        letters[row, : lengths[row]] = list(words[g])
    num_longer = [int((lengths > k).sum()) for k in range(lengths[0])]  # words of more than k bytes; they come first
    number = np.full(len(table), DEAD, dtype=np.int32)
    number[start] = 0
    frontier = np.array([start], dtype=np.int32)
    levels, rows, count = [frontier], [], 1
    while len(frontier):
        if count > max_states:
            raise too_large_error(pattern, f"more than {max_states:,} states")
        states = np.repeat(frontier[:, None], len(words), axis=1)  # [F, G]
        for k, num_words in enumerate(num_longer):
            states[:, :num_words] = table[states[:, :num_words], letters[:num_words, k]]
        states[:, num_longer[0] :] = dead  # the empty word
        rows.append(states)
        reached = np.unique(states)
        frontier = reached[(reached != dead) & (number[reached] == DEAD)]
        number[frontier] = np.arange(count, count + len(frontier))
        count += len(frontier)
        levels.append(frontier)
    next_state = np.empty((count, len(words)), dtype=np.int32)
    next_state[:, order] = number[np.concatenate(rows)]
    return np.concatenate(levels), next_state


def _chars_to_match(next_state: Ints, group_chars: Ints, accepts: Bools) -> Ints:
    """Return the fewest characters from each state to an accepting one, [S]; NEVER if none can be reached.

    This is Dijkstra's algorithm (1959), backwards from all accepting states.
    """
    sources, groups = np.nonzero(next_state >= 0)
    base = int(group_chars.max(initial=0)) + 1
    num_states = len(next_state)
    packed = (next_state[sources, groups].astype(np.int64) * num_states + sources) * base + group_chars[groups]
    target_and_source, weights = np.divmod(np.unique(packed), base)
    targets, sources = np.divmod(target_and_source, num_states)
    bounds = np.searchsorted(targets, np.arange(num_states + 1)).tolist()
    edges = list(zip(sources.tolist(), weights.tolist(), strict=True))  # sorted by target
    fewest = [NEVER] * num_states
    queue = [(0, int(state)) for state in np.flatnonzero(accepts)]
    for _, state in queue:
        fewest[state] = 0
    while queue:
        distance, state = heapq.heappop(queue)
        if distance > fewest[state]:
            continue
        for source, weight in edges[bounds[state] : bounds[state + 1]]:
            if distance + weight < fewest[source]:
                fewest[source] = distance + weight
                heapq.heappush(queue, (distance + weight, source))
    return np.array(fewest, dtype=np.int32)


def _no_match_error(pattern: str, tokenizer: Tokenizer) -> ConfigError:
    """Return the error for a pattern that the model's characters cannot match. It names the missing characters."""
    missing = [char for char in literals(pattern) if tokenizer.is_unknown(tokenizer.encode(char)).any()]
    return ConfigError(
        f"the model's characters cannot write a match of the regular expression {pattern!r}",
        f"It does not know {quote_characters(missing)}." if missing else "",
    )
