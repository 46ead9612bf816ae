"""A corpus of documents is split into training and validation text between documents, and encoded without marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.config import DataConfig
from chargen.data.dataset import prepare_dataset, split
from chargen.errors import CorpusError
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, SeparatorSearch
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from chargen.training import validation

NAMES = ["An", "Bình", "Châu", "Dũng", "Giang", "Hà"]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES * 20), encoding="utf-8")
    return read_corpus(["names.txt"], DataConfig(documents="line"))


def test_a_corpus_is_split_between_documents(corpus):
    train, val = split(corpus, None, DataConfig(documents="line", val_split="last"))
    assert train.read() + val.read() == corpus.text
    assert train.read().endswith(MARK)
    assert 0 < val.num_chars < train.num_chars


def test_neither_the_mark_nor_the_separator_is_a_character_of_the_vocabulary(corpus):
    data = prepare_dataset(corpus, None, DataConfig(documents="line"))
    assert data.tokenizer.is_unknown(data.tokenizer.encode("\n" + MARK)).all()
    assert data.start_ids.tolist() == [BOUNDARY_ID]
    ids = np.concatenate([data.train.ids, *(part.ids for part in data.val)])
    assert (ids == BOUNDARY_ID).sum() == 120
    assert sum(part.num_chars for part in data.val) == sum(len(part.ids) for part in data.val)


@pytest.mark.parametrize("val_split", ["random", "last"])
def test_one_document_cannot_be_split(tmp_path, monkeypatch, val_split):
    config = DataConfig(documents="file", val_split=val_split)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one file\n")
    with pytest.raises(CorpusError, match="one document"):
        split(read_corpus(["a.txt"], config), None, config)


@pytest.mark.parametrize(
    ("kind", "meant"),
    [("lines", "line"), ("Line", "line"), ("paragraphs", "blank"), ("\\n", "line"), ("files", "file"), ("%%%", "")],
)
@pytest.mark.parametrize("val_split", ["random", "last"])
def test_a_separator_that_does_not_occur_is_named_with_the_kind_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, meant: str, val_split: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("one\ntwo\n")
    Path("b.txt").write_text("one\n%%%%\ntwo\n")
    config = DataConfig(documents=kind, val_split=val_split)
    hint = f"Did you mean '{meant}'? " if meant else ""
    for corpus in (read_corpus("a.txt", config), Corpus.from_text("one\ntwo\n", config=config)):
        with pytest.raises(CorpusError) as caught:
            split(corpus, None, config)
        assert caught.value.message == f"the separator {kind!r} does not occur in the text"
        assert caught.value.hint == f"{hint}Kinds: none, line, blank, file, or a separator string."
    assert [note.count("does not occur") for note in read_corpus(["a.txt", "a.txt"], config).notes] == [1]
    found = read_corpus(["b.txt"], config)
    assert bool(found.notes) == (kind != "%%%") and found.lacks_separator == (kind != "%%%")


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_a_separator_is_found_wherever_the_text_is_split(block: int) -> None:
    for text, found in (("a***b", True), ("***", True), ("a**b*", False), ("", False)):
        search = SeparatorSearch("***")
        pieces = [text[i : i + block] for i in range(0, len(text), block)]
        assert "".join(search.watch(pieces)) == text and search.has_found == found
    assert SeparatorSearch("line").has_found


def test_held_out_documents_are_neither_trained_on_nor_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = sorted(f"{a}{b}{c}" for a in "abcdefgh" for b in "mnopqrst" for c in "uvwxyz")
    Path("names.txt").write_text("\n".join(names), encoding="utf-8")
    data = DataConfig(documents="line")
    corpus = read_corpus(["names.txt"], data)
    dataset = prepare_dataset(corpus, None, data)
    trained = dataset.tokenizer.decode(dataset.train.ids[dataset.train.ids != BOUNDARY_ID])
    held = dataset.val_text.read().split(MARK)[:-1]
    assert sorted("".join(names)) == sorted(trained + "".join(held))
    assert 30 <= len(held) <= 40
    assert {name[0] for name in held} == set("abcdefgh")
    assert trained == "".join(name for name in names if name not in held)
    assert len(np.concatenate([part.ids for part in dataset.val])) == dataset.val_text.num_chars
    monkeypatch.setattr(validation, "MAX_BASELINE_TRAIN_BYTES", 800)
    counted: list[str] = []
    monkeypatch.setattr(validation, "lzma_nats_per_char", lambda train, val: counted.append(train) or 1.0)
    validation.measure_baselines(dataset)
    assert 500 < len(counted[0]) <= 800
    assert {name[0] for name in counted[0].split(MARK)[:-1]} >= set("abcdefgh")  # some names are cut
    assert not set(held) & set(counted[0].split(MARK)[:-1])


def test_documents_longer_than_a_stretch_of_the_excerpt_have_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validation, "MAX_BASELINE_TRAIN_BYTES", 64 * 100)
    Path("long.txt").write_text("".join("ab" * length + "\n" for length in range(1000, 1040)), encoding="utf-8")
    config = DataConfig(documents="line")
    found = validation.measure_baselines(prepare_dataset(read_corpus(["long.txt"], config), None, config))
    assert found.unigram_nats_per_char == pytest.approx(np.log(2), abs=0.05)
    assert found.ngram_5_nats_per_char is not None
    assert found.ngram_5_nats_per_char < 0.1
    assert found.lzma_nats_per_char is not None
    assert found.lzma_nats_per_char < 0.1
