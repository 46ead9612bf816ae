"""Corpora by name: read from the running Python, downloaded and checked, or made with a known entropy.

A name may carry an option after a colon, as in `markov:2`.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import sysconfig
import time
import tokenize
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chargen.errors import ConfigError, CorpusError, DownloadError
from chargen.files import write_atomically
from chargen.registry import did_you_mean
from chargen.text import automata

MADE_LENGTH = 1_000_000  #: characters of a made source
MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_S = 1 << 26, 600.0  #: of a download; far more than any of these takes
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class SourceText:
    """A source's text, and its entropy where that is known."""

    text: str
    entropy_nats_per_char: float | None = None


@dataclass(frozen=True)
class Source:
    """A corpus with a name: one line about it, and the function that reads or makes it (given what follows ':')."""

    about: str
    read: Callable[[str], SourceText]
    offline: bool = True


def names() -> list[str]:
    """Return the names, the default of `chargen train` first."""
    return list(SOURCES)


def is_source(argument: str) -> bool:
    """Tell whether an argument names a corpus, with or without an option."""
    return argument.partition(":")[0] in SOURCES


def read_source(argument: str) -> SourceText:
    """Read or make the corpus that `argument` names.

    Raises:
        ConfigError: the option after the colon is not one that this corpus takes.
        CorpusError: no corpus has this name.
        DownloadError: it could not be fetched, or its content is not the expected one.
    """
    name, _, option = argument.partition(":")
    if name not in SOURCES:
        raise CorpusError(
            f"no corpus named {name!r}", f"{did_you_mean(name, names())} Known: {', '.join(names())}.".strip()
        )
    return SOURCES[name].read(option)


def _python_docs(option: str) -> SourceText:
    _refuse_option("python-docs", option)
    from pydoc_data.topics import topics  # half a megabyte; loaded by who asks for it

    return SourceText("\n".join(topics[name].strip("\n") + "\n" for name in sorted(topics)))


def _python_source(option: str) -> SourceText:
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
    return SourceText("".join(texts))


def _shakespeare(option: str) -> SourceText:
    _refuse_option("shakespeare", option)
    return SourceText(fetch(SHAKESPEARE_URL, SHAKESPEARE_SHA256, Path("corpora/shakespeare.txt")).decode("utf-8"))


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


def _made(automaton: automata.Automaton, seed: int = 0) -> SourceText:
    text = automaton.generate(MADE_LENGTH, np.random.default_rng(seed))
    return SourceText(text, automaton.entropy_nats_per_char())


def _alphabet(option: str) -> SourceText:
    _refuse_option("alphabet", option)
    return _made(automata.alphabet())


def _markov(option: str) -> SourceText:
    if option not in ("", "1", "2"):
        raise ConfigError(f"markov:{option} is not known", "Say markov:1 (the same as markov) or markov:2.")
    return _made(automata.markov(int(option or "1")))


def _reber(option: str) -> SourceText:
    _refuse_option("reber", option)
    return _made(automata.reber())


def _refuse_option(name: str, option: str) -> None:
    if option:
        raise ConfigError(f"{name} takes no option, but {option!r} was given", f"Say {name} alone.")


SOURCES: dict[str, Source] = {
    "python-docs": Source("the prose of Python's own help, as this Python carries it", _python_docs),
    "python-source": Source("the Python standard library's source code, as this Python carries it", _python_source),
    "shakespeare": Source(
        "1.1 MB of Shakespeare's plays (tinyshakespeare), downloaded and checked", _shakespeare, False
    ),
    "alphabet": Source("a to z over and over: entropy 0", _alphabet),
    "markov": Source("a Markov chain over 8 letters, order 1 (markov:2: order 2), of known entropy", _markov),
    "reber": Source("strings of the embedded Reber grammar, a line each, of known entropy", _reber),
}
