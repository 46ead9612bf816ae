"""What notebooks show of a score and of a model: escaped, self-contained, and with the colours of the heat maps."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chargen.lm import LanguageModel
from chargen.probe.heat_map import LIGHT, MAX_NOTEBOOK_CHARS, contrast, heat_html
from tests.conftest import random_model

EVIL = "<script>alert(1)</script>\x1b[2J\u202e&\"'\n<img src=x onerror=y>"
ALLOWED = {
    **dict.fromkeys(("table", "tr", "td"), {"style"}),
    "div": {"style", "dir"},
    "span": {"style", "title"},
    "br": set(),
}


class Fragment(HTMLParser):
    """Checks that a fragment is balanced and has only harmless elements and attributes; keeps its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.styles: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= ALLOWED[tag], (tag, attrs)
        self.styles += [str(value) for name, value in attrs if name == "style"]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def model() -> LanguageModel:
    about = {"corpus": EVIL, "train_chars": 1, "result": {"val_loss_nats_per_char": 1.0}}
    return LanguageModel(replace(random_model(), about=about))


def test_a_score_with_pieces_is_a_heat_map_in_the_colours_of_its_surprisals(model: LanguageModel) -> None:
    assert model.score("abc")._repr_html_() is None
    score = model.score("The fox", pieces=True)
    html = score._repr_html_()
    assert html is not None and Fragment(html).text.startswith("The fox")
    for (_, nats), (colour, title) in zip(
        score.pieces or (), re.findall(r'background:(#\w+)[^>]*title="([\d.]+) bits"', html), strict=True
    ):
        bits = -nats / 0.6931471805599453
        assert title == f"{bits:.2f}" and colour == LIGHT[min(10, int(bits))]
    assert f"{score.bits_per_char:.3f} bits/char, " in html and "7 characters" in html
    with_end = model.score("The fox", pieces=True, end=True)._repr_html_() or ""
    assert Fragment(with_end).text.startswith("The fox␃")


def test_text_is_escaped_and_hidden_characters_are_shown(model: LanguageModel) -> None:
    html = model.score(EVIL, pieces=True)._repr_html_() or ""
    shown = Fragment(html).text  # an element or an attribute of the text would fail the check of the fragment
    assert shown.startswith("<script>alert(1)</script>␛[2J\ufffd&\"'␊<img src=x onerror=y>")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)


def test_the_fragment_loads_nothing_and_has_readable_colours(model: LanguageModel) -> None:
    for html in (model.score("The fox", pieces=True)._repr_html_() or "", model._repr_html_()):
        assert "url(" not in html and "<style" not in html and "<script" not in html
        for style in Fragment(html).styles:
            colours = dict(re.findall(r"(background|color):(#\w{6})", style))
            if "color" in colours:
                assert contrast(colours["background"], colours["color"]) >= 4.5


def test_letters_and_their_marks_stay_together() -> None:
    pieces = [(char, 1.5) for char in "e\u0301👍\U0001f3fd!👩\u200d🔬"]
    spans = re.findall(r'title="([\d.]+) bits">([^<]*)<', heat_html(pieces, ""))
    assert spans == [("3.00", "e\u0301"), ("3.00", "👍\U0001f3fd"), ("1.50", "!"), ("4.50", "👩\u200d🔬")]


@pytest.mark.parametrize("text", ["", "\udcff", "\u0301", "a" * (MAX_NOTEBOOK_CHARS + 1)])
def test_odd_texts_are_shown(text: str) -> None:
    html = heat_html([(char, 0.5) for char in text], "caption")
    Fragment(html.encode("utf-8").decode("utf-8"))
    assert ("the first 5,000 characters are shown" in html) == (len(text) > MAX_NOTEBOOK_CHARS)


def test_a_model_is_a_table_of_facts(model: LanguageModel) -> None:
    text = Fragment(model._repr_html_()).text
    for fact in (str(model.checkpoint.config), "parameters", "vocabulary", "1 character", "1.443 bits/char"):
        assert fact in text
    bare = LanguageModel(random_model())
    assert "network" in Fragment(bare._repr_html_()).text
