"""A text that may be longer than memory: whole, by place and in pieces it is the same text."""

from __future__ import annotations

import hashlib
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data.token_store import encode_span
from chargen.errors import CorpusError, StorageError
from chargen.text import long_text as longtext
from chargen.text import long_text as survey
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import build_tokenizer

any_text = st.text(st.characters(codec="utf-8"), max_size=80) | st.text("aệ€😀\n", max_size=80)


@pytest.fixture(autouse=True, params=["memory", "disk"])
def small_blocks(request, monkeypatch):
    """Blocks of seven bytes, two to a task; in memory, or on disk from the ninth byte on."""
    monkeypatch.setattr(longtext, "TASK", 14)
    monkeypatch.setattr(survey, "BLOCK", 7)
    monkeypatch.setattr(longtext, "IN_MEMORY", 1 << 20 if request.param == "memory" else 8)


def written(pieces: list[str]) -> LongText:
    text = LongText()
    for piece in pieces:
        text.write(piece)
    return text


@settings(deadline=None)
@given(st.lists(any_text, max_size=4), st.data())
def test_what_was_written_is_read_whole_and_in_parts(pieces, data):
    text, whole = written(pieces), "".join(pieces)
    assert text.read() == whole
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole) + 3))
    assert text.read(begin, end) == whole[begin:end]
    assert text.span().read(-begin) == whole[-begin:]
    assert "".join(text.span(begin, min(end, len(whole))).pieces()) == whole[begin:end]


@settings(deadline=None)
@given(any_text)
def test_the_survey_counts_what_there_is(whole):
    found = written([whole]).survey
    assert (found.num_chars, found.num_bytes) == (len(whole), len(whole.encode()))
    assert found.sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert {chr(c): int(found.counts[c]) for c in np.flatnonzero(found.counts)} == Counter(whole)


@settings(deadline=None)
@given(any_text, st.data())
def test_the_counts_of_a_part_are_its_own(whole, data):
    begin = data.draw(st.integers(0, len(whole)))
    counts = written([whole]).span(begin).counts()
    assert {chr(c): int(counts[c]) for c in np.flatnonzero(counts)} == Counter(whole[begin:])


@settings(deadline=None)
@given(any_text, any_text, any_text)
def test_what_was_cut_off_is_gone(first, second, third):
    text = written([first])
    mark = text.num_bytes
    text.write(second)
    text.cut(mark)
    assert text.ends_with_newline() == first.endswith("\n")
    text.write(third)
    assert text.read() == first + third


@settings(deadline=None)
@given(any_text.filter(bool) | st.text("ab\n~\0", min_size=1), st.sampled_from(["char", "byte", "sp:300"]))
def test_encoding_in_pieces_is_encoding(whole, spec):
    text = written([whole])
    tokenizer = build_tokenizer(spec, whole)
    assert [int(i) for ids in encode_span(tokenizer, text.span()) for i in ids] == tokenizer.encode(whole).tolist()


def test_a_full_disk_is_named_with_the_way_to_another():
    class Full(io.BytesIO):
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    text = LongText()
    text._file = Full()
    with pytest.raises(StorageError, match="No space left on device") as caught:
        text.write("a")
    assert "TMPDIR" in caught.value.hint


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("some text")
    text = LongText.standing(path)
    path.write_text("some other text")
    with pytest.raises(CorpusError, match="changed while it was read"):
        text.read()
