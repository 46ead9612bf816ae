"""The doctor finds what was planted, says nothing of a sound text, and looks in bounded memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.text import long_text as longtext
from chargen.text import quality as passages
from chargen.text.corpus import Corpus
from chargen.text.long_text import LongText
from chargen.text.quality import WIDTH, Finding, check_quality, hashes, repeated_share, shared


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(longtext, "TASK_BYTES", 3000)


def prose(chars: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdeghiklmnoprstuvy", k=rng.randint(1, 8))) for _ in range(3000)]
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < chars:
        lines.append(" ".join(rng.choices(words, k=14)))
    return "\n".join(lines)[:chars] + "\n"


def findings(text: str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in check_quality(Corpus(LongText.from_string(text), "x"), 0.1)[1]}


def test_a_sound_text_has_no_findings():
    assert findings(prose(20_000)) == {}


def test_the_facts_are_those_of_the_text():
    facts, _ = check_quality(Corpus(LongText.from_string("aé\n\nbbbb\nc"), "x"), 0.1)
    assert (facts.chars, facts.bytes, facts.lines, facts.blank_lines, facts.distinct_chars) == (10, 11, 4, 1, 5)
    assert (facts.longest_line_chars, facts.median_line_chars) == (4, 1)


def test_characters_that_are_odd_are_named_with_their_place():
    text = prose(10_000)
    place = text.index("\n", 6000) + 5
    found = findings(text[:place] + "\x07\u200b€" + text[place:])
    line = text.count("\n", 0, place) + 1
    assert found["control"].places == (f"U+0007: 1 ×, first in line {line}, column 5",)
    assert f"ZERO WIDTH SPACE: 1 ×, first in line {line}, column 6" in found["zero-width"].places[0]
    assert f"'€' U+20AC EURO SIGN: 1 ×, first in line {line}, column 7" in found["rare"].places[0]


def test_letters_written_in_two_ways_are_a_mixture():
    assert "mixture" in findings(prose(5_000) + "é e\u0301\n" * 20)
    assert "mixture" not in findings(prose(5_000) + "é e\n" * 20)


def test_a_list_and_a_separator_are_advised_to_be_documents():
    names = "\n".join(["Trần Văn An", "Lê Thị Bình"] * 100)
    assert "--documents line" in findings(names)["documents"].advice
    stories = "\n<|endoftext|>\n".join(prose(1000, seed) for seed in range(20))
    assert "--documents '<|endoftext|>'" in findings(stories)["documents"].advice


def test_what_stands_in_a_text_twice_is_found():
    text = prose(60_000)
    assert repeated_share(LongText.from_string(text).span()) == 0.0
    twice = text[:20_000] + text
    assert repeated_share(LongText.from_string(twice).span()) == pytest.approx(0.5, abs=0.02)
    assert "50%" in findings(twice)["repeated"].what


def test_a_sample_of_the_hashes_tells_the_same_share(monkeypatch):
    monkeypatch.setattr(passages, "MAX_KEPT", 2_000)
    text = prose(60_000)
    assert repeated_share(LongText.from_string(text[:20_000] + text).span()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("begin", [0, 37, 12_345])
def test_a_passage_of_the_training_part_in_what_is_held_out_is_a_leak(begin):
    text = prose(50_000)
    leaking = text[:45_000] + text[begin : begin + 2 * WIDTH] + text[45_000:]
    train, val = LongText.from_string(text[:45_000]).span(), LongText.from_string(leaking[45_000:]).span()
    found = shared(train, val)
    assert found.share > 0
    assert found.example in text[begin : begin + 2 * WIDTH]
    assert shared(train, LongText.from_string(text[45_000:]).span()).share == 0.0


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=WIDTH, max_size=WIDTH + 30))
def test_the_hash_of_a_stretch_does_not_depend_on_where_it_stands(text):
    codes = np.array([ord(c) for c in text], dtype=np.uint64)
    alone = [int(hashes(codes[i : i + WIDTH])[0]) for i in range(len(codes) - WIDTH + 1)]
    assert hashes(codes).tolist() == alone


def test_a_text_shorter_than_a_stretch_has_no_hash():
    assert len(hashes(np.zeros(WIDTH - 1, dtype=np.uint64))) == 0
    assert findings("ab\n") == {"rare": findings("ab\n")["rare"]}
