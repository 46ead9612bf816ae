"""`chargen play`: write with a model interactively in the terminal.

From Python: `play_in_terminal(PlayArguments(prompt="ROMEO:"))`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from chargen.cli import options
from chargen.sampling.settings import MAX_SAMPLE_LENGTH, SampleConfig

SAMPLE = options.numbers(SampleConfig)  # the types of the numeric options
MAX_DRAWN_SEED = 10_000  # seeds that are drawn are below it, so that they are short enough to type


@dataclass(frozen=True, kw_only=True)
class PlayArguments:
    """The arguments of `chargen play`, named as on the command line."""

    model: str | None = None
    temperature: float = 1.0
    seed: int | None = None
    prompt: str = ""
    length: int = 2000
    threads: int | None = None


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen play\n  chargen play -m shakespeare --temp 0.8 --seed 7 --prompt 'ROMEO:'\n"
    "  chargen play > poem.txt",
)
@options.model
@options.temperature
@options.basic_option("--prompt", default="", metavar="TEXT", help="Text to start with.")
@options.basic_option(
    "--seed",
    type=SAMPLE["seed"],
    metavar="N",
    show_default="a random one",
    help="Random seed.",
)
@options.basic_option(
    "--length",
    type=options.whole(1, MAX_SAMPLE_LENGTH),
    default=2000,
    show_default=True,
    metavar="N",
    help="Maximum number of characters of the continuation; the end of the screen limits it, too.",
)
@options.threads
@options.checkpoints
def play(**values: Any) -> None:
    """Write with a model: type a text, and the model continues it while you type.

    \b
    letters, Enter  are inserted             Backspace, Del  remove a character
    ← → Home End    move the cursor          Tab             accepts a word
    → Shift-Tab     at the end of the text: accept a character
    End, Ctrl-E     at the end of the text: accept all that is shown
    Up, Down        temperature ±0.1         Ctrl-R          another continuation
    Ctrl-Z, -U      undo the last key        Ctrl-L          clears the text
    Ctrl-O          other characters         Ctrl-S          colours of surprisal
    Ctrl-G          shows the keys           Esc, Ctrl-D     leave

    When you leave, the typed and accepted text is printed on stdout, without the rest of the continuation; Ctrl-C
    prints nothing. The continuation is the text that `chargen sample` generates with the same --prompt, --seed and
    --temp.
    """
    play_in_terminal(PlayArguments(**values))


def play_in_terminal(args: PlayArguments) -> None:
    """Let a person write with a model in the terminal, and print the text on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If standard input and standard error are not a terminal, or the model cannot be read.
        KeyboardInterrupt: If Ctrl-C is pressed.
    """
    import secrets

    options.use_threads(args.threads)
    from chargen.api import load
    from chargen.errors import ChargenError
    from chargen.runs import MODEL_FILE, find_model
    from chargen.ui.console import stderr_console
    from chargen.ui.play.app import play as play_on
    from chargen.ui.play.draft import new_draft
    from chargen.ui.play.terminal import Keyboard

    console = stderr_console()
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or console.is_dumb_terminal:
        raise ChargenError(
            "play needs a terminal that can move its cursor, on standard input and standard error",
            "chargen sample generates text without one.",
        )
    path = find_model(args.model)
    lm = load(path)
    if lm.checkpoint.data.is_backward:
        raise ChargenError(
            f"{path} is a backward model, which writes the text before a prompt; play continues a text at its end",
            "Use chargen sample --prompt TEXT, or give a forward model: -m MODEL.",
        )
    if lm.tokenizer.quantizer:
        raise ChargenError(
            f"{path} is a model of {lm.tokenizer.quantizer.describe()}; play writes texts",
            "Use chargen sample -m MODEL --output FILE.wav, or give a model of texts: -m MODEL.",
        )
    name = path.parent.name if path.name == MODEL_FILE else path.stem
    seed = secrets.randbelow(MAX_DRAWN_SEED) if args.seed is None else args.seed
    draft = new_draft(args.prompt, args.temperature, seed)
    with _exit_on_signals():
        text = play_on(lm, name, draft, args.length, console, Keyboard())
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM, and SIGHUP where it exists, into SystemExit, so that the terminal is restored."""

    def on_signal(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
    handlers = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
