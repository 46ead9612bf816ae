"""An exported page in a frame of a site, with the example of the guide, in a browser."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chargen.export.page import write_page
from chargen.lm import LanguageModel
from tests.conftest import VERSE, random_model
from tests.programs import needs_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

pytestmark = [pytest.mark.slow, needs_browser]

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "web-page.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```html\n(<iframe .*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
NAME, PROMPT, LENGTH = re.findall(r'src="([\w.]+)#prompt=([\w%]+)&amp;length=(\d+)"', EXAMPLE)[0]
SITE = f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>A site</title>{EXAMPLE}"


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder; the file of the page may have a content security policy."""

    policy = ""

    def end_headers(self) -> None:
        """Add the policy."""
        if self.policy and self.path.startswith(f"/{NAME}"):
            self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a site with the example and the page, and return its address."""
    folder = tmp_path_factory.mktemp("site")
    write_page(LanguageModel(random_model(VERSE)), folder / NAME, "float32")
    (folder / "index.html").write_text(SITE, encoding="utf-8")
    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """Return a window; any error of a page fails the test, and any request but those of the site and of the frame."""
    context = browser.new_context(locale="en")
    context.set_default_timeout(10_000)
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
    yield page
    context.close()
    assert not problems
    assert [url for url in requests if not url.startswith("data:")] == [f"{site}/", f"{site}/{NAME}"]


def generated_text(page: Page) -> str:
    """Wait until the page in the frame has generated its text, and return it."""
    frame = frame_of(page)
    frame.locator(f"#output span >> nth={len(prompt()) + int(LENGTH) - 1}").wait_for()
    frame.locator("#stop[disabled]").wait_for()
    text: str = frame.evaluate("document.getElementById('output').textContent")
    return text


def frame_of(page: Page) -> Frame:
    (frame,) = page.main_frame.child_frames
    return frame


def prompt() -> str:
    from urllib.parse import unquote

    return unquote(PROMPT)


def test_the_example_generates_in_its_frame(page: Page, site: str) -> None:
    page.goto(f"{site}/")
    text = generated_text(page)
    assert text.startswith(prompt()) and len(text) == len(prompt()) + int(LENGTH)
    frame = frame_of(page)
    frame.click("#output span >> nth=30")
    frame.locator("#alternatives [role=option]").first.wait_for()
    page.keyboard.press("Escape")
    frame.fill("#prompt", "Trăm")
    frame.locator("#output", has_text=re.compile("^Trăm")).wait_for()
    frame.click("#tab-rank")
    frame.fill("#lines", "fox\nxof")
    frame.locator("#ranking tr >> nth=1").wait_for()


def test_the_text_can_be_copied_from_the_frame(page: Page, site: str) -> None:
    page.goto(f"{site}/")
    text = generated_text(page)
    page.evaluate("document.body.append(document.createElement('textarea'))")
    for button, expected in (("#copy-text", text), ("#copy-link", f"{site}/{NAME}#prompt=")):
        frame_of(page).click(button)
        frame_of(page).locator("#write-status", has_text="Copied.").wait_for()
        page.fill("textarea", "")
        page.press("textarea", "Control+V")
        assert page.input_value("textarea").startswith(expected)


def test_the_page_in_the_frame_cannot_read_the_site(page: Page, site: str) -> None:
    page.goto(f"{site}/")
    generated_text(page)
    read = "() => { try { return parent.document.title; } catch (error) { return error.name; } }"
    assert frame_of(page).evaluate(read) == "SecurityError"


def test_the_policy_in_the_file_can_be_the_policy_of_the_server(
    page: Page, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{site}/{NAME}") as response:
        text = response.read().decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    monkeypatch.setattr(Handler, "policy", unescape(policy))
    page.goto(f"{site}/")
    assert generated_text(page).startswith(prompt())
