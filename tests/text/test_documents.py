"""Documents are split at their separators, stay whole in the split, and each starts with a reset state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.data.batches import NO_TARGET, DocumentBatches, Position
from chargen.data.dataset import prepare_dataset, split
from chargen.errors import CorpusError
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, split_documents
from chargen.tokenizers.tokenizer import BOUNDARY_ID, build_tokenizer

NAMES = ["An", "Bình", "Châu", "Dũng", "Giang", "Hà"]


def documents(text: str, kind: str, block: int = 1000) -> list[str]:
    pieces = [text[i : i + block] for i in range(0, len(text), block)]
    found = "".join(split_documents(pieces, kind))
    assert not found or found.endswith(MARK)
    return found.split(MARK)[:-1]


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("line", "a\nb\n\nc", ["a", "b", "c"]),
        ("line", "\n\na\n", ["a"]),
        ("blank", "a\nb\n\nc\n \t\n\nd\n", ["a\nb", "c", "d"]),
        ("blank", "\n\na", ["a"]),
        ("blank", "\n\n \na", ["a"]),
        ("file", "a\n\nb\n", ["a\n\nb\n"]),
        ("<|end|>", "a\n<|end|>\nb<|end|>c", ["a", "b", "c"]),
        ("<|end|>", "<|end|>a <|end", ["a <|end"]),
        ("%", "a%%b\n%\n", ["a", "b"]),
    ],
)
def test_documents_are_split_at_their_separators(kind, text, expected, block):
    assert documents(text, kind, block) == expected


@settings(deadline=None)
@given(st.text("ab \n", max_size=30), st.sampled_from(["line", "blank", "file", "b"]), st.integers(1, 5))
def test_documents_do_not_depend_on_where_blocks_are_split_and_are_not_empty(text, kind, block):
    assert documents(text, kind, block) == documents(text, kind)
    assert all(documents(text, kind))


@pytest.mark.parametrize("spec", ["char", "byte", "sp:300"])
def test_every_mark_becomes_the_boundary(spec):
    text = "".join(name + MARK for name in NAMES)
    tokenizer = build_tokenizer(spec, "\n".join(NAMES))
    expected = [i for name in NAMES for i in [*tokenizer.encode(name).tolist(), BOUNDARY_ID]]
    assert tokenizer.encode_documents(text).tolist() == expected


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Corpus:
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


# ── batch rows ─────────────────────────────────────────────────────────────────────

lengths_of_documents = st.lists(st.integers(1, 12), min_size=1, max_size=20)


def an_epoch(stream: DocumentBatches, epoch: int) -> list[tuple[list[int], list[int]]]:
    """Every document that the batches of an epoch hold: (inputs, targets)."""
    position, open_, found = Position(epoch), {}, []
    while position.epoch == epoch:
        batch = stream.get_batch(position)
        for row in range(stream.batch_size):
            inside = batch.targets[:, row] != NO_TARGET
            assert not (np.diff(inside.astype(int)) > 0).any()  # padding comes after
            if batch.reset[row]:
                assert row not in open_
                open_[row] = ([], [])
            open_[row][0].extend(batch.inputs[inside, row].tolist())
            open_[row][1].extend(batch.targets[inside, row].tolist())
            if not inside.any() or open_[row][1][-1] == BOUNDARY_ID:
                found.append(open_.pop(row))
        position = stream.next_position(position)
    assert not open_
    return [document for document in found if document[1]]


@settings(deadline=None)
@given(lengths_of_documents, st.integers(1, 5), st.integers(1, 6), st.integers(0, 3))
def test_an_epoch_reads_every_document_once_from_boundary_to_boundary(lengths, batch_size, seq_len, epoch):
    texts = [[10 * i + j + 1 for j in range(length)] for i, length in enumerate(lengths)]
    ids = np.array([i for text in texts for i in [*text, BOUNDARY_ID]], dtype=np.int32)
    found = an_epoch(DocumentBatches(ids, batch_size, seq_len, seed=1), epoch)
    assert sorted(target[:-1] for _, target in found) == sorted(texts)
    assert all(inputs == [BOUNDARY_ID, *targets[:-1]] for inputs, targets in found)


@settings(deadline=None)
@given(lengths_of_documents, st.integers(1, 5))
def test_every_batch_has_a_target_and_positions_advance(lengths, batch_size):
    ids = np.array([i for length in lengths for i in [*[1] * length, BOUNDARY_ID]], dtype=np.int32)
    stream, position = DocumentBatches(ids, batch_size, 4, seed=0), Position()
    seen = 0
    while position.epoch < 2:
        assert (stream.get_batch(position).targets != NO_TARGET).any()
        after = stream.next_position(position)
        assert position.epoch < after.epoch or stream.num_ids_before(after) >= seen
        seen = 0 if position.epoch < after.epoch else stream.num_ids_before(after)
        position = after


def test_documents_are_shuffled_for_each_epoch():
    ids = np.array([i for n in range(1, 100) for i in (n, BOUNDARY_ID)], dtype=np.int32)
    stream = DocumentBatches(ids, 1, 8, seed=0)
    first, second = ([targets[0] for _, targets in an_epoch(stream, epoch)] for epoch in (0, 1))
    assert first != second != sorted(second)
    assert stream.seq_len == 2  # and a window is no longer than they are
