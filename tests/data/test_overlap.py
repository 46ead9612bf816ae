"""Passages that two texts share are found wherever they are, and so is a validation text that was trained on."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data import overlap
from chargen.data.overlap import (
    WIDTH,
    Shared,
    _stripped_lines,
    describe_overlap,
    document_hashes,
    find_shared,
    repeated_share,
)
from chargen.text import long_text
from chargen.text.documents import MARK
from chargen.text.hashing import BLOCK_CHARS
from chargen.text.long_text import LongText, Span
from tests.data.test_quality import prose


def span(text: str, has_documents: bool = False) -> Span:
    long_text = LongText(has_documents)
    long_text.write(text)
    return long_text.span()


def test_a_sample_of_the_hashes_gives_about_the_same_share(monkeypatch):
    monkeypatch.setattr(overlap, "MAX_SAMPLED_HASHES", 2_000)
    text = prose(60_000)
    assert repeated_share(LongText.from_string(text[:20_000] + text).span()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("begin", [0, 37, 12_345])
def test_a_passage_of_the_training_part_in_the_held_out_part_is_a_leak(begin):
    text = prose(50_000)
    leaking = text[:45_000] + text[begin : begin + 2 * WIDTH] + text[45_000:]
    train, val = LongText.from_string(text[:45_000]).span(), LongText.from_string(leaking[45_000:]).span()
    found = find_shared(train, val)
    assert found.share > 0
    assert found.example in text[begin : begin + 2 * WIDTH]
    assert find_shared(train, LongText.from_string(text[45_000:]).span()).share == 0.0


def test_a_passage_across_two_blocks_of_hashes_is_found():
    text = prose(3 * BLOCK_CHARS)
    for begin in (BLOCK_CHARS - WIDTH, BLOCK_CHARS - 1, 2 * BLOCK_CHARS - WIDTH // 2):
        held_out = LongText.from_string(text[begin : begin + WIDTH]).span()
        assert find_shared(LongText.from_string(text).span(), held_out).share == 1.0


def test_a_text_shorter_than_a_window_has_no_repeated_passages():
    short = span("a" * (WIDTH - 1))
    assert repeated_share(short) == 0.0
    assert find_shared(short, short) == Shared(0.0, "")


def test_documents_are_hashed_as_wholes_wherever_a_block_ends(monkeypatch):
    documents = ["a" * 50, "b", "a" * 50, "c" * 200, "b"]
    text = "".join(document + MARK for document in documents)
    for block_bytes in (7, 64, 1 << 16):
        monkeypatch.setattr("chargen.text.long_text.BLOCK_BYTES", block_bytes)
        assert document_hashes(span(text, True)).tolist() == [hash(document) for document in documents]


def test_a_validation_text_that_was_trained_on_is_described_with_its_share():
    text = prose(20_000)
    lines = text.splitlines()
    assert describe_overlap(span(text), span(text)).startswith(
        "the validation text is the training text, all 20,001 ch"
    )
    part = "\r\n".join(lines[50:90])
    assert describe_overlap(span(text), span(part)).startswith("40 of 40 lines of the validation text are also in the ")
    half = "\n".join([*lines[:20], *prose(5_000, 1).splitlines()[:20]])
    assert describe_overlap(span(text), span(half)).startswith("20 of 40 lines of the validation text are also in the ")
    assert describe_overlap(span(text), span(text[777:3000].replace("\n", " "))) == ""  # lines that nobody can compare
    one_line = text.replace("\n", " ")
    assert describe_overlap(span(one_line), span(one_line[777:3000])).startswith("100% of the validation text is also ")
    assert describe_overlap(span(text), span(prose(20_000, 1))) == ""


def test_documents_of_the_validation_text_are_compared_as_wholes():
    names = [f"name {n}" + MARK for n in range(1000)]
    train = span("".join(names), True)
    found = describe_overlap(train, span("".join(names[500:520]), True))
    assert found.startswith("20 of 20 documents of the validation text are also in the training text")
    assert describe_overlap(train, span("name" + MARK + "me 7" + MARK, True)) == ""


def test_short_lines_that_are_equal_by_chance_do_not_count():
    train, val = "}\n" * 100 + "the first long line of code\n", "}\n" * 100 + "another long line of the code\n"
    assert describe_overlap(span(train), span(val)) == ""


@settings(deadline=None)
@given(st.lists(st.text("ab \t\x85é", max_size=12), min_size=1), st.integers(0, 8), st.integers(4, 20))
def test_the_lines_of_a_text_are_the_same_wherever_a_block_ends_up_to_the_wanted_length(lines, max_chars, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "BLOCK_BYTES", block_bytes)
        found = sum(_stripped_lines(span("\n".join(lines)), max_chars), [])
    assert len(found) == len(lines)
    for found_line, line in zip(found, map(str.strip, lines), strict=True):
        if len(line) <= max_chars:
            assert found_line == line
        else:
            assert found_line == "" or len(found_line) > max_chars


def test_a_training_text_without_newlines_is_compared_in_bounded_memory():
    """If each piece were added to the line so far, the time would grow with the square of the length, too."""
    train, val = span("word " * 400_000), span("the first long line of a poem\nand the second line of it\n")
    tracemalloc.start()
    assert describe_overlap(train, val) == ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 < train.num_chars


def test_a_line_that_is_divided_among_many_blocks_is_found(monkeypatch):
    monkeypatch.setattr(long_text, "BLOCK_BYTES", 7)
    train, val = "x" * 99 + "\n  \t the first long line of a poem  \n" + "y" * 99, "the first long line of a poem"
    assert describe_overlap(span(train), span(val + "\nthe second long line of a poem")).startswith("1 of 2 lines of ")
