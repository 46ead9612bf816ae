"""Compressed inputs: recognised by their content, whole or refused, wherever a text is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.tasks.classification.reading.labelled_data import read_labelled
from chargen.text.cleaning import CleaningReport
from chargen.text.corpus import read_corpus
from chargen.text.inputs import BLOCK_BYTES, decompress
from chargen.text.limits import ReadLimit
from chargen.text.readers import open_lines
from chargen.text.records import RecordFormat
from tests.conftest import Result
from tests.text.conftest import refused

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "gz": gzip.compress, "xz": lzma.compress}
KINDS = {"bz2": "bzip2", "gz": "gzip", "xz": "xz"}
TEXT = "Trăm năm trong cõi người ta,\n" * 40

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def unpacked(data: bytes) -> bytes:
    return b"".join(decompress(io.BytesIO(data), "it", ReadLimit()))


@pytest.fixture(params=COMPRESS)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_compressed_file_is_recognised_by_its_content_whatever_its_name(suffix: str) -> None:
    for name in (f"a.txt.{suffix}", "a.txt", "a"):
        Path(name).write_bytes(COMPRESS[suffix](TEXT.encode()))
        assert (read_corpus(name).text, read_corpus(name).name) == (TEXT, "a")


def test_the_format_of_a_compressed_file_is_in_the_suffix_before(suffix: str) -> None:
    lines = "".join(json.dumps({"body": text}) + "\n" for text in ("a", "b\n"))
    Path(f"a.jsonl.{suffix}").write_bytes(COMPRESS[suffix](lines.encode()))
    report = CleaningReport()
    assert list(open_lines(f"a.jsonl.{suffix}", RecordFormat(field="body"), report)) == ["a", "b\n"]
    assert read_corpus(f"a.jsonl.{suffix}", DataConfig(text_field="body")).text == "a\nb\n"
    Path(f"a.csv.{suffix}").write_bytes(COMPRESS[suffix](b"n,body\n1,c\n"))
    assert list(open_lines(f"a.csv.{suffix}", RecordFormat(field="body"), report)) == ["c"]


def test_streams_that_follow_each_other_and_zero_bytes_after_them_are_read(suffix: str) -> None:
    compress = COMPRESS[suffix]
    big = b"".join(b"%d\n" % n for n in range(100_000))
    assert unpacked(compress(big) + compress(b"") + compress(b"end")) == big + b"end"
    assert unpacked(compress(b"a\n") + bytes(512) + compress(b"b\n") + bytes(3 * BLOCK_BYTES)) == b"a\nb\n"


def test_a_compressed_file_cut_or_changed_anywhere_is_refused(suffix: str) -> None:
    data = COMPRESS[suffix](TEXT.encode())
    for cut in range(4, len(data)):
        with pytest.raises(CorpusError, match=f"it is a damaged {KINDS[suffix]} file"):
            unpacked(data[:cut])
    for place in range(10, len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        try:
            assert unpacked(bytes(changed)) == TEXT.encode()  # padding, which has no meaning
        except CorpusError as error:
            assert "damaged" in error.message and error.hint
    for more in (b"something else", b"\0" * 5000 + b"x"):
        with pytest.raises(CorpusError, match="damaged"):
            unpacked(data + more)


def test_a_text_that_starts_like_a_bzip2_file_is_a_text() -> None:
    for text in ("BZh", "BZh9 is the start of a bzip2 file", "BZh0", "BZh91AX", "7zXZ"):
        Path("a.txt").write_text(text)
        assert read_corpus("a.txt").text == text


@pytest.mark.parametrize("suffix", ["bz2", "xz"])
def test_a_compressed_file_is_decompressed_in_bounded_memory(suffix: str) -> None:
    data = COMPRESS[suffix](b"a" * (64 << 20))
    limit = ReadLimit()
    tracemalloc.start()
    size = max(len(block) for block in decompress(io.BytesIO(data), "it", limit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert limit.num_bytes == 64 << 20
    assert size <= BLOCK_BYTES and peak < 16 << 20


def test_an_xz_file_cannot_ask_for_gigabytes_of_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(b"text\n", filters=filters))
    data[12 + 4] = 40  # the size of the window, 4 GiB − 1, in the header of the block, whose checksum follows
    data[12 + 8 : 12 + 12] = lzma_crc32(bytes(data[12 : 12 + 8]))
    with pytest.raises(CorpusError, match=r"damaged xz file \(Memory usage limit exceeded\)"):
        unpacked(bytes(data))


def lzma_crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def test_a_damaged_file_gives_the_same_kind_of_error_in_every_reader(suffix: str) -> None:
    data = COMPRESS[suffix](TEXT.encode())[:-3]
    Path("a.txt").write_bytes(data)
    assert refused("a.txt").message.startswith(f"a.txt is a damaged {KINDS[suffix]} file (")
    with pytest.raises(CorpusError, match="damaged"):
        list(open_lines("a.txt", RecordFormat(), CleaningReport()))
    Path("labels").mkdir()
    Path("labels/en.txt").write_bytes(data)
    Path("labels/vi.txt").write_bytes(data)
    with pytest.raises(CorpusError, match="damaged"):
        read_labelled(Path("labels"))


def test_the_label_of_a_compressed_file_has_no_suffix(suffix: str) -> None:
    Path("labels").mkdir()
    for label in ("en", "vi"):
        Path(f"labels/{label}.txt.{suffix}").write_bytes(COMPRESS[suffix](TEXT.encode()))
    assert list(read_labelled(Path("labels"))) == ["en", "vi"]


@pytest.mark.parametrize(("suffix", "module"), [("bz2", "bz2"), ("xz", "lzma")])
def test_a_python_without_the_module_says_so(monkeypatch: pytest.MonkeyPatch, suffix: str, module: str) -> None:
    Path("a.txt").write_bytes(COMPRESS[suffix](TEXT.encode()))
    monkeypatch.setitem(sys.modules, module, None)
    error = refused("a.txt")
    assert error.message == f"a.txt is a {KINDS[suffix]} file, which this Python was built without"
    assert type(error) is ChargenError  # a folder would skip a CorpusError


def test_every_command_reads_compressed_files(suffix: str, chargen: Callable[..., Result]) -> None:
    Path("a.txt").write_text(TEXT)
    compressed = f"b.txt.{suffix}"
    Path(compressed).write_bytes(COMPRESS[suffix](TEXT.encode()))
    chargen("train", compressed, "--val", compressed, "--hidden", "8", "--steps", "2", "--name", "m")
    for command in (
        ("eval", "-m", "m", "--json"),
        ("score", "-m", "m", "--json", "--file"),
        ("sample", "-m", "m", "--seed", "1", "--length", "9", "--prompt-file"),
        ("sample", "-m", "m", "--seed", "1", "--length", "9", "--prompts"),
    ):
        plain, packed = chargen(*command, "a.txt"), chargen(*command, compressed)
        assert plain.status == packed.status == 0
        assert packed.out.replace(compressed, "a.txt").replace('"corpus": "b"', '"corpus": "a"') == plain.out
    assert chargen("corpora", "check", compressed).out == chargen("corpora", "check", "a.txt").out
