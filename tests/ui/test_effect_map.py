"""Effect maps: colours with contrast, digits that stand below their characters, and a page that needs no colours."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from rich.console import Console

from chargen.probe.heat_map import contrast, text_colour
from chargen.tasks.classification.explain import CharEffect, Explanation
from chargen.ui.effect_map import RAMPS, effect_page, effect_rows, effect_shade, print_effects
from chargen.ui.terminal_text import cells


def explanation(text: str, effects: list[float], label: str = "pos") -> Explanation:
    chars = tuple(CharEffect(char, effect) for char, effect in zip(text, effects, strict=True))
    return Explanation(text, label, 0.75, 1.1, 3, chars)


@pytest.mark.parametrize("ramp", RAMPS.values(), ids=str)
def test_letters_have_the_contrast_of_wcag_and_shades_grow(ramp: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    for colours in ramp:
        assert all(contrast(text_colour(colour), colour) >= 4.5 for colour in colours)
        from_first = [contrast(colours[0], colour) for colour in colours]
        assert all(low < high for low, high in pairwise(from_first)), "a stronger effect is further from a weak one"


def test_shades_are_symmetric_and_grow_with_the_effect() -> None:
    values = [0.0, 0.09, 0.1, 0.2, 0.3, 0.9, 1.0, 2.9, 3.0, 99.0]
    shades = [effect_shade(value) for value in values]
    assert shades == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [effect_shade(-value) for value in values] == [-shade for shade in shades]


def test_digits_stand_below_their_characters() -> None:
    found = list(effect_rows(explanation("ab日e\u0301x", [1.0, -0.4, 3.5, 0.2, 0.2, 0.0]).chars, None))
    assert found == [("  ab日e\u0301x", "+ 3 4 1", "−  2")]
    rows = list(effect_rows(explanation("abcdef" * 5, [1.0] * 30).chars, 12))
    assert "".join(text[2:] for text, _, _ in rows) == "abcdef" * 5
    assert all(cells(line) <= 12 for row in rows for line in row)


@pytest.mark.parametrize(
    ("colours", "has_digits"), [("truecolor", False), ("256", False), ("standard", True), (None, True)]
)
def test_a_terminal_with_few_colours_shows_digits(colours: str | None, has_digits: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=colours, width=80)  # type: ignore[arg-type]
    assert print_effects(console, explanation("good", [0.5] * 4), with_legend=True) == has_digits
    assert ("+ 2222" in out.getvalue()) == has_digits
    assert ("nats of the log odds" in out.getvalue()) != has_digits


def test_the_page_says_in_words_what_its_colours_show() -> None:
    page = "".join(effect_page([explanation("so <b>\ngood", [0.0] * 7 + [1.5] * 4), explanation("", [])], "m & n"))
    assert '<html lang="en">' in page
    assert "What moved the decisions of m &amp; n" in page
    assert "&lt;" in page and "<b>" not in page.split("</head>")[1]
    assert '<tr><td>+1.50</td><td>for pos</td><td dir="auto">good</td></tr>' in page
    assert "No passage of this text changes the log odds" in page
    assert "prefers-color-scheme: dark" in page
    assert "default-src 'none'" in page
