"""The interface of a page: complete, escaped, readable, and it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from importlib.resources import files

import pytest

from chargen.export.interface import LOCAL_SCRIPTS, SCRIPTS, assemble_page
from chargen.export.payload import NO_LICENSE
from chargen.probe.heat_map import DARK, LIGHT, contrast

EVIL = '</script><script>alert(1)</script> & "q" @@script@@ <b>'
ASSETS = files("chargen.export").joinpath("assets")
SOURCES = {
    name: ASSETS.joinpath(name).read_text(encoding="utf-8")
    for name in [f"{each}.js" for each in (*LOCAL_SCRIPTS, *SCRIPTS)]
}


def page_of(title: str = "a model", **payload: object) -> str:
    return assemble_page(title, payload, "function createModel() {}")


def messages(language: str) -> dict[str, str]:
    block = re.search(rf"^  {language}: \{{\n(.*?)^  \}},", SOURCES["messages.js"], re.MULTILINE | re.DOTALL)
    assert block
    return {key: json.loads(f'"{text}"') for key, text in re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', block[1])}


def test_every_message_is_in_both_languages_with_the_same_values() -> None:
    english, vietnamese = messages("en"), messages("vi")
    assert english.keys() == vietnamese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", vietnamese[key])), key
        assert key.startswith(("top", "min", "kindEnd", "endedLength", "tab")) or text != vietnamese[key], key


def test_the_note_of_a_missing_licence_is_the_message_that_is_translated() -> None:
    assert messages("en")["noLicense"] == NO_LICENSE


def test_the_html_has_the_english_messages() -> None:
    english, html = messages("en"), ASSETS.joinpath("page.html").read_text(encoding="utf-8")
    texts = re.findall(r'data-t="(\w+)"[^>]*>([^<]*)<', html)
    assert len(texts) > 40
    for key, text in texts:
        assert " ".join(unescape(text).split()) == english[key], key
    for key, text in re.findall(r'data-t-label="(\w+)"\s+aria-label="([^"]*)"', html):
        assert unescape(text) == english[key], key
    for key in re.findall(r"data-t(?:-\w+)?=\"(\w+)\"", html):
        assert key in english


def test_every_message_that_the_scripts_use_exists() -> None:
    used = {key for source in SOURCES.values() for key in re.findall(r'\bt\("(\w+)"', source)}
    assert used - {"kind", "ended"} <= messages("en").keys()


def test_a_title_cannot_reorder_what_is_seen() -> None:
    page = page_of("\u202eevil\u2066 a\nb\x07 ש 👩\u200d👧")
    assert page.count("\ufffdevil\ufffd a b\ufffd ש 👩\u200d👧</") == 2
    assert "\u202e" not in page.partition("<script")[0]


def test_nothing_of_a_title_or_a_model_becomes_markup() -> None:
    page = page_of(EVIL, name=EVIL)
    assert page.count("<script") == 3  # the model as JSON, its script and the script of the interface
    assert "alert(1)</script> &amp;" not in page
    payload = page.partition('id="payload">')[2].partition("</script>")[0]
    assert json.loads(payload) == {"name": EVIL}


def test_the_page_loads_nothing_and_runs_only_its_own_scripts() -> None:
    page = page_of()
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    parts = [
        *re.findall(r"<script>(.*?)</script>", page, re.DOTALL),
        *re.findall(r"<style>(.*?)</style>", page, re.DOTALL),
    ]
    assert len(parts) == 3
    for part in parts:
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    assert not re.search(r"src=|url\(|@import|innerHTML|outerHTML|insertAdjacent|\beval\b|Function\(|WebAssembly", page)
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|importScripts|https?:", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]
    assert "@@" not in page


def colours_of(page: str, theme: str) -> dict[str, str]:
    blocks = re.findall(rf"{re.escape(theme)} \{{([^}}]*)\}}", page)
    assert blocks
    return {name: value for block in blocks for name, value in re.findall(r"--(\w[\w-]*): (#\w+)", block)}


@pytest.mark.parametrize(
    ("theme", "ramp"),
    [(":root", LIGHT), (":root[data-theme=dark]", DARK), (":root:not([data-theme=light])", DARK)],
)
def test_texts_and_controls_have_enough_contrast(theme: str, ramp: tuple[str, ...]) -> None:
    colours = colours_of(page_of(), theme)
    assert [colours[f"s{bits}"] for bits in range(len(ramp))] == list(ramp)
    assert colours["page"] == ramp[0]  # an expected character has no background of its own
    for bits in range(len(ramp)):
        assert contrast(colours[f"s{bits}"], colours[f"t{bits}"]) >= 4.5
    for background in ("page", "panel", "here"):
        for text in ("text", "soft", "accent", "error"):
            assert contrast(colours[background], colours[text]) >= 4.5, (background, text)
    assert contrast(colours["accent"], colours["on-accent"]) >= 4.5
    assert contrast(colours["page"], colours["edge"]) >= 3  # the edges of controls
