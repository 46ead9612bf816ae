r"""A regular expression as a deterministic automaton over UTF-8 bytes.

outlines-core makes it: Rust's `regex-automata` in a wheel of 2 MB, with Unicode's own \w, \d, \s, \p{…} and (?i), for
which the libraries in plain Python (interegular, greenery) know ASCII alone. It has no bounds, and a short pattern can
ask for gigabytes: so it works in a process of its own, which is ended when it has had its time or memory. That process
imports this file: no NumPy here.

What is put about the pattern, `a(?:a\n(?:…)\z|a\z|)`, steps around four traps of the library:
  - As a search does, it prefers the first alternative: `a|ab` would never write "ab". With \z nothing ends before the
    text does.
  - It has no start state where a pattern may begin with an assertion. The first `a` is none.
  - It also builds the search for a match that begins later, with 2^30 states for `a[ab]{30}`. The empty alternative,
    a match at once, leaves nothing to search for.
  - It drops a byte after which a match has just ended. So the second `a` may be an end too.
After the newline only the pattern is left.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import warnings
from array import array
from typing import Any, NamedTuple

from chargen.child import run_child
from chargen.errors import ChargenError, ConfigError

MAX_SECONDS = 10.0
MAX_MEMORY = 1 << 30  #: bytes of address space, where the system can hold a process to it (not on Windows)
PREFIX = b"aa\n"  #: what is walked over before the pattern
RUST_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|[xuU]\{[^}]*\}|z)", re.DOTALL)  # Python's `re` has none of these
SYNTAX = "There is no look-around, no back-reference, no \\b. A literal brace is \\{ or \\}, up to three is {0,3}."

# What a pattern holds, in this order: escapes that stand for no one character, counts, group openers; then a literal.
PIECES = re.compile(
    r"\\[pPxuU]\{[^}]*\}|\\[pP].|\\x..|\\u....|\\[A-Za-z0-9]|\{[\d,]*\}|\(\?[^):]*[):]?"
    r"|\\(?P<escaped>.)|(?P<plain>[^.^$*+?{}\[\]|()\\-])",
    re.DOTALL,
)


class ByteAutomaton(NamedTuple):
    """States are 0 to num_states − 1. Every byte string that leads from the start to an accepting state is a match."""

    num_states: int
    start: int
    accepting: list[int]
    edges: array[int]  #: from, byte, to; from, byte, to; …


def byte_automaton(pattern: str, alphabet: bytes) -> ByteAutomaton:
    """Return the automaton of all matches of the whole pattern that these bytes can spell.

    Args:
        pattern: in the syntax of Rust's `regex`, Unicode mode. `^` before it and `$` after it change nothing.
        alphabet: the bytes that may be written.

    Raises:
        ChargenError: outlines-core is not installed.
        ConfigError: the pattern is not valid, nothing matches it, or its automaton is too large.
    """
    if importlib.util.find_spec("outlines_core") is None:
        raise ChargenError("a regular expression needs a package that is not here", "pip install 'chargen[regex]'")
    inner = re.sub(r"^(?:\^|\\A)", "", pattern)
    inner = re.sub(r"(?<!\\)((?:\\\\)*)\\Z$", r"\1", inner)
    answer, edges = _ask({"pattern": inner, "alphabet": list(alphabet)}, pattern)
    if "error" in answer:
        raise _refusal(pattern, answer["error"])
    return ByteAutomaton(answer["num_states"], answer["start"], answer["accepting"], edges)


def literals(pattern: str) -> list[str]:
    r"""Return the characters that a pattern names as themselves, each once.

    >>> literals(r"\.\d{3}(?i)[ă-z]")
    ['.', 'ă', 'z']
    """
    named = (found["escaped"] or found["plain"] for found in PIECES.finditer(pattern))
    return list(dict.fromkeys(char for char in named if char))


def too_large(pattern: str, why: str) -> ConfigError:
    """Return the error for a pattern that is beyond a bound."""
    return ConfigError(
        f"the automaton of the regular expression {pattern!r} is too large: {why}",
        "Take smaller repetitions, or narrower classes: [a-z] instead of \\w, (?-u:\\d) instead of \\d.",
    )


def serve() -> None:
    """Answer one request: read it from stdin, write the automaton to stdout. This is all that the process does."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    request = json.load(sys.stdin.buffer)
    edges: array[int] = array("i")
    try:
        answer = _build(request["pattern"], request["alphabet"], edges)
    except ValueError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + edges.tobytes())


def _ask(request: dict[str, Any], pattern: str) -> tuple[dict[str, Any], array[int]]:
    try:
        done = run_child(f"{__name__}:serve", json.dumps(request).encode(), MAX_SECONDS)
    except TimeoutError:
        raise too_large(pattern, f"it is not done after {MAX_SECONDS:.0f} seconds") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode < 0 or "memory" in reason.lower():
            raise too_large(pattern, f"it needs more than {MAX_MEMORY >> 20:,} MB")
        raise ChargenError(f"the regular expression {pattern!r} cannot be compiled: {reason.rpartition(chr(10))[2]}")
    head, _, body = done.stdout.partition(b"\n")
    return json.loads(head), array("i", body)


def _build(pattern: str, alphabet: list[int], edges: array[int]) -> dict[str, Any]:
    """Append the automaton's edges to `edges` and return the rest; states are numbered as they are met.

    Raises:
        ValueError: the library's, for a pattern that it does not take.
    """
    from outlines_core import Index, Vocabulary

    tokens = Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)})  # 256: the end, which the library demands
    try:
        # The pattern by itself: `a)(b` would be valid in a group. An empty first alternative: nothing else is built.
        Index("|" + pattern, tokens)
    except ValueError as error:
        if "start state" not in str(error) or "^" in pattern or r"\A" in pattern:
            raise
    index = Index(rf"a(?:a\n(?:{pattern})\z|a\z|)", tokens)
    transitions, final = index.get_transitions(), index.get_final_states()
    start = index.get_initial_state()
    for byte in PREFIX:
        start = transitions[start][byte]
    number, queue, accepting, written = {start: 0}, [start], [], set(alphabet)
    for here, state in enumerate(queue):
        if state in final:
            accepting.append(here)
        for byte, there in transitions.get(state, {}).items():
            if byte in written:
                if there not in number:
                    number[there] = len(queue)
                    queue.append(there)
                edges.extend((here, byte, number[there]))
    return {"num_states": len(queue), "start": 0, "accepting": accepting}


def _refusal(pattern: str, error: str) -> ConfigError:
    """Return the error for what the library said about a pattern."""
    if "incompatible" in error:
        return ConfigError(
            f"there is a part of the regular expression {pattern!r} that nothing can match",
            "A match is always of the whole text: leave out $ and \\z.",
        )
    if "start state" in error:
        return ConfigError(
            f"the regular expression {pattern!r} has a ^ inside", "A match is always of the whole text: leave out ^."
        )
    reason = _reason(pattern) or error.removeprefix("Failed to build DFA ").replace("error building NFA", "")
    return ConfigError(f"the regular expression {pattern!r} is not valid" + (f": {reason}" if reason else ""), SYNTAX)


def _reason(pattern: str) -> str:
    """Return what Python's `re` finds wrong with a pattern, and where; "" if nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(RUST_ESCAPE.sub(lambda found: "." * len(found[0]), pattern))
        except (re.error, OverflowError, RecursionError) as error:
            return str(error)
    return ""
