"""What the model does for a draft, in small steps that can be left at any time: it reads the text, then writes on.

The live prompt of `chargen play`: keys in, a draft on the screen, the model at work in between.

    keys ─▶ press(draft, key) ─▶ a slice of the model's work ─▶ lay_out ─▶ the rows that changed ─▶ keys …

The model stops for a key at once, so that typing never waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console

from chargen.lm import LanguageModel
from chargen.sampling.prefix_cache import PrefixCache
from chargen.ui.play.draft import Draft, press, show
from chargen.ui.play.layout import lay_out
from chargen.ui.play.terminal import Keyboard, Screen, joined
from chargen.ui.terminal_text import visible

ENDLESS = 1_000_000_000  #: characters: more than anyone waits for


class BackgroundWork:
    """The model at work; what it has done for one draft serves the next as far as they agree."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._steps: Iterator[None] = iter(())
        self._steps_for: tuple[object, str] | None = None  #: a draft's cause and text
        self._stream: Iterator[str] = iter(())
        self._stream_for: object = None  #: a draft's cause
        self._written = ""
        self._read_text: str | None = None
        self.reading: PrefixCache | None = None  #: the newest, of this draft's text or, for a moment, of the last one's

    def step(self, draft: Draft) -> None:
        """Do the next few hundred microseconds or milliseconds of work for a draft."""
        if self._steps_for != (draft.cause, draft.text):
            self._steps_for, self._steps = (draft.cause, draft.text), self._all_steps(draft)
        next(self._steps)

    def written(self, draft: Draft) -> str:
        """Return what was written after the draft's beginning so far."""
        return self._written if self._stream_for == draft.cause else ""

    def has_read(self, draft: Draft) -> bool:
        """Tell whether `reading` is of the draft's whole text."""
        return self._read_text == draft.text

    def _all_steps(self, draft: Draft) -> Iterator[None]:
        if draft.cause != self._stream_for:
            yield from self._read(draft.beginning)
            self._stream = self._lm.stream(
                prefix_cache=self.reading, temperature=draft.temperature, seed=draft.seed, length=ENDLESS
            )
            self._stream_for, self._written = draft.cause, ""
        yield from self._read(draft.text)
        for piece in self._stream:
            self._written += piece
            yield

    def _read(self, text: str) -> Iterator[None]:
        if self._read_text == text:
            return
        self._read_text = None
        for reading in self._lm.read_prefix(text, self.reading):
            self.reading = reading
            yield
        self._read_text = text


SLICE_S = 0.025  #: of work between two pictures; the first shows some lines of the new continuation at once
IDLE_S = 0.2  #: between two looks at the terminal's size, when there is nothing to do
LEAVE = ("escape", "ctrl-d")
KEYS = ["Esc leave", "Tab word", "↑↓ temp", "^R reroll", "^Z undo", "End all", "→ letter", "^L clear"]


def play(lm: LanguageModel, name: str, draft: Draft, most: int, console: Console, keyboard: Keyboard) -> str:
    """Let a person write with a model; return the text when they leave.

    Args:
        lm: the model.
        name: what to call it.
        draft: what to begin with.
        most: characters of the continuation that are shown, at most.
        console: where to draw: a terminal.
        keyboard: where keys come from.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    work, idle = BackgroundWork(lm), False
    with keyboard, Screen(console) as screen:
        while True:
            keys = keyboard.read(IDLE_S if idle else 0.0)
            for key in keys:
                if key.name == "ctrl-c":
                    raise KeyboardInterrupt
                if key.name in LEAVE:
                    return draft.text
                draft = press(draft, key)
            if keys or not idle:
                until = time.monotonic() + SLICE_S
                work.step(draft)
                while time.monotonic() < until and not keyboard.waits():
                    work.step(draft)
            draft, idle = _picture(draft, work, name, most, screen)


def _picture(draft: Draft, work: BackgroundWork, name: str, most: int, screen: Screen) -> tuple[Draft, bool]:
    """Draw; return the draft with what of its continuation is on the screen, and whether nothing is left to do."""
    width, height = screen.size()
    num_bars = 2 if height > 5 else 1 if height > 1 else 0
    accepted = len(draft.text) - draft.drawn_after
    drawn = max(draft.drawn, work.written(draft), key=len)  # after an undo the longer is there already
    page = lay_out(draft.text, drawn[accepted : accepted + most], width, height - num_bars)
    draft = show(draft, drawn[: accepted + page.shown_chars])
    screen.draw(page.rows, page.cursor, [_status(draft, work, name, width - 1), joined(KEYS, width - 1)][:num_bars])
    return draft, work.has_read(draft) and (page.full or page.shown_chars >= most)


def _status(draft: Draft, work: BackgroundWork, name: str, width: int) -> str:
    """Return the line about the model and the text; what matters least goes first where the line is short."""
    reading = work.reading
    score, unknown = "– bits/char", 0
    if reading is not None and not work.has_read(draft):
        score = f"reading {reading.share:.0%}" if reading.num_ids > 1000 else score
    elif reading is not None:
        bits, unknown = reading.bits_per_char, reading.unknown_chars
        score = score if bits is None else f"{bits:.2f} bits/char"
    facts = [f"temp {draft.temperature:g}", score, f"seed {draft.seed}"]
    facts += [f"{unknown:,} unknown"] if unknown else []
    return joined([*facts, visible(name), f"{len(draft.text):,} characters"], width)
