"""A corpus of documents is split into training and validation text between documents, and encoded without marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.config import DataConfig
from chargen.data.dataset import prepare_dataset, split
from chargen.errors import CorpusError
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK
from chargen.tokenizers.tokenizer import BOUNDARY_ID

NAMES = ["An", "Bình", "Châu", "Dũng", "Giang", "Hà"]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES * 20), encoding="utf-8")
    return read_corpus(["names.txt"], DataConfig(documents="line"))


def test_a_corpus_is_split_between_documents(corpus):
    train, val = split(corpus, None, 0.1)
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


def test_one_document_cannot_be_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one file\n")
    with pytest.raises(CorpusError, match="one document"):
        split(read_corpus(["a.txt"], DataConfig(documents="file")), None, 0.1)
