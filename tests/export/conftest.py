"""Fixtures of the tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chargen.checkpoint import Checkpoint
from tests.conftest import VERSE, random_model
from tests.export.browser import Opened
from tests.programs import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    opened: list[Opened] = []

    def open_one(model: Checkpoint | None = None, link: str = "", **context: Any) -> Opened:
        opened.append(Opened(browser, model or random_model(VERSE, cell="gru"), tmp_path, link, **context))
        return opened[-1]

    yield open_one
    for each in opened:
        assert not each.problems
        each.context.close()
