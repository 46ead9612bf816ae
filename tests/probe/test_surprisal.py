"""Surprisals of characters, guesses, and their display as colours, digits and an HTML page."""

import json
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from chargen.checkpoint import save_checkpoint
from chargen.config import DataConfig
from chargen.engines.interface import concatenate_states, log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.lm import LanguageModel
from chargen.probe.heat_map import MAX_BITS
from chargen.probe.surprisal import CharSurprisal, find_likely_chars
from chargen.scoring.scorer import Score
from chargen.ui.heatmap import (
    digit_lines,
    digit_rows,
    group_bits,
    group_by_cluster,
    group_glyph,
    heat_page,
)
from chargen.ui.terminal_text import clusters
from tests.conftest import VERSE, Result, random_model

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def char_with(text: str, bits: float = 1.0) -> CharSurprisal:
    return CharSurprisal(text, -bits * math.log(2))


# ── the numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["char", "byte", "sp:300"]), st.text(alphabet=sorted(set(VERSE)) + ["☃", "日"], max_size=12))
def test_surprisals_add_up_to_the_score_and_their_characters_to_the_text(tokenizer: str, text: str) -> None:
    lm = LanguageModel(random_model(VERSE * 20, tokenizer))
    found = list(lm.char_surprisals(text, context="ab"))
    assert "".join(p.text for p in found) == text
    total = math.fsum(p.surprisal_bits for p in found)
    assert total == pytest.approx(-lm.score(text, context="ab").log_prob_nats / math.log(2), abs=1e-4)
    assert [(p.text, pytest.approx(p.surprisal_bits, abs=1e-4)) for p in found] == lm.surprisal(text, context="ab")


def test_a_scored_end_is_the_last_element() -> None:
    lm = LanguageModel(random_model())
    *_, end = lm.char_surprisals("Chữ", end=True)
    both = lm.score("Chữ\n").log_prob_nats - lm.score("Chữ").log_prob_nats
    assert (end.text, end.surprisal_bits) == ("", pytest.approx(-both / math.log(2), abs=1e-4))


def test_guesses_of_a_character_model_are_the_most_likely_ids() -> None:
    model = random_model()
    lm = LanguageModel(model)
    engine = NumpyEngine(model.config, model.weights)
    state = engine.initial_state(1)
    for token_id in model.tokenizer.encode("\nTh").tolist():
        logits, state = engine.step(np.array([token_id]), state)
    p = np.exp(log_softmax(logits)[0])
    p[model.tokenizer.special_ids()] = 0
    guesses = list(lm.char_surprisals("The"))[2].guesses
    assert [g.prob for g in guesses] == pytest.approx(sorted(p.tolist(), reverse=True)[:5])
    assert guesses[0].text == model.tokenizer.decode([int(p.argmax())])


@pytest.mark.parametrize("seed", range(3))
def test_guesses_of_a_byte_model_are_the_most_likely_characters(seed: int) -> None:
    model = random_model(tokenizer="byte", seed=seed)
    weights = dict(model.weights)
    weights["head.bias"] = weights["head.bias"] + 7 * np.isin(np.arange(257), [0xC3 + 1, 0xE2 + 1, 0x80 + 1, 0x99 + 1])
    raw = {"data": DataConfig(newline="keep", normalize="none").to_json()}
    lm = LanguageModel(replace(model, weights=weights, about=raw))
    guesses = next(lm.char_surprisals("x", context="ab", num_guesses=8)).guesses
    assert any(ord(g.text) > 127 for g in guesses)
    characters = [chr(c) for c in [*range(0x80), *range(0xC0, 0x180), *range(0x2000, 0x2080)]]
    best = sorted((s.log_prob_nats for s in lm.score(characters, context="ab")), reverse=True)[:8]
    scored = [lm.score(g.text, context="ab").log_prob_nats for g in guesses]
    assert [math.log(g.prob) for g in guesses] == pytest.approx(scored, abs=1e-4)
    assert all(mine >= other - 1e-4 for mine, other in zip(scored, best, strict=True))


def test_only_a_model_of_documents_guesses_the_end() -> None:
    model = random_model("ab")
    documents = replace(model, about={"data": DataConfig(documents="line").to_json()})
    assert "" in [g.text for g in next(LanguageModel(documents).char_surprisals("ab")).guesses]
    assert "" not in [g.text for g in next(LanguageModel(model).char_surprisals("ab")).guesses]


def test_selected_and_joined_states_are_unchanged() -> None:
    model = random_model(cell="lstm", num_layers=2)
    engine = NumpyEngine(model.config, model.weights)
    _, state = engine.step(np.array([2, 3, 4]), engine.initial_state(3))
    again = concatenate_states([engine.select(state, np.array([b])) for b in (2, 0, 1)])
    logits, _ = engine.step(np.array([5, 5, 5]), engine.select(again, np.array([1, 2, 0])))
    assert logits == pytest.approx(engine.step(np.array([5, 5, 5]), state)[0])
    assert len(find_likely_chars(engine, model.tokenizer, log_softmax(logits), again, 3)) == 3


# ── display ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(ANY)
def test_clusters_join_to_the_text_and_digits_are_below_their_characters(text: str) -> None:
    chars = [char_with(char, 3.5) for char in text]
    groups = list(group_by_cluster(chars))
    assert [p for group in groups for p in group] == chars
    shown, digits = digit_lines(chars)
    widths = [group_glyph(group)[1] for group in groups]
    assert sum(widths) >= len(groups)
    assert len(digits.split()) <= len(groups)
    at = 0
    for group, width in zip(groups, widths, strict=True):
        assert digits[at] == str(min(9, int(group_bits(group))))
        at += width
    assert "\n" not in shown


def test_digits_of_wide_and_composed_characters() -> None:
    shown, digits = digit_lines(
        [char_with("e", 0.5), char_with("\u0301", 2.6), char_with("日", 12.0), char_with("\t", 0.2), char_with("")]
    )
    assert (shown, digits) == ("e\u0301日␉␃", "39 .1")
    assert cell_len(shown) == len(digits)


@given(ANY, st.integers(2, 9))
def test_rows_of_digits_have_the_width_of_the_terminal_and_join_to_the_line(text: str, width: int) -> None:
    chars = [char_with(char, 3.5) for char in text]
    rows = list(digit_rows(chars, width))
    assert all(
        cell_len(shown) <= max(width, *(group_glyph(g)[1] for g in group_by_cluster(chars)), 0) for shown, _ in rows
    )
    assert "".join(shown for shown, _ in rows) == digit_lines(chars)[0]
    assert [len(digits) for _, digits in rows if digits] == [len(d.rstrip()) for _, d in rows if d]


class Page(HTMLParser):
    """Parser that collects the tags and the visible characters of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "span":
            self.shown.append(data)


@settings(max_examples=50, deadline=None)
@given(ANY | st.just("<script>&amp;\"'</p>]]>\x00\u202e"))
def test_a_page_escapes_any_text_and_loads_no_resources(text: str) -> None:
    html = "".join(heat_page([[char_with(char, 2.0) for char in text]], "<b>&"))
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    spans = [attrs for tag, attrs in page.tags if tag == "span" and "data-why" in attrs]
    groups = list(group_by_cluster([char_with(char, 2.0) for char in text]))
    assert len(spans) == len(groups)
    legend = MAX_BITS
    assert "".join(page.shown[legend:]) == "".join(group_glyph(group)[0] for group in groups)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "b"}
    assert not {"src", "href", "style", "onclick"} & {name for _, attrs in page.tags for name in attrs}
    assert not re.search(r"url\(|@import|https?:", html.split("<body>")[0])


def test_each_character_of_a_page_has_its_surprisal_and_five_guesses() -> None:
    lm = LanguageModel(random_model())
    page = Page()
    page.feed("".join(heat_page([list(lm.char_surprisals("Chữ tài"))], "verse", [lm.suggest("Chữ tài")])))
    spans = [attrs for tag, attrs in page.tags if tag == "span" and "data-why" in attrs]
    assert len(spans) == 7
    for span in spans:
        first, *guesses = (span["data-why"] or "").split("\n")
        assert re.fullmatch(r".  \d+\.\d\d bits", first)
        assert len(guesses) == 5
        assert span["tabindex"] == "0"
    assert any(tag == "table" for tag, _ in page.tags)


def test_a_page_without_suggestions_has_no_table() -> None:
    html = "".join(heat_page([[char_with("a")]], "verse", [[]]))
    assert "No single edit makes it more likely." in html
    assert "<table" not in html


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "verse" / "model.safetensors"
    save_checkpoint(path, random_model())
    return path


def test_chars_in_a_pipe_are_digits_below_the_text(chargen: Callable[..., Result], model: Path) -> None:
    result = chargen("score", "--chars", "Chữ tài", "a b")
    assert result.status == 0, result.err
    text, digits, bits, *rest = result.out.splitlines()
    assert text == "Chữ tài"
    assert re.fullmatch(r"[.\d]{7}", digits)
    assert re.fullmatch(r"[\d.]+ bits, [\d.]+ bits/char", bits)
    assert rest[0] == "a b"
    assert "\x1b" not in result.out


def test_digits_in_a_pipe_are_explained_once_and_are_below_wide_letters(chargen: Callable[..., Result]) -> None:
    save_checkpoint(Path("m"), random_model("漢字かな한글 ab ไทย ที่ नमस्ते"))
    texts = ["漢字かな ab", "한글 漢", "ไทย ที่ ab", "नमस्ते"]
    result = chargen("score", "-m", "m", "--chars", *texts)
    assert result.status == 0, result.err
    assert result.err.count("9 is 9 or more") == 1 and "less than 1" in result.err
    rows = [line for line in result.out.splitlines() if "bits" not in line]
    assert rows[::2] == texts
    for text, digits in zip(rows[::2], rows[1::2], strict=True):
        *_, last = clusters(text)
        assert cell_len(text) - cell_len(digits) == (cell_len(last) - 1 if len(last) > 1 else 0)  # no space at the end
        if not any(unicodedata.combining(char) or unicodedata.category(char) == "Mc" for char in text):
            assert len(digits) == len(text)  # aligned where letters are counted, too, and in fonts of any width
    assert "9 is 9 or more" not in chargen("score", "-m", "m", "--chars", "--json", "ab").err


def test_no_rounded_number_is_a_negative_zero(chargen: Callable[..., Result], model: Path) -> None:
    """A surprisal of -1e-9 bits is the rounding error of a probability of 1."""
    chars = [char_with("a", -1e-9), char_with("b", -0.0)]
    page = "".join(heat_page([chars], "m"))
    assert "0.00 bits" in page and "-0.0" not in page
    score = Score("ab", 1e-9, 2, 2, 0, pieces=(("a", 1e-9), ("b", 0.0)))
    assert "0.00 bits" in (score._repr_html_() or "") and "-0.0" not in (score._repr_html_() or "")


def test_the_legend_of_colours_is_printed_once(
    chargen: Callable[..., Result], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLORTERM", "truecolor")):
        monkeypatch.setenv(name, value)
    out = chargen("score", "--chars", "Chữ tài", "a b").out
    assert out.count("bits: <1") == 1
    assert out.index("bits: <1") < out.index("\x1b[38;2;")
    assert len(re.findall(r"bits/char", out)) == 2


def test_json_lists_characters_that_add_up_and_suggestions(chargen: Callable[..., Result], model: Path) -> None:
    result = chargen("score", "--chars", "--suggest", "--json", "Chữ €", "a")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["input"] for line in lines] == [1, 2]
    characters = lines[0]["characters"]
    assert [c["character"] for c in characters] == list("Chữ €")
    assert characters[-1]["unknown"] is True
    assert sum(c["log_prob_nats"] for c in characters) == lines[0]["log_prob_nats"]
    assert [c["surprisal_bits"] * -math.log(2) for c in characters] == pytest.approx(
        [c["log_prob_nats"] for c in characters]
    )
    assert lines[0]["suggestions"][0]["gain_bits"] > 0


def test_html_alone_writes_the_page_and_prints_the_ranking(
    chargen: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    result = chargen("score", "--html", "page.html", "Chữ tài", "a b")
    assert "rank" in result.out
    assert "page.html" in result.err
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("data-why=") == 10
    assert chargen("score", "--html", "page.html", "a" * 100_001).status == 2


def test_characters_sum_exactly_to_the_score_without_chars(
    chargen: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "lines.txt").write_text(VERSE, encoding="utf-8")
    score = ("score", "--file", "lines.txt", "--no-sort", "--end", "--json")
    plain = [json.loads(line) for line in chargen(*score).out.splitlines()]
    why = [json.loads(line) for line in chargen(*score, "--chars").out.splitlines()]
    for row, detailed in zip(plain, why, strict=True):
        characters = detailed.pop("characters")
        assert detailed == row
        assert sum(c["log_prob_nats"] for c in reversed(characters)) == row["log_prob_nats"]
        assert characters[-1]["log_prob_nats"] == row["end_log_prob_nats"]


def test_chars_with_tsv_prints_a_row_for_each_character(chargen: Callable[..., Result], model: Path) -> None:
    result = chargen("score", "--chars", "--tsv", "--end", "a\tb", "€")
    header, *rows = [line.split("\t") for line in result.out.splitlines()]
    assert header == ["rank", "input", "position", "surprisal_bits", "log_prob_nats", "unknown", "character"]
    assert [(row[1], row[2], row[5], row[6]) for row in rows] == [
        *(("1", "1", "0", "a"), ("1", "2", "1", "\\t"), ("1", "3", "0", "b"), ("1", "4", "0", "")),
        *(("2", "1", "1", "€"), ("2", "2", "0", "")),
    ]


def test_chars_keep_the_input_order_unless_a_ranking_is_requested(chargen: Callable[..., Result], model: Path) -> None:
    texts = ("The quick brown", "☃☃", "T")
    plain = [json.loads(line) for line in chargen("score", "--chars", "--json", *texts).out.splitlines()]
    assert [(row["rank"], row["text"]) for row in plain] == [(None, text) for text in texts]
    for more in (["--sort", "best"], ["--top", "3"], ["--by", "per-char"]):
        ranked = [json.loads(line) for line in chargen("score", "--chars", "--json", *more, *texts).out.splitlines()]
        assert ranked == [
            {**row, "rank": rank} for rank, row in enumerate(sorted(plain, key=lambda r: r["bits_per_char"]), start=1)
        ]


def test_a_page_keeps_the_input_order_with_any_ranking(
    chargen: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    result = chargen("score", "--html", "page.html", "--tsv", "☃☃", "The quick")
    assert [line.split("\t")[1] for line in result.out.splitlines()[1:]] == ["2", "1"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.index(">☃<") < page.index(">T<")


def test_a_text_too_long_for_suggestions_is_refused_before_it_is_scored(
    chargen: Callable[..., Result], model: Path
) -> None:
    with patch.object(NumpyEngine, "read", side_effect=AssertionError):
        result = chargen("score", "--suggest", "ab" * 501)
    assert result.status == 2
    assert "text 1 has 1,002" in result.err
