"""A corpus that a file names: only regular files of a plausible size are read, and built-in corpora."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from chargen.api import load
from chargen.checkpoint import Checkpoint, save_checkpoint, save_tensors
from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.text import recorded_corpus
from chargen.text.corpus import read_corpus
from chargen.text.recorded_corpus import read_recorded_corpus
from tests.conftest import random_model

MIB = 1 << 20


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


CONFIG = DataConfig()


def test_a_recorded_file_is_read_if_it_is_a_regular_file_of_the_size_that_is_stated() -> None:
    Path("a.txt").write_text("some text\n")
    Path("b").mkdir()
    Path("b/c.txt").write_text("more")
    Path("b/empty.txt").write_text("")
    for arguments in (["a.txt"], ["b", "a.txt"], ["a.txt", "alphabet"]):
        corpus = read_corpus(arguments)
        files = json.loads(json.dumps(corpus.parts))
        found = read_recorded_corpus(files, arguments, corpus.num_chars, CONFIG)
        assert (found.sha256, found.name, found.arguments) == (corpus.sha256, corpus.name, tuple(arguments))
    assert read_recorded_corpus(None, ["a.txt"], 10, CONFIG).text == "some text\n"
    assert read_recorded_corpus(None, ["a.txt"], None, CONFIG).text == "some text\n"
    assert read_recorded_corpus([], ["a.txt"], 10, CONFIG).text == "some text\n"
    with pytest.raises(CorpusError, match="had 9 bytes"):
        read_recorded_corpus([["a.txt", 9]], ["a.txt"], 10, CONFIG)
    with pytest.raises(CorpusError, match="do not fit"):
        Path("a.txt").write_bytes(b"a" * 70_000)
        read_recorded_corpus(None, ["a.txt"], 500, CONFIG)


def make(kind: str) -> str:
    """Return the name of something that must not be read."""
    if kind == "pipe":
        os.mkfifo("pipe")
    elif kind == "link to a pipe":
        os.mkfifo("pipe")
        os.symlink("pipe", "link to a pipe")
    elif kind == "folder":
        Path("folder").mkdir()
        Path("folder/a.txt").write_text("text")
    elif kind == "file of /proc":
        return "/proc/self/maps"
    return {"device": "/dev/zero", "url": "http://127.0.0.1:1/a", "stdin": "-", "file url": "file:///etc/passwd"}.get(
        kind, kind
    )


KINDS = ["pipe", "link to a pipe", "folder", "device", "url", "stdin", "file url", "file of /proc", "shakespeare", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_read_if_a_file_names_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.builtin_corpora.fetch", lambda *arguments: pytest.fail("the network was used"))
    name = make(kind)
    for files in (None, [[name, None]], [[name, 4]]):
        for max_chars in (None, 1000):
            with pytest.raises(CorpusError) as caught:
                read_recorded_corpus(files, [name], max_chars, CONFIG)
            assert "chargen train CORPUS --resume RUN" in caught.value.hint


@pytest.mark.parametrize("files", [5, "a.txt", {}, [["a.txt"]], [[1, 2]], [["a.txt", "9"]], [["a.txt", True]], [[]]])
def test_a_recorded_corpus_of_another_form_is_an_error(files: object) -> None:
    Path("a.txt").write_text("some text")
    for arguments in (["a.txt"], [5], "a.txt", None, {}):
        with pytest.raises(CorpusError):
            read_recorded_corpus(files, arguments, 10, CONFIG)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_state_beside_a_model_does_not_cause_reading(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.builtin_corpora.fetch", lambda *arguments: pytest.fail("the network was used"))
    name = make(kind)
    text = "some text\n" * 9
    for corpus in ("poem", name, "../poem", "/etc/passwd"):
        about = {"corpus": corpus, "corpus_sha256": "0" * 64, "train_chars": 50, "data": CONFIG.to_json()}
        model = random_model(text)
        save_checkpoint(Path("model.safetensors"), Checkpoint(model.config, model.tokenizer, model.weights, about))
        for state in ({"corpus_arguments": [name]}, {"corpus_files": [[name, 9]]}, {"corpus_files": 5}):
            save_tensors(Path("training_state.safetensors"), {}, state)
            for call in (lambda lm: lm.sample(max_copy=4, length=3), lambda lm: lm.copy_report("text")):
                with pytest.raises(CorpusError, match="was not found"):
                    call(load("model.safetensors"))


def test_a_recorded_file_is_decompressed_only_up_to_the_training_text() -> None:
    Path("a.txt.gz").write_bytes(gzip.compress(b"some text\n" * 200_000))
    with pytest.raises(CorpusError, match="more than 66,"):
        read_recorded_corpus(None, ["a.txt.gz"], 10, CONFIG)
    assert recorded_corpus.ALLOWED_BYTES == 1 << 16


def test_a_recorded_file_is_refused_if_it_is_named_twice_by_any_of_its_names() -> None:
    Path("verse.txt").write_text("verse\n", encoding="utf-8")
    os.link("verse.txt", "same.txt")
    for parts in ([["verse.txt", 6]] * 2, [["verse.txt", 6], ["./verse.txt", 6]], [["verse.txt", 6], ["same.txt", 6]]):
        with pytest.raises(CorpusError, match="twice"):
            read_recorded_corpus(parts, [], 10**12, DataConfig())
    with pytest.raises(CorpusError, match="twice"):
        read_recorded_corpus([["alphabet", None]] * 2, [], 10**12, DataConfig())


def test_the_text_of_recorded_compressed_files_is_limited_by_their_size(monkeypatch) -> None:
    monkeypatch.setattr(recorded_corpus, "ALLOWED_TEXT_BYTES", 1000)
    Path("a.txt.gz").write_bytes(gzip.compress(b"a" * MIB))
    with pytest.raises(CorpusError, match="more than"):
        read_recorded_corpus([["a.txt.gz", os.path.getsize("a.txt.gz")]], [], 10**12, DataConfig())
