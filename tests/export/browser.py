"""A page in Chromium, driven by playwright, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargen.checkpoint import Checkpoint
from chargen.export.page import write_page
from chargen.lm import LanguageModel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Opened:
    """A page that was written and opened. Any error and any request that it makes fail the test."""

    def __init__(self, browser: Browser, model: Checkpoint, folder: Path, link: str = "", **context: Any) -> None:
        path = folder / "page.html"
        self.lm = LanguageModel(model)
        write_page(self.lm, path, "float32")
        self.context = browser.new_context(**{"locale": "en", **context})
        self.context.set_default_timeout(4_000)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.problems.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.add_request(request.url))
        self.page.goto(path.as_uri() + link)
        self.wait()

    def add_request(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.problems.append(f"request of {url}")

    def wait_for(self, condition: str) -> None:
        """Wait until a condition in JavaScript is true; the policy of the page forbids `page.wait_for_function`."""
        is_true = self.page.evaluate(
            f"""() => new Promise(resolve => {{
              const end = performance.now() + 10000;
              const check = () => ({condition}) || performance.now() > end ? resolve(performance.now() <= end)
                : requestAnimationFrame(check);
              check();
            }})"""
        )
        assert is_true, f"{condition} was not true within 10 s; {self.problems}"

    def wait(self, condition: str = "true") -> None:
        """Wait until nothing is generated and a condition in JavaScript is true."""
        self.wait_for(f"document.getElementById('stop').disabled && ({condition})")

    @property
    def text(self) -> str:
        text: str = self.page.evaluate("document.getElementById('output').textContent")
        return text

    def type_prompt(self, prompt: str) -> None:
        self.page.fill("#prompt", prompt)
        self.wait(f"document.getElementById('output').textContent.startsWith({prompt!r})")

    def open_character(self, index: int, view: str = "#output") -> None:
        self.page.click(f"{view} span >> nth={index}")
        self.page.wait_for_selector("#alternatives [role=option]")

    def alternatives(self) -> list[tuple[str, str]]:
        rows: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('#alternatives [aria-selected]')].map(row =>"
            " [row.querySelector('.glyph').textContent, row.querySelector('.percent').textContent])"
        )
        return [(glyph, percent) for glyph, percent in rows]
