"""Limits: files that are made to fill the memory or the disk, or to make reading wait forever."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from chargen.config import DataConfig
from chargen.errors import CorpusError, StorageError
from chargen.tasks.classification.reading import labelled_data as labelled
from chargen.text import limits, long_text, records
from chargen.text.cleaning import CleaningReport, to_nfc
from chargen.text.corpus import read_corpus
from chargen.text.inputs import decompress
from chargen.text.limits import CorpusSizeError, ReadLimit, open_regular
from chargen.text.records import RecordFormat, read_batches
from tests.text.conftest import refused

MIB = 1 << 20


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def zstd(data: bytes, **more: Any) -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor(**more).compress(data)
    return compressed


# ── compressed files ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_compressed_file_is_decompressed_in_bounded_memory(kind: str) -> None:
    whole = b"a" * (64 * MIB)
    data = gzip.compress(whole, 9) if kind == "gzip" else zstd(whole, level=1)
    del whole
    limit = ReadLimit()
    tracemalloc.start()
    size = max(len(block) for block in decompress(io.BytesIO(data), "it", limit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert limit.num_bytes == 64 * MIB
    assert size <= 128 * 1024 and peak < 4 * MIB


def test_zstandard_frames_are_joined_and_skippable_frames_are_skipped() -> None:
    frames = [zstd(b"one\n", write_checksum=True), b"\x5a\x2a\x4d\x18\x03\0\0\0abc", zstd(b"two\n", level=19)]
    big = zstd(os.urandom(300_000).hex().encode(), write_checksum=True, write_content_size=False)
    found = b"".join(decompress(io.BytesIO(b"".join([*frames, big, zstd(b"")])), "it", ReadLimit()))
    assert found.startswith(b"one\ntwo\n") and len(found) == 600_008


def test_a_zstandard_file_truncated_or_changed_anywhere_is_refused() -> None:
    data = zstd(b"".join(b"%d\n" % n for n in range(400)), write_checksum=True)
    for cut in range(4, len(data)):
        with pytest.raises(CorpusError, match="damaged zstd"):
            list(decompress(io.BytesIO(data[:cut]), "it", ReadLimit()))
    for place in range(4, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(CorpusError, match="damaged zstd"):
            list(decompress(io.BytesIO(bytes(changed)), "it", ReadLimit()))
    with pytest.raises(CorpusError, match="damaged zstd"):
        list(decompress(io.BytesIO(data + b"something else"), "it", ReadLimit()))


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet"])
def test_a_compression_ratio_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(limits, "MIN_RATIO_BYTES", 1 << 16)
    monkeypatch.setattr(limits, "MAX_RATIO", 100)
    if kind == "parquet":
        arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        values = arrow.DictionaryArray.from_arrays(arrow.array([0] * 1000, arrow.int32()), arrow.array(["abc\n" * 99]))
        tables.write_table(arrow.table({"text": values}), "bomb.parquet")
    else:
        whole = b"some text\n" * 50_000
        Path(f"bomb.{kind}").write_bytes(gzip.compress(whole, 9) if kind == "gz" else zstd(whole))
    error = refused(f"bomb.{kind}")
    assert "unpacks to more than 100 times its size" in error.message
    Path("folder").mkdir()
    Path(f"bomb.{kind}").rename(f"folder/bomb.{kind}")
    assert "unpacks" in refused("folder").message  # the folder is not read without it


# ── limits of size ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["plain", "gz", "folder", "two", "stdin", "jsonl", "source", "pipe"])
def test_a_corpus_above_its_limit_is_an_error(form: str) -> None:
    text = b"".join(b"line %d\n" % n for n in range(3000))
    arguments, stdin = ["a.txt"], None
    Path("a.txt").write_bytes(text)
    if form == "gz":
        Path("a.txt").write_bytes(gzip.compress(text))
    elif form == "folder":
        Path("folder").mkdir()
        for n in range(4):
            Path(f"folder/{n}.txt").write_bytes(text[:9000])
        arguments = ["folder"]
    elif form == "two":
        Path("b.txt").write_bytes(text[:9000])
        Path("a.txt").write_bytes(text[:19000])
        arguments = ["a.txt", "b.txt"]
    elif form == "stdin":
        arguments, stdin = ["-"], io.BytesIO(text)
    elif form == "jsonl":
        Path("a.jsonl").write_text("".join(json.dumps({"text": "a", "more": "b" * 90}) + "\n" for _ in range(300)))
        arguments = ["a.jsonl"]
    elif form == "source":
        arguments = ["markov"]
    elif form == "pipe":  # the user may name a pipe, as the shell's <(…) does
        os.mkfifo("pipe")
        threading.Thread(target=lambda: Path("pipe").write_bytes(text), daemon=True).start()
        arguments = ["pipe"]
    error = refused(*arguments, stdin=stdin, max_bytes=20_000)
    assert "more than 20,000 bytes of text" in error.message and "--max-corpus-size" in error.hint
    assert isinstance(error, CorpusSizeError)


def test_a_corpus_at_its_limit_is_read() -> None:
    Path("a.txt").write_bytes(b"a" * 1000)
    assert read_corpus(["a.txt"], max_bytes=1000).num_chars == 1000
    refused("a.txt", max_bytes=999)


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [("1", 1), ("500MB", 500_000_000), ("2kb", 2000), ("1.5 GiB", 3 << 29), ("1T", 10**12), ("7B", 7)],
)
def test_sizes_are_read_in_every_unit(size: str, num_bytes: int) -> None:
    from chargen.cli.options import parse_size as read_size

    assert read_size(None, None, size) == num_bytes  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["", "0", "-1", "nan", "1e3", "10" * 20, "9999999TB", "5 PB", "MB", "٣MB"])
def test_an_invalid_size_is_wrong_usage(chargen: Any, size: str) -> None:
    result = chargen("corpora", "check", "x", "--max-corpus-size", size)
    assert result.status == 2 and "is not a size" in result.err


def test_every_command_that_reads_a_corpus_has_the_limit(chargen: Any) -> None:
    Path("a.txt").write_bytes(b"some text\n" * 1000)
    for command in (["train", "a.txt"], ["corpora", "check", "a.txt"]):
        result = chargen(*command, "--max-corpus-size", "1kB")
        assert result.status == 1 and "more than 1,000 bytes" in result.err, command
    for command in ("eval", "compare"):
        assert "--max-corpus-size" in chargen(command, "--help").out


def test_a_device_without_an_end_is_refused_as_binary_at_once() -> None:
    if not os.path.exists("/dev/zero"):
        pytest.skip("no such device here")
    for encoding in ("utf-8", "latin-1", "utf-16", "utf-32-le", "cp1258"):
        assert "binary" in refused("/dev/zero", config=DataConfig(encoding=encoding)).message


@pytest.mark.parametrize("form", [records.LINES, records.NULL, records.JSON, records.WHOLE])
def test_a_text_that_is_too_long_is_named_and_can_be_skipped(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(records, "MAX_TEXT_BYTES", 100)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(limits, "MAX_RECORD_BYTES", 100)
    texts = ["short", "long " * 50, "last"]
    lines = [json.dumps({"text": t}) for t in texts] if form == records.JSON else texts
    data = ("\0" if form == records.NULL else "\n").join(lines).encode()
    blocks = [data[at : at + 16] for at in range(0, len(data), 16)]
    with pytest.raises(CorpusError, match="more than 100 bytes"):
        list(read_batches(blocks, "it", RecordFormat(form), CleaningReport()))
    report = CleaningReport()
    found = sum(read_batches(blocks, "it", RecordFormat(form, errors="skip"), report), [])
    assert found == ([] if form == records.WHOLE else ["short", "last"]) and len(report.notes()) == 1


def test_a_line_without_an_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.given += len(buffer)
            assert self.given < 64 * MIB, "it is read without an end"
            buffer[:] = b"a" * len(buffer)
            return len(buffer)

    monkeypatch.setattr(limits, "MAX_RECORD_BYTES", MIB)
    monkeypatch.setattr(records, "MAX_TEXT_BYTES", MIB)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", MIB)
    for form in (records.WHOLE, records.LINES, records.NULL, records.JSON):
        with pytest.raises(CorpusError, match="more than"):
            blocks = decompress(io.BufferedReader(Endless()), "it", ReadLimit())
            list(read_batches(blocks, "it", RecordFormat(form), CleaningReport()))
    Path("a.jsonl").write_bytes(b'{"text": "' + b"a" * (2 * MIB))
    assert "line 1 is a record" in refused("a.jsonl").message


def test_labelled_texts_come_from_regular_files_and_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("texts").mkdir()
    for label in ("one", "two"):
        Path(f"texts/{label}.txt").write_text("a text\n" * 50)
    os.mkfifo("texts/three.txt")
    assert list(labelled.read_labelled(Path("texts"))) == ["one", "two"]
    monkeypatch.setattr(labelled, "MAX_HELD_BYTES", 2000)
    with pytest.raises(CorpusError, match="more than 2,000 bytes"):
        labelled.read_labelled(Path("texts"))


def test_a_run_of_a_million_marks_is_composed_in_linear_time() -> None:
    begin = time.process_time()
    text = "a" + "\u0301\u0327" * 200_000
    found = to_nfc(text)
    Path("a.txt").write_text(text, encoding="utf-8")
    assert read_corpus(["a.txt"]).text == found
    assert time.process_time() - begin < 20  # 120 s, if it is done by insertion
    assert found == "a" + "\u0327" * 200_000 + "\u0301" * 200_000 or found.startswith("\u00e1")


def test_opening_does_not_wait_for_a_pipe_that_replaced_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    Path("a.txt").write_text("a")
    regular = os.stat("a.txt")
    monkeypatch.setattr(os, "stat", lambda path, **more: regular)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular("pipe")


def test_the_error_for_a_full_or_missing_temporary_folder_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "MAX_MEMORY_BYTES", 10)
    Path("a.txt").write_text("some text that is longer")

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        read_corpus(["a.txt"])
    assert "TMPDIR" in caught.value.hint
    monkeypatch.setattr("tempfile.gettempdir", full)
    with pytest.raises(StorageError, match="a folder for temporary files"):
        read_corpus(["a.txt"])


@pytest.mark.skipif(not hasattr(os, "O_NONBLOCK"), reason="this system has no such flag")
def test_files_in_a_folder_are_opened_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("texts/a/1.txt", "texts/b/1.txt", "texts/b/2.txt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("a text\n", encoding="utf-8")
    opened: list[str] = []

    def seen(path: str) -> Any:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr("chargen.text.inputs.open_regular", seen)
    read_corpus(["texts"])
    assert len(opened) == 3
    labelled.read_labelled(Path("texts"))
    assert len(opened) == 6


def test_the_limit_is_for_a_folder_as_a_whole() -> None:
    for name in "abc":
        Path("texts").mkdir(exist_ok=True)
        Path("texts", name).write_text("a text\n" * 10, encoding="utf-8")
    assert "more than" in refused("texts", max_bytes=200).message
    assert "more than" in refused("texts", "texts/a", max_bytes=220).message
