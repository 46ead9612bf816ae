r"""A regular expression as a deterministic automaton over UTF-8 bytes.

The package outlines-core builds it: Rust's `regex-automata` in a wheel of 2 MB, with Unicode's \w, \d, \s, \p{…} and
(?i), which the pure Python libraries (interegular, greenery) support for ASCII only. The library has no limits, and a
short pattern can need gigabytes. So it runs in a process of its own, with a limit on time and memory. That process
imports this file; therefore NumPy is not imported here.

The pattern is wrapped as `a(?:a\n(?:…)\z|a\z|)` to avoid four problems of the library:
  - Like a search, it prefers the first alternative: `a|ab` would never match "ab". With \z, no match ends before the
    text does.
  - It has no start state if a pattern may start with an assertion. The first `a` is not an assertion.
  - It also builds the search for matches that start later, with 2^30 states for `a[ab]{30}`. The empty alternative
    matches at once, so that there is nothing to search for.
  - It drops a byte after which a match has just ended. So the second `a` may end a match, too.
After the newline, only the pattern itself is left.
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
MAX_MEMORY_BYTES = 1 << 30  # address space of the process; not enforced on Windows
PREFIX = b"aa\n"  # the bytes of the wrapper before the pattern
RUST_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|[xuU]\{[^}]*\}|z)", re.DOTALL)  # Python's `re` has none of these
SYNTAX = "There is no look-around, no back-reference, no \\b. A literal brace is \\{ or \\}, up to three is {0,3}."

# Parts of a pattern: escapes that are not a single character, repetition counts, group openers; then literals.
PIECES = re.compile(
    r"\\[pPxuU]\{[^}]*\}|\\[pP].|\\x..|\\u....|\\[A-Za-z0-9]|\{[\d,]*\}|\(\?[^):]*[):]?"
    r"|\\(?P<escaped>.)|(?P<plain>[^.^$*+?{}\[\]|()\\-])",
    re.DOTALL,
)


class ByteAutomaton(NamedTuple):
    """An automaton with the states 0 to num_states − 1. Bytes that lead from the start to an accepting state match."""

    num_states: int
    start: int
    accepting: list[int]
    edges: array[int]  #: source, byte, target; source, byte, target; …


def byte_automaton(pattern: str, alphabet: bytes) -> ByteAutomaton:
    """Return the automaton of all byte strings over an alphabet that match a whole pattern.

    Args:
        pattern: A pattern in the syntax of Rust's `regex`, Unicode mode. A `^` at its start has no effect.
        alphabet: The bytes that may occur.

    Raises:
        ChargenError: If outlines-core is not installed.
        ConfigError: If the pattern is not valid, nothing matches it, or its automaton is too large.
    """
    if importlib.util.find_spec("outlines_core") is None:
        raise ChargenError("a regular expression needs a package that is not installed", "pip install 'chargen[regex]'")
    inner = re.sub(r"^(?:\^|\\A)", "", pattern)
    inner = re.sub(r"(?<!\\)((?:\\\\)*)\\Z$", r"\1", inner)
    answer, edges = _ask({"pattern": inner, "alphabet": list(alphabet)}, pattern)
    if "error" in answer:
        raise _rejected_error(pattern, answer["error"])
    return ByteAutomaton(answer["num_states"], answer["start"], answer["accepting"], edges)


def literals(pattern: str) -> list[str]:
    r"""Return the literal characters of a pattern, each once.

    >>> literals(r"\.\d{3}(?i)[ă-z]")
    ['.', 'ă', 'z']
    """
    characters = (match["escaped"] or match["plain"] for match in PIECES.finditer(pattern))
    return list(dict.fromkeys(char for char in characters if char))


def too_large_error(pattern: str, why: str) -> ConfigError:
    """Return the error for a pattern that exceeds a limit."""
    return ConfigError(
        f"the automaton of the regular expression {pattern!r} is too large: {why}",
        "Use fewer repetitions, or narrower classes: [a-z] instead of \\w, (?-u:\\d) instead of \\d.",
    )


def serve() -> None:
    """Run the separate process: read one request from stdin and write the automaton to stdout."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    request = json.load(sys.stdin.buffer)
    edges: array[int] = array("i")
    try:
        answer = _build(request["pattern"], request["alphabet"], edges)
    except ValueError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + edges.tobytes())


def _ask(request: dict[str, Any], pattern: str) -> tuple[dict[str, Any], array[int]]:
    """Send a request to a new process and return its answer and the edges."""
    try:
        done = run_child(f"{__name__}:serve", json.dumps(request).encode(), MAX_SECONDS)
    except TimeoutError:
        raise too_large_error(pattern, f"it is not done after {MAX_SECONDS:.0f} seconds") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode < 0 or "memory" in reason.lower():
            raise too_large_error(pattern, f"it needs more than {MAX_MEMORY_BYTES >> 20:,} MB")
        raise ChargenError(f"the regular expression {pattern!r} cannot be compiled: {reason.rpartition(chr(10))[2]}")
    head, _, body = done.stdout.partition(b"\n")
    return json.loads(head), array("i", body)


def _build(pattern: str, alphabet: list[int], edges: array[int]) -> dict[str, Any]:
    """Append the automaton's edges to `edges` and return the rest. States are numbered in breadth-first order.

    Raises:
        ValueError: If the library rejects the pattern.
    """
    from outlines_core import Index, Vocabulary

    tokens = Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)})  # 256: the required end
    try:
        # Check the pattern alone, as `a)(b` would be valid in a group. The empty first alternative keeps this cheap.
        Index("|" + pattern, tokens)
    except ValueError as error:
        if "start state" not in str(error) or "^" in pattern or r"\A" in pattern:
            raise
    index = Index(rf"a(?:a\n(?:{pattern})\z|a\z|)", tokens)
    transitions, final = index.get_transitions(), index.get_final_states()
    start = index.get_initial_state()
    for byte in PREFIX:
        start = transitions[start][byte]
    number = {start: 0}
    queue = [start]
    accepting = []
    allowed = set(alphabet)
    for source, state in enumerate(queue):
        if state in final:
            accepting.append(source)
        for byte, target in transitions.get(state, {}).items():
            if byte in allowed:
                if target not in number:
                    number[target] = len(queue)
                    queue.append(target)
                edges.extend((source, byte, number[target]))
    return {"num_states": len(queue), "start": 0, "accepting": accepting}


def _rejected_error(pattern: str, error: str) -> ConfigError:
    """Return our error for an error message of the library."""
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
    """Return the error, with its position, that Python's `re` reports for a pattern; "" if it reports none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(RUST_ESCAPE.sub(lambda match: "." * len(match[0]), pattern))
        except (re.error, OverflowError, RecursionError) as error:
            return str(error)
    return ""
