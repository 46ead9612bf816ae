"""The display of a training run: it fits the terminal, and where it cannot be redrawn there are lines instead."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from chargen.config import format_duration_s, parse_duration_s
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Evaluated, Progress, Started
from chargen.training.regularization import MIN_CAPPED_STEPS
from chargen.training.run import Plan
from chargen.ui.console import ProgressBar, status, stderr_console, stdout_console
from chargen.ui.terminal_text import say, visible_streams
from chargen.ui.training import LiveDisplay, PlainDisplay, describe, make_display, summary
from tests.conftest import Result, corpus_of, random_model, run_plan
from tests.ui.screen import shown_on_screen

SMALL = ModelChoices(hidden_size=8, embedding_dim=8, cell="gru", ngrams=0)


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


@pytest.mark.parametrize("sample", ["", "one\ntwo\n" * 30])
@pytest.mark.parametrize("width", [40, 80])
def test_nothing_of_a_display_is_left_when_it_was_interrupted(
    width: int, sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "24")
    with visible_streams():
        with make_display(stderr_console(), lambda checkpoint: sample) as display:
            for report in [*reports(), *reports()]:
                display._display._drawn_s = -1.0  # type: ignore[attr-defined]
                display.show(report)
                terminal.write("^C")  # by the terminal itself, where the cursor is
                say("Stopping.")
        with ProgressBar(stderr_console(), 2.0) as bar:
            bar.show("adapting", 1.0)
            terminal.write("^C")
            sys.stderr.write("a warning, ")
            sys.stderr.write("in pieces\n")
        with status(stderr_console(), "x" * width):
            terminal.write("^C")
            sys.stderr.write("the end")
    assert shown_on_screen(terminal.getvalue(), width) == [*["Stopping."] * 4, "a warning, in pieces", "the end"]


def test_the_title_of_a_sample_has_the_step_that_the_sample_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    progress, evaluated = reports()
    assert isinstance(evaluated, Evaluated)
    with LiveDisplay(stderr_console(), lambda checkpoint: "a sample") as display:
        for report in (progress, evaluated, replace(evaluated, step=123_100, elapsed_s=evaluated.elapsed_s + 1.0)):
            display._drawn_s = -1.0
            display.show(report)
    assert "sample at step 123,000" in terminal.getvalue()
    assert "123,100" not in terminal.getvalue()


def test_the_summary_of_an_interrupted_run_says_each_thing_once(
    verse: str, chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    cut = chargen("train", "verse.txt", "--hidden", "8", "--steps", "100", "--stop-after", "60")
    everything = cut.out + cut.err
    assert everything.count("nterrupted") == 1 and "Interrupted after 60% of the run." in cut.out
    assert everything.count("ontinue") == 1 and "Continue with: chargen train --resume verse" in cut.err


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


@pytest.mark.parametrize("width", [80, 200])
def test_the_loss_during_the_run_is_that_of_a_part_of_the_held_out_text(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(width))
    with LiveDisplay(stderr_console(), lambda checkpoint: "") as display:
        for report in reports():
            display._drawn_s = -1.0
            display.show(report)
    assert re.search(r"held-out part +1\.876 bits", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    plain = io.StringIO()
    monkeypatch.setattr("sys.stderr", plain)
    for report in reports():
        PlainDisplay(stderr_console()).show(report)
    assert "held-out part 1.876 bits/char  best, saved" in plain.getvalue()
    assert " val " not in plain.getvalue()
    assert all(len(line) <= 80 for line in plain.getvalue().splitlines()), plain.getvalue()


def test_the_start_line_has_the_units_of_the_budget_and_the_lengths_in_use(
    verse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = RunLength(budget_s=0.01)
    choices = TrainChoices(seq_len=1000, batch_size=4)
    plan = Plan(corpus_of(verse[:600]), length=length, model=SMALL, train=choices, root=tmp_path)
    events, finished = run_plan(plan)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.train.seq_len < 600  # the one that is used
    assert sum("used up the budget of 0.01 s" in note and "5m" in note for note in started.notes) == 1
    lines = "\n".join(describe(started))
    assert f"a budget of 0.01 s (at most {MIN_CAPPED_STEPS} epochs) on cpu" in lines
    assert f"× {started.train.seq_len} tokens" in lines
    assert f"({started.selection_chars} of them choose the best model)" in lines
    assert finished.steps == 1

    resumed = Plan(corpus_of(verse[:600]), resume=started.run, extra_budget_s=0.01, root=tmp_path)
    events, finished = run_plan(resumed)
    assert (finished.steps, finished.first_step) == (1, 1)
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdout", shown)
    stdout_console().print(summary(finished, has_documents=False, has_budget=True))
    assert "1 step (0 since the run was resumed)" in shown.getvalue()
    assert "No step was made: " in shown.getvalue() and f"--resume {started.run} --more 5m" in shown.getvalue()


def test_a_resumed_run_says_how_many_steps_it_made(verse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(verse)
    run_plan(Plan(corpus, length=RunLength(steps=3), model=SMALL, root=tmp_path))
    _, finished = run_plan(Plan(corpus, resume="verse", length=RunLength(steps=5), root=tmp_path))
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdout", shown)
    stdout_console().print(summary(finished, has_documents=False, has_budget=False))
    assert "5 steps (2 since the run was resumed)" in shown.getvalue()
    assert "No step was made" not in shown.getvalue()


@given(st.integers(1, 10**6))
def test_a_duration_has_units_and_is_read_back(seconds: int) -> None:
    shown = format_duration_s(seconds)
    assert shown.endswith((" s", " min", " h"))
    assert parse_duration_s(shown.replace(",", "").replace(" ", "").replace("min", "m")) == seconds
