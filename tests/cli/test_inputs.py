"""What every command that reads texts accepts: formats, encodings, newlines, and text that is not valid Unicode."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.config import DataConfig
from chargen.errors import TokenizerError
from chargen.lm import LanguageModel
from chargen.text.corpus import read_corpus
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
LINES = ["the quick", 'a "fox", dog', "chữ tài"]
JSON_LINES = "".join(json.dumps({"id": 1, "body": line}) + "\n" for line in LINES) + '{"id": 2, "body": null}\n'
QUOTED = ['"{}"'.format(line.replace('"', '""')) for line in LINES]


def parquet() -> bytes:
    tables, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    tables.write_table(arrow.table({"body": [*LINES, None]}), "made.parquet")
    return Path("made.parquet").read_bytes()


def zstd() -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress("\n".join(LINES).encode())
    return compressed


PLAIN: dict[str, Callable[[], bytes]] = {
    "lf.txt": lambda: "\n".join(LINES).encode(),
    "crlf.txt": lambda: "\r\n".join([*LINES, ""]).encode(),
    "cr.txt": lambda: "\r".join([*LINES, ""]).encode(),
    "bom.txt": lambda: "\n".join(LINES).encode("utf-8-sig"),
    "utf16.txt": lambda: "\n".join(LINES).encode("utf-16"),
    "utf32.txt": lambda: "\n".join(LINES).encode("utf-32"),
    "packed.txt.gz": lambda: gzip.compress("\r".join(LINES).encode()),
    "packed.bz2": lambda: bz2.compress("\r\n".join(LINES).encode()),
    "packed.txt.xz": lambda: lzma.compress("\n".join(LINES).encode("utf-16")),
    "packed.zst": zstd,
}
RECORDS: dict[str, Callable[[], bytes]] = {
    "a.jsonl": JSON_LINES.encode,
    "a.ndjson.gz": lambda: gzip.compress(JSON_LINES.replace("\n", "\r\n").encode()),
    "a.jsonl.xz": lambda: lzma.compress(JSON_LINES.encode()),
    "array.json": lambda: json.dumps([{"body": line} for line in [*LINES, None]], indent=1).encode(),
    "strings.json": lambda: json.dumps(LINES).encode("utf-16"),
    "lines.json": JSON_LINES.encode,
    "a.csv": lambda: ("id,body\n" + "".join(f"1,{line}\r\n" for line in QUOTED)).encode(),
    "semicolon.csv": lambda: ("\ufeffid;body\r" + "".join(f"1;{line}\r" for line in QUOTED)).encode(),
    "a.tsv": lambda: ("id\tbody\n" + "".join(f"1\t{line}\n" for line in QUOTED)).encode(),
    "a.parquet": parquet,
}
FILES = [(name, data, ()) for name, data in PLAIN.items()] + [
    (name, data, ("--text-field", "body")) for name, data in RECORDS.items()
]


@pytest.fixture
def model(chargen: Chargen) -> str:
    save_checkpoint(Path("m"), random_model(VERSE + '"'))
    save_checkpoint(Path("m2"), random_model(VERSE + '"', seed=1))
    return "m"


@pytest.mark.parametrize(("name", "data", "more"), FILES, ids=[name for name, _, _ in FILES])
def test_every_command_reads_the_same_texts(
    name: str, data: Callable[[], bytes], more: tuple[str, ...], chargen: Chargen, model: str
) -> None:
    Path(name).write_bytes(data())
    scored = chargen("score", "-m", model, "--file", name, "--no-sort", "--json", *more)
    assert [json.loads(line)["text"] for line in scored.out.splitlines()] == LINES
    classified = chargen("classify", "-m", model, "-m", "m2", "--file", name, "--json", *more)
    assert [json.loads(line)["text"] for line in classified.out.splitlines()] == LINES
    assert read_corpus([name], DataConfig(text_field="body" if more else "")).text.rstrip("\n") == "\n".join(LINES)
    compared = json.loads(chargen("compare", model, "m2", name, "--json", "--resamples", "100", *more).out)
    assert compared["lines"] == 3
    assert json.loads(chargen("eval", "-m", model, name, "--json", *more).out)["bytes"] in range(30, 42)
    if "null" in str(data()):
        assert all("null" in result.err for result in (scored, classified))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_rescore_reads_every_newline_and_compressed_lists(newline: str, chargen: Chargen, model: str) -> None:
    lists = newline.join(["0 ||| the fox ||| f= 1 ||| -1", "0 ||| café ||| f= 2 ||| -2", ""])
    Path("list").write_bytes(gzip.compress(lists.encode("cp1252")))
    arguments = ("rescore", "-m", model, "--file", "list")
    result = chargen(*arguments, "--encoding", "cp1252")
    assert [line.split(" ||| ")[1] for line in result.out.splitlines()] == ["the fox", "café"]
    assert result.out.count("\r\n") == (2 if newline == "\r\n" else 0)
    refused = chargen(*arguments)
    assert refused.status == 1
    assert "--encoding cp1252" in refused.err
    assert "caf\ufffd" in chargen(*arguments, "--errors", "replace").out
    skipped = chargen(*arguments, "--errors", "skip")
    assert (len(skipped.out.splitlines()), "skipped: list, line 2" in skipped.err) == (1, True)


@pytest.mark.parametrize(("errors", "texts"), [("replace", ["good", "a\ufffdb", "last"]), ("skip", ["good", "last"])])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "escaped.jsonl", "a.csv"])
def test_what_is_not_unicode_is_replaced_or_skipped_alike(
    name: str, errors: str, texts: list[str], chargen: Chargen, model: str
) -> None:
    data = {
        "a.txt": b"good\na\xffb\nlast\n",
        "a.jsonl": b'{"text": "good"}\n{"text": "a\xffb"}\n{"text": "last"}\n',
        "escaped.jsonl": b'{"text": "good"}\n{"text": "a\\ud800b"}\n{"text": "last"}\n',
        "a.csv": b"text\ngood\na\xffb\nlast\n",
    }[name]
    Path(name).write_bytes(data)
    more = ("--text-field", "text") if name == "a.csv" else ()
    for command in (("score", "-m", model, "--no-sort"), ("classify", "-m", model, "-m", "m2")):
        result = chargen(*command, "--file", name, "--json", "--errors", errors, *more)
        assert [json.loads(line)["text"] for line in result.out.splitlines()] == texts
        assert "note: " in result.err
        assert chargen(*command, "--file", name, *more).status == 1
    corpus = read_corpus([name], DataConfig(errors=errors, text_field="text" if more else ""))
    assert corpus.text.splitlines() == texts
    assert corpus.notes


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.tsv"])
def test_a_note_says_that_a_file_with_fields_is_read_as_plain_text(name: str, chargen: Chargen, model: str) -> None:
    Path(name).write_bytes(RECORDS["array.json" if name == "a.json" else name]())
    assert "read as plain text" in chargen("score", "-m", model, "--file", name).err
    assert "read as plain text" in read_corpus([name]).notes[0]
    assert (
        "no column 'none'" in chargen("score", "-m", model, "--file", "a.csv", "--field", "none").err or name != "a.csv"
    )


def test_a_field_of_files_without_fields_is_refused_by_every_command(chargen: Chargen, model: str) -> None:
    Path("a.txt").write_text(VERSE, encoding="utf-8")
    for arguments in (
        ("score", "-m", model, "--file", "a.txt"), ("classify", "-m", model, "-m", "m2", "--file", "a.txt"),
        ("eval", "-m", model, "a.txt"), ("compare", model, "m2", "a.txt"), ("corpora", "check", "a.txt"),
        ("train", "a.txt"),
    ):  # fmt: skip
        result = chargen(*arguments, "--text-field", "body")
        assert result.status in (1, 2), arguments
        assert "--text-field body has no effect" in result.err


def test_settings_of_earlier_versions_read_csv_as_they_did() -> None:
    old = {key: value for key, value in DataConfig().to_json().items() if key != "errors"}
    assert DataConfig.from_json({**old, "text_field": "text"}) == DataConfig()


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "--prompt"), ("sample", "--suffix"), ("sample", "--ban"), ("sample", "--stop"),
        ("sample", "--regex"), ("score",), ("score", "--context"), ("score", "a", "b"),
        ("classify", "-m", "m", "-m", "m2"), ("play", "--prompt"), ("rescore", "--context"),
        ("train", "a.txt", "--name"), ("train", "a.txt", "--documents"),
        ("train", "a.txt", "--text-field"), ("train", "a.txt", "--tokenizer"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_argument_that_is_not_unicode_is_refused(arguments: tuple[str, ...], chargen: Chargen, model: str) -> None:
    result = chargen(*arguments, "x\udcff")
    assert (result.status, result.out) == (2, "")
    assert "not valid UTF-8 at character 2" in result.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a file name")
def test_a_file_whose_name_is_not_unicode_is_read_by_every_command(chargen: Chargen, model: str) -> None:
    name = "caf\udce9.txt"
    Path(name).write_text(VERSE, encoding="utf-8")
    for arguments in (
        ("score", "-m", model, "--file", name), ("classify", "-m", model, "-m", "m2", "--file", name),
        ("eval", "-m", model, name), ("compare", model, "m2", name), ("corpora", "check", name),
        ("sample", "-m", model, "--length", "3", "--seed", "1", "--prompt-file", name),
    ):  # fmt: skip
        assert chargen(*arguments).status == 0, arguments


def test_the_library_refuses_a_lone_surrogate_wherever_a_text_is_given() -> None:
    lm = LanguageModel(random_model())
    for use in (
        lm.score, lm.surprisal, lm.sample, lm.suggest, lm.unknown_characters, lm.evaluate,
        lambda text: lm.score("a", context=text), lambda text: list(lm.score_stream([text])),
        lambda text: lm.infill(1, "a", text, length=3), lambda text: list(lm.read_prefix(text)),
        lambda text: lm.score(["a", text]),
    ):  # fmt: skip
        with pytest.raises(TokenizerError, match="U.DCFF, at character 2"):
            use("a\udcff")


@pytest.mark.parametrize(
    ("name", "data", "words", "more"),
    [
        ("empty.log", b"", "empty.log is empty: there is nothing to", ()),
        ("rows.csv", b"text\n", "rows.csv has no text: there is nothing to", ("--text-field", "text")),
        ("null.jsonl", b'{"text": null}\n', "null.jsonl has no text: there is nothing to", ()),
        ("-", b"", "standard input is empty: there is nothing to", ()),
        ("", b"", "standard input is empty: there is nothing to", ()),
    ],
)
def test_an_input_without_texts_is_the_same_error_everywhere(
    name: str, data: bytes, words: str, more: tuple[str, ...], chargen: Chargen, model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if name not in ("", "-"):
        Path(name).write_bytes(data)
    for command in (("score", "-m", model), ("classify", "-m", model, "-m", "m2")):
        for output in ((), ("--json",)):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            result = chargen(*command, *(("--file", name) if name else ()), *more, *output)
            assert (result.status, result.out) == (1, "")
            assert f"error: {words} {command[0]}" in result.err


@pytest.mark.parametrize("name", ["table", "table.txt", "image.txt", "-"])
def test_a_binary_file_is_the_same_error_everywhere(
    name: str, chargen: Chargen, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"PAR1\x15\x04\x15\x1e\x15\x22L\x15\x06\x15\x00\x00\x1f text" + bytes(range(128)) * 4
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xfe" if name == "image.txt" else table
    where = "standard input" if name == "-" else name
    Path(where).write_bytes(data)
    commands: list[tuple[str, ...]] = [
        ("score", "-m", model, "--file", name), ("score", "-m", model, "--whole", "--file", name),
        ("score", "-m", model, "--json-lines", "--file", name), ("classify", "-m", model, "-m", "m2", "--file", name),
        ("rescore", "-m", model, "--file", name),
    ]  # fmt: skip
    for command in [*commands, *([("eval", "-m", model, name)] if name != "-" else [])]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        result = chargen(*command)
        assert (result.status, result.out) == (1, ""), command
        assert f"error: {where} is a binary file, not a text" in result.err
        assert (".parquet" in result.err) == (data == table)


def test_a_text_may_begin_like_a_table_and_have_nul_characters(chargen: Chargen, model: str) -> None:
    Path("a.txt").write_bytes(b"PAR1\nthe\0fox\n")
    found = chargen("score", "-m", model, "--no-sort", "--json", "--file", "a.txt")
    assert [json.loads(line)["text"] for line in found.out.splitlines()] == ["PAR1", "the\0fox"]
    Path("a.txt").write_bytes(b"a\xff\0b\nfox\n")
    assert chargen("score", "-m", model, "--file", "a.txt", "--errors", "skip").status == 0


def test_the_same_input_twice_is_noted_and_standard_input_twice_is_refused(chargen: Chargen, model: str) -> None:
    Path("a.txt").write_text("the fox\n", encoding="utf-8")
    result = chargen("score", "-m", model, "--file", "a.txt", "--file", "./a.txt")
    assert (result.status, "note: a.txt (also named ./a.txt) is read 2 times" in result.err) == (0, True)
    assert "note: a.txt (also named ./a.txt) with 8 bytes is read 2" in chargen(
        "eval", "-m", model, "a.txt", "./a.txt"
    ).err  # fmt: skip
    for twice in (("score", "-m", model, "--file", "-", "--file", "-"), ("eval", "-m", model, "-", "-")):
        refused = chargen(*twice)
        assert (refused.status, "only once" in refused.err) == (2, True)
    costs = chargen("rescore", "-m", model, "--file", "-", "--costs", "-", "--as-costs")
    assert (costs.status, "only once" in costs.err) == (2, True)
    for command in (("score", "-m", model), ("classify", "-m", model, "-m", "m2")):
        assert "--file - reads standard input" in chargen(*command, "-").err


def test_a_field_of_standard_input_needs_json_lines(
    chargen: Chargen, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for more, status in (((), 1), (("--json-lines",), 0)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"body": "fox"}\n')))
        result = chargen("score", "-m", model, "--text-field", "body", "--file", "-", *more)
        assert result.status == status
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"body": "fox"}\n')))
    assert "--json-lines" in chargen("score", "-m", model, "--text-field", "body", "--file", "-").err


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl", b'{"text": "fox"}\n{"text": "a\\ud800b"}\n'), ("a.json", b'[{"text": "fox"}, {"text": "a\\udce9b"}]')],
)
def test_half_of_a_character_in_json_is_named(name: str, data: bytes, chargen: Chargen, model: str) -> None:
    Path(name).write_bytes(data)
    field = ("--text-field", "text")
    for command in (("score", "-m", model, "--file", name), ("eval", "-m", model, name), ("train", name)):
        result = chargen(*command, *field)
        assert (result.status, result.out) == (1, "")
        escape = "\\udce9" if name == "a.json" else "\\ud800"
        assert f" 2 has the escape {escape}, which is half of a character" in result.err
        assert "--errors replace" in result.err
        assert "skip" in result.err


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined"])
def test_an_encoding_of_something_else_is_refused_by_name(encoding: str, chargen: Chargen, model: str) -> None:
    Path("a.txt").write_bytes(b"the fox\n")
    for command in (("score", "-m", model, "--file"), ("eval", "-m", model), ("rescore", "-m", model, "--file")):
        result = chargen(*command, "a.txt", "--encoding", encoding)
        assert (result.status, result.out) == (1, "")
        assert f"error: a.txt cannot be read: '{encoding}' is not an encoding of texts\n" in result.err


def test_names_that_cannot_be_used_are_refused(chargen: Chargen, model: str) -> None:
    Path("a.txt").write_text(VERSE, encoding="utf-8")
    for folder in ("a.txt", "a.txt/runs"):
        for command in (("info",), ("score", "-m", model, "fox"), ("train", "a.txt"), ("rm", "x")):
            result = chargen(*command, "--checkpoints", folder)
            assert (result.status, "a.txt is a file, not a folder" in result.err) == (2, True)
    refused = chargen("train", "a.txt", "--name", "-x", "--steps", "1")
    assert (refused.status, "'-x' cannot name a run" in refused.err) == (2, True)
