"""Files made to take all memory or the whole disk, to hang, or to be read where nobody asked for it."""

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

from chargen.checkpoint import Checkpoint, save_checkpoint, save_tensors
from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError, DownloadError, StorageError, TokenizerError
from chargen.lm import load
from chargen.tasks import labelled_data as labelled
from chargen.tasks.rescoring import read_lines
from chargen.text import limits, parquet, records
from chargen.text import long_text as longtext
from chargen.text import recorded_corpus as recorded
from chargen.text.builtin_corpora import _why, fetch
from chargen.text.cleaning import nfc
from chargen.text.corpus import read_corpus
from chargen.text.limits import CorpusSizeError, ReadLimit, open_regular
from chargen.text.readers import unpacked
from chargen.text.recorded_corpus import recorded_corpus
from chargen.text.remote import what_failed
from chargen.tokenizers.tokenizer import build_tokenizer
from tests.conftest import random_model

MIB = 1 << 20


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: str, **more: Any) -> ChargenError:
    with pytest.raises(ChargenError) as caught:
        read_corpus(arguments, **more)
    assert caught.value.hint
    return caught.value


def zstd(data: bytes, **more: Any) -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor(**more).compress(data)
    return compressed


# ── packed files ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_packed_file_is_unpacked_a_little_at_a_time(kind: str) -> None:
    whole = b"a" * (64 * MIB)
    data = gzip.compress(whole, 9) if kind == "gzip" else zstd(whole, level=1)
    del whole
    limit = ReadLimit()
    tracemalloc.start()
    size = max(len(block) for block in unpacked(io.BytesIO(data), "it", limit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert limit.num_bytes == 64 * MIB
    assert size <= 128 * 1024 and peak < 4 * MIB


def test_frames_of_zstandard_are_put_end_to_end_and_what_is_to_be_skipped_is() -> None:
    frames = [zstd(b"one\n", write_checksum=True), b"\x5a\x2a\x4d\x18\x03\0\0\0abc", zstd(b"two\n", level=19)]
    big = zstd(os.urandom(300_000).hex().encode(), write_checksum=True, write_content_size=False)
    found = b"".join(unpacked(io.BytesIO(b"".join([*frames, big, zstd(b"")])), "it", ReadLimit()))
    assert found.startswith(b"one\ntwo\n") and len(found) == 600_008


def test_a_zstandard_file_cut_or_changed_anywhere_is_refused() -> None:
    data = zstd(b"".join(b"%d\n" % n for n in range(400)), write_checksum=True)
    for cut in range(4, len(data)):
        with pytest.raises(CorpusError, match="damaged zstd"):
            list(unpacked(io.BytesIO(data[:cut]), "it", ReadLimit()))
    for place in range(4, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(CorpusError, match="damaged zstd"):
            list(unpacked(io.BytesIO(bytes(changed)), "it", ReadLimit()))
    with pytest.raises(CorpusError, match="damaged zstd"):
        list(unpacked(io.BytesIO(data + b"something else"), "it", ReadLimit()))


@pytest.mark.parametrize("kind", ["list", "struct", "number"])
def test_a_column_that_is_not_of_strings_is_refused_before_a_row_is_read(kind: str, monkeypatch) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values: dict[str, Any] = {"list": [["a" * 1000] * 1000], "struct": [{"a": "b"}], "number": [1]}
    tables.write_table(arrow.table({"text": values[kind]}), "a.parquet")
    monkeypatch.setattr(tables.ParquetFile, "iter_batches", None)
    assert "holds no text" in refused("a.parquet").message


def test_a_message_names_a_few_columns_or_fields_of_many() -> None:
    Path("a.jsonl").write_text(json.dumps({f"{n:05}" * 100: "" for n in range(10_000)}) + "\n", encoding="utf-8")
    assert len(refused("a.jsonl").hint) < 1000
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables.write_table(arrow.table({f"{n:05}" * 100: ["a"] for n in range(100)}), "a.parquet")
    assert len(refused("a.parquet").hint) < 1000


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet"])
def test_what_unpacks_to_a_thousand_times_its_size_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
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
    assert "unpacks" in refused("folder").message  # it is not left out in silence


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_table_with_a_page_that_is_too_large_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "MAX_PAGE_BYTES", 10_000)
    tables.write_table(arrow.table({"text": ["b" * 20_000, "a"], "id": [1, 2]}), "a.parquet", use_dictionary=dictionary)
    assert "has a page of" in refused("a.parquet").message


def test_every_page_of_a_table_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"text {n} " * (n % 50) for n in range(3000)]
    for version in ("1.0", "2.0"):
        for dictionary in (True, False):
            tables.write_table(
                arrow.table({"id": list(range(3000)), "text": texts}), "a.parquet", data_page_size=2000,
                write_batch_size=10, row_group_size=1000, use_dictionary=dictionary, data_page_version=version,
            )  # fmt: skip
            with open("a.parquet", "rb") as file:
                largest = parquet._largest_page(file, os.path.getsize("a.parquet"), [1], "it", ReadLimit())
            assert 1000 < largest < 400_000
            assert read_corpus(["a.parquet"]).text.count("text") == sum(n % 50 for n in range(3000))


def test_a_table_with_any_byte_changed_is_an_error_of_ours_or_another_text() -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables.write_table(arrow.table({"text": [f"text {n}\n" for n in range(40)]}), "a.parquet")
    data = Path("a.parquet").read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x41
        Path("b.parquet").write_bytes(bytes(changed))
        try:
            assert read_corpus(["b.parquet"]).num_chars < 100_000
        except ChargenError as error:
            assert error.message


# ── how much ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["plain", "gz", "folder", "two", "stdin", "jsonl", "source", "pipe"])
def test_a_corpus_beyond_its_limit_is_a_stated_error(form: str) -> None:
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
    elif form == "pipe":  # which a person may name, as the shell's <(…) does
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
def test_a_size_that_is_none_is_wrong_usage(chargen: Any, size: str) -> None:
    result = chargen("corpora", "check", "x", "--max-corpus-size", size)
    assert result.status == 2 and "is not a size" in result.err


def test_every_command_that_reads_a_corpus_has_the_limit(chargen: Any) -> None:
    Path("a.txt").write_bytes(b"some text\n" * 1000)
    for command in (["train", "a.txt"], ["corpora", "check", "a.txt"]):
        result = chargen(*command, "--max-corpus-size", "1kB")
        assert result.status == 1 and "more than 1,000 bytes" in result.err, command
    for command in ("eval", "compare"):
        assert "--max-corpus-size" in chargen(command, "--help").out


def test_a_device_without_an_end_is_called_binary_at_once() -> None:
    if not os.path.exists("/dev/zero"):
        pytest.skip("no such device here")
    for encoding in ("utf-8", "latin-1", "utf-16", "utf-32-le", "cp1258"):
        assert "binary" in refused("/dev/zero", config=DataConfig(encoding=encoding)).message


@pytest.mark.parametrize("form", [records.LINES, records.NULL, records.JSON, records.WHOLE])
def test_a_text_that_is_too_long_to_be_held_is_named_and_can_be_passed_over(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(records, "MAX_TEXT_BYTES", 100)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(records, "BLOCK_BYTES", 16)
    texts = ["short", "long " * 50, "last"]
    lines = [json.dumps({"text": t}) for t in texts] if form == records.JSON else texts
    data = ("\0" if form == records.NULL else "\n").join(lines).encode()
    with pytest.raises(CorpusError, match="more than 100 bytes"):
        list(records.read_records(io.BytesIO(data), "it", form))
    errors: list[CorpusError] = []
    found = list(records.read_records(io.BytesIO(data), "it", form, passed_over=errors.append))
    assert found == ([] if form == records.WHOLE else ["short", "last"]) and len(errors) == 1


def test_a_line_without_an_end_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.given += len(buffer)
            assert self.given < 64 * MIB, "it is read on and on"
            buffer[:] = b"a" * len(buffer)
            return len(buffer)

    monkeypatch.setattr("chargen.tasks.rescoring.MAX_RECORD_BYTES", MIB)
    monkeypatch.setattr(limits, "MAX_RECORD_BYTES", MIB)
    monkeypatch.setattr(records, "MAX_TEXT_BYTES", MIB)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", MIB)
    with pytest.raises(CorpusError, match="line 1 is a record of more than"):
        list(read_lines(io.BufferedReader(Endless()), "it"))
    for form in (records.WHOLE, records.LINES, records.NULL, records.JSON):
        with pytest.raises(CorpusError, match="more than"):
            list(records.read_records(io.BufferedReader(Endless()), "it", form))
    Path("a.jsonl").write_bytes(b'{"text": "' + b"a" * (2 * MIB))
    assert "line 1 is a record" in refused("a.jsonl").message


def test_labelled_texts_are_of_regular_files_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = nfc(text)
    Path("a.txt").write_text(text, encoding="utf-8")
    assert read_corpus(["a.txt"]).text == found
    assert time.process_time() - begin < 20  # 120 s, if it is done by insertion
    assert found == "a" + "\u0327" * 200_000 + "\u0301" * 200_000 or found.startswith("\u00e1")


# ── what a file names, and no person ──────────────────────────────────────────

CONFIG = DataConfig()


def test_a_recorded_file_is_read_if_it_is_a_regular_file_of_the_size_that_is_stated() -> None:
    Path("a.txt").write_text("some text\n")
    Path("b").mkdir()
    Path("b/c.txt").write_text("more")
    Path("b/empty.txt").write_text("")
    for arguments in (["a.txt"], ["b", "a.txt"], ["a.txt", "alphabet"]):
        corpus = read_corpus(arguments)
        files = json.loads(json.dumps(corpus.parts))
        found = recorded_corpus(files, arguments, corpus.num_chars, CONFIG)
        assert (found.sha256, found.name, found.arguments) == (corpus.sha256, corpus.name, tuple(arguments))
    assert recorded_corpus(None, ["a.txt"], 10, CONFIG).text == "some text\n"
    assert recorded_corpus(None, ["a.txt"], None, CONFIG).text == "some text\n"
    assert recorded_corpus([], ["a.txt"], 10, CONFIG).text == "some text\n"
    with pytest.raises(CorpusError, match="had 9 bytes"):
        recorded_corpus([["a.txt", 9]], ["a.txt"], 10, CONFIG)
    with pytest.raises(CorpusError, match="do not fit"):
        Path("a.txt").write_bytes(b"a" * 70_000)
        recorded_corpus(None, ["a.txt"], 500, CONFIG)


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
def test_nothing_but_a_regular_file_is_read_where_a_file_names_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.builtin_corpora.fetch", lambda *arguments: pytest.fail("the network was asked"))
    name = make(kind)
    for files in (None, [[name, None]], [[name, 4]]):
        for max_chars in (None, 1000):
            with pytest.raises(CorpusError) as caught:
                recorded_corpus(files, [name], max_chars, CONFIG)
            assert "chargen train CORPUS --resume RUN" in caught.value.hint


@pytest.mark.parametrize("files", [5, "a.txt", {}, [["a.txt"]], [[1, 2]], [["a.txt", "9"]], [["a.txt", True]], [[]]])
def test_a_record_of_another_form_is_an_error(files: object) -> None:
    Path("a.txt").write_text("some text")
    for arguments in (["a.txt"], [5], "a.txt", None, {}):
        with pytest.raises(CorpusError):
            recorded_corpus(files, arguments, 10, CONFIG)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_state_beside_a_model_leads_nowhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.builtin_corpora.fetch", lambda *arguments: pytest.fail("the network was asked"))
    name = make(kind)
    text = "some text\n" * 9
    for corpus in ("poem", name, "../poem", "/etc/passwd"):
        about = {"corpus": corpus, "corpus_sha256": "0" * 64, "train_chars": 50, "data": CONFIG.to_json()}
        model = random_model(text)
        save_checkpoint(Path("model.safetensors"), Checkpoint(model.config, model.tokenizer, model.weights, about))
        for state in ({"corpus_arguments": [name]}, {"corpus_files": [[name, 9]]}, {"corpus_files": 5}):
            save_tensors(Path("training_state.safetensors"), {}, state)
            for call in (lambda lm: lm.sample(max_copy=4, length=3), lambda lm: lm.copy_report("text")):
                with pytest.raises(CorpusError, match="not at hand"):
                    call(load("model.safetensors"))


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    Path("a.txt").write_text("a")
    regular = os.stat("a.txt")
    monkeypatch.setattr(os, "stat", lambda path, **more: regular)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular("pipe")


def test_no_more_of_a_recorded_file_is_unpacked_than_the_model_can_have_learned_from() -> None:
    Path("a.txt.gz").write_bytes(gzip.compress(b"some text\n" * 200_000))
    with pytest.raises(CorpusError, match="more than 66,"):
        recorded_corpus(None, ["a.txt.gz"], 10, CONFIG)
    assert recorded.MIN_BYTES == 1 << 16


# ── URLs, downloads, folders for temporary files ──────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "nowhere://a", "dir:///etc", "local:///etc/passwd", "simplecache::file:///etc/passwd", "zip://a::file:///x.zip",
        "reference://x", "github://a:b@c/x", "git://x", "tar://x", "blockcache::memory://x", "://x", "jupyter://x",
        "memory://a::file:///etc/passwd",
    ],
)  # fmt: skip
def test_a_scheme_that_is_not_read_is_an_error_that_lists_what_is_possible(url: str) -> None:
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


def test_what_a_server_did_wrong_is_said() -> None:
    class AnswerError(Exception):
        status, message = 404, "Not Found"

    assert what_failed(AnswerError(), "https://a") == "the server answered 404 Not Found"
    assert what_failed(TimeoutError(), "https://a") == "no answer came in time"
    assert "nothing at this address" in what_failed(FileNotFoundError(2, "No such file"), "https://a")
    assert what_failed(ValueError(), "https://a") == "ValueError"


def test_a_name_that_no_server_has_is_said() -> None:
    import socket
    import ssl
    import urllib.error

    assert "name of the server" in _why(urllib.error.URLError(socket.gaierror(-2, "Name or service not known")))
    assert "not secure" in _why(urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed")))
    assert _why(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))) == "Connection refused"
    with pytest.raises(DownloadError, match="unknown url type"):
        fetch("nowhere://a", "0" * 64, Path("a"))


def test_a_folder_for_temporary_files_that_is_full_or_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longtext, "IN_MEMORY", 10)
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


# ── vocabularies ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", ["/dev/zero", "pipe", "folder", "1" + "0" * 30, "99999999", "a\0b", "-5", "²"])
def test_a_vocabulary_is_made_of_a_bounded_number_or_a_regular_file(option: str) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with pytest.raises(TokenizerError):
        build_tokenizer(f"sp:{option}", "some text\n" * 100)


def test_a_file_that_is_too_large_for_a_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.tokenizers.sentencepiece.MAX_MODEL_BYTES", 100)
    Path("a.model").write_bytes(bytes(200))
    with pytest.raises(TokenizerError, match="larger than 100 bytes"):
        build_tokenizer("sp:a.model", "some text\n" * 100)


def test_a_recorded_file_is_read_once_however_often_and_by_whatever_name_it_is_recorded() -> None:
    Path("verse.txt").write_text("verse\n", encoding="utf-8")
    os.link("verse.txt", "same.txt")
    for parts in ([["verse.txt", 6]] * 2, [["verse.txt", 6], ["./verse.txt", 6]], [["verse.txt", 6], ["same.txt", 6]]):
        with pytest.raises(CorpusError, match="twice"):
            recorded_corpus(parts, [], 10**12, DataConfig())
    with pytest.raises(CorpusError, match="twice"):
        recorded_corpus([["alphabet", None]] * 2, [], 10**12, DataConfig())


def test_what_recorded_packed_files_give_is_bounded_by_their_size(monkeypatch) -> None:
    monkeypatch.setattr(recorded, "SMALL_TEXT", 1000)
    Path("a.txt.gz").write_bytes(gzip.compress(b"a" * MIB))
    with pytest.raises(CorpusError, match="more than"):
        recorded_corpus([["a.txt.gz", os.path.getsize("a.txt.gz")]], [], 10**12, DataConfig())


@pytest.mark.skipif(not hasattr(os, "O_NONBLOCK"), reason="this system has no such flag")
def test_what_is_found_in_a_folder_is_opened_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("texts/a/1.txt", "texts/b/1.txt", "texts/b/2.txt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("a text\n", encoding="utf-8")
    opened: list[str] = []

    def seen(path: str) -> Any:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr("chargen.text.readers.open_regular", seen)
    monkeypatch.setattr(labelled, "open_regular", seen)
    read_corpus(["texts"])
    assert len(opened) == 3
    labelled.read_labelled(Path("texts"))
    assert len(opened) == 6


def test_a_folder_is_bounded_as_a_whole() -> None:
    for name in "abc":
        Path("texts").mkdir(exist_ok=True)
        Path("texts", name).write_text("a text\n" * 10, encoding="utf-8")
    assert "more than" in refused("texts", max_bytes=200).message
    assert "more than" in refused("texts", "texts/a", max_bytes=220).message
