"""The quality check finds every problem that a test puts into a text, and nothing in a text without problems."""

from __future__ import annotations

import random

import pytest

from chargen.text import long_text, quality
from chargen.text.corpus import Corpus
from chargen.text.hashing import BLOCK_CHARS
from chargen.text.long_text import LongText
from chargen.text.quality import WIDTH, Finding, Shared, check_quality, find_shared, repeated_share


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(long_text, "TASK_BYTES", 3000)


def prose(chars: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdeghiklmnoprstuvy", k=rng.randint(1, 8))) for _ in range(3000)]
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < chars:
        lines.append(" ".join(rng.choices(words, k=14)))
    return "\n".join(lines)[:chars] + "\n"


def findings(text: str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in check_quality(Corpus(LongText.from_string(text), "x"), 0.1)[1]}


def test_a_text_without_problems_has_no_findings():
    assert findings(prose(20_000)) == {}


def test_the_summary_states_the_sizes_of_the_text():
    summary, _ = check_quality(Corpus(LongText.from_string("aé\n\nbbbb\nc"), "x"), 0.1)
    assert (summary.chars, summary.bytes, summary.lines, summary.blank_lines, summary.distinct_chars) == (
        10,
        11,
        4,
        1,
        5,
    )
    assert (summary.longest_line_chars, summary.median_line_chars) == (4, 1)


def test_unusual_characters_are_named_with_their_first_position():
    text = prose(10_000)
    position = text.index("\n", 6000) + 5
    found = findings(text[:position] + "\x07\u200b€" + text[position:])
    line = text.count("\n", 0, position) + 1
    assert found["control"].examples == (f"U+0007: 1 ×, first in line {line}, column 5",)
    assert f"ZERO WIDTH SPACE: 1 ×, first in line {line}, column 6" in found["zero-width"].examples[0]
    assert f"'€' U+20AC EURO SIGN: 1 ×, first in line {line}, column 7" in found["rare"].examples[0]


def test_composed_and_decomposed_letters_in_one_text_are_a_mixture():
    assert "mixture" in findings(prose(5_000) + "é e\u0301\n" * 20)
    assert "mixture" not in findings(prose(5_000) + "é e\n" * 20)


def test_a_list_and_a_separator_line_get_the_advice_to_split_into_documents():
    names = "\n".join(["Trần Văn An", "Lê Thị Bình"] * 100)
    assert "--documents line" in findings(names)["documents"].advice
    stories = "\n<|endoftext|>\n".join(prose(1000, seed) for seed in range(20))
    assert "--documents '<|endoftext|>'" in findings(stories)["documents"].advice


def test_repeated_passages_are_found():
    text = prose(60_000)
    assert repeated_share(LongText.from_string(text).span()) == 0.0
    twice = text[:20_000] + text
    assert repeated_share(LongText.from_string(twice).span()) == pytest.approx(0.5, abs=0.02)
    assert "50%" in findings(twice)["repeated"].what


def test_a_sample_of_the_hashes_gives_about_the_same_share(monkeypatch):
    monkeypatch.setattr(quality, "MAX_SAMPLED_HASHES", 2_000)
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
    short = LongText.from_string("a" * (WIDTH - 1)).span()
    assert repeated_share(short) == 0.0
    assert find_shared(short, short) == Shared(0.0, "")
    assert findings("ab\n") == {"rare": findings("ab\n")["rare"]}
