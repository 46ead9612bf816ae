"""A regular expression over a model's ids: which ids may come next, so that what is written ends as a match of it all.

    pattern ──▶ automaton over bytes ──▶ over ids, trimmed ──▶ characters to a match after each id, [S, V]

An id of any tokenizer is walked over byte by byte, so a piece of a word, a character and a byte are all exact. Only
states are kept from which the model's ids can still complete a match, and for each (state, id) the fewest characters
of any match after it are known: `allowed` is one comparison. A character is counted at its first byte.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.sampling.regex_automaton import byte_automaton, literals, too_large
from chargen.text.cleaning import check_unicode
from chargen.tokenizers.tokenizer import Tokenizer

MAX_CELLS = 1 << 24  #: states × ids, 8 bytes each
DEAD = -1  #: no state
NEVER = np.iinfo(np.int32).max  #: characters to a match where there is none

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Constraint:
    """An automaton over V ids with S states; a state is a whole number, and belongs to the caller.

    A text of at most `length` characters that is a match: begin in `start` with left = length, draw an id from
    `allowed(state, left)`, take `characters[id]` off left, `advance`; stop in a state that is `accepting`, at the
    latest where it `is_final` or nothing is allowed any more. With `length` ≥ `shortest` this never gets stuck.
    """

    pattern: str
    next_state: Ints  #: [S, V]; DEAD where an id is not allowed
    cost: Ints  #: [S, V], characters: those that an id begins and the fewest that complete a match after it, or NEVER
    num_chars: Ints  #: [V], characters that begin in an id
    accepts: Bools  #: [S], whether what is written so far is a match
    finals: Bools  #: [S], whether it is one and nothing can be added
    shortest: int  #: characters of the shortest match
    start: int = 0

    def check_length(self, length: int) -> None:
        """Check that a match fits into `length` characters.

        Raises:
            ConfigError: the shortest is longer.
        """
        if self.shortest > length:
            raise ConfigError(
                f"the shortest match of {self.pattern!r} has {self.shortest:,} characters, the length is {length:,}",
                f"Say --length {self.shortest} or more.",
            )

    def allowed_mask(self, state: int | Ints, left: int | Ints) -> Bools:
        """Tell after which ids a match can still be completed.

        Args:
            state: one, or [B].
            left: characters that may still begin, this id's among them; one, or [B].

        Returns:
            [V], or [B, V].
        """
        if isinstance(left, np.ndarray):
            return np.less_equal(self.cost[state], np.minimum(left, NEVER - 1)[:, None])
        return np.less_equal(self.cost[state], min(left, NEVER - 1))

    @overload
    def advance(self, state: int, token_id: int) -> int: ...
    @overload
    def advance(self, state: Ints, token_id: Ints) -> Ints: ...
    def advance(self, state: int | Ints, token_id: int | Ints) -> int | Ints:
        """Return the state after an id that is allowed; states [B] after ids [B].

        Raises:
            ConfigError: no match has this id here.
        """
        if not isinstance(state, np.ndarray):
            after: int = self.next_state.item(state, token_id)
            if after == DEAD:
                raise ConfigError(f"no match of {self.pattern!r} goes on with id {token_id} from state {state}")
            return after
        states: Ints = self.next_state[state, token_id]
        if DEAD in states:
            raise ConfigError(
                f"no match of {self.pattern!r} goes on so in sample {int(np.argmin(states))} of the batch"
            )
        return states

    def is_accepting(self, state: int) -> bool:
        """Tell whether what led to a state is a match."""
        return bool(self.accepts[state])

    def is_final(self, state: int) -> bool:
        """Tell whether what led to a state is a match that nothing can be added to."""
        return bool(self.finals[state])


@lru_cache(maxsize=8)
def compile_regex(pattern: str, tokenizer: Tokenizer) -> Constraint:
    r"""Make the automaton of a regular expression over a tokenizer's ids.

    The syntax is that of Rust's `regex`: nearly Python's, without look-around, back-references and \b, with \p{Greek}
    and [\w&&[^_]]. \w, \d, \s and (?i) are Unicode's; `.` is all but \n, (?s:.) is all. The match is of the whole text.

    Raises:
        ChargenError: the extra chargen[regex] is not installed.
        ConfigError: the pattern is not valid, too large, or the model's characters cannot write a match.
    """
    check_unicode(pattern, "the regular expression")
    spellings = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    for token_id in tokenizer.never_written():
        spellings[token_id] = b""
    used = bytes(sorted(set(b"".join(spellings))))
    automaton = byte_automaton(pattern, used)
    if automaton.num_states * len(used) > MAX_CELLS:
        raise too_large(pattern, f"{automaton.num_states:,} states over bytes")
    edges = np.frombuffer(automaton.edges, dtype=np.int32).reshape(-1, 3)
    column = np.zeros(256, dtype=np.int32)
    column[list(used)] = np.arange(len(used))
    table = np.full((automaton.num_states + 1, len(used)), automaton.num_states, dtype=np.int32)  # the last row is dead
    table[edges[:, 0], column[edges[:, 1]]] = edges[:, 2]

    table, words, group_of = _group(table, spellings, column)
    begun = np.array([_begun(spelling) for spelling in spellings], dtype=np.int32)
    characters = begun[np.unique(group_of, return_index=True)[1]]  # of one group all begin as many
    states, after = _walk(table, words, automaton.start, MAX_CELLS // len(spellings), pattern)
    accepts = np.isin(states, automaton.accepting)
    fewest = _fewest(after, characters, accepts)
    if fewest[0] == NEVER:
        raise _no_match(pattern, tokenizer)

    live = fewest < NEVER
    renamed = np.append(np.where(live, np.cumsum(live) - 1, DEAD), DEAD).astype(np.int32)
    after = after[live]
    cost = np.where(renamed[after] >= 0, characters + np.append(fewest, 0)[after], NEVER).astype(np.int32)
    return Constraint(
        pattern=pattern,
        next_state=renamed[after][:, group_of],
        cost=cost[:, group_of],
        num_chars=begun,
        accepts=accepts[live],
        finals=accepts[live] & (cost == NEVER).all(axis=1),
        shortest=int(fewest[0]),
    )


def _begun(spelling: bytes) -> int:
    """Count the characters that begin in a byte string: bytes that do not continue one."""
    return sum(byte & 0xC0 != 0x80 for byte in spelling)


def _group(table: Ints, spellings: list[bytes], column: Ints) -> tuple[Ints, list[bytes], Ints]:
    """Treat alike what the automaton does not tell apart: of 5,000 characters `.` tells a handful apart.

    Args:
        table: [S, bytes], the state after a byte.
        spellings: of V ids; b"" for one that is never written.
        column: [256], a byte's column in the table.

    Returns:
        The table with a column for each class of bytes, [S, classes]; the distinct words over classes that ids spell;
        each id's word, [V].
    """
    distinct: dict[bytes, int] = {}
    of_column = np.array([distinct.setdefault(states.tobytes(), len(distinct)) for states in table.T], dtype=np.uint8)
    columns = np.frombuffer(b"".join(distinct), dtype=table.dtype).reshape(-1, len(table)).T
    classes = of_column[column].tobytes()
    words: dict[tuple[bytes, int], int] = {}
    group_of = [words.setdefault((word.translate(classes), _begun(word)), len(words)) for word in spellings]
    return np.ascontiguousarray(columns), [word for word, _ in words], np.array(group_of)


def _walk(table: Ints, words: list[bytes], start: int, most: int, pattern: str) -> tuple[Ints, Ints]:
    """Find the states that words lead to: byte states [S], the first is the start; and the state after each, [S, G].

    Raises:
        ConfigError: there are more than `most`.
    """
    dead = len(table) - 1
    order = np.array(sorted(range(len(words)), key=lambda g: -len(words[g])))
    lengths = np.array([len(words[g]) for g in order])
    letters = np.zeros((len(words), lengths[0]), dtype=np.int64)
    for row, g in enumerate(order):
        letters[row, : lengths[row]] = list(words[g])
    longer = [int((lengths > k).sum()) for k in range(lengths[0])]  # words of more than k bytes: the first ones
    number = np.full(len(table), DEAD, dtype=np.int32)
    number[start], frontier = 0, np.array([start], dtype=np.int32)
    found, rows, count = [frontier], [], 1
    while len(frontier):
        if count > most:
            raise too_large(pattern, f"more than {most:,} states")
        here = np.repeat(frontier[:, None], len(words), axis=1)  # [F, G]
        for k, several in enumerate(longer):
            here[:, :several] = table[here[:, :several], letters[:several, k]]
        here[:, longer[0] :] = dead  # the empty word
        rows.append(here)
        reached = np.unique(here)
        frontier = reached[(reached != dead) & (number[reached] == DEAD)]
        number[frontier] = np.arange(count, count + len(frontier))
        count += len(frontier)
        found.append(frontier)
    after = np.empty((count, len(words)), dtype=np.int32)
    after[:, order] = number[np.concatenate(rows)]
    return np.concatenate(found), after


def _fewest(after: Ints, characters: Ints, accepts: Bools) -> Ints:
    """Return the fewest characters that lead from each state to an accepting one, [S]; NEVER if none do.

    Dijkstra's shortest paths (1959), backwards from all accepting states.
    """
    here, group = np.nonzero(after >= 0)
    most = int(characters.max(initial=0)) + 1
    packed = (after[here, group].astype(np.int64) * len(after) + here) * most + characters[group]
    there_here, weights = np.divmod(np.unique(packed), most)
    there, origins = np.divmod(there_here, len(after))
    bounds = np.searchsorted(there, np.arange(len(after) + 1)).tolist()
    ways = list(zip(origins.tolist(), weights.tolist(), strict=True))
    fewest = [NEVER] * len(after)
    queue = [(0, int(state)) for state in np.flatnonzero(accepts)]
    for _, state in queue:
        fewest[state] = 0
    while queue:
        distance, state = heapq.heappop(queue)
        if distance > fewest[state]:
            continue
        for origin, weight in ways[bounds[state] : bounds[state + 1]]:
            if distance + weight < fewest[origin]:
                fewest[origin] = distance + weight
                heapq.heappush(queue, (distance + weight, origin))
    return np.array(fewest, dtype=np.int32)


def _no_match(pattern: str, tokenizer: Tokenizer) -> ConfigError:
    """Return the error for a pattern that the model's characters cannot match; it names literals that they lack."""
    lacking = [char for char in literals(pattern) if tokenizer.unknown(tokenizer.encode(char)).any()]
    return ConfigError(
        f"the model's characters cannot write a match of the regular expression {pattern!r}",
        f"It does not know {', '.join(map(repr, lacking))}." if lacking else "",
    )
