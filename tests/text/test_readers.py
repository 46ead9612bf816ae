"""Readers: compressed files, JSON Lines, remote files, and many files."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.text import long_text
from chargen.text.corpus import Corpus, read_corpus

TEXTS = ["Trăm năm\ntrong cõi", "người ta\n", 'a "quoted" line', "床前明月光"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*arguments: str, stdin: bytes = b"", **settings_: str) -> Corpus:
    return read_corpus(arguments, DataConfig(**settings_), io.BytesIO(stdin))


def refused(*arguments: str, **settings_: str) -> ChargenError:
    with pytest.raises(ChargenError) as caught:
        read(*arguments, **settings_)
    return caught.value


def json_lines(texts: list[str], field: str = "text") -> bytes:
    return "".join(
        json.dumps({"id": i, field: t}, ensure_ascii=i % 2 == 0) + "\n" for i, t in enumerate(texts)
    ).encode()


def ended(texts: list[str]) -> str:
    return "".join(t if t.endswith("\n") else t + "\n" for t in texts[:-1]) + texts[-1]


def test_each_record_of_json_lines_is_a_text():
    Path("a.jsonl").write_bytes(json_lines(TEXTS) + b"\n")
    assert read("a.jsonl").text == ended(TEXTS)
    assert read("a.jsonl").name == "a"
    Path("b.ndjson.gz").write_bytes(gzip.compress(json_lines(TEXTS, "body")))
    assert read("b.ndjson.gz", text_field="body").text == ended(TEXTS)
    assert read("b.ndjson.gz", text_field="body").name == "b"


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1), st.integers(1, 9))
def test_json_lines_contain_any_text_wherever_blocks_are_split(texts, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.inputs.BLOCK_BYTES", block)
        Path("a.jsonl").write_bytes(json_lines(texts))
        found = read("a.jsonl", newline="keep", normalize="none")
    assert found.text == ended(texts)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "line 2 is not JSON"),
        (b"[" * 100_000, "line 2 is not JSON"),
        (b'{"title": "a", "body": "b"}', "line 2 has no text in a field 'text'"),
        (b'{"text": 3}', "line 2 has no text"),
        (b'["a"]', "line 2 has no text"),
    ],
)
def test_the_error_for_an_invalid_record_names_its_line(line, message):
    Path("a.jsonl").write_bytes(b'{"text": "good"}\n' + line + b"\n")
    error = refused("a.jsonl")
    assert message in error.message


def test_the_error_for_a_missing_field_names_the_fields():
    Path("a.jsonl").write_bytes(b'{"title": "a", "body": "b"}\n')
    assert "'title', 'body'" in refused("a.jsonl").hint


def test_zstandard_is_recognised_by_its_content():
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress("Trăm năm\n".encode() * 1000)
    Path("a.txt.zst").write_bytes(data)
    assert read("a.txt.zst").text == "Trăm năm\n" * 1000
    assert read("a.txt.zst").name == "a"
    Path("cut.zst").write_bytes(data[:-5])
    assert "damaged zstd file" in refused("cut.zst").message


def test_a_column_of_parquet_is_read():
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table({"text": [*TEXTS, None], "id": [1, 2, 3, 4, 5]}), "a.parquet")
    assert read("a.parquet").text == ended(TEXTS)
    assert "'text', 'id'" in refused("a.parquet", text_field="body").hint
    assert "does not contain text" in refused("a.parquet", text_field="id").message
    Path("b.parquet").write_bytes(Path("a.parquet").read_bytes()[:-9])
    assert "damaged Parquet" in refused("b.parquet").message


def test_a_remote_file_is_read_through_fsspec():
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://poems/a.txt.gz", "wb") as file:
        file.write(gzip.compress("Trăm năm\r\n".encode()))
    found = read("memory://poems/a.txt.gz")
    assert (found.text, found.name, found.files) == ("Trăm năm\n", "a", 1)
    assert "cannot be read" in refused("memory://poems/none.txt").message
    assert "scheme 'nowhere'" in refused("nowhere://a").message


def test_the_error_for_a_missing_package_says_what_to_install(monkeypatch):
    Path("a.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    error = refused("a.zst")
    assert error.hint == "pip install 'chargen[zstd]'"
    assert not isinstance(error, CorpusError)  # which a folder would pass over in silence


def test_a_long_text_is_the_same_on_disk(monkeypatch):
    monkeypatch.setattr(long_text, "MAX_MEMORY_BYTES", 10)
    Path("poems").mkdir()
    for i, text in enumerate(TEXTS):
        Path(f"poems/{i}.txt").write_text(text, encoding="utf-8")
    Path("poems/2b.txt").write_bytes(b"good, then bad: \xff")
    found = read("poems", "-", stdin=b"more")
    assert found.text == ended([*TEXTS, "more"])
    assert "left out 1 file that is not utf-8 text" in found.notes[0]


def test_the_error_for_a_failing_read_names_the_file(monkeypatch):
    class Gone(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

        def peek(self, size: int) -> bytes:
            return b"text"

    Path("a.txt").write_text("a")
    monkeypatch.setattr("chargen.text.inputs._open", lambda argument, limit: Gone())
    assert refused("a.txt").message == "a.txt cannot be read: Input/output error"


def test_many_files_are_read_in_sorted_order_with_one_note():
    Path("many").mkdir()
    for i in range(500):
        Path(f"many/{i:05}.txt").write_bytes(b"line %d\r\n" % i)
    found = read("many")
    assert found.text == "".join(f"line {i}\n" for i in range(500))
    assert found.notes == ("500 texts: 500 CR or CRLF line ends became LF (--newline keep leaves them)",)
