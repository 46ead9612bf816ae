"""URLs: which schemes are read, local files, and the description of errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.text.corpus import read_corpus
from chargen.text.inputs import describe_failure
from tests.text.conftest import refused

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.mark.parametrize(
    "url",
    [
        "nowhere://a", "dir:///etc", "local:///etc/passwd", "simplecache::file:///etc/passwd", "zip://a::file:///x.zip",
        "reference://x", "github://a:b@c/x", "git://x", "tar://x", "blockcache::memory://x", "://x", "jupyter://x",
        "memory://a::file:///etc/passwd",
    ],
)  # fmt: skip
def test_the_error_for_an_unsupported_scheme_lists_the_supported_ones(url: str) -> None:
    error = refused(url)
    assert "which chargen does not read" in error.message
    assert "file://" in error.hint and "http" in error.hint


def test_a_file_url_is_the_file_or_folder_that_it_names() -> None:
    Path("a b.txt").write_text("some text")
    assert read_corpus([Path("a b.txt").resolve().as_uri()]).text == "some text"
    assert read_corpus([Path.cwd().as_uri()]).text == "some text"
    assert "cannot be read" in refused("file:///nowhere/a.txt").message
    assert "another machine" in refused("file://elsewhere/a.txt").message
    assert "NUL" in refused("file:///a%00b").message


def test_an_error_of_a_server_is_described() -> None:
    class AnswerError(Exception):
        status, message = 404, "Not Found"

    assert describe_failure(AnswerError(), "https://a") == "the server answered 404 Not Found"
    assert describe_failure(TimeoutError(), "https://a") == "the server did not answer in time"
    assert "no file at this address" in describe_failure(FileNotFoundError(2, "No such file"), "https://a")
    assert describe_failure(ValueError(), "https://a") == "ValueError"
