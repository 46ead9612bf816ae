"""The loop of `chargen play`: it reads keys, changes the draft, lets the model work, and draws.

    keys ─▶ press(draft, key) ─▶ a slice of the model's work ─▶ lay_out ─▶ the rows that changed ─▶ keys …

The model works in small steps and stops at once for a key, so that typing never waits for it. It first reads the text
and then generates the continuation. A key that accepts what is not generated yet waits for it, with the keys after it;
keys that leave do not wait.

A signal that stops the process leaves the screen first; when it is continued, the screen is entered and drawn again.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.cells import set_cell_size
from rich.console import Console

from chargen.lm import LanguageModel
from chargen.sampling.prefix_cache import PrefixCache, list_char_bits
from chargen.schema import format_count, format_number
from chargen.ui.play.alternatives import MAX_ALTERNATIVES, MENU_HELP, Alternatives, menu_page, open_menu, select
from chargen.ui.play.draft import Draft, choose, needs_continuation, press, set_generated
from chargen.ui.play.layout import Marks, Page, lay_out
from chargen.ui.play.terminal import Key, Keyboard, Screen, join_parts, stop_process
from chargen.ui.terminal_text import visible

MAX_GENERATED_CHARS = 1_000_000_000  # effectively unlimited
MIN_PROGRESS_TOKENS = 1000  # a text with fewer tokens is read too fast to show the progress
SLICE_S = 0.025  # time of work between two updates
KEY_SLICE_S = 0.006  # and before the first one after a key: it shows the start of a new continuation already
IDLE_S = 0.2  # time between two checks of the terminal's size when there is nothing to do
LEAVE_KEYS = ("escape", "ctrl-d")
SIGNAL_KEYS = ("suspend", "resume")
HELP_KEY, MENU_KEY, COLOUR_KEY = "ctrl-g", "ctrl-o", "ctrl-s"
CHOOSE_KEYS = ("enter", "tab")
KEY_HELP = ["Esc leave", "^G help", "Tab word", "↑↓ temp", "^R reroll", "^Z undo", "^O others", "^S colours", "End all"]
KEY_HELP += ["→ letter", "^L clear"]
HELP = """\
letters, Enter   are inserted
Backspace, Del   delete a character
← →              move the cursor
Home, End        start, end of the line
Tab              accepts the next word
→ at the end     accepts a character
End at the end   accepts all
↑ ↓              temperature ±0.1
^R               another continuation
^Z ^U            undo the last key
^O               other characters at the cursor
^S               colours of surprisal
^L               clears the text
Esc ^D           leave, print the text
^C               leave, print nothing

underlined: unknown to the model
any key          back to the text"""


class TextReader:
    """Reads texts in small steps with a model; of each text, only what differs from the previous one is read."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._steps: Iterator[PrefixCache] = iter(())
        self.text: str | None = None  #: the text that is read
        self.prefix: PrefixCache | None = None  #: what was read of it so far

    def has_read(self, text: str) -> bool:
        """Return whether `prefix` covers this text, and the whole of it."""
        return self.text == text and self.prefix is not None and self.prefix.share == 1.0

    def step(self, text: str) -> None:
        """Do the next step of reading a text."""
        if self.text != text:
            self.text, self._steps = text, self._lm.read_prefix(text, self.prefix)
        self.prefix = next(self._steps, self.prefix)


class BackgroundWork:
    """The work of the model for a draft, in small steps; results are reused for the next draft where they agree."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._shown = TextReader(lm)  # reads the text with its continuation
        self._coloured = ""  # the last text that it has read to its end
        self._bits: list[float] = []  # the surprisals of the characters of this text, in bits
        self._stream: Iterator[str] = iter(())
        self._stream_inputs: object = None  # inputs of the draft that is continued
        self._generated = ""
        self._has_ended = False  # whether the model has nothing to add to `_generated`
        self.typed = TextReader(lm)  #: reads the text of the draft

    def step(self, draft: Draft, has_colours: bool = False) -> None:
        """Do the next step of the work for a draft, which takes from some hundred microseconds to milliseconds.

        Args:
            draft: The draft.
            has_colours: Whether the surprisals of the text and of the shown continuation are needed.
        """
        if draft.inputs != self._stream_inputs:
            if not self.typed.has_read(draft.prompt):
                self.typed.step(draft.prompt)
                return
            self._start_stream(draft)
        if not self.typed.has_read(draft.text):
            self.typed.step(draft.text)
        elif has_colours and not self.has_bits(draft):
            self._step_bits(draft.text + draft.continuation)
        else:
            piece = next(self._stream, None)
            self._has_ended = piece is None
            self._generated += piece or ""

    def generated(self, draft: Draft) -> str:
        """Return the text that was generated after the draft's prompt so far."""
        return self._generated if self._stream_inputs == draft.inputs else ""

    def has_ended(self, draft: Draft) -> bool:
        """Return whether the model has nothing to add to what it generated for the draft."""
        return self._has_ended and self._stream_inputs == draft.inputs

    def has_bits(self, draft: Draft) -> bool:
        """Return whether the surprisals of the draft's text and of its continuation are known."""
        return self._shown.has_read(draft.text + draft.continuation)

    def char_bits(self, text: str) -> list[float]:
        """Return the surprisal in bits of the characters of a text with its continuation, as far as it is known.

        While a changed text is read, these are the surprisals of the start that it shares with the text before.
        """
        lengths = range(1, min(len(text), len(self._coloured)) + 1)
        # A bisection, because comparing characters one by one takes milliseconds where the text is long.
        num_equal = bisect_left(lengths, True, key=lambda length: text[:length] != self._coloured[:length])
        return self._bits[:num_equal]

    def _start_stream(self, draft: Draft) -> None:
        self._stream = self._lm.stream(
            prefix_cache=self.typed.prefix,
            temperature=draft.temperature,
            seed=draft.seed,
            length=MAX_GENERATED_CHARS,
        )
        self._stream_inputs = draft.inputs
        self._generated = ""
        self._has_ended = False

    def _step_bits(self, text: str) -> None:
        self._shown.step(text)
        if self._shown.prefix is not None and self._shown.has_read(text):
            bits = list_char_bits(self._lm.tokenizer, self._shown.prefix)
            self._coloured, self._bits = text, bits if len(bits) == len(text) else []  # composing changes the length


@dataclass(frozen=True)
class View:
    """What is shown beside the text, or in place of it."""

    is_help: bool = False  #: whether the keys are shown in place of the text
    menu: Alternatives | None = None  #: the menu that is shown in place of the text
    has_colours: bool = False  #: whether the text and its continuation are coloured by surprisal


def play(lm: LanguageModel, name: str, draft: Draft, max_chars: int, console: Console, keyboard: Keyboard) -> str:
    """Let a person write with a model; return the text when they leave.

    Args:
        lm: The model.
        name: Name of the model in the status line.
        draft: The draft to start with.
        max_chars: Maximum number of characters of the continuation that are shown.
        console: The console to draw on; it must be a terminal.
        keyboard: The source of the keys.

    Raises:
        KeyboardInterrupt: If Ctrl-C is pressed.
    """
    session = Session(lm, name, draft, max_chars)
    while True:
        with keyboard.open(), Screen(console).open() as screen:
            last_key = session.run(keyboard, screen)
        if last_key in LEAVE_KEYS:
            return session.draft.text
        if last_key == "suspend":
            stop_process()


class Session:
    """What remains when the screen is left and entered again: the draft, the view and the work of the model."""

    def __init__(self, lm: LanguageModel, name: str, draft: Draft, max_chars: int) -> None:
        self._lm = lm
        self._name = name
        self._max_chars = max_chars
        self._work = BackgroundWork(lm)
        self._view = View()
        self._waiting: list[Key] = []  # keys that accept what is not generated yet, and those after them
        self._complete: Draft | None = None  # the last draft whose continuation is as long as it can be
        self._is_unknown = lru_cache(4096)(lambda cluster: bool(lm.unknown_characters(cluster)))
        self.draft = draft  #: the newest draft

    def run(self, keyboard: Keyboard, screen: Screen) -> str:
        """Process keys and draw until a key or a signal leaves the screen; return its name.

        Raises:
            KeyboardInterrupt: If Ctrl-C is pressed.
        """
        is_idle = False
        while True:
            new_keys = keyboard.read(IDLE_S if is_idle and not self._waiting else 0.0)
            if any(key.name == "ctrl-c" for key in new_keys):
                raise KeyboardInterrupt
            last_key = self._process(new_keys)
            if last_key:
                return last_key
            if new_keys or not is_idle:
                self._work_for(KEY_SLICE_S if new_keys else SLICE_S, keyboard, screen)
            is_idle = self._draw(screen)

    def _process(self, new_keys: list[Key]) -> str | None:
        """Process keys; return the name of the one that leaves the screen, or None."""
        leaving = LEAVE_KEYS + SIGNAL_KEYS if self._waiting else SIGNAL_KEYS  # these do not wait
        last_key = next((key.name for key in new_keys if key.name in leaving), None)
        if last_key:
            self._waiting += [key for key in new_keys if key.name not in SIGNAL_KEYS]
            return last_key
        keys, self._waiting = self._waiting + new_keys, []
        for number, key in enumerate(keys):
            turned = _turn(self._view, self.draft, key, self._lm, self._work)
            if turned:
                self._view, self.draft = turned
                continue
            if key.name in LEAVE_KEYS:
                return key.name
            self._view = replace(self._view, menu=None)
            if self.draft != self._complete and needs_continuation(self.draft, key):
                self._waiting = keys[number:]
                return None
            self.draft = press(self.draft, key)
        return None

    def _work_for(self, duration_s: float, keyboard: Keyboard, screen: Screen) -> None:
        """Let the model work for some time, or until a key is pressed."""
        has_colours = self._has_colours(screen)
        until = time.monotonic() + duration_s
        self._work.step(self.draft, has_colours)
        while time.monotonic() < until and not keyboard.has_key():
            self._work.step(self.draft, has_colours)

    def _draw(self, screen: Screen) -> bool:
        """Draw the view; return whether no work is left until a key is pressed."""
        if self._view.is_help or self._view.menu:
            return _draw_view(self._view, screen)
        self._complete = None
        has_colours = self._has_colours(screen)
        bars = _bars(self.draft, self._work, self._label(screen), screen)
        page, generated = self._lay_out(screen, len(bars), has_colours)
        self.draft = set_generated(self.draft, generated[: self._num_accepted + page.shown_chars])
        is_complete = page.is_full or page.shown_chars >= self._max_chars or self._work.has_ended(self.draft)
        screen.draw(page, bars, is_growing=page.shown_chars > 0 and not is_complete)
        if not self._work.typed.has_read(self.draft.text) or not is_complete:
            return False
        self._complete = self.draft
        return not has_colours or self._work.has_bits(self.draft)

    def _lay_out(self, screen: Screen, num_bars: int, has_colours: bool) -> tuple[Page, str]:
        """Return the page of the draft, and what was generated after its prompt."""
        draft = self.draft
        width, height = screen.size()
        generated = max(draft.generated, self._work.generated(draft), key=len)  # after an undo the draft may have more
        shown = generated[self._num_accepted :][: self._max_chars]
        marks = Marks(self._is_unknown, self._work.char_bits(draft.text + shown) if has_colours else ())
        return lay_out(draft.text, shown, width, height - num_bars, draft.after_cursor, marks), generated

    @property
    def _num_accepted(self) -> int:
        """The number of characters of the generated text that were accepted."""
        return len(self.draft.text) - self.draft.prompt_chars

    def _has_colours(self, screen: Screen) -> bool:
        return self._view.has_colours and screen.ramp is not None

    def _label(self, screen: Screen) -> str:
        """Return the name of the model, and a note if the colours of surprisal cannot be shown."""
        return f"{self._name}, no colours here" if self._view.has_colours and screen.ramp is None else self._name


def _turn(view: View, draft: Draft, key: Key, lm: LanguageModel, work: BackgroundWork) -> tuple[View, Draft] | None:
    """Return the view and the draft after a key that changes the view; None if the key is for the text."""
    if view.is_help or key.name == HELP_KEY:
        return replace(view, is_help=not view.is_help), draft
    if view.menu is not None:
        selected, closed = select(view.menu, key.name), replace(view, menu=None)
        if selected is not None:
            return replace(view, menu=selected), draft
        if key.name in CHOOSE_KEYS:
            return closed, choose(draft, view.menu.chosen)
        return (closed, draft) if key.name in (MENU_KEY, "escape") else None
    if key.name == MENU_KEY:
        *_, prefix = lm.read_prefix(draft.text[: draft.cursor], work.typed.prefix)
        return replace(view, menu=open_menu(draft, lm.guesses_after(prefix, MAX_ALTERNATIVES))), draft
    if key.name == COLOUR_KEY:
        return replace(view, has_colours=not view.has_colours), draft
    return None


def _draw_view(view: View, screen: Screen) -> bool:
    """Draw the keys, or the menu; return True, because no work is left until a key is pressed."""
    width, height = screen.size()
    if view.menu is not None and not view.is_help:
        num_bars = 1 if height > 2 else 0
        screen.draw(menu_page(view.menu, width, height - num_bars), [join_parts(MENU_HELP, width - 1)][:num_bars])
        return True
    rows = [(set_cell_size(line, width - 1).rstrip(), "") for line in HELP.splitlines()[:height]]
    screen.draw(Page(rows, (0, 0), 0, True, 0, [[] for _ in rows]), [])
    return True


def _bars(draft: Draft, work: BackgroundWork, name: str, screen: Screen) -> list[str]:
    """Return the lines below the text: as many as the height of the screen allows."""
    width, height = screen.size()
    num_bars = 2 if height > 5 else 1 if height > 1 else 0
    return [_status_line(draft, work, name, width - 1), join_parts(KEY_HELP, width - 1)][:num_bars]


def _status_line(draft: Draft, work: BackgroundWork, name: str, width: int) -> str:
    """Return the line about the model and the text; in a narrow terminal the least important parts are left out."""
    prefix = work.typed.prefix
    score, unknown = "– bits/char", 0
    if prefix is not None and not work.typed.has_read(draft.text):
        score = f"reading {prefix.share:.0%}" if prefix.num_ids > MIN_PROGRESS_TOKENS else score
    elif prefix is not None:
        bits, unknown = prefix.bits_per_char, prefix.unknown_chars
        score = score if bits is None else f"{format_number(bits, 2)} bits/char"
    facts = [f"temp {draft.temperature:g}", score, f"seed {draft.seed}"]
    facts += [f"{unknown:,} unknown"] if unknown else []
    return join_parts([*facts, visible(name), format_count(len(draft.text), "character")], width)
