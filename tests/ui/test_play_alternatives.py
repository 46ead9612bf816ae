"""`chargen play`: the alternatives at the cursor, and the colours of surprisal."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from chargen.lm import LanguageModel
from chargen.probe.heat_map import DARK, shade
from chargen.probe.surprisal import Guess
from chargen.sampling.prefix_cache import list_char_bits
from chargen.ui.play.alternatives import Alternatives, menu_page, open_menu, select
from chargen.ui.play.app import BackgroundWork, play
from chargen.ui.play.draft import choose, new_draft, press, set_generated
from chargen.ui.play.layout import Mark, Marks, lay_out
from chargen.ui.play.terminal import Key, Screen
from tests.conftest import VERSE, random_model
from tests.ui.test_play import Script

GUESSES = (Guess("e", 0.5), Guess("\n", 0.25), Guess("", 0.125), Guess(" ", 0.0625), Guess("漢", 0.01))


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("text", ["", "The quick", "Trăm năm"])
def test_the_alternatives_are_the_guesses_of_the_model(tokenizer: str, text: str) -> None:
    lm = LanguageModel(random_model(VERSE * 9, tokenizer=tokenizer))
    *_, prefix = lm.read_prefix(text)
    found = lm.guesses_after(prefix, 8)
    if tokenizer != "sp:300":  # the next character after the text is any, and its guesses are those before it
        (*_, expected) = [char.guesses for char in lm.char_surprisals(f"{text}a", num_guesses=8)]
        assert [guess.text for guess in found] == [guess.text for guess in expected]
        np.testing.assert_allclose([g.prob for g in found], [g.prob for g in expected], rtol=1e-5)
    assert len(found) == 8
    assert all(one.prob >= other.prob for one, other in zip(found, found[1:], strict=False))


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("text", ["", "a", "The quick brown fox", "Trăm năm € tài", VERSE])
def test_the_bits_of_the_characters_add_up_to_the_score(tokenizer: str, text: str) -> None:
    lm = LanguageModel(random_model(VERSE * 9, tokenizer=tokenizer))
    *_, prefix = lm.read_prefix(text)
    bits = list_char_bits(lm.tokenizer, prefix)
    assert len(bits) == len(text)
    assert math.isclose(sum(bits), -lm.score(text).log_prob_nats / math.log(2), rel_tol=1e-6, abs_tol=1e-6)
    if tokenizer != "sp:300":
        np.testing.assert_allclose(bits, [b for _, b in lm.surprisal(text)], rtol=1e-5, atol=1e-6)


def test_choosing_cuts_the_text_and_undo_brings_it_back() -> None:
    draft = new_draft("The king", 1.0, 0)
    for _ in range(4):
        draft = press(draft, Key("left"))
    chosen = choose(draft, "s")
    assert (chosen.text, chosen.cursor, chosen.prompt) == ("The s", 5, "The s")
    assert press(chosen, Key("ctrl-z")).text == "The king"
    same = choose(draft, "k")
    assert (same.text, same.cursor) == ("The king", 5)
    assert choose(draft, "").text == "The "


def test_choosing_at_the_end_accepts_the_continuation_or_replaces_it() -> None:
    draft = set_generated(new_draft("The ", 1.0, 0), "king of")
    assert choose(draft, "k").continuation == "ing of"
    other = choose(draft, "s")
    assert (other.text, other.continuation, other.prompt) == ("The s", "", "The s")


def test_the_menu_selects_the_character_that_is_there() -> None:
    draft = set_generated(new_draft("The ", 1.0, 0), "\nking")
    menu = open_menu(draft, GUESSES)
    assert (menu.before, menu.current, menu.selected, menu.chosen) == ("The ", "\n", 1, "\n")
    assert open_menu(new_draft("", 1.0, 0), GUESSES).selected == 0
    positions = [menu.selected]
    for key in ("down", "end", "down", "home", "up", "down"):
        moved = select(menu, key)
        assert moved is not None
        menu = moved
        positions.append(menu.selected)
    assert positions == [1, 2, 4, 4, 0, 0, 1]
    assert select(menu, "a") is None


def test_the_rows_of_the_menu() -> None:
    page = menu_page(Alternatives("one\nthe king of ", "\n", GUESSES, 2), 40, 20)
    assert ["".join(row) for row in page.rows] == [
        "the king of ▮",
        "  e    50.00 %  ████████████████████",
        "● ␊    25.00 %  ██████████",
        "▸ ␃    12.50 %  █████",
        "  ␣     6.25 %  ██▌",
        "  漢    1.00 %  ▍",
    ]
    assert page.cursor == (3, 0)
    assert page.rows[3][0] and not page.rows[2][0]  # the selected row alone is bright


@given(st.text("ab é漢🇻🇳\n\t\x1b", max_size=60), st.integers(1, 50), st.integers(1, 12), st.integers(0, 4))
def test_the_menu_stays_on_the_screen_with_the_selected_row(text: str, width: int, height: int, selected: int) -> None:
    page = menu_page(Alternatives(text, "e", GUESSES, selected), width, height)
    assert 1 <= len(page.rows) <= height
    assert page.rows[page.cursor[0]][0].startswith("▸") or width == 1
    for typed, drawn in page.rows:
        assert cell_len(typed + drawn) <= width
        assert not set(typed + drawn) & set("\x1b\n\t")


def test_the_text_is_coloured_by_the_surprisal_of_its_characters() -> None:
    bits = [0.2, 3.5, 3.1, 0.0, 50.0]
    page = lay_out("abc\ne\u0301"[:5], "more", 20, 9, marks=Marks(bits=bits))
    assert page.marks == [[Mark(0, 1, False, 0), Mark(1, 3, False, 3)], [Mark(0, 1, False, 10)]]
    combined = lay_out("e\u0301", "", 20, 9, marks=Marks(bits=[2.0, 3.0]))
    assert combined.marks == [[Mark(0, 2, False, 5)]]  # one letter for a reader: the bits of both


def test_the_continuation_is_coloured_as_far_as_its_surprisals_are_known() -> None:
    page = lay_out("ab", "cd\nef", 20, 9, marks=Marks(bits=[1.0, 1.0, 2.0, 2.0, 0.0, 3.0]))
    assert page.marks == [[Mark(0, 2, False, 1), Mark(0, 2, False, 2, is_typed=False)], [Mark(0, 1, False, 3, False)]]
    assert page.rows == [("ab", "cd"), ("", "ef")]
    unknown = lay_out("€", "€", 20, 9, marks=Marks(lambda cluster: cluster == "€"))
    assert unknown.marks == [[Mark(0, 1, True, None)]]  # only what a person types can be unknown


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_the_colours_of_text_and_continuation_are_the_surprisals_of_the_model(tokenizer: str) -> None:
    lm = LanguageModel(random_model(VERSE * 9, tokenizer=tokenizer))
    work, draft = BackgroundWork(lm), new_draft("Trăm năm", 0.8, 5)
    for edited in (draft, press(draft, Key("text", " €")), press(draft, Key("ctrl-l"))):
        while len(work.generated(edited)) < 40:
            work.step(edited, has_colours=True)
        edited = set_generated(edited, work.generated(edited)[:40])
        while not work.has_bits(edited):
            work.step(edited, has_colours=True)
        text = edited.text + edited.continuation
        *_, prefix = lm.read_prefix(text)
        np.testing.assert_allclose(work.char_bits(text), list_char_bits(lm.tokenizer, prefix), rtol=1e-5, atol=1e-6)
        typed = press(edited, Key("text", "x"))  # the start that is known keeps its colours while a key is processed
        assert work.char_bits(f"{typed.text}yz") == work.char_bits(text)[: len(edited.text)]


def test_a_long_text_has_the_colours_of_its_end() -> None:
    text = "x" * 5000 + "y"
    page = lay_out(text, "", 20, 4, marks=Marks(bits=[0.0] * 5000 + [4.0]))
    assert page.marks[page.cursor[0]][-1].shade == 4


ITALICS = re.compile(r"\x1b\[3;[0-9;]*48;2;")


def played(*batches: list[Key], colour_system: Any = "truecolor", **settings: Any) -> tuple[str, str]:
    """Return the text of a session, and everything that was drawn."""
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=80, height=24, color_system=colour_system, **settings)
    text = play(LanguageModel(random_model()), "m", new_draft("The king", 0.8, 5), 100, console, Script(*batches))
    return text, drawn.getvalue()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Screen, "size", lambda self: (80, 24))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)


@pytest.mark.usefixtures("screen")
def test_a_key_opens_the_alternatives_and_enter_continues_from_one() -> None:
    lm = LanguageModel(random_model())
    *_, prefix = lm.read_prefix("The ")
    guesses = [guess.text for guess in lm.guesses_after(prefix, 50)]
    left, opened = [Key("left")] * 4, Key("ctrl-o")
    text, drawn = played([*left, opened], [Key("home"), Key("down"), Key("enter")])
    assert text == f"The {guesses[1]}"
    assert "Enter continue from it" in drawn
    assert played([*left, opened], [Key("escape")])[0] == "The king"  # it closes the list and does not leave yet
    assert played([*left, opened, opened], [Key("text", "x")])[0] == "The xking"
    assert played([*left, opened], [Key("text", "x")])[0] == "The xking"  # a letter closes the list and is inserted
    assert played([*left, opened, Key("home"), Key("enter"), Key("ctrl-z")])[0] == "The king"
    accepted = played([Key("text", "s"), opened, Key("right")])[0]  # it closes the list and waits for the continuation
    assert accepted == "The kings" + next(lm.stream("The kings", temperature=0.8, seed=5))


@pytest.mark.usefixtures("screen")
def test_a_key_switches_the_colours_on_and_off() -> None:
    lm = LanguageModel(random_model())
    background = DARK[shade(lm.surprisal("The king")[0][1])]
    red, green, blue = (int(background[k : k + 2], 16) for k in (1, 3, 5))
    colour = f"48;2;{red};{green};{blue}m"
    plain, on, on_and_off = (played(*batches)[1] for batches in ([], [[Key("ctrl-s")]], [[Key("ctrl-s")]] * 2))
    assert colour not in plain
    assert colour in on
    assert on_and_off.count("48;2;") <= on.count("48;2;") and "The king" in on_and_off.rpartition("48;2;")[2]
    assert not ITALICS.search(plain) and ITALICS.search(on)  # of the continuation
    assert "no colours here" in played([Key("ctrl-s")], colour_system=None)[1]
    assert "no colours here" in played([Key("ctrl-s")], no_color=True)[1]
