"""The start page of a server: the interface of an exported page, which uses the server."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from chargen.api import load
from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, random_model
from tests.programs import CHROMIUM, needs_browser
from tests.server.conftest import Serve, language_model
from tests.server.test_process import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_start_page_is_a_page_of_the_model_that_talks_to_this_server_only(serve: Serve) -> None:
    client = serve(language_model("verse"), language_model("other"))
    response = client.get("/")
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', response.text)[0])
    assert policy.startswith("default-src 'none'; ") and policy.endswith("connect-src 'self'")
    assert '"models":["verse","other"]' in response.text and "<title>verse</title>" in response.text
    assert "<title>other</title>" in client.get("/?model=other").text
    assert client.get("/?model=third").status_code == 404


def test_a_name_of_a_model_is_no_markup(serve: Serve) -> None:
    text = serve(language_model("<b>&")).get("/").text
    assert "<b>" not in text and "<title>&lt;b&gt;&amp;</title>" in text


def test_the_start_page_has_no_path_of_this_machine(client: TestClient) -> None:
    assert str(Path.cwd()) not in client.get("/").text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("playground")
    for name, model in {
        "verse": random_model(VERSE),
        "bytes": random_model(VERSE, "byte"),
        "lines": random_model(VERSE, documents="line"),
    }.items():
        save_checkpoint(folder / "checkpoints" / name / "model.safetensors", model)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder, "verse", "bytes", "lines")
    yield server
    assert "Traceback" not in server.stop()


@pytest.fixture
def page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(locale="en")
        page.set_default_timeout(10_000)
        problems: list[str] = []
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        refused = ("401", "ERR_CONNECTION_REFUSED")  # the browser itself reports such an answer as an error
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        browser.close()
        assert not [problem for problem in problems if not any(each in problem for each in refused)]


def wait_for_text(page: Page, num_characters: int) -> str:
    """Wait until a text with this number of characters is complete, and return it."""
    page.locator(f"#output span >> nth={num_characters - 1}").wait_for()
    page.locator("#stop[disabled]").wait_for()
    text: str = page.evaluate("document.getElementById('output').textContent")
    return text


class TestInBrowser:
    pytestmark = [pytest.mark.slow, needs_browser]

    @pytest.mark.parametrize("name", ["verse", "bytes"])
    def test_the_text_is_that_of_sample_with_the_same_seed(
        self, server: Server, folder: Path, page: Any, name: str
    ) -> None:
        lm = load(folder / "checkpoints" / name)
        page.goto(f"{server.url}/?model={name}#prompt=The+&length=20&seed=7&temperature=0.8")
        page.locator("#stop[disabled]").wait_for()
        page.locator("#output .generated").first.wait_for()
        text = page.evaluate("document.getElementById('output').textContent")
        expected = lm.sample("The ", length=20, seed=7, temperature=0.8)
        assert text == expected if name == "verse" else expected.startswith(text) and len(text) > 4

    def test_a_chosen_character_is_continued(self, server: Server, folder: Path, page: Any) -> None:
        page.goto(f"{server.url}/#prompt=The+&length=30&seed=7")
        text = wait_for_text(page, 34)
        page.click("#output span >> nth=10")
        page.locator("#alternatives [role=option]").first.wait_for()
        glyphs = page.locator("#alternatives .glyph").all_inner_texts()
        row = next(row for row, glyph in enumerate(glyphs) if len(glyph) == 1 and glyph != text[10])
        page.click(f"#alternatives [role=option] >> nth={row}")
        page.locator("#output .chosen").wait_for()
        continued = wait_for_text(page, 41)
        assert continued.startswith(text[:10] + glyphs[row])
        lm = load(folder / "checkpoints" / "verse")
        assert continued == lm.sample(continued[:11], length=30, seed=7)

    def test_a_server_with_a_key_asks_for_it(self, folder: Path, page: Any) -> None:
        server = Server(folder, "verse", "--api-key", "secret")
        page.goto(f"{server.url}/#prompt=The&length=10")
        page.locator("#failure", has_text="API key").wait_for()
        page.fill("#api-key", "secret")
        page.press("#api-key", "Tab")
        assert wait_for_text(page, 13).startswith("The")
        assert page.is_hidden("#failure")
        server.stop()
        page.click("#another")
        page.locator("#failure", has_text="does not answer").wait_for()

    def test_surprisals_and_ranks_are_those_of_score(self, server: Server, folder: Path, page: Any) -> None:
        lm = load(folder / "checkpoints" / "lines")
        page.goto(f"{server.url}/?model=lines#tab=surprisal&text=The+ng%C6%B0%E1%BB%9Di+%E2%82%AC")
        page.locator("#heat span").first.wait_for()
        score = lm.score("The người €", pieces=True)
        page.locator("#surprisal-status", has_text=f"{score.bits_per_char:.3f} bits/char").wait_for()
        page.click("#heat span >> nth=7")
        page.locator("#popover-title", has_text=f"{-score.pieces[7][1] / math.log(2):.2f} bits").wait_for()
        page.keyboard.press("Escape")
        page.click("#tab-rank")
        page.fill("#lines", "fox\nxof\nTrăm năm")
        page.locator("#ranking tr >> nth=2").wait_for()
        shown = [float(text) for text in page.locator("#ranking tr td:first-child").all_inner_texts()]
        expected = sorted(each.bits_per_char for each in lm.score(["fox", "xof", "Trăm năm"]))
        assert shown == pytest.approx(expected, abs=0.00051)
