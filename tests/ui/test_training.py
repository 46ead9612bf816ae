"""The display of a training run: it fits the terminal, and where it cannot be redrawn there are lines instead."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from chargen.training.events import Evaluated, Progress
from chargen.ui.console import ProgressBar, status, stderr_console
from chargen.ui.training import LiveDisplay, PlainDisplay, make_display
from tests.conftest import random_model


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; pytest replaces stderr after the fixtures, so this is no fixture."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return screen


def reports() -> list[Progress | Evaluated]:
    progress = Progress(123_456, 0.42, 12.345, 15_000.0, 21_000.0, 1_234_567.0, 1.2345, 0.001)
    return [progress, Evaluated(123_000, 12.3, 14_000.0, 1.2, 1.3, True, random_model())]


@pytest.mark.parametrize("sample", ["words " * 100, "one\n" * 100, "漢字" * 200, "x" * 500, ""])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 24), (40, 12), (60, 10), (200, 50)])
def test_the_live_display_fits_the_terminal(
    sample: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    display = LiveDisplay(stderr_console(), lambda checkpoint: sample)
    with display:
        for report in reports():
            display._drawn_s = -1.0  # draw each report
            display.show(report)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "4:10:00 elapsed, 5:50:00 left" in shown
    assert "1,234,567 chars/s" in shown
    assert all(cell_len(line) <= width for line in re.split(r"[\r\n]", shown)), shown
    frames = re.split(r"\x1b\[1A", terminal.getvalue())
    assert max(frame.count("\n") for frame in frames) < height


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with make_display(stderr_console(), lambda checkpoint: "") as display:
        assert isinstance(display._display, PlainDisplay)  # type: ignore[attr-defined]
        for report in reports():
            display.show(report)
    assert "42%  step 123,456" in terminal.getvalue()
    monkeypatch.setattr("chargen.ui.console.PLAIN_EVERY_S", 0.0)
    with ProgressBar(stderr_console(), 2.0) as bar:
        bar.show("adapting", 1.0)
    with status(stderr_console(), "reading …") as update:
        update("1,024 texts")
    assert terminal.getvalue().endswith("adapting 50%\n1,024 texts\n")
    assert "\x1b" not in terminal.getvalue()


def test_files_and_pipes_get_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("chargen.ui.console.PLAIN_EVERY_S", 0.0)
    with ProgressBar(stderr_console(), 2.0) as bar, status(stderr_console(), "reading …") as update:
        bar.show("adapting", 1.0)
        update("1,024 texts")
    assert stderr.getvalue() == ""
