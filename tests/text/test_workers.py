"""Work on all cores: what other processes find is what this one would have found."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from chargen.config import DataConfig
from chargen.data.token_store import encode_span
from chargen.errors import CorpusError
from chargen.text import corpus as standing
from chargen.text import long_text as longtext
from chargen.text import workers as parallel
from chargen.text.corpus import read_corpus, standing_text
from chargen.text.long_text import counted
from chargen.text.workers import in_order
from chargen.tokenizers.tokenizer import build_tokenizer

LINES = ["Ăn quả nhớ kẻ trồng cây.\n", "東京 tower\n", "plain\n", "😀 and so on\n"]


@pytest.fixture
def processes(monkeypatch):
    """Two processes, however short the text."""
    for module in (parallel, standing):
        monkeypatch.setattr(module, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(longtext, "TASK", 50)


def suicidal(block: bytes) -> list[np.ndarray]:
    os.kill(os.getpid(), signal.SIGTERM)
    return []


def test_blocks_come_back_in_order_and_as_they_would_from_here(processes):
    blocks = [(line * (1 + i % 7)).encode() for i, line in enumerate(LINES * 10)]
    found = list(in_order(counted, blocks, 1000))
    assert len(found) == len(blocks)
    for block, arrays in zip(blocks, found, strict=True):
        for here, there in zip(counted(block), arrays, strict=True):
            assert np.array_equal(here, there) and here.dtype == there.dtype


def test_a_process_that_is_killed_is_an_error(processes):
    with pytest.raises(CorpusError, match="was killed"):
        list(in_order(suicidal, [b"a"] * 5, 1000))


def failing(block: bytes) -> list[np.ndarray]:
    raise MemoryError("no room for it")


def test_what_fails_in_a_process_is_said_by_the_one_that_asked(processes, capfd):
    with pytest.raises(CorpusError, match="MemoryError: no room for it"):
        list(in_order(failing, [b"a"] * 5, 1000))
    assert capfd.readouterr().err == ""


def test_processes_end_when_nobody_asks_on(processes, monkeypatch):
    started = []
    original = parallel._Process.__init__

    def noted(self, *args):
        original(self, *args)
        started.append(self._process)

    monkeypatch.setattr(parallel._Process, "__init__", noted)
    found = in_order(counted, [b"a"] * 50, 1000)
    next(found)
    found.close()
    assert len(started) == 2 and all(process.returncode is not None for process in started)


@pytest.mark.parametrize("spec", ["char", "byte", "sp:300"])
def test_a_long_file_is_surveyed_and_encoded_as_a_short_one(processes, monkeypatch, tmp_path, spec):
    text = "".join(LINES) * 30
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    content = standing_text(str(path), DataConfig())
    assert content is not None and content.read() == text
    tokenizer = build_tokenizer(spec, text)
    ids = np.concatenate(list(encode_span(tokenizer, content.span(3))))
    assert ids.tolist() == tokenizer.encode(text[3:]).tolist()
    long = read_corpus([str(path)]).content.survey
    monkeypatch.undo()
    short = read_corpus([str(path)]).content.survey
    assert (long.sha256, long.num_chars, long.counts.tolist()) == (short.sha256, short.num_chars, short.counts.tolist())


@pytest.mark.parametrize(
    "data",
    [
        b"a\r\nb\n" * 40,
        "\ufeffmark\n".encode() * 40,
        "e\u0301\n".encode() * 40,
        ("東" * 300 + "\u0301").encode(),
        b"zero\0\n" * 40,
        b"bad \xff\n" * 40,
        ("a" * 49 + "\u0301" * 40).encode(),
    ],
)
def test_a_file_that_cleaning_would_change_does_not_stand_as_it_is(processes, tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert standing_text(str(path), DataConfig()) is None


def test_what_is_to_be_kept_does_not_count_as_unclean(processes, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("e\u0301\r\n".encode() * 40)
    content = standing_text(str(path), DataConfig(newline="keep", normalize="none"))
    assert content is not None and content.read() == "e\u0301\r\n" * 40
