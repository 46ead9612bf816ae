"""Worker processes give the same results as this process."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from chargen.config import DataConfig
from chargen.data.token_store import encode_span
from chargen.errors import CorpusError
from chargen.text import corpus, long_text, workers
from chargen.text.corpus import open_in_place, read_corpus
from chargen.text.long_text import count_characters
from chargen.text.workers import map_blocks
from chargen.tokenizers.tokenizer import build_tokenizer

LINES = ["Ăn quả nhớ kẻ trồng cây.\n", "東京 tower\n", "plain\n", "😀 and so on\n"]


@pytest.fixture
def processes(monkeypatch):
    """Use two processes even for a short text."""
    for module in (workers, corpus):
        monkeypatch.setattr(module, "MIN_PARALLEL_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(long_text, "TASK_BYTES", 50)


def kill_itself(block: bytes) -> list[np.ndarray]:
    os.kill(os.getpid(), signal.SIGTERM)
    return []


def test_results_are_in_order_and_equal_those_of_this_process(processes):
    blocks = [(line * (1 + i % 7)).encode() for i, line in enumerate(LINES * 10)]
    found = list(map_blocks(count_characters, blocks, 1000))
    assert len(found) == len(blocks)
    for block, arrays in zip(blocks, found, strict=True):
        for here, there in zip(count_characters(block), arrays, strict=True):
            assert np.array_equal(here, there) and here.dtype == there.dtype


def test_a_process_that_is_killed_is_an_error(processes):
    with pytest.raises(CorpusError, match="was killed"):
        list(map_blocks(kill_itself, [b"a"] * 5, 1000))


def fail(block: bytes) -> list[np.ndarray]:
    raise MemoryError("not enough memory")


def test_the_parent_reports_the_error_of_a_process(processes, capfd):
    with pytest.raises(CorpusError, match="MemoryError: not enough memory"):
        list(map_blocks(fail, [b"a"] * 5, 1000))
    assert capfd.readouterr().err == ""


def test_processes_end_when_the_iterator_is_closed(processes, monkeypatch):
    started = []
    original = workers._Worker.__init__

    def noted(self, *args):
        original(self, *args)
        started.append(self._process)

    monkeypatch.setattr(workers._Worker, "__init__", noted)
    found = map_blocks(count_characters, [b"a"] * 50, 1000)
    next(found)
    found.close()
    assert len(started) == 2 and all(process.returncode is not None for process in started)


@pytest.mark.parametrize("spec", ["char", "byte", "sp:300"])
def test_a_long_file_has_the_statistics_and_ids_of_a_short_one(processes, monkeypatch, tmp_path, spec):
    text = "".join(LINES) * 30
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    content = open_in_place(str(path), DataConfig())
    assert content is not None and content.read() == text
    tokenizer = build_tokenizer(spec, text)
    ids = np.concatenate(list(encode_span(tokenizer, content.span(3))))
    assert ids.tolist() == tokenizer.encode(text[3:]).tolist()
    long = read_corpus([str(path)]).content.statistics
    monkeypatch.undo()
    short = read_corpus([str(path)]).content.statistics
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
def test_a_file_that_cleaning_would_change_is_not_read_in_place(processes, tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert open_in_place(str(path), DataConfig()) is None


def test_a_file_that_cleaning_would_keep_is_read_in_place(processes, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("e\u0301\r\n".encode() * 40)
    content = open_in_place(str(path), DataConfig(newline="keep", normalize="none"))
    assert content is not None and content.read() == "e\u0301\r\n" * 40
