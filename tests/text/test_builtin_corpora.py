"""Built-in corpora are read without a network, generated with a known entropy, or downloaded once and verified."""

from __future__ import annotations

import gc
import hashlib
import http.server
import math
import socket
import ssl
import sys
import sysconfig
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.data.overlap import repeated_share
from chargen.data.quality import check_quality
from chargen.errors import ChargenError, ConfigError, CorpusError, DownloadError, StorageError
from chargen.text import builtin_corpora
from chargen.text.builtin_corpora import (
    BUILTIN_CORPORA,
    BuiltinCorpus,
    _describe_error,
    alphabet,
    fetch,
    is_builtin,
    markov,
    read_builtin,
    reber,
)
from chargen.text.corpus import read_corpus
from chargen.text.documents import MARK
from chargen.text.hashing import PASSAGE_CHARS, repeated_windows, without_passages
from chargen.text.long_text import LongText

TEXT = "Trăm năm trong cõi người ta\n".encode()
SHA256 = hashlib.sha256(TEXT).hexdigest()


class Site:
    """A web site on this machine: /text answers with TEXT, each of the other paths with one error."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                if self.path == "/text":
                    self._answer(200, TEXT, len(TEXT))
                elif self.path == "/truncated":
                    self._answer(200, TEXT[:5], len(TEXT))
                elif self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/text")
                    self.end_headers()
                else:
                    status = int(self.path[1:])
                    self._answer(status, b"", 0)

            def _answer(self, status: int, body: bytes, length: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def url(self, path: str = "text") -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    made = Site()
    yield made
    made.close()


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ── names ─────────────────────────────────────────────────────────────────────


def test_the_first_name_is_a_corpus_that_needs_no_network():
    assert next(iter(BUILTIN_CORPORA)) == "python-docs"
    assert BUILTIN_CORPORA["python-docs"].offline
    assert [name for name in BUILTIN_CORPORA if not BUILTIN_CORPORA[name].offline] == ["shakespeare"]


def test_a_name_is_recognised_with_and_without_an_option():
    assert is_builtin("markov")
    assert is_builtin("markov:2")
    assert is_builtin("markov:none")
    assert not is_builtin("markov2")
    assert not is_builtin("")
    assert not is_builtin("./markov")


@pytest.mark.parametrize("name", ["markv", "markv:2"])
def test_the_error_for_an_unknown_name_has_the_most_similar_one_and_the_list(name):
    with pytest.raises(CorpusError, match="no corpus named 'markv'") as caught:
        read_builtin(name)
    assert caught.value.hint == f"Did you mean 'markov'? Known: {', '.join(BUILTIN_CORPORA)}."


@pytest.mark.parametrize(
    "argument",
    ["markov:3", "markov:0", "markov:x", "alphabet:x", "reber:1", "python-docs:3", "python-source:x", "shakespeare:x"],
)
def test_an_option_that_a_corpus_does_not_take_is_refused_before_anything_is_read(argument, no_network):
    name, _, option = argument.partition(":")
    with pytest.raises(ConfigError, match=name) as caught:
        read_builtin(argument)
    assert option in caught.value.message
    assert f"Use {name}" in caught.value.hint


def test_a_corpus_in_a_file_of_its_own_is_imported_when_it_is_read(tmp_path, monkeypatch):
    source = "import chargen.text.builtin_corpora as b\n\n\ndef read(option):\n    return b.BuiltinText(option * 3)\n"
    (tmp_path / "chargen_test_corpus.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BUILTIN_CORPORA, "mine", BuiltinCorpus("a test", "chargen_test_corpus:read"))
    assert "chargen_test_corpus" not in sys.modules
    assert read_builtin("mine:ab").text == "ababab"
    monkeypatch.delitem(sys.modules, "chargen_test_corpus")


# ── from Python ────── ────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least", "words"), [("python-docs", 300_000, "statement"), ("python-source", 5_000_000, "def namedtuple(")]
)
def test_pythons_own_texts_are_read_without_a_network(no_network, name, least, words):
    found = read_builtin(name)
    assert len(found.text) > least
    assert words in found.text
    assert found.text.endswith("\n")
    assert "\r" not in found.text
    assert found.entropy_nats_per_char is None


def test_python_source_is_only_the_library_in_sorted_order_in_any_encoding(tmp_path, monkeypatch):
    for name, content in {
        "b.py": "b = 1\n",
        "a/z.py": "z = 1\r\n",
        "a/test/t.py": "t = 1\n",
        "site-packages/p.py": "p = 1\n",
        "encodings/e.py": "e = 1\n",
        "__pycache__/c.py": "c = 1\n",
        "readme.txt": "r\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    (tmp_path / "l.py").write_bytes("# -*- coding: latin-1 -*-\nl = 'é'\n".encode("latin-1"))
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert read_builtin("python-source").text == "z = 1\n\nb = 1\n\n# -*- coding: latin-1 -*-\nl = 'é'\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, corpus in BUILTIN_CORPORA.items() if corpus.offline] + ["markov:2"])
@pytest.mark.parametrize("documents", ["none", "file"])
def test_no_corpus_repeats_itself_or_leaks_into_its_held_out_part(no_network, name, documents):
    config = DataConfig(documents=documents)
    corpus = read_corpus([name], config, keep_original=True)
    if len(read_builtin(name).documents) == 1:
        config = DataConfig()  # one document cannot be split
    _, findings = check_quality(corpus, config)
    assert not [finding for finding in findings if finding.kind in ("repeated", "leak")]


@pytest.mark.slow
def test_python_source_has_each_passage_once(no_network):
    found = read_builtin("python-source")
    assert len(set(found.documents)) == len(found.documents)
    text = LongText.from_string(found.text)
    assert text.num_bytes > 7_000_000
    assert repeated_share(text.span()) < 0.0001  # before, 0.0129


def test_a_paragraph_with_a_passage_that_occurs_before_is_left_out():
    passage = "".join(chr(ord("a") + n % 26) + str(n) for n in range(40))[:PASSAGE_CHARS]
    first, second = f"x {passage} y\n", f"first\n\n\nother {passage} words\n \nlast\n"
    assert list(without_passages([first, second, "end\n"])) == [first, "first\n \nlast\n", "end\n"]
    assert list(without_passages([first, second.replace(passage, passage[:-2])])) == [
        first,
        second.replace(passage, passage[:-2]),
    ]
    assert list(without_passages([first, first])) == [first]
    assert list(without_passages([])) == []


@given(st.text("ab\n", max_size=300), st.integers(1, 40))
def test_repeated_windows_are_those_that_occur_before(text, width):
    found = repeated_windows(text, width)
    windows = [text[k : k + width] for k in range(len(text) - width + 1)]
    assert sorted(found) == [k for k, window in enumerate(windows) if windows.index(window) < k]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("python-docs", 50), ("python-source", 200)])
def test_the_documents_of_a_corpus_are_kept_apart(no_network, name, count):
    found = read_builtin(name)
    assert len(found.documents) > count
    assert "\n".join(found.documents) == found.text
    corpus = read_corpus([name], DataConfig(documents="file"))
    assert corpus.text.split(MARK)[:-1] == list(found.documents)


def test_paragraphs_that_are_mostly_copies_are_left_out_of_python_source(tmp_path, monkeypatch):
    licence = "".join(f"# This is the line {n} of a licence that stands in each file.\n" for n in range(10))
    code = "\n\nimport sys\n\n\ndef f():\n    return 1\n"
    changed = licence.replace("line 3", "LINE 3")
    for name, head in {"a": licence, "b": licence, "c": changed}.items():
        (tmp_path / f"{name}.py").write_text(f"{head}{code}")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    rest = "import sys\n\n\ndef f():\n    return 1\n"
    assert read_builtin("python-source").documents == (licence + code, rest)


def test_a_python_without_source_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(CorpusError, match="no source files") as caught:
        read_builtin("python-source")
    assert "python-docs" in caught.value.hint


# ── generated ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("argument", "source"),
    [
        ("alphabet", alphabet()),
        ("markov", markov(1)),
        ("markov:1", markov(1)),
        ("markov:2", markov(2)),
        ("reber", reber()),
    ],
)
def test_a_generated_corpus_is_from_its_source_and_reproducible(monkeypatch, no_network, argument, source):
    monkeypatch.setattr(builtin_corpora, "GENERATED_CHARS", 5000)
    found = read_builtin(argument)
    assert len(found.text) == 5000
    assert source.log_prob_nats(found.text) > -math.inf
    assert found.entropy_nats_per_char == source.entropy_nats_per_char()
    assert read_builtin(argument) == found


# ── downloaded ────────────────────────────────────────────────────────────────


def test_a_valid_download_is_cached_and_then_read_from_the_cache(site, tmp_path):
    cache = tmp_path / "corpora" / "poem.txt"
    assert fetch(site.url(), SHA256, cache) == TEXT
    assert files_below(tmp_path) == [str(Path("corpora/poem.txt"))]
    assert cache.read_bytes() == TEXT
    site.close()
    assert fetch(site.url(), SHA256, cache) == TEXT
    assert site.requests == ["/text"]


def test_a_redirect_is_followed(site, tmp_path):
    assert fetch(site.url("moved"), SHA256, tmp_path / "poem.txt") == TEXT
    assert site.requests == ["/moved", "/text"]


def test_a_file_that_the_user_put_into_the_cache_is_read_without_a_network(no_network, tmp_path):
    (tmp_path / "poem.txt").write_bytes(TEXT)
    assert fetch("http://127.0.0.1:1/text", SHA256, tmp_path / "poem.txt") == TEXT


@pytest.mark.parametrize("damaged", [b"", TEXT[:-1], TEXT + b"\n", b"something else"])
def test_a_damaged_cache_is_downloaded_again(site, tmp_path, damaged):
    (tmp_path / "poem.txt").write_bytes(damaged)
    assert fetch(site.url(), SHA256, tmp_path / "poem.txt") == TEXT
    assert (tmp_path / "poem.txt").read_bytes() == TEXT
    assert files_below(tmp_path) == ["poem.txt"]


def test_content_with_another_hash_is_refused_and_not_cached(site, tmp_path):
    with pytest.raises(DownloadError, match="has changed") as caught:
        fetch(site.url(), "0" * 64, tmp_path / "poem.txt")
    assert f"sha256 {SHA256[:12]}… where 000000000000… was expected" in caught.value.message
    assert str(tmp_path / "poem.txt") in caught.value.hint
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("404", "Not Found"), ("500", "Internal Server Error"), ("204", ""), ("truncated", "the connection ended after")],
)
def test_an_answer_that_is_not_the_file_is_a_download_error_and_closes_the_connection(
    site, tmp_path, monkeypatch, path, reason
):
    left_open: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: left_open.append(unraisable.exc_value))

    def refused() -> tuple[str, str]:
        with pytest.raises(DownloadError) as caught:
            fetch(site.url(path), SHA256, tmp_path / "poem.txt")
        return caught.value.message, caught.value.hint

    message, hint = refused()
    assert site.url(path) in message
    assert reason in message
    assert "python-docs" in hint
    assert files_below(tmp_path) == []
    gc.collect()  # an open connection complains here, by a ResourceWarning
    assert left_open == []


def test_a_refused_connection_is_a_download_error_with_a_hint(site, tmp_path):
    site.close()
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch(site.url(), SHA256, tmp_path / "poem.txt")
    assert "With no network" in caught.value.hint


def test_a_site_that_does_not_answer_is_a_time_out(site, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DownloadError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/", SHA256, tmp_path / "poem.txt", timeout_s=0.05)


def test_a_cache_that_cannot_be_written_is_a_storage_error(site, tmp_path):
    (tmp_path / "corpora").write_text("a file, not a folder")
    with pytest.raises(StorageError, match="cannot be written"):
        fetch(site.url(), SHA256, tmp_path / "corpora" / "poem.txt")
    assert files_below(tmp_path) == ["corpora"]


def test_a_cache_path_that_is_a_folder_is_an_expected_error(site, tmp_path):
    (tmp_path / "poem.txt").mkdir()
    with pytest.raises(ChargenError):
        fetch(site.url(), SHA256, tmp_path / "poem.txt")
    assert files_below(tmp_path) == []


def test_shakespeare_is_downloaded_once_into_the_current_folder(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtin_corpora, "SHAKESPEARE_URL", site.url())
    monkeypatch.setattr(builtin_corpora, "SHAKESPEARE_SHA256", SHA256)
    assert read_builtin("shakespeare").text == TEXT.decode()
    assert files_below(tmp_path) == [str(Path("corpora/shakespeare.txt"))]
    assert read_builtin("shakespeare").text == TEXT.decode()
    assert site.requests == ["/text"]


def test_an_error_of_a_connection_is_described() -> None:
    assert "name of the server" in _describe_error(
        urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))
    )
    assert "not secure" in _describe_error(
        urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))
    )
    assert (
        _describe_error(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")))
        == "Connection refused"
    )
    with pytest.raises(DownloadError, match="unknown url type"):
        fetch("nowhere://a", "0" * 64, Path("a"))


def test_python_docs_contains_each_paragraph_once() -> None:
    paragraphs = [" ".join(paragraph.split()) for paragraph in read_builtin("python-docs").text.split("\n\n")]
    assert len(paragraphs) > 1000
    assert len(set(paragraphs)) == len(paragraphs)
