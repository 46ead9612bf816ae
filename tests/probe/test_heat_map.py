"""The ramps of heat maps: from the background to the strongest contrast, for every eye, theme and terminal."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from rich.color import Color, ColorSystem

from chargen.checkpoint import save_checkpoint
from chargen.probe.heat_map import (
    DARK,
    DARK_256,
    LIGHT,
    LIGHT_256,
    MAX_BITS,
    contrast,
    relative_luminance,
    shade,
    terminal_ramp,
    text_colour,
)
from chargen.probe.surprisal import CharSurprisal
from chargen.ui.heatmap import heat_page
from tests.conftest import Result, random_model

RAMPS = {"light": LIGHT, "dark": DARK, "light, 256": LIGHT_256, "dark, 256": DARK_256}

# Machado, Oliveira & Fernandes (2009), severity 1, for linear RGB.
EYES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def lightness(colour: str, eye: str = "all cones") -> float:
    """Return CIELAB L* of a colour, from 0 to 100, as an eye sees it."""
    linear = [relative_luminance("#" + colour[at : at + 2] * 3) for at in (1, 3, 5)]  # of a grey: its linear value
    seen = [min(1.0, max(0.0, sum(w * c for w, c in zip(row, linear, strict=True)))) for row in EYES[eye]]
    luminance = 0.2126 * seen[0] + 0.7152 * seen[1] + 0.0722 * seen[2]
    return 116 * math.cbrt(luminance) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", RAMPS)
def test_each_shade_is_further_from_the_background_than_the_one_before(name: str, eye: str) -> None:
    distances = [abs(lightness(colour, eye) - lightness(RAMPS[name][0], eye)) for colour in RAMPS[name]]
    assert len(distances) == MAX_BITS + 1
    assert all(nearer + 1 < further for nearer, further in pairwise(distances)), distances
    assert distances[1] < 20
    assert distances[-1] > 85


@pytest.mark.parametrize("name", RAMPS)
def test_letters_can_be_read_on_every_shade(name: str) -> None:
    assert all(contrast(colour, text_colour(colour)) >= 4.5 for colour in RAMPS[name])


@pytest.mark.parametrize("name", ["light, 256", "dark, 256"])
def test_a_terminal_of_256_colours_has_these_colours(name: str) -> None:
    for colour in RAMPS[name]:
        assert Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).get_truecolor().hex == colour


def test_a_shade_is_a_whole_number_of_bits() -> None:
    assert [shade(bits) for bits in (-1e-9, 0, 0.99, 1, 9.99, 10, 1e9, math.inf)] == [0, 0, 0, 1, 9, 10, 10, 10]


def test_the_ramp_of_a_terminal_follows_what_it_says_of_itself() -> None:
    assert terminal_ramp("truecolor", {}) == terminal_ramp("truecolor", {"COLORFGBG": "15;0"}) == DARK
    assert terminal_ramp("truecolor", {"COLORFGBG": "0;default;15"}) == LIGHT
    assert terminal_ramp("256", {"COLORFGBG": "0;7"}) == LIGHT_256
    assert terminal_ramp("256", {"COLORFGBG": ""}) == DARK_256
    assert terminal_ramp("standard", {}) is None
    assert terminal_ramp(None, {}) is None


def test_a_page_takes_letters_with_two_marks_from_a_font_that_has_them() -> None:
    """A browser draws the second mark of ế beside the letter if the monospaced font has no such letter."""
    page = "".join(heat_page([[CharSurprisal("ế", -1.0)]], "verse"))
    face = re.search(r"@font-face {([^}]*)}", page)
    assert face and "U+1EA0-1EF9" in face[1]
    assert all("var(--mono)" in font for font in re.findall(r"[{;]\s*font: ([^;]*mono[^;]*);", page))


def test_the_page_has_the_background_of_its_ramp_in_both_themes() -> None:
    page = "".join(heat_page([[CharSurprisal("a", -1.0)]], "verse"))
    assert re.findall(r"--page: (#\w+)", page) == [LIGHT[0], DARK[0]]
    rules = re.findall(r"\.b(\d+) \{ background: (#\w+); color: (#\w+); \}", page)
    expected = [(str(bits), ramp[bits]) for ramp in (LIGHT, DARK) for bits in range(1, MAX_BITS + 1)]
    assert [rule[:2] for rule in rules] == expected
    assert all(contrast(background, letters) >= 4.5 for _, background, letters in rules)


@pytest.fixture
def model(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints" / "verse" / "model.safetensors", random_model())


ENVIRONMENTS = {
    "NO_COLOR": {"TERM": "xterm-256color", "NO_COLOR": "1"},
    "dumb": {"TERM": "dumb"},
    "sixteen colours": {"TERM": "xterm"},
}


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_a_terminal_without_colours_gets_digits_in_rows_of_its_width(
    kind: str, chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORTERM", raising=False)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40", **ENVIRONMENTS[kind]}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("chargen.ui.console.FILE_WIDTH", 40)
    text = "The quick brown fox " * 5
    rows = re.sub(r"\x1b\[[0-9;]*m", "", chargen("score", "--chars", text).out).splitlines()
    assert "".join(rows[0:6:2]) == text
    assert all(re.fullmatch(r"[.\d]{1,40}", digits) for digits in rows[1:6:2])
    assert "".join(rows[1:6:2]).strip(".") != ""
