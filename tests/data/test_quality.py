"""The quality check finds every problem that a test puts into a text, and nothing in a text without problems."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.data.overlap import repeated_share
from chargen.data.quality import SEPARATORS, Finding, TextSummary, _summarize, check_quality, describe_list
from chargen.text import long_text
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK, OLD_MARK
from chargen.text.long_text import LongText

LINES = ["", " ", "\t ", "ab", "é", "a longer line", *SEPARATORS, f"{SEPARATORS[0]}x"]


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
    return {
        finding.kind: finding for finding in check_quality(Corpus(LongText.from_string(text), "x"), DataConfig())[1]
    }


def test_a_text_without_problems_has_no_findings():
    assert findings(prose(20_000)) == {}


def test_the_summary_states_the_sizes_of_the_text():
    summary, _ = check_quality(Corpus(LongText.from_string("aé\n\nbbbb\nc"), "x"), DataConfig())
    assert (summary.chars, summary.bytes, summary.lines, summary.blank_lines, summary.distinct_chars) == (
        10,
        11,
        4,
        1,
        5,
    )
    assert (summary.longest_line_chars, summary.median_line_chars) == (4, 1)


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINES), min_size=1), st.integers(4, 40))
def test_the_summary_counts_the_same_lines_wherever_a_block_ends(lines, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "BLOCK_BYTES", block_bytes)
        summary, separators = _summarize(LongText.from_string("\n".join(lines)).span(), None)
    complete, last = lines[:-1], lines[-1]
    lengths = sorted(map(len, complete + [last] * bool(last)))
    assert summary.lines == len(lengths)
    assert summary.longest_line_chars == max(lengths, default=0)
    assert summary.median_line_chars == (lengths[(len(lengths) - 1) // 2] if lengths else 0)
    assert summary.blank_lines == sum(not line.strip() for line in complete)
    assert separators == {line: complete.count(line) for line in SEPARATORS if line in complete}


def test_a_text_without_newlines_is_summarized_in_bounded_memory():
    """If each piece were added to the line so far, the time would grow with the square of the length, too."""
    text = LongText.from_string("word " * 400_000).span()
    assert text.text.statistics.num_chars == 2_000_000
    tracemalloc.start()
    summary, _ = _summarize(text, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (summary.lines, summary.longest_line_chars) == (1, 2_000_000)
    assert peak < 1 << 20


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


def test_a_short_text_has_no_repeated_passages():
    assert findings("ab\n") == {"rare": findings("ab\n")["rare"]}


# ── lists and documents ───────────────────────────────────────────────────────


def test_a_list_is_described_and_prose_is_not():
    names = [f"name {n:03d}" for n in range(200)]
    assert described(names) == (
        "200 short lines (median 8 characters, in sorted order) and no blank line: perhaps a list (names, words)"
    )
    assert "sorted" not in described(names[::-1])
    assert described([*names, "", *names]) == ""
    assert described(names[:99]) == ""
    assert described([name * 9 for name in names]) == ""
    assert described(["x" * 10_000]) == ""


def described(lines: list[str]) -> str:
    return describe_list(LongText.from_string("\n".join(lines)).span())


@pytest.mark.parametrize(
    ("documents", "text", "count"),
    [
        ("line", "Anna\n\nBob\r\nAnna\n\nÉva\n", 4),
        ("blank", "Anna\nsings\n\n\nBob\n\nAnna\nsings\n", 3),
        ("file", "Anna\n\nBob", 1),
        ("<|end|>", "Anna\n<|end|>\nBob\n<|end|>\nAnna\n", 3),
    ],
)
def test_the_sizes_are_those_of_the_text_itself_for_all_documents(tmp_path, monkeypatch, documents, text, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_bytes(text.encode())
    plain = read_corpus(["list.txt"])
    expected, _ = check_quality(plain, DataConfig())
    config = DataConfig(documents=documents)
    corpus = read_corpus(["list.txt"], config, keep_original=True)
    summary, found = check_quality(corpus, config)
    assert summary == replace(expected, documents=count, repeated_documents=summary.repeated_documents)
    assert (expected.documents, expected.repeated_documents) == (None, None)
    assert not any(mark in str(found) for mark in (MARK, OLD_MARK))


def test_the_original_of_many_texts_is_the_text_without_documents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.txt").write_text("one")
    (tmp_path / "many" / "b.txt").write_bytes(b"\xff\xfe bad")
    (tmp_path / "many" / "c.jsonl").write_text('{"text": "two"}\n{"text": "three\\n"}\n')
    arguments = ["many", "many/a.txt"]
    corpus = read_corpus(arguments, DataConfig(documents="file"), keep_original=True)
    assert corpus.original is not None
    assert corpus.original.read() == read_corpus(arguments).text
    assert read_corpus(arguments).original is None


def test_repeated_documents_are_counted_named_and_a_leak():
    names = [f"name {n}" for n in range(200)]
    summary, found = check_documents(names)
    assert (summary.documents, summary.repeated_documents, found) == (200, 0, {})
    summary, found = check_documents([*names, "name 3", "name 3"])
    assert (summary.documents, summary.repeated_documents) == (202, 2)
    assert found == {}
    summary, found = check_documents([*names, *names, "name 3"])
    assert (summary.documents, summary.repeated_documents) == (401, 201)
    repeated = found["repeated"]
    assert repeated.what == "100% of the 401 documents occur more than once"
    assert repeated.examples[0] == "'name 3': 3 ×"
    assert "held-out documents are also in the training part" in found["leak"].what


def check_documents(documents: list[str]) -> tuple[TextSummary, dict[str, Finding]]:
    config = DataConfig(documents="line")
    content = LongText(has_documents=True)
    content.write("".join(document + MARK for document in documents))
    summary, found = check_quality(Corpus(content, "x"), config)
    return summary, {finding.kind: finding for finding in found if "documents" in finding.what}
