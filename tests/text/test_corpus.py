"""Files, folders, standard input and built-in corpora are joined in a fixed order."""

from __future__ import annotations

import gzip
import io
import os
import sys
import unicodedata
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.errors import ConfigError, CorpusError
from chargen.text import builtin_corpora
from chargen.text.cleaning import CleaningReport
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.readers import open_lines
from chargen.text.records import RecordFormat


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read(*arguments: str, stdin: bytes | None = None, **settings_: str) -> Corpus:
    return read_corpus(arguments, DataConfig(**settings_), None if stdin is None else io.BytesIO(stdin))


def refused(*arguments: str, **settings_: str) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        read(*arguments, **settings_)
    return caught.value


# ── several texts ─────────────────────────────────────────────────────────────


def test_texts_are_joined_in_argument_order_with_a_newline_where_it_is_missing():
    write({"b.txt": "hai\n", "a.txt": "một", "c.txt": "ba"})
    found = read("b.txt", "a.txt", "c.txt")
    assert found.text == "hai\nmột\nba"
    assert (found.files, found.arguments) == (3, ("b.txt", "a.txt", "c.txt"))


@settings(deadline=None)
@given(texts=st.lists(st.text("a\n", min_size=1, max_size=3), min_size=1, max_size=5))
@example(texts=["a", "a"])  # CPython has one object for every "a"
def test_every_text_but_the_last_ends_with_a_newline(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("texts")
    paths = [folder / f"{i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, newline="")
    expected = "".join(t if t.endswith("\n") else t + "\n" for t in texts[:-1]) + texts[-1]
    assert read(*map(str, paths)).text == expected
    assert read(str(folder)).text == expected


def test_no_newline_is_added_if_no_text_follows():
    write({"a.txt": "một"})
    assert read("a.txt", "-", stdin=b"").text == "một"


def test_the_byte_order_mark_of_each_file_is_removed():
    write({"a.txt": "\ufeffmột", "b.txt": "\ufeffhai"})
    assert read("a.txt", "b.txt").text == "một\nhai"


def test_notes_name_the_file_that_they_are_about():
    write({"a.txt": "một\n", "b.txt": "hai\r\n", "c.txt": unicodedata.normalize("NFD", "bảy\n")})
    assert [note.split(":")[0] for note in read("a.txt", "b.txt", "c.txt").notes] == ["b.txt", "c.txt"]


# ── folders ───────────────────────────────────────────────────────────────────


def test_a_folder_is_read_recursively_in_sorted_order():
    texts = {"poems/b.txt": "b\n", "poems/a/z.txt": "az\n", "poems/a/b/c.txt": "abc\n", "poems/c.md": "c\n"}
    write(texts)
    write({name.replace("poems", "again"): text for name, text in reversed(texts.items())})
    assert read("poems").text == "abc\naz\nb\nc\n"
    assert read("again").text == read("poems").text
    assert (read("poems").files, read("poems").notes) == (4, ())


def test_hidden_files_and_files_in_hidden_folders_are_skipped_without_a_note():
    write({"poems/a.txt": "a\n", "poems/.secret": "s\n", "poems/.git/config": "g\n", "poems/b/.x/y/z.txt": "z\n"})
    found = read("poems")
    assert (found.text, found.files, found.notes) == ("a\n", 1, ())


def test_a_hidden_folder_is_read_if_the_user_names_it():
    write({".poems/a.txt": "a\n"})
    assert read(".poems").text == "a\n"


def test_files_of_a_folder_that_are_not_text_are_skipped_with_a_note():
    write(
        {
            "poems/a.txt": "à\n",
            "poems/damaged.gz": gzip.compress(b"hello")[:-4],
            "poems/latin.txt": "caf\xe9 noir".encode("latin-1"),
            "poems/picture.png": b"\x89PNG\0\0\0",
            "poems/z.gz": gzip.compress("là\n".encode()),
        }
    )
    found = read("poems")
    assert (found.text, found.files) == ("à\nlà\n", 2)
    assert len(found.notes) == 1
    assert found.notes[0].startswith("poems: left out 3 files that are not utf-8 text")
    assert "(damaged.gz, latin.txt, picture.png)" in found.notes[0]


def test_the_note_about_skipped_files_says_where_each_is_invalid():
    write(
        {
            "poems/a.txt": "à\n",
            "poems/b.txt": "à\nb\ncafé\n".encode("latin-1"),
            "poems/c.jsonl": '{"text": "a"}\n{"text": "b"',
            "poems/d.png": b"\x89PNG\0\0\0",
        }
    )
    assert read("poems").notes[0] == (
        "poems: left out 3 files that are not utf-8 text (b.txt, c.jsonl, d.png): poems/b.txt is not utf-8: byte 0xE0 "
        "at offset 0 (line 1); poems/c.jsonl, line 2 is not JSON: Expecting ',' delimiter (column 13)"
    )
    write({f"poems/b{i}.txt": b"fine\nnot \xff\n" for i in range(9)})
    note = read("poems").notes[0]
    assert "poems/b0.txt is not utf-8: byte 0xFF at offset 9 (line 2); " in note and note.endswith("; 8 more")


def test_a_folder_without_a_valid_text_says_what_is_wrong_with_its_files():
    write({"poems/a.txt": b"caf\xe9\n"})
    error = refused("poems")
    assert error.message == "no text in the folder poems"
    assert "poems/a.txt is not utf-8: byte 0xE9 at offset 3 (line 1)" in error.hint


BINARY_FILES = {
    "a.docx": b"PK\x03\x04\x14\0\0\0\x08\0" + zlib.compress(b"word/document.xml" * 90),
    "b.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + bytes(range(256)),
    "c.pdf": b"%PDF-1.4\n1 0 obj\n<</Length 20>>\nstream\nBT (Hello) Tj ET\nendstream\n%%EOF\n",  # ASCII only
    "d.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0",
    "e.zip": b"PK\x03\x04\x0a\0\0\0\0\0a.txtplain",
}


def test_a_long_binary_file_of_ascii_characters_is_not_read_in_place(monkeypatch):
    monkeypatch.setattr("chargen.text.corpus.MIN_PARALLEL_BYTES", 10)
    write({"a.pdf": BINARY_FILES["c.pdf"] * 20})
    assert refused("a.pdf").message == "a.pdf is a binary file, not a text"


@pytest.mark.parametrize("errors", ["strict", "replace", "skip"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_binary_files_are_never_read_as_text(errors, encoding):
    write({"poems/text.txt": "a\n", **{f"poems/{name}": data for name, data in BINARY_FILES.items()}})
    found = read("poems", encoding=encoding, errors=errors)
    note = f"poems: left out 5 files that are not {encoding} text (a.docx, b.jpg, c.pdf, …)"
    assert (found.text, found.notes) == ("a\n", (note,))
    for name in BINARY_FILES:
        error = refused(f"poems/{name}", encoding=encoding, errors=errors)
        assert error.message == f"poems/{name} is a binary file, not a text"
        with pytest.raises(CorpusError, match="is a binary file, not a text"):
            list(open_lines(f"poems/{name}", RecordFormat(encoding=encoding, errors=errors), CleaningReport()))


def test_a_note_names_only_the_first_skipped_files():
    write({"poems/a.txt": "a\n", **{f"poems/{i}.bin": b"\0" for i in range(5)}})
    assert read("poems").notes[0].endswith("(0.bin, 1.bin, 2.bin, …)")


def test_empty_files_of_a_folder_are_skipped():
    write({"poems/a.txt": "", "poems/b.txt": "b\n", "poems/c.txt": "\ufeff"})
    assert (read("poems").text, read("poems").files) == ("b\n", 1)


@pytest.mark.parametrize("files", [{}, {"poems/.hidden": "h"}, {"poems/empty.txt": ""}, {"poems/x.bin": b"\0\1"}])
def test_a_folder_without_text_is_refused(files):
    Path("poems").mkdir()
    write(files)
    assert refused("poems").message == "no text in the folder poems"


def test_an_unknown_encoding_is_named_for_a_folder_too():
    write({"poems/a.txt": "a\n"})
    assert refused("poems", encoding="utf-9").message == "no encoding named 'utf-9'"


# ── standard input ────────────────────────────────────────────────────────────


def test_a_dash_reads_standard_input(monkeypatch):
    found = read("-", stdin="\ufeffđầu\r\n".encode())
    assert (found.text, found.name, found.files) == ("đầu\n", "stdin", 0)
    assert found.notes[0].startswith("standard input: ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress("là".encode()))))
    assert read("-").text == "là"


def test_standard_input_is_joined_at_the_position_of_its_dash():
    write({"a.txt": "a", "c.txt": "c"})
    assert read("a.txt", "-", "c.txt", stdin=b"b").text == "a\nb\nc"


def test_the_error_for_standard_input_that_is_not_text_names_it():
    with pytest.raises(CorpusError, match="^standard input is not utf-8: byte 0xE9 at offset 3"):
        read("-", stdin=b"caf\xe9 noir")


# ── errors ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", ["", "\ufeff", gzip.compress(b"")])
def test_an_empty_file_is_refused(content):
    write({"a.txt": content, "b.txt": "b"})
    assert refused("a.txt").message == "a.txt is empty"
    assert refused("b.txt", "a.txt").message == "a.txt is empty"


def test_no_text_at_all_is_refused():
    with pytest.raises(CorpusError, match="no text in -"):
        read("-", stdin=b"")
    assert refused().message == "no text in nothing"


def test_the_error_for_a_missing_file_has_the_most_similar_name_in_its_folder():
    write({"shakespeare-works.txt": "a", "poems/truyện-kiều.txt": "a"})
    error = refused("shakspeare-works.txt")
    assert error.message == "no file, folder or corpus named 'shakspeare-works.txt'"
    assert error.hint.startswith("Did you mean 'shakespeare-works.txt'?")
    near = str(Path("poems/truyện-kiều.txt"))
    assert f"Did you mean {near!r}?" in refused("poems/truyện-kiêu.txt").hint


def test_the_error_for_a_misspelt_corpus_has_the_most_similar_name():
    assert refused("pyton-docs").hint.startswith("Did you mean 'python-docs'?")


def test_a_common_folder_does_not_make_two_names_similar(here):
    folder = here / "a-folder-with-a-rather-long-name" / "and-another-one-below-it"
    write({str(folder / "shakespeare.txt"): "a"})
    assert "Did you mean" not in refused(str(folder / "qq.md")).hint


@pytest.mark.parametrize(
    "argument",
    ["x" * 900, "a\0b", "no/such/folder/a.txt", "a.txt/below"],
    ids=["too long", "NUL", "no folder", "below a file"],
)
def test_an_argument_that_cannot_be_a_file_name_is_a_missing_file(argument):
    write({"a.txt": "a"})
    assert refused(argument).message == f"no file, folder or corpus named {argument!r}"


def test_an_empty_argument_is_not_the_current_folder():
    """`chargen train "$CORPUS"` with CORPUS unset does not train on the files of the current folder."""
    write({"a.txt": "a"})
    assert refused("").message == "no file, folder or corpus named ''"


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root reads any file")
def test_the_error_for_a_file_without_read_permission_names_it():
    write({"a.txt": "a"})
    Path("a.txt").chmod(0)
    assert refused("a.txt").message == "a.txt cannot be read: Permission denied"


# ── names ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def short_sources(monkeypatch):
    monkeypatch.setattr(builtin_corpora, "GENERATED_CHARS", 30)


def test_a_name_reads_its_corpus_and_its_entropy(short_sources):
    found = read("alphabet")
    assert (found.text, found.files) == ("abcdefghijklmnopqrstuvwxyzabcd", 0)
    assert found.entropy_nats_per_char == 0.0


def test_the_entropy_is_not_known_if_another_text_is_added(short_sources):
    write({"a.txt": "a"})
    assert read("markov").entropy_nats_per_char is not None
    assert read("markov", "a.txt").entropy_nats_per_char is None
    assert read("a.txt").entropy_nats_per_char is None


def test_a_file_is_preferred_to_a_built_in_corpus_of_the_same_name():
    write({"alphabet": "một"})
    assert read("alphabet").text == "một"


def test_an_option_that_a_corpus_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="markov:3"):
        read("markov:3")


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("sonnets.txt", "sonnets"),
        ("poems/sonnets.txt", "sonnets"),
        ("sonnets.txt.gz", "sonnets"),
        ("sonnets.gz", "sonnets"),
        ("sonnets", "sonnets"),
        ("truyện kiều.txt", "truyện-kiều"),
        ("a.b.txt", "a-b"),
        (".hidden", "hidden"),
        ("%%.txt", "run"),
        ("poems", "poems"),
        ("poems/", "poems"),
        ("markov:2", "markov-2"),
        ("python-docs", "python-docs"),
    ],
)
def test_a_run_is_named_after_its_first_argument(short_sources, argument, name):
    files = [
        "sonnets",
        "sonnets.txt",
        "sonnets.txt.gz",
        "sonnets.gz",
        "truyện kiều.txt",
        "a.b.txt",
        ".hidden",
        "%%.txt",
    ]
    write(dict.fromkeys([*files, "poems/sonnets.txt", "other.txt"], "a"))
    assert read(argument, "other.txt").name == name


def test_the_current_folder_gives_its_own_name(here, monkeypatch):
    write({"truyện/a.txt": "a"})
    monkeypatch.chdir(here / "truyện")
    assert read(".").name == "truyện"


def test_a_file_that_is_read_twice_is_named_with_its_size(here):
    write({"a.txt": "abc\n", "poems/b.txt": "defgh\n", "poems/c.txt": "abc\n"})
    assert read("a.txt", "poems").repeated_files == ()
    assert read("a.txt", "a.txt").repeated_files == (
        "a.txt with 4 bytes is read 2 times, so its copies are a part of the text",
    )
    assert read("a.txt", "poems", "./a.txt", "poems/b.txt").repeated_files == (
        "a.txt (also named ./a.txt) with 4 bytes is read 2 times, so its copies are a part of the text",
        "poems/b.txt with 6 bytes is read 2 times, so its copies are a part of the text",
    )
    os.symlink(here / "a.txt", here / "poems" / "link.txt")
    assert len(read("a.txt", "poems").repeated_files) == 1
    assert read("alphabet", "alphabet").repeated_files == (
        "alphabet is read 2 times, so its copies are a part of the text",
    )
    write({f"many/{n}.txt": "abc\n" for n in range(6)})
    *_, last = read("many", "many").repeated_files
    assert last == "3 more files are read more than once"
