"""A page of a model that reads backward: it writes the text before a prompt, as `chargen sample` and `score` do."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig
from chargen.scoring.ranking import rank
from chargen.tokenizers.direction import _has_parts_of_letters, reverse
from tests.conftest import VERSE, random_model
from tests.export.javascript import needs_javascript, run_javascript
from tests.programs import needs_browser

MARKED = "chữ tài e\u0302\u0301 x\u0301 👩\u200d👧 🇻🇳🇫🇷 กำลัง \u1112\u1161\u11ab שָׁלוֹם \r\n\t"


def backward_model(text: str = VERSE, tokenizer: str = "char", **options: Any) -> Checkpoint:
    model = random_model(text, tokenizer, cell="gru", **options)
    data = DataConfig(**{**model.data.to_json(), "tokenizer": tokenizer, "direction": "backward"})
    return Checkpoint(model.config, model.tokenizer, model.weights, {**model.about, "data": data.to_json()})


@needs_javascript
def test_letters_are_reversed_as_in_python(tmp_path: Path) -> None:
    texts = ["", "abc", MARKED, MARKED * 3, "\u0301a", "a\u200d", "\u200d", "a\u200d\u200d\u0301b\u200d", "\u200dab"]

    # Python and JavaScript may know different versions of Unicode: a mark in one can be unassigned in the other.
    assigned = st.characters(codec="utf-8", exclude_categories=["Cn"])

    @given(st.text(alphabet=st.one_of(st.sampled_from(MARKED + "ab\u200d\u200c\u0301"), assigned)))
    @settings(max_examples=500, deadline=None, database=None)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    script = files("chargen.export").joinpath("assets/direction.js").read_text(encoding="utf-8")
    script += f"""
    result = {json.dumps(texts)}.map(text => [backwardDirection.reverse(text), backwardDirection.isWhole(text)]);
    """
    found = run_javascript(script, tmp_path)
    assert found == [[reverse(text), not _has_parts_of_letters(text)] for text in texts]


needs_playwright = [needs_browser, pytest.mark.slow]


def in_browser(function: Any) -> Any:
    for mark in needs_playwright:
        function = mark(function)
    return function


@in_browser
@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("prompt", ["", "fox jumps", "người ta,\nTrăm"])
def test_the_most_probable_text_ends_with_the_prompt_and_is_that_of_sample(
    open_page: Any, tokenizer: str, prompt: str
) -> None:
    opened = open_page(backward_model(VERSE * 9, tokenizer), link="#length=80&temperature=0&live=no")
    opened.page.fill("#prompt", prompt)
    opened.page.click("#generate")
    expected = opened.lm.sample(prompt, length=80, temperature=0.0)
    opened.wait(f"window.chargenPage.writing.string(0) === {json.dumps(expected)}")
    assert opened.text.endswith(prompt)
    assert expected.endswith(prompt)


@in_browser
def test_marks_that_would_change_the_prompt_are_not_shown(open_page: Any) -> None:
    model = backward_model("e\u0302x" * 9)
    bias = model.weights["head.bias"].copy()
    bias[model.tokenizer.encode("\u0302")[0]] += 3
    data = DataConfig(**{**model.data.to_json(), "normalize": "none"})
    weights = {**model.weights, "head.bias": bias}
    model = Checkpoint(model.config, model.tokenizer, weights, {**model.about, "data": data.to_json()})
    opened = open_page(model, link="#length=9&temperature=0&prompt=xe")
    assert opened.text == opened.lm.sample("xe", length=9, temperature=0.0)
    assert opened.text.endswith("xe") and len(opened.text) < 11


@in_browser
def test_a_chosen_character_is_kept_and_the_text_before_it_is_generated_again(open_page: Any) -> None:
    opened = open_page(backward_model(), link="#length=40&seed=4&prompt=fox")
    text = opened.text
    assert len(text) == 43 and text.endswith("fox")
    span = "[...document.querySelectorAll('#output span')]"
    assert opened.page.evaluate(f"{span}.slice(-3).every(each => each.classList.contains('prompt'))")
    opened.open_character(30)
    listed = opened.alternatives()
    other = next(row for row, (glyph, _) in enumerate(listed) if glyph not in (text[30], "↵ newline", "␣ space"))
    opened.page.click(f"#alternatives [role=option] >> nth={other}")
    kept = listed[other][0] + text[31:]
    opened.wait(f"document.getElementById('output').textContent.endsWith({kept!r})")
    assert len(opened.text) == len(kept) + 40
    opened.wait_for("location.hash.includes('kept=')")
    chosen = opened.text
    opened.page.reload()
    opened.wait(f"document.getElementById('output').textContent === {chosen!r}")
    opened.page.click("#continue")
    opened.wait(f"document.getElementById('output').textContent.length === {len(chosen) + 40}")
    assert opened.text.endswith(chosen)


@in_browser
def test_a_text_starts_after_a_stop_string(open_page: Any) -> None:
    opened = open_page(backward_model(), link="#length=200&seed=3&prompt=fox")
    text = opened.text
    stop = text[100:102]
    opened.page.fill("#stops", stop.replace("\n", "\\n"))
    expected = text[text.rindex(stop, 0, -3) + 2 :]
    opened.wait(f"document.getElementById('output').textContent === {expected!r}")
    assert "Starts after a stop string" in opened.page.inner_text("#write-status")


@in_browser
def test_a_model_of_documents_writes_the_start_of_a_text(open_page: Any) -> None:
    model = backward_model(documents="line")
    bias = model.weights["head.bias"].copy()
    bias[0] += 2.0
    model = Checkpoint(model.config, model.tokenizer, {**model.weights, "head.bias": bias}, model.about)
    opened = open_page(model, link="#length=2000&seed=2&prompt=fox")
    assert opened.page.evaluate("document.querySelector('#output span').classList.contains('end')")
    assert "the start of the text" in opened.page.inner_text("#write-status")


@in_browser
@pytest.mark.parametrize("documents", ["none", "line"])
@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_probabilities_and_ranks_are_those_of_score(open_page: Any, tokenizer: str, documents: str) -> None:
    lines = ["the fox", "Trăm năm", "xof eht", "fox", "dog\tdog"]
    opened = open_page(backward_model(VERSE * 9, tokenizer, documents=documents))
    opened.page.click("#tab-rank")
    opened.page.fill("#lines", "\n".join(lines))
    opened.wait_for(f"document.querySelectorAll('#ranking tr').length === {len(lines)}")
    rows = opened.page.evaluate(
        "[...document.querySelectorAll('#ranking tr')].map(row => [...row.cells].map(c => c.textContent))"
    )
    ranked = rank(opened.lm.score(lines))
    assert [row[3].replace("␉", "\t") for row in rows] == [score.text for score in ranked]
    assert [row[1] for row in rows] == [f"{score.log_prob_nats:.2f}" for score in ranked]
    opened.page.click("#tab-surprisal")
    opened.page.fill("#scored", "The người q")
    opened.wait_for("document.getElementById('heat').textContent === 'The người q'")
    score = opened.lm.score("The người q", pieces=True)
    assert f"{score.bits_per_char:.3f} bits/char" in opened.page.inner_text("#surprisal-status")
    script = """[...document.querySelectorAll('#heat span')].filter(span => span.textContent)
      .map(span => Number(span.className.match(/s(\\d+)/)[1]))"""
    shades = opened.page.evaluate(script)
    assert shades == [int(min(10, max(0, -nats / math.log(2)))) for _, nats in score.pieces]


@in_browser
def test_a_prompt_that_is_not_made_of_whole_letters_is_refused(open_page: Any) -> None:
    opened = open_page(backward_model(), link="#length=9&prompt=fox")
    opened.page.fill("#prompt", "\u0301fox")
    opened.page.locator("#write-status", has_text="combining mark").wait_for()
    assert "\u0301fox" not in opened.page.inner_text("#output")
    opened.page.fill("#prompt", "dog")
    opened.wait("document.getElementById('output').textContent.endsWith('dog')")
    assert "combining mark" not in opened.page.inner_text("#write-status")


@in_browser
@pytest.mark.parametrize(("locale", "words"), [("en", "comes before your prompt"), ("vi", "đứng trước đoạn bạn gõ")])
def test_the_interface_says_the_direction(open_page: Any, locale: str, words: str) -> None:
    opened = open_page(backward_model(), locale=locale)
    assert words in opened.page.inner_text("#direction")
    opened.page.click("#tab-about")
    assert ("backward" if locale == "en" else "ngược") in opened.page.inner_text("#facts")


@in_browser
def test_keys_move_in_reading_order(open_page: Any) -> None:
    opened = open_page(backward_model(), link="#length=60&prompt=fox")
    character = "document.activeElement.textContent"
    opened.page.focus("#output [tabindex]")
    for key, index in [("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", -1)]:
        opened.page.keyboard.press(key)
        assert opened.page.evaluate(character) == opened.text[index]
