"""Built-in corpora, each with a name: read from the running Python, downloaded and verified, or generated.

A name may have an option after a colon, as in `markov:2`. To add a corpus: write a function that returns its text, here
or in a file of its own, and add a line to BUILTIN_CORPORA. It can then be trained on, listed and saved as a file like
the others.

A generated corpus has a known entropy rate, so that a whole training run can be tested against it. Its source is a
unifilar automaton: states, and from each state edges (character, next state, probability) with distinct characters. The
text then determines the path through the states. With π the stationary distribution over states,

    entropy rate = Σ_s π(s) · −Σ_e p(e|s) log p(e|s)          [nats per character]

(Shannon, A Mathematical Theory of Communication, 1948, section 7). No model can score a long text of the source below
this, apart from the sampling error of that text. If one seems to, information about the future is in its input.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import re
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
from chargen.registry import did_you_mean, import_object
from chargen.text.hashing import without_copies, without_passages

GENERATED_CHARS = 1_000_000  #: length of a generated corpus
MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_S = 1 << 26, 600.0  #: limits of a download, far above what these corpora need
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class BuiltinText:
    """The text of a built-in corpus, and its entropy rate if it is known."""

    text: str
    entropy_nats_per_char: float | None = None
    documents: tuple[str, ...] = ()  #: the documents that the text consists of; the text alone by default

    def __post_init__(self) -> None:
        if not self.documents:
            object.__setattr__(self, "documents", (self.text,))


@dataclass(frozen=True)
class BuiltinCorpus:
    """A corpus that has a name."""

    about: str  #: one line that describes it
    function: str  #: "module:attribute" of the function (option) → BuiltinText; it is imported when the corpus is read
    offline: bool = True  #: whether it needs no network

    def read(self, option: str) -> BuiltinText:
        """Read or generate the text; `option` is what follows the colon of the name, or ""."""
        function: Callable[[str], BuiltinText] = import_object(self.function)
        return function(option)


def is_builtin(argument: str) -> bool:
    """Return whether an argument names a built-in corpus, with or without an option."""
    return argument.partition(":")[0] in BUILTIN_CORPORA


def read_builtin(argument: str) -> BuiltinText:
    """Read or generate the corpus that `argument` names.

    Raises:
        ConfigError: If the corpus does not take the option after the colon.
        CorpusError: If no corpus has this name.
        DownloadError: If the corpus cannot be downloaded, or the content is not the expected one.
    """
    name, _, option = argument.partition(":")
    if name not in BUILTIN_CORPORA:
        known = ", ".join(BUILTIN_CORPORA)
        hint = f"{did_you_mean(name, BUILTIN_CORPORA)} Known: {known}.".strip()
        raise CorpusError(f"no corpus named {name!r}", hint)
    return BUILTIN_CORPORA[name].read(option)


def _python_docs(option: str) -> BuiltinText:
    """Return the text of Python's help topics, each paragraph once.

    Many topics repeat whole sections of others. These would be in the training text and in the validation text, and
    a compressor, which only has to find the repetition, would beat every model.
    """
    _refuse_option("python-docs", option)
    from pydoc_data.topics import topics  # half a megabyte, so it is imported only here

    known: set[str] = set()  # the words of each paragraph; the first of equal paragraphs is kept
    documents = []
    for name in sorted(topics):
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", topics[name].strip("\n")):
            words = " ".join(paragraph.split())
            if words not in known:
                known.add(words)
                paragraphs.append(paragraph.strip("\n"))
        if paragraphs:
            documents.append("\n\n".join(paragraphs) + "\n")
    return BuiltinText("\n".join(documents), documents=tuple(documents))


def _python_source(option: str) -> BuiltinText:
    """Return the files of the standard library, without its tests and without installed packages.

    Files that a program wrote are left out: tables of encodings, and the help topics, which are python-docs.
    """
    _refuse_option("python-source", option)
    root = Path(sysconfig.get_paths()["stdlib"])
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3", "encodings"}
    skip.add("pydoc_data")
    texts = []
    for path in sorted(root.rglob("*.py")):
        if skip.isdisjoint(path.relative_to(root).parts):
            with tokenize.open(path) as file:
                texts.append(file.read())
    if not texts:
        raise CorpusError(f"this Python has no source files under {root}", "Try python-docs.")
    documents = tuple(dict.fromkeys(without_passages(list(without_copies(texts)))))  # short files are equal, too
    return BuiltinText("\n".join(documents), documents=documents)


def _shakespeare(option: str) -> BuiltinText:
    _refuse_option("shakespeare", option)
    return BuiltinText(fetch(SHAKESPEARE_URL, SHAKESPEARE_SHA256, Path("corpora/shakespeare.txt")).decode("utf-8"))


def fetch(url: str, sha256: str, cache: Path, timeout_s: float = 30.0) -> bytes:
    """Return the bytes of a file from `cache`, after downloading it there if necessary.

    Args:
        url: Address of the file.
        sha256: Expected hash of the content.
        cache: Path where the file is kept.
        timeout_s: How long to wait for the server, each time, in seconds.

    Raises:
        DownloadError: If the server does not answer with status 200, or the content has another hash.
        StorageError: If the cache cannot be written.
    """
    if cache.is_file() and cache.stat().st_size <= MAX_DOWNLOAD_BYTES:
        cached = cache.read_bytes()
        if hashlib.sha256(cached).hexdigest() == sha256:
            return cached
    hint = f"With no network, put the file at {cache} yourself, or train on python-docs, which needs none."
    try:
        data = _download(url, timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answered {error.code} {error.reason}"
        raise DownloadError(f"{url} cannot be fetched: {reason}", hint) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise DownloadError(f"{url} cannot be fetched: {_describe_error(error)}", hint) from error
    if (actual_sha256 := hashlib.sha256(data).hexdigest()) != sha256:
        raise DownloadError(f"{url} has changed: sha256 {actual_sha256[:12]}… where {sha256[:12]}… was expected", hint)
    write_atomically(cache, [data])
    return data


def _download(url: str, timeout_s: float) -> bytes:
    """Return the answer of a server, with a limit of size and time."""
    deadline = time.monotonic() + MAX_DOWNLOAD_S
    data = bytearray()
    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        stated_size = response.headers.get("Content-Length")
        while block := response.read1(1 << 16):
            data += block
            if len(data) > MAX_DOWNLOAD_BYTES:
                raise ValueError(f"the answer is longer than {MAX_DOWNLOAD_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
    if stated_size and stated_size.isdecimal() and int(stated_size) != len(data):
        raise ValueError(f"the connection ended after {len(data):,} of {int(stated_size):,} bytes")
    return bytes(data)


def _describe_error(error: Exception) -> str:
    """Return the reason of a download error in words."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "the server did not answer in time (timed out)"
    if isinstance(reason, http.client.IncompleteRead):
        return f"the connection ended after {len(reason.partial):,} bytes"
    if isinstance(reason, socket.gaierror):
        return f"the name of the server was not found ({reason.strerror})"
    if isinstance(reason, ssl.SSLError):
        return f"the connection is not secure ({getattr(reason, 'verify_message', '') or reason})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _generate(automaton: Automaton, seed: int = 0) -> BuiltinText:
    text = automaton.generate(GENERATED_CHARS, np.random.default_rng(seed))
    return BuiltinText(text, automaton.entropy_nats_per_char())


def _alphabet(option: str) -> BuiltinText:
    _refuse_option("alphabet", option)
    return _generate(alphabet())


def _markov(option: str) -> BuiltinText:
    if option not in ("", "1", "2"):
        raise ConfigError(f"markov:{option} is not known", "Use markov:1 (the same as markov) or markov:2.")
    return _generate(markov(int(option or "1")))


def _reber(option: str) -> BuiltinText:
    _refuse_option("reber", option)
    return _generate(reber())


def _refuse_option(name: str, option: str) -> None:
    if option:
        raise ConfigError(f"{name} takes no option, but {option!r} was given", f"Use {name} alone.")


BUILTIN_CORPORA: dict[str, BuiltinCorpus] = {
    "python-docs": BuiltinCorpus(
        "the help texts of Python, from the running version, each paragraph once",
        "chargen.text.builtin_corpora:_python_docs",
    ),
    "python-source": BuiltinCorpus(
        "the source code of Python's standard library, each passage once",
        "chargen.text.builtin_corpora:_python_source",
    ),
    "shakespeare": BuiltinCorpus(
        "1.1 MB of Shakespeare's plays (tinyshakespeare), downloaded and verified",
        "chargen.text.builtin_corpora:_shakespeare",
        offline=False,
    ),
    "alphabet": BuiltinCorpus(
        "the letters a to z, repeated: entropy 0",
        "chargen.text.builtin_corpora:_alphabet",
    ),
    "markov": BuiltinCorpus(
        "a Markov chain over 8 letters of order 1 (markov:2: order 2), with known entropy",
        "chargen.text.builtin_corpora:_markov",
    ),
    "reber": BuiltinCorpus(
        "strings of the embedded Reber grammar, one per line, with known entropy",
        "chargen.text.builtin_corpora:_reber",
    ),
}


Edge = tuple[str, int, float]  #: character, next state, probability


@dataclass(frozen=True)
class Automaton:
    """A unifilar source: `edges[s]` are the edges from state s. A text starts in state 0."""

    edges: tuple[tuple[Edge, ...], ...]

    def generate(self, length: int, rng: np.random.Generator) -> str:
        """Return a text of `length` characters, drawn from the source."""
        bounds = [list(accumulate(p for _, _, p in edges))[:-1] for edges in self.edges]
        chars: list[str] = []
        state = 0
        for u in rng.random(length).tolist():
            char, state, _ = self.edges[state][bisect_right(bounds[state], u)]
            chars.append(char)
        return "".join(chars)

    def entropy_nats_per_char(self) -> float:
        """Return the entropy rate in nats per character."""
        state_entropies = [-sum(p * math.log(p) for _, _, p in edges) for edges in self.edges]
        return float(self._stationary() @ np.array(state_entropies))

    def log_prob_nats(self, text: str) -> float:
        """Return log p(text) from state 0, in nats; −inf for a text that the source cannot generate."""
        total, state = 0.0, 0
        for char in text:
            step = next(((nxt, p) for c, nxt, p in self.edges[state] if c == char), None)
            if step is None:
                return -math.inf
            state, total = step[0], total + math.log(step[1])
        return total

    def _stationary(self) -> NDArray[np.float64]:
        """Solve π P = π, Σ π = 1; for a periodic chain, π is the average over a cycle."""
        n = len(self.edges)
        transition = np.zeros((n, n))
        for state, edges in enumerate(self.edges):
            for _, nxt, p in edges:
                transition[state, nxt] += p
        system = np.vstack([transition.T - np.eye(n), np.ones(n)])
        solution: NDArray[np.float64] = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
        return solution


def alphabet() -> Automaton:
    """Return the source of the letters a to z, repeated: entropy 0."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return Automaton(tuple(((letter, (i + 1) % 26, 1.0),) for i, letter in enumerate(letters)))


def markov(order: int, seed: int = 0, letters: str = "abcdefgh") -> Automaton:
    """Return a Markov chain of an order: each context has its own Dirichlet(½) distribution over `letters`."""
    contexts = ["".join(c) for c in product(letters, repeat=order)]
    state_of = {context: i for i, context in enumerate(contexts)}
    rows = np.random.default_rng(seed).dirichlet([0.5] * len(letters), size=len(contexts))
    rows = 0.99 * rows + 0.01 / len(letters)  # every letter is likely enough to occur in a test corpus
    return Automaton(
        tuple(
            tuple((c, state_of[(context + c)[1:]], float(p)) for c, p in zip(letters, rows[i], strict=True))
            for i, context in enumerate(contexts)
        )
    )


def reber() -> Automaton:
    """Return the source of the embedded Reber grammar, one string per line.

    It is from Hochreiter & Schmidhuber 1997, section 5.1.

        B ─┬─ T ─ REBER ─ T ─┬─ E ⏎        REBER: B (T S* X | P T* V) … E
           └─ P ─ REBER ─ P ─┘

    It is hard to learn because the last letter but one equals the second, with a string of any length between them.
    """
    # The edges of each state of the inner grammar, as (char, inner state); -1 leaves it. All edges are equally likely.
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
        for inner_edges in inner:
            p = 1.0 / len(inner_edges)
            edges.append(tuple((c, first + (s if s >= 0 else len(inner)), p) for c, s in inner_edges))
        edges.append(((branch, 2, 1.0),))
    return Automaton(tuple(edges))
