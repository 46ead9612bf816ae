"""`chargen play`: write with a model, letter by letter, on the terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from chargen.cli import options

MAX_SEED = 10_000  #: of a seed that is drawn: short enough to be typed again


@click.command(
    epilog="\b\nExamples:\n  chargen play\n  chargen play -m shakespeare --temp 0.8 --seed 7 --prompt 'ROMEO:'\n"
    "  chargen play > poem.txt"
)
@options.model
@options.temperature
@click.option("--seed", type=click.IntRange(min=0), help="Of the random numbers; one is drawn if left out.")
@click.option("--prompt", default="", help="The beginning.")
@click.option(
    "--length",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Characters of the continuation that are shown, at most; the screen's end is its end too.",
)
def play(model: str | None, temperature: float, seed: int | None, prompt: str, length: int) -> None:
    """Write with a model: type a beginning, and see it continued as you type.

    \b
    letters, Enter    are written                   Backspace    takes one back
    Tab               accepts the next word         → Shift-Tab  one character
    End, Ctrl-E       accepts all that is shown     Up, Down     temperature ±0.1
    Ctrl-R            another continuation          Ctrl-Z, -U   undoes the last key
    Ctrl-L            clears                        Esc, Ctrl-D  leaves

    On leaving, what was typed and accepted goes to stdout, without the rest of the continuation; Ctrl-C prints nothing.
    The continuation is what `chargen sample` writes after the same --prompt, with the same --seed and --temp.
    """
    import secrets

    from chargen.errors import ChargenError
    from chargen.lm import load
    from chargen.runs import MODEL_FILE, find_model
    from chargen.text.cleaning import check_unicode
    from chargen.ui.console import stderr_console
    from chargen.ui.play.app import play as play_on
    from chargen.ui.play.draft import begin
    from chargen.ui.play.terminal import TerminalKeyboard

    check_unicode(prompt, "the prompt")
    screen = stderr_console()
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or screen.is_dumb_terminal:
        raise ChargenError(
            "play needs a terminal that can move its cursor, on standard input and standard error",
            "chargen sample writes text without one.",
        )
    path = find_model(model)
    name = path.parent.name if path.name == MODEL_FILE else path.stem
    draft = begin(prompt, temperature, secrets.randbelow(MAX_SEED) if seed is None else seed)
    with _ended_by_signals():
        text = play_on(load(path), name, draft, length, screen, TerminalKeyboard())
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP where there is one, end the program by an exception, which gives the terminal back."""

    def on_signal(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
