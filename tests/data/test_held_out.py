"""Documents are held out at random, the same ones in each run; of a continuous text, and in old runs, the end is."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.data import held_out
from chargen.data.held_out import document_ends, hold_out, training_keys, training_part
from chargen.errors import ConfigError, CorpusError
from chargen.text import long_text
from chargen.text.documents import MARK
from chargen.text.long_text import LongText, TextPart

LINES = DataConfig(documents="line")


def text_of(documents: list[str]) -> LongText:
    text = LongText(has_documents=True)
    for document in documents:
        text.write(document + MARK)
    return text


def documents_of(part: TextPart) -> list[str]:
    return part.read().split(MARK)[:-1]


def sorted_names(count: int = 2600) -> list[str]:
    return sorted(f"{letter}{n:04d}" for letter in string.ascii_lowercase for n in range(count // 26))


@settings(deadline=None)
@given(
    st.lists(st.text("aé漢😀\n", min_size=1, max_size=9), min_size=2, max_size=60),
    st.sampled_from([0.01, 0.1, 0.3, 0.5]),
    st.integers(4, 40),
)
def test_each_document_is_either_trained_on_or_held_out(documents, fraction, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "BLOCK_BYTES", block_bytes)
        text = text_of(documents)
        train, val = hold_out(text, DataConfig(documents="line", val_fraction=fraction))
        assert sorted(documents_of(train) + documents_of(val)) == sorted(documents)
        assert documents_of(train)
        assert documents_of(val)
        rest = iter(documents)
        assert all(document in rest for document in documents_of(train))  # in the order of the text
        whole = train.read()
        assert (len(whole), "".join(train.pieces())) == (train.num_chars, whole)
        assert b"".join(train.utf8_pieces()).decode("utf-8", "surrogatepass") == whole
        for begin in range(-len(whole), len(whole) + 2):
            assert train.read(begin, begin + 5) == whole[begin : begin + 5]
        counts = np.bincount([ord(c) for c in whole if c != MARK], minlength=len(train.counts()))
        assert np.array_equal(train.counts(), counts[: len(train.counts())])


def test_the_ends_of_documents_are_found_in_every_alphabet():
    documents = ["a", "é", "漢字", "😀", "\ud7ff", "\ue000\n"]
    assert document_ends(text_of(documents)).tolist() == np.cumsum([len(d) + 1 for d in documents]).tolist()


def test_a_sorted_list_is_validated_on_all_its_letters_in_every_part():
    names = sorted_names()
    train, val = hold_out(text_of(names), LINES)
    held = documents_of(val)
    assert len(held) == len(names) // 10
    for part in (held[: len(held) // 2], held[len(held) // 2 :], documents_of(train)):
        assert len({name[0] for name in part}) >= 24
    assert train.num_chars + val.num_chars == 6 * len(names)


def test_the_same_documents_are_held_out_forever():
    """Otherwise a resumed run would be validated on documents that it was trained on."""
    _, val = hold_out(text_of([f"{n:02d}" for n in range(30)]), LINES)
    assert documents_of(val) == ["02", "04", "06"]


def test_the_validation_text_of_a_long_list_is_a_sample_of_the_whole_list(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_VAL_CHARS", 600)
    names = sorted_names()
    train, val = hold_out(text_of(names), LINES)
    assert val.num_chars == 600
    assert len({name[0] for name in documents_of(val)}) >= 20
    assert len(documents_of(train)) == len(names) * 9 // 10  # the others are held out, too


@pytest.mark.parametrize(("num_documents", "num_repeats"), [(2600, 1), (260, 10), (104, 1000)])
def test_an_excerpt_has_documents_from_everywhere_and_the_size_that_was_asked_for(num_documents, num_repeats):
    train, _ = hold_out(text_of([name * num_repeats for name in sorted_names(num_documents)]), LINES)
    excerpt = train.excerpt(5000)
    assert 4800 < len(excerpt) <= 5000
    *found, rest = excerpt.split(MARK)
    assert rest == "" and all(found)
    documents = documents_of(train)
    assert all(any(part in document for document in documents) for part in found)
    assert len(set(excerpt) & set(string.ascii_lowercase)) >= 24
    assert train.excerpt(10**6) == train.read()
    assert [train.excerpt(size) for size in (0, 63, 64)] == ["", "", ""]


def test_long_and_short_documents_have_their_share_of_an_excerpt():
    """If the documents that a stretch cuts were left out, the excerpt would consist of short documents alone."""
    documents = (["l" * 300] + ["s" * 10] * 3) * 100
    train, _ = hold_out(text_of(documents), LINES)
    excerpt = train.excerpt(5000)
    assert train.read().count("s") / train.num_chars == pytest.approx(0.09, abs=0.02)
    assert 0.02 < excerpt.count("s") / len(excerpt) < 0.2


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_document_longer_than_the_share_is_trained_on(position):
    documents = [f"short {n}" for n in range(8)]
    documents.insert(position, "long " * 1000)
    train, val = hold_out(text_of(documents), LINES)
    assert documents[position] in documents_of(train)
    assert documents_of(val)


def test_of_two_documents_the_shorter_one_is_held_out():
    train, val = hold_out(text_of(["a" * 50, "b" * 40]), LINES)
    assert (documents_of(train), documents_of(val)) == (["a" * 50], ["b" * 40])


def test_one_document_or_character_cannot_be_split():
    for text, config in ((text_of(["one"]), LINES), (LongText.from_string("a"), DataConfig())):
        with pytest.raises(CorpusError, match="at least two are needed"):
            hold_out(text, config)


def test_a_continuous_text_cannot_be_split_at_random():
    with pytest.raises(ConfigError, match="has no documents to choose from") as caught:
        DataConfig(val_split="random")
    assert "--documents" in caught.value.hint


def test_settings_of_earlier_versions_hold_out_the_end():
    assert (DataConfig().val_split, LINES.val_split) == ("last", "random")
    old = {key: value for key, value in LINES.to_json().items() if key != "val_split"}
    config = DataConfig.from_json(old)
    assert config.val_split == "last"
    names = sorted_names()
    train, val = hold_out(text_of(names), config)
    assert documents_of(train) + documents_of(val) == names
    assert train.key == f"0 {train.num_chars}"  # the key of encoded texts that are already in the cache
    assert DataConfig.from_json(LINES.to_json()) == LINES


@pytest.mark.parametrize("val_split", ["random", "last"])
def test_the_training_part_is_found_again(val_split):
    config = DataConfig(documents="line", val_split=val_split)
    text = text_of(sorted_names())
    train, _ = hold_out(text, config)
    again = training_part(text, config, train.num_chars)
    assert again is not None
    assert again.read() == train.read()
    assert train.key in training_keys(config, train.num_chars)
    whole = training_part(text, config, text.statistics.num_chars)  # of a run with --val
    assert whole is not None
    assert whole.read() == text.read()
    assert whole.key in training_keys(config, whole.num_chars)
    assert training_part(text, config, text.statistics.num_chars + 1) is None
