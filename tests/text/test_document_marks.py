"""The document mark is not a character of any text: U+FDD0 is an ordinary one, and lone surrogates are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig
from chargen.data.token_store import load_or_encode_ids
from chargen.errors import ConfigError, CorpusError
from chargen.sampling.training_text_index import UNKNOWN_CHAR, find_training_text
from chargen.text.cleaning import CleaningReport
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, OLD_MARK, split_documents
from chargen.text.records import JSON, LINES, NULL, WHOLE, RecordFormat, read_batches
from chargen.tokenizers.tokenizer import BOUNDARY_ID, build_tokenizer
from tests.conftest import random_model

ODD = "ab\ufdd0cd\ufdd1ef\ufdef\uffff\nsecond \ufdd0\ufdd0 line\nthird\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("odd.txt").write_text(ODD * 40, encoding="utf-8")
    return tmp_path


def test_no_encoding_can_write_the_marks() -> None:
    assert MARK != UNKNOWN_CHAR
    for mark in (MARK, UNKNOWN_CHAR):
        with pytest.raises(UnicodeEncodeError):
            mark.encode("utf-8")


@pytest.mark.parametrize("documents", ["line", "blank", "file", "third"])
@pytest.mark.parametrize("spec", ["char", "byte", "sp:400"])
def test_noncharacters_are_ordinary_characters_and_separate_no_documents(documents: str, spec: str) -> None:
    corpus = read_corpus(["odd.txt"], DataConfig(documents=documents))
    ends = {"line": 120, "blank": 1, "file": 1, "third": 40}[documents]
    assert corpus.text.count(MARK) == ends
    assert corpus.text.count("\ufdd0") == 120
    tokenizer = build_tokenizer(spec, corpus.content.span())
    ids = load_or_encode_ids(tokenizer, corpus.content.span())
    assert (ids == BOUNDARY_ID).sum() == ends
    assert tokenizer.decode(ids).count("\ufdd0") == 120


@pytest.mark.parametrize("documents", ["none", "line"])
def test_a_text_of_noncharacters_is_trained_sampled_scored_and_measured(
    chargen: Callable[..., Any], documents: str
) -> None:
    quick = ("--steps", "3", "--hidden", "8", "--cell", "rnn", "--documents", documents)
    assert chargen("train", "odd.txt", "--name", "odd", *quick).status == 0
    scored = chargen("score", "-m", "odd", "a\ufdd0c", "--json")
    assert scored.status == 0 and "unknown" not in scored.err
    assert "does not know" not in chargen("score", "-m", "odd", "\ufdd0\ufdd1").err
    assert chargen("sample", "-m", "odd", "--prompt", "\ufdd0", "--length", "200", "--max-copy", "3").status == 0
    measured = chargen("eval", "-m", "odd", "odd.txt", "--json")
    assert measured.status == 0, measured.err
    expected = 0 if documents == "none" else 120
    assert f'"document_ends": {expected}' in measured.out


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x10FFFF), max_size=30), st.integers(1, 5))
def test_the_documents_of_a_text_are_its_lines(text: str, block: int) -> None:
    found = "".join(split_documents([text[i : i + block] for i in range(0, len(text), block)], "line"))
    assert found.split(MARK)[:-1] == [line for line in text.split("\n") if line]


# ── lone surrogates ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "data", "encoding"),
    [
        ("a.jsonl", b'{"text": "good"}\n{"text": "ab\\ud800cd"}\n', "utf-8"),
        ("a.jsonl", b'{"text": "good"}\n{"text": "\\udfff"}\n', "utf-8"),
        ("a.txt", b"good\nab\\ud800cd\n", "raw_unicode_escape"),
        ("a.txt", b"good\nab\\ud800cd\n", "unicode_escape"),
        ("a.txt", b"good\nab+2AA-cd\n", "utf-7"),
    ],
)
def test_lone_surrogates_are_refused_with_their_line(name: str, data: bytes, encoding: str) -> None:
    Path(name).write_bytes(data)
    for documents in ("none", "line", "file"):
        with pytest.raises(CorpusError, match="line 2"):
            read_corpus([name], DataConfig(encoding=encoding, documents=documents))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-le"])
def test_unicode_encodings_produce_no_lone_surrogates(encoding: str) -> None:
    Path("a.txt").write_bytes(f"good\na{MARK}b\n".encode(encoding, "surrogatepass"))
    with pytest.raises(CorpusError):
        read_corpus(["a.txt"], DataConfig(encoding=encoding, documents="line"))


@pytest.mark.parametrize("form", [LINES, NULL, WHOLE, JSON])
@pytest.mark.parametrize("encoding", ["raw_unicode_escape", "utf-7"])
def test_records_have_no_lone_surrogates(form: str, encoding: str) -> None:
    data = b"a\\ud800b" if encoding == "raw_unicode_escape" else b"a+2AA-b"
    if form == JSON:
        data = b'{"text": "a\\ud800b"}'
    with pytest.raises(CorpusError, match="it"):
        list(read_batches([data], "it", RecordFormat(form, encoding=encoding), CleaningReport()))
    replacing = RecordFormat(form, encoding=encoding, errors="replace")
    assert sum(read_batches([data], "it", replacing, CleaningReport()), []) == ["a\ufffdb"]


def test_a_mark_in_a_text_or_a_separator_is_refused() -> None:
    with pytest.raises(CorpusError, match="lone surrogate"):
        list(split_documents([f"a{MARK}b"], "line"))
    with pytest.raises(ConfigError, match="must be valid Unicode"):
        DataConfig(documents=MARK)


# ── files of earlier versions ───────────────────────────────────────────────


def old_sha256(corpus: Corpus) -> str:
    return hashlib.sha256(corpus.text.replace(MARK, OLD_MARK).encode()).hexdigest()


def test_the_hash_of_documents_from_an_earlier_version_is_recognised() -> None:
    Path("names.txt").write_text("An\nBình\nChâu\n" * 30, encoding="utf-8")
    corpus = read_corpus(["names.txt"], DataConfig(documents="line"))
    assert corpus.sha256 != old_sha256(corpus)
    assert corpus.has_sha256(corpus.sha256) and corpus.has_sha256(old_sha256(corpus))
    for other in ("", None, 5, "0" * 64, old_sha256(corpus)[:-1]):
        assert not corpus.has_sha256(other)
    plain = read_corpus(["names.txt"])
    assert plain.has_sha256(plain.sha256) and not plain.has_sha256(old_sha256(corpus))
    odd = read_corpus(["odd.txt"], DataConfig(documents="line"))
    assert not odd.has_sha256(old_sha256(odd))  # to an earlier version it had other documents


def test_a_model_of_documents_from_an_earlier_version_finds_its_text() -> None:
    Path("names.txt").write_text("An\nBình\nChâu\n" * 30, encoding="utf-8")
    config = DataConfig(documents="line")
    corpus = read_corpus(["names.txt"], config)
    model = random_model(corpus.text.replace(MARK, ""))
    about = {
        "corpus": "names", "corpus_sha256": old_sha256(corpus), "train_chars": corpus.num_chars,
        "data": config.to_json(),
    }  # fmt: skip
    old = Checkpoint(model.config, model.tokenizer, model.weights, about)
    assert find_training_text(old).read() == corpus.text
    assert find_training_text(old, ["names.txt"]).read() == corpus.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("corpus", 5), ("corpus_sha256", None), ("train_chars", "9"), ("train_chars", -1), ("train_chars", True),
        ("train_chars", 1e9), ("corpus", ["a"]), ("data", {"documents": 5}),
        ("data", {"encoding": ["utf-8"]}), ("data", 3),
    ],
)  # fmt: skip
def test_a_model_that_describes_its_text_in_other_types_is_an_error(key: str, value: object) -> None:
    model = random_model()
    about = {"corpus": "names", "corpus_sha256": "0" * 64, "train_chars": 9, "data": DataConfig().to_json(), key: value}
    with pytest.raises((ConfigError, CorpusError), match="does not name|must be a string|cannot be made"):
        find_training_text(Checkpoint(model.config, model.tokenizer, model.weights, about))
