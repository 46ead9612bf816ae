"""The page in a browser: opened from the disk, it generates, explains, continues from choices, and ranks."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chargen.checkpoint import Checkpoint
from chargen.export.page import write_page
from chargen.lm import LanguageModel
from chargen.scoring.ranking import rank
from tests.conftest import VERSE, random_model
from tests.programs import needs_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, needs_browser]

LONG_VOCABULARY = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))


def test_it_generates_while_one_types_and_continues_from_a_chosen_character(open_page: Any) -> None:
    opened = open_page(link="#length=60")
    assert len(opened.text) == 60
    opened.type_prompt("The quick ")
    text = opened.text
    assert len(text) == 70
    opened.open_character(20)
    listed = opened.alternatives()
    other = next(row for row, (glyph, _) in enumerate(listed) if glyph not in (text[20], "↵ newline", "␣ space"))
    opened.page.click(f"#alternatives [role=option] >> nth={other}")
    chosen = text[:20] + listed[other][0]
    opened.wait(f"document.getElementById('output').textContent.startsWith({chosen!r})")
    assert len(opened.text) == 81
    assert opened.page.get_attribute("#output span >> nth=20", "class").split()[1] == "chosen"
    assert opened.page.evaluate("document.activeElement.groupIndex") == 20
    assert opened.page.input_value("#prompt") == "The quick "
    opened.page.click("#undo")
    opened.wait(f"document.getElementById('output').textContent === {text!r}")
    opened.page.click("#continue")
    opened.wait("document.querySelectorAll('#output span').length === 130")
    assert opened.text.startswith(text)


def test_a_choice_in_the_prompt_changes_the_prompt(open_page: Any) -> None:
    opened = open_page(link="#length=10&prompt=The+quick")
    opened.open_character(2)
    opened.page.keyboard.press("o")  # selects the alternative with this character
    opened.page.keyboard.press("Enter")
    opened.wait("document.getElementById('output').textContent.startsWith('Tho')")
    assert len(opened.text) == 13
    assert opened.page.input_value("#prompt") == "Th"


def test_probabilities_and_surprisals_are_those_of_score(open_page: Any) -> None:
    opened = open_page(link="#tab=surprisal&text=The+ng%C6%B0%E1%BB%9Di+q")
    score = opened.lm.score("The người q", pieces=True)
    opened.page.wait_for_selector("#heat span")
    assert f"{score.bits_per_char:.3f} bits/char" in opened.page.inner_text("#surprisal-status")
    opened.open_character(7, "#heat")
    title = opened.page.inner_text("#popover-title")
    assert title.startswith("ờ · ")
    assert f"{-score.pieces[7][1] / math.log(2):.2f} bits" in title
    shades = opened.page.evaluate(
        "[...document.querySelectorAll('#heat span')].map(span => span.className.split(' ')[0])"
    )
    assert shades == [f"s{int(min(10, max(0, -nats / math.log(2))))}" for _, nats in score.pieces]


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
@pytest.mark.parametrize("documents", ["none", "line"])
def test_lines_are_ranked_as_by_score(open_page: Any, tokenizer: str, documents: str) -> None:
    lines = ["the fox", "Trăm năm", "xof eht", "fox € fox", "fox", "dog\tdog"]
    opened = open_page(random_model(VERSE, tokenizer, documents=documents, cell="lstm"))
    opened.page.click("#tab-rank")
    opened.page.fill("#lines", "\n".join(lines))
    opened.wait_for(f"document.querySelectorAll('#ranking tr').length === {len(lines)}")
    rows = opened.page.evaluate(
        "[...document.querySelectorAll('#ranking tr')].map(row => [...row.cells].map(c => c.textContent))"
    )
    ranked = rank(opened.lm.score(lines))
    assert [row[3].replace("␉", "\t") for row in rows] == [score.text for score in ranked]
    for row, score in zip(rows, ranked, strict=True):
        assert abs(float(row[0]) - score.bits_per_char) < 0.00051
        assert abs(float(row[1].replace(",", "")) - score.log_prob_nats) < 0.0051


def test_the_most_probable_text_is_that_of_sample(open_page: Any) -> None:
    opened = open_page(link="#length=200&temperature=0&prompt=The+")
    assert opened.text == opened.lm.sample(prompt="The ", length=200, temperature=0.0)


def test_a_link_gives_the_same_text(open_page: Any) -> None:
    opened = open_page(link="#length=80&seed=9&temperature=0.7&topP=0.9&topK=20&minP=0.01&prompt=Tr%C4%83m")
    opened.open_character(30)
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Enter")
    opened.wait("document.querySelectorAll('#output span').length === 111")
    text = opened.text
    opened.wait_for("location.hash.includes('kept=')")
    opened.page.reload()
    opened.wait(f"document.getElementById('output').textContent === {text!r}")
    opened.page.click("#another")
    opened.wait(f"document.getElementById('output').textContent !== {text!r}")
    assert opened.text[:31] == text[:31]


def test_a_text_ends_before_a_stop_string(open_page: Any) -> None:
    opened = open_page(link="#length=300&seed=3")
    text = opened.text
    stop = text[40:42]
    opened.page.fill("#stops", stop.replace("\n", "\\n"))
    expected = text[: text.index(stop)]
    opened.wait(f"document.getElementById('output').textContent === {expected!r}")
    assert "stop string" in opened.page.inner_text("#write-status")


def test_a_model_of_documents_ends_its_text_and_the_end_can_be_replaced(open_page: Any) -> None:
    model = random_model(VERSE, documents="line", cell="gru")
    bias = model.weights["head.bias"].copy()
    bias[0] += 2.0
    model = Checkpoint(model.config, model.tokenizer, {**model.weights, "head.bias": bias}, model.about)
    opened = open_page(model, link="#length=2000&seed=2")
    assert opened.page.evaluate("[...document.querySelectorAll('#output span')].pop().className").endswith("end")
    assert "ended the text" in opened.page.inner_text("#write-status")
    count = opened.page.evaluate("document.querySelectorAll('#output span').length")
    opened.open_character(count - 1)
    assert "■ end of the text" in [glyph for glyph, _ in opened.alternatives()]
    opened.page.keyboard.press("o")
    opened.page.keyboard.press("Enter")
    opened.wait(f"document.querySelectorAll('#output span').length > {count}")
    assert opened.text[count - 1] == "o"


def test_a_model_of_bytes_shows_characters(open_page: Any) -> None:
    opened = open_page(random_model(VERSE, "byte", cell="gru"), link="#length=40&prompt=c%C3%B5i+%E1%BA%BF")
    assert opened.text.startswith("cõi ế") and "\ufffd" not in opened.text
    assert len(opened.text) == 45
    opened.open_character(1)
    title = opened.page.inner_text("#popover-title")
    assert title.startswith("õ · ")
    total = sum(float(percent.lstrip("< ").rstrip("%")) for _, percent in opened.alternatives())
    assert total > 10
    opened.page.click("#alternatives [role=option] >> nth=3")
    opened.wait("document.querySelectorAll('#output span').length > 30")


def test_a_model_of_subwords_writes_the_text_of_sample_and_ends_it_within_a_piece(open_page: Any) -> None:
    opened = open_page(random_model(VERSE * 5, "sp:300", cell="gru"), link="#length=60&temperature=0&prompt=The+quick+")
    text = opened.lm.sample("The quick ", length=60, temperature=0.0)
    assert opened.text == text
    stop = text[30:33]
    opened.page.fill("#stops", stop)
    expected = opened.lm.sample("The quick ", length=60, temperature=0.0, stop=[stop])
    opened.wait(f"document.getElementById('output').textContent === {expected!r}")
    opened.open_character(2)
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("#output .chosen")
    opened.wait()


def test_keys_move_and_choose(open_page: Any) -> None:
    opened = open_page(link="#length=120&prompt=The")
    page = opened.page
    page.focus("#output span >> nth=0")
    for key, index in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0), ("End", 122)]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.groupIndex") == index
    assert "%" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert page.evaluate("document.querySelectorAll('#output [tabindex]').length") == 1
    page.keyboard.press("Enter")
    page.wait_for_selector("#alternatives [role=option]")
    assert page.evaluate("document.activeElement.id") == "alternatives"
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.groupIndex") == 122
    assert page.is_hidden("#popover")
    page.focus("#tab-write")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#surprisal") and page.evaluate("document.activeElement.id") == "tab-surprisal"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", "warm", "Temperature is “warm”, but must be a number from 0 to 1,000,000."),
        ("topP", "0", "Top-p is “0”, but must be a number above 0 and at most 1."),
        ("minP", "1.1", "Min-p is “1.1”, but must be a number from 0 to 1."),
        ("length", "2.5", "Length is “2.5”, but must be a whole number from 0 to 20,000."),
        ("seed", "-1", "Seed is “-1”, but must be a whole number from 0 to"),
    ],
)
def test_an_invalid_setting_is_named_with_its_limits(open_page: Any, name: str, value: str, message: str) -> None:
    opened = open_page(link="#length=20")
    text = opened.text
    opened.page.fill(f"#{name}", value)
    opened.page.wait_for_selector(f"#{name}[aria-invalid=true]")
    assert message in opened.page.inner_text(f"#{name}-error")
    assert opened.text == text
    opened.page.click("#reset")
    opened.wait("document.querySelectorAll('#output span').length === 400")
    assert not opened.page.query_selector(".error:visible")


def test_a_decimal_comma_is_a_decimal_point(open_page: Any) -> None:
    opened = open_page(link="#length=50&temperature=0.5")
    text = opened.text
    opened.page.fill("#temperature", "2,0")
    opened.wait(f"document.getElementById('output').textContent !== {text!r}")
    assert opened.page.input_value("[data-for=temperature]") == "2"


def test_the_interface_is_vietnamese_for_readers_of_vietnamese(open_page: Any) -> None:
    opened = open_page(locale="vi-VN")
    assert opened.page.inner_text("#generate") == "Sinh văn bản"
    assert opened.page.get_attribute("html", "lang") == "vi"
    opened.page.select_option("#language", "en")
    assert opened.page.inner_text("#generate") == "Generate"
    opened.page.reload()
    opened.wait()
    assert opened.page.inner_text("#generate") == "Generate"


@pytest.mark.parametrize("locale", ["en", "vi"])
@pytest.mark.parametrize("width", [320, 375, 1280])
def test_no_panel_is_wider_than_the_screen(open_page: Any, width: int, locale: str) -> None:
    opened = open_page(viewport={"width": width, "height": 700}, link="#lines=" + "x" * 300, locale=locale)
    for tab in ("write", "surprisal", "rank", "about"):
        opened.page.click(f"#tab-{tab}")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.click("#tab-write")
    opened.open_character(50)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.page.evaluate("document.getElementById('popover').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= width and box["bottom"] <= 700 + 1
    here = opened.page.evaluate("document.querySelector('#output .here').getBoundingClientRect().toJSON()")
    assert here["bottom"] <= box["top"] + 1 or here["top"] >= box["bottom"] - 1


def test_a_vocabulary_of_5000_characters(open_page: Any) -> None:
    opened = open_page(random_model(LONG_VOCABULARY, cell="gru", hidden_size=8), link="#length=100")
    opened.open_character(10)
    assert len(opened.alternatives()) == 100
    opened.page.click("#alternatives .more")
    assert len(opened.alternatives()) == 200
    opened.page.fill("#find", LONG_VOCABULARY[4321])
    assert [glyph for glyph, _ in opened.alternatives()] == [LONG_VOCABULARY[4321]]
    opened.page.keyboard.press("Enter")
    opened.wait(f"document.querySelectorAll('#output span')[10].textContent === {LONG_VOCABULARY[4321]!r}")
    opened.open_character(12)
    opened.page.fill("#find", "x")
    assert "cannot write" in opened.page.inner_text("#alternatives")


def test_clusters_and_right_to_left_texts_are_whole(open_page: Any) -> None:
    text = "שלום עולם q\u0302\u0301x 👩\u200d👧!"
    opened = open_page(random_model(text * 3, cell="gru"), link="#length=5")
    opened.type_prompt(text)
    spans = opened.page.evaluate("[...document.querySelectorAll('#output span')].map(span => span.textContent)")
    assert "q\u0302\u0301" in spans and "👩\u200d👧" in spans
    opened.page.focus("#output span >> nth=0")
    opened.page.keyboard.press("ArrowLeft")
    assert opened.page.evaluate("document.activeElement.groupIndex") == 1
    opened.open_character(10)
    assert opened.page.locator("#popover-parts button").count() == 3
    opened.page.click("#popover-parts button >> nth=2")
    assert opened.page.inner_text("#popover-title").startswith("◌\u0301 · ")


def test_a_browser_without_segmenter_and_decompression_works(browser: Browser, tmp_path: Path) -> None:
    model = random_model("q\u0302\u0301x" * 9, cell="gru")
    write_page(LanguageModel(model), tmp_path / "page.html")
    context = browser.new_context()
    context.add_init_script("delete Intl.Segmenter; delete window.DecompressionStream; delete window.WebAssembly;")
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri() + "#length=0&prompt=q%CC%82%CC%81x")
    page.wait_for_selector("#output span >> nth=1")
    assert page.evaluate("[...document.querySelectorAll('#output span')].map(span => span.textContent)") == [
        "q\u0302\u0301",
        "x",
    ]
    context.close()


def test_the_frame_of_the_guide_works_without_storage(browser: Browser, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "web-page.md").read_text(encoding="utf-8")
    block = re.search(r"^```html\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert block
    write_page(LanguageModel(random_model(VERSE, cell="gru")), tmp_path / "docs.html")
    (tmp_path / "site.html").write_text(block[1], encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "site.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(f"#output span >> nth={len('The function ') + 200 - 1}").wait_for(timeout=10_000)
    frame.locator("#theme").select_option("dark")
    assert frame.locator("#failure").is_hidden()
    page.close()


def test_unknown_characters_are_named_and_underlined(open_page: Any) -> None:
    opened = open_page(link="#length=5&prompt=a%E2%82%ACb")
    assert "€" in opened.page.inner_text("#write-status")
    assert opened.page.get_attribute("#output span >> nth=1", "class").split()[-1] == "unknown"


def test_stop_ends_a_long_text(open_page: Any) -> None:
    opened = open_page(random_model(VERSE, cell="lstm", hidden_size=500), link="#length=20")
    opened.page.fill("#length", "20000")
    opened.page.click("#stop")
    opened.wait()
    assert opened.page.inner_text("#write-status") == "Stopped."
    assert len(opened.text) < 20000


def test_pointing_at_a_character_previews_its_alternatives(open_page: Any) -> None:
    opened = open_page(link="#length=60")
    opened.page.hover("#output span >> nth=30")
    opened.page.wait_for_selector("#popover.preview [role=option]")
    assert len(opened.alternatives()) == 6
    assert opened.page.evaluate("document.activeElement === document.body")
    opened.page.hover("#prompt")
    opened.page.wait_for_selector("#popover", state="hidden")


def test_a_long_prompt_is_read_from_its_end(open_page: Any) -> None:
    opened = open_page(link="#length=5")
    opened.page.evaluate(
        "const field = document.getElementById('prompt'); field.value = 'x'.repeat(30) + 'abc'.repeat(6667);"
        "field.dispatchEvent(new Event('input'))"
    )
    opened.wait("document.getElementById('write-status').textContent.includes('longer than 20,000')")
    assert len(opened.text) == 20_005


def test_the_theme_can_be_chosen_and_is_remembered(open_page: Any) -> None:
    opened = open_page(link="#length=5", color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(background) == "rgb(255, 255, 255)"
    opened.page.select_option("#theme", "dark")
    assert opened.page.evaluate(background) == "rgb(17, 17, 17)"
    opened.page.reload()
    opened.wait()
    assert opened.page.evaluate(background) == "rgb(17, 17, 17)"
    opened.page.emulate_media(color_scheme="dark")
    opened.page.select_option("#theme", "light")
    assert opened.page.evaluate(background) == "rgb(255, 255, 255)"


def test_texts_and_links_can_be_copied(open_page: Any) -> None:
    opened = open_page(link="#length=5&prompt=The", permissions=["clipboard-read", "clipboard-write"])
    opened.page.click("#copy-text")
    opened.page.locator("#write-status", has_text="Copied.").wait_for()
    assert opened.page.evaluate("navigator.clipboard.readText()") == opened.text
    opened.page.click("#copy-link")
    opened.wait_for("document.getElementById('write-status').textContent === 'Copied.'")
    assert opened.page.evaluate("navigator.clipboard.readText()").endswith("#prompt=The&length=5")


def test_without_live_nothing_is_generated_until_the_button_is_pressed(open_page: Any) -> None:
    opened = open_page(link="#length=20&live=no")
    text = opened.text
    opened.page.fill("#prompt", "The")
    opened.wait_for("location.hash.includes('prompt=The')")  # the change was handled
    assert opened.text == text
    opened.page.click("#generate")
    opened.wait("document.getElementById('output').textContent.startsWith('The')")


CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => numbers(colour).slice(0, 3).map(value => value / 255)
    .map(value => (value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [.2126, .7152, .0722][i], 0);
  const background = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.getClientRects().length) continue;
    for (const part of [null, "::placeholder", "::before"]) {
      const style = getComputedStyle(element, part);
      if (part === "::before" && style.content === "none") continue;
      if (!part && ![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
      if (part === "::placeholder" && !element.placeholder) continue;
      const levels = [style.color, background(element)].map(luminance).sort();
      const contrast = (levels[1] + .05) / (levels[0] + .05);
      if (contrast < 4.5) low.push([element.tagName, element.id, part, contrast]);
    }
  }
  return low;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(open_page: Any, theme: str) -> None:
    opened = open_page(
        link="#length=300&colours=yes&temperature=3&prompt=a%E2%82%ACb&text=The%0Afox", color_scheme=theme
    )
    opened.page.fill("#topP", "0")
    opened.page.wait_for_selector("#topP-error")
    for tab in ("surprisal", "rank", "about", "write"):
        opened.page.click(f"#tab-{tab}")
        assert opened.page.evaluate(CONTRASTS) == []
    opened.open_character(30)
    assert opened.page.evaluate(CONTRASTS) == []


def test_a_page_that_the_browser_saved_opens_again(open_page: Any, tmp_path: Path) -> None:
    opened = open_page(link="#length=30&prompt=The")
    text = opened.text
    opened.open_character(5)
    opened.page.keyboard.press("Escape")
    opened.page.hover("#prompt")
    opened.page.wait_for_selector("#popover", state="hidden")
    saved = opened.page.evaluate("'<!doctype html>' + document.documentElement.outerHTML")
    (tmp_path / "saved.html").write_text(saved, encoding="utf-8")
    opened.page.goto((tmp_path / "saved.html").as_uri() + "#length=30&prompt=The")
    opened.wait(f"document.getElementById('output').textContent === {text!r}")
    assert opened.page.is_hidden("#popover") and opened.page.is_hidden("#failure")


def test_long_pasted_texts_are_read_in_seconds(open_page: Any) -> None:
    opened = open_page(link="#length=5&prompt=The")
    paste = """([id, text]) => {
      const field = document.getElementById(id);
      field.value = text;
      field.dispatchEvent(new Event("input", {bubbles: true}));
    }"""
    opened.page.set_default_timeout(30_000)
    opened.page.click("#tab-rank")
    opened.page.evaluate(paste, ["lines", "The fox\n" * 125_000])
    opened.page.locator("#rank-status", has_text="Lines that are left out: 123,000.").wait_for()
    opened.page.evaluate(paste, ["lines", "x" * 60_000 + "\nfox"])
    opened.page.locator("#rank-status", has_text="1 line, ").wait_for()
    opened.page.locator("#rank-status", has_text="Lines that are left out: 1.").wait_for()
    opened.page.click("#tab-surprisal")
    opened.page.evaluate(paste, ["scored", "The quick brown fox. " * 20_000])
    opened.page.locator("#surprisal-status", has_text="longer than 20,000").wait_for()
    opened.page.click("#tab-write")
    opened.page.fill("#prompt", "fox")
    opened.wait_for("location.hash.includes('prompt=fox')")
    assert "text=" not in opened.page.evaluate("location.hash")


def test_a_field_has_the_direction_of_its_first_letter(open_page: Any) -> None:
    opened = open_page(link="#length=5&prompt=12+%D7%A9&text=abc")
    assert opened.page.get_attribute("#prompt", "dir") == "rtl"
    assert opened.page.get_attribute("#scored", "dir") == "ltr"
    opened.page.fill("#prompt", "fox ש")
    assert opened.page.get_attribute("#prompt", "dir") == "ltr"


def test_a_right_to_left_character_does_not_reorder_the_title_of_the_box(open_page: Any) -> None:
    opened = open_page(random_model("שלום " * 9, cell="gru"), link="#length=0&prompt=%D7%A9%D7%9C")
    opened.open_character(1)
    left_of = """([child, length]) => {
      const range = document.createRange(), node = document.getElementById("popover-title").childNodes[child];
      range.selectNodeContents(node);
      if (length) range.setEnd(node, length);
      return range.getBoundingClientRect().left;
    }"""
    assert opened.page.evaluate(left_of, [0, 0]) < opened.page.evaluate(left_of, [1, 5])
    assert opened.page.inner_text("#popover-title").startswith("ל · ")


def test_the_missing_licence_is_told_in_the_language_of_the_reader(open_page: Any) -> None:
    opened = open_page(locale="vi")
    opened.page.click("#tab-about")
    assert "Không có giấy phép" in opened.page.inner_text("#facts")
