"""Corpora by name: read from the running Python, downloaded and checked, or made with a known entropy.

A name may carry an option after a colon, as in `markov:2`.

Sources of text whose entropy is known exactly, to test a whole chain of learning against.

Each is a unifilar automaton: states, and from each state edges (character, next state, probability) of which no two
carry the same character. Text then determines the path, so that with π the stationary distribution over states

    entropy rate = Σ_s π(s) · −Σ_e p(e|s) log p(e|s)          [nats per character]

(Shannon, A Mathematical Theory of Communication, 1948, section 7). No model scores a long text from the source below
this, beyond the sampling error of that text; if one seems to, the future has leaked into its input.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import socket
import ssl
import sysconfig
import time
import tokenize
import urllib.error
import urllib.request
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError, DownloadError
from chargen.io import write_atomically
from chargen.registry import did_you_mean
from chargen.text import builtin_corpora as automata

MADE_LENGTH = 1_000_000  #: characters of a made source
MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_S = 1 << 26, 600.0  #: of a download; far more than any of these takes
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class BuiltinText:
    """A source's text, and its entropy where that is known."""

    text: str
    entropy_nats_per_char: float | None = None


@dataclass(frozen=True)
class Source:
    """A corpus with a name: one line about it, and the function that reads or makes it (given what follows ':')."""

    about: str
    read: Callable[[str], BuiltinText]
    offline: bool = True


def names() -> list[str]:
    """Return the names, the default of `chargen train` first."""
    return list(BUILTIN_CORPORA)


def is_builtin(argument: str) -> bool:
    """Tell whether an argument names a corpus, with or without an option."""
    return argument.partition(":")[0] in BUILTIN_CORPORA


def read_builtin(argument: str) -> BuiltinText:
    """Read or make the corpus that `argument` names.

    Raises:
        ConfigError: the option after the colon is not one that this corpus takes.
        CorpusError: no corpus has this name.
        DownloadError: it could not be fetched, or its content is not the expected one.
    """
    name, _, option = argument.partition(":")
    if name not in BUILTIN_CORPORA:
        raise CorpusError(
            f"no corpus named {name!r}", f"{did_you_mean(name, names())} Known: {', '.join(names())}.".strip()
        )
    return BUILTIN_CORPORA[name].read(option)


def _python_docs(option: str) -> BuiltinText:
    _refuse_option("python-docs", option)
    from pydoc_data.topics import topics  # half a megabyte; loaded by who asks for it

    return BuiltinText("\n".join(topics[name].strip("\n") + "\n" for name in sorted(topics)))


def _python_source(option: str) -> BuiltinText:
    """The standard library's own files, its tests and installed packages left out."""
    _refuse_option("python-source", option)
    root = Path(sysconfig.get_paths()["stdlib"])
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"}
    texts = []
    for path in sorted(root.rglob("*.py")):
        if skip.isdisjoint(path.relative_to(root).parts):
            with tokenize.open(path) as file:
                texts.append(file.read())
    if not texts:
        raise CorpusError(f"this Python has no source files under {root}", "Try python-docs.")
    return BuiltinText("".join(texts))


def _shakespeare(option: str) -> BuiltinText:
    _refuse_option("shakespeare", option)
    return BuiltinText(fetch(SHAKESPEARE_URL, SHAKESPEARE_SHA256, Path("corpora/shakespeare.txt")).decode("utf-8"))


def fetch(url: str, sha256: str, cache: Path, timeout_s: float = 30.0) -> bytes:
    """Return a file's bytes from `cache`, or download it there first.

    Raises:
        DownloadError: no answer, an answer other than 200, or content whose sha256 is another one.
        StorageError: the cache cannot be written.
    """
    if cache.is_file() and cache.stat().st_size <= MAX_DOWNLOAD_BYTES:
        cached = cache.read_bytes()
        if hashlib.sha256(cached).hexdigest() == sha256:
            return cached
    by_hand = f"With no network, put the file at {cache} yourself, or train on python-docs, which needs none."
    try:
        data = _downloaded(url, timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answered {error.code} {error.reason}"
        raise DownloadError(f"{url} cannot be fetched: {reason}", by_hand) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise DownloadError(f"{url} cannot be fetched: {_why(error)}", by_hand) from error
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise DownloadError(f"{url} has changed: sha256 {found[:12]}… where {sha256[:12]}… was expected", by_hand)
    write_atomically(cache, [data])
    return data


def _downloaded(url: str, timeout_s: float) -> bytes:
    """Return what a server answers, of a bounded size and in a bounded time."""
    deadline = time.monotonic() + MAX_DOWNLOAD_S
    data = bytearray()
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        stated = answer.headers.get("Content-Length")
        while block := answer.read1(1 << 16):
            data += block
            if len(data) > MAX_DOWNLOAD_BYTES:
                raise ValueError(f"the answer is longer than {MAX_DOWNLOAD_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
    if stated and stated.isdecimal() and int(stated) != len(data):
        raise ValueError(f"the connection ended after {len(data):,} of {int(stated):,} bytes")
    return bytes(data)


def _why(error: Exception) -> str:
    """Return in words why nothing was fetched."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer came in time (timed out)"
    if isinstance(reason, http.client.IncompleteRead):
        return f"the connection ended after {len(reason.partial):,} bytes"
    if isinstance(reason, socket.gaierror):
        return f"the name of the server was not found ({reason.strerror})"
    if isinstance(reason, ssl.SSLError):
        return f"the connection is not secure ({getattr(reason, 'verify_message', '') or reason})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _made(automaton: automata.Automaton, seed: int = 0) -> BuiltinText:
    text = automaton.generate(MADE_LENGTH, np.random.default_rng(seed))
    return BuiltinText(text, automaton.entropy_nats_per_char())


def _alphabet(option: str) -> BuiltinText:
    _refuse_option("alphabet", option)
    return _made(automata.alphabet())


def _markov(option: str) -> BuiltinText:
    if option not in ("", "1", "2"):
        raise ConfigError(f"markov:{option} is not known", "Say markov:1 (the same as markov) or markov:2.")
    return _made(automata.markov(int(option or "1")))


def _reber(option: str) -> BuiltinText:
    _refuse_option("reber", option)
    return _made(automata.reber())


def _refuse_option(name: str, option: str) -> None:
    if option:
        raise ConfigError(f"{name} takes no option, but {option!r} was given", f"Say {name} alone.")


BUILTIN_CORPORA: dict[str, Source] = {
    "python-docs": Source("the prose of Python's own help, as this Python carries it", _python_docs),
    "python-source": Source("the Python standard library's source code, as this Python carries it", _python_source),
    "shakespeare": Source(
        "1.1 MB of Shakespeare's plays (tinyshakespeare), downloaded and checked", _shakespeare, False
    ),
    "alphabet": Source("a to z over and over: entropy 0", _alphabet),
    "markov": Source("a Markov chain over 8 letters, order 1 (markov:2: order 2), of known entropy", _markov),
    "reber": Source("strings of the embedded Reber grammar, a line each, of known entropy", _reber),
}


Edge = tuple[str, int, float]  #: character, next state, probability


@dataclass(frozen=True)
class Automaton:
    """A unifilar source: `edges[s]` are the ways out of state s; state 0 is where a text begins."""

    edges: tuple[tuple[Edge, ...], ...]

    def generate(self, length: int, rng: np.random.Generator) -> str:
        """Return `length` characters drawn from the source."""
        bounds = [list(accumulate(p for _, _, p in edges))[:-1] for edges in self.edges]
        chars: list[str] = []
        state = 0
        for u in rng.random(length).tolist():
            char, state, _ = self.edges[state][bisect_right(bounds[state], u)]
            chars.append(char)
        return "".join(chars)

    def entropy_nats_per_char(self) -> float:
        """Return the entropy rate, in nats per character."""
        own = [-sum(p * math.log(p) for _, _, p in edges) for edges in self.edges]
        return float(self._stationary() @ np.array(own))

    def log_prob_nats(self, text: str) -> float:
        """Return log p(text) from state 0, in nats; −inf for a text that the source cannot make."""
        total, state = 0.0, 0
        for char in text:
            step = next(((nxt, p) for c, nxt, p in self.edges[state] if c == char), None)
            if step is None:
                return -math.inf
            state, total = step[0], total + math.log(step[1])
        return total

    def _stationary(self) -> NDArray[np.float64]:
        """Solve π P = π, Σ π = 1; averaged over the cycle where the chain is periodic."""
        n = len(self.edges)
        transition = np.zeros((n, n))
        for state, edges in enumerate(self.edges):
            for _, nxt, p in edges:
                transition[state, nxt] += p
        system = np.vstack([transition.T - np.eye(n), np.ones(n)])
        solution: NDArray[np.float64] = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
        return solution


def alphabet() -> Automaton:
    """The letters a to z, over and over: entropy 0."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return Automaton(tuple(((letter, (i + 1) % 26, 1.0),) for i, letter in enumerate(letters)))


def markov(order: int, seed: int = 0, letters: str = "abcdefgh") -> Automaton:
    """A chain of the given order: each context has its own Dirichlet(½) distribution over `letters`."""
    contexts = ["".join(c) for c in product(letters, repeat=order)]
    place = {context: i for i, context in enumerate(contexts)}
    rows = np.random.default_rng(seed).dirichlet([0.5] * len(letters), size=len(contexts))
    rows = 0.99 * rows + 0.01 / len(letters)  # no probability so small that a test corpus never shows it
    return Automaton(
        tuple(
            tuple((c, place[(context + c)[1:]], float(p)) for c, p in zip(letters, rows[i], strict=True))
            for i, context in enumerate(contexts)
        )
    )


def reber() -> Automaton:
    """The embedded Reber grammar, a string a line (Hochreiter & Schmidhuber 1997, section 5.1).

        B ─┬─ T ─ REBER ─ T ─┬─ E ⏎        REBER: B (T S* X | P T* V) … E
           └─ P ─ REBER ─ P ─┘

    What makes it hard: the last but one letter repeats the second, over a string of any length between them.
    """
    # States of the inner grammar: (edges as (char, inner state)); -1 leaves it. Each way out is equally likely.
    inner: list[list[tuple[str, int]]] = [
        [("B", 1)],
        [("T", 2), ("P", 3)],
        [("S", 2), ("X", 4)],
        [("T", 3), ("V", 5)],
        [("X", 3), ("S", 6)],
        [("P", 4), ("V", 6)],
        [("E", -1)],
    ]
    edges: list[tuple[Edge, ...]] = [(("B", 1, 1.0),), (("T", 4, 0.5), ("P", 12, 0.5))]
    edges += [(("E", 3, 1.0),), (("\n", 0, 1.0),)]
    for branch, first in (("T", 4), ("P", 12)):
        for ways in inner:
            p = 1.0 / len(ways)
            edges.append(tuple((c, first + (s if s >= 0 else len(inner)), p) for c, s in ways))
        edges.append(((branch, 2, 1.0),))
    return Automaton(tuple(edges))
