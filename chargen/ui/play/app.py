"""The loop of `chargen play`: it reads keys, changes the draft, lets the model work, and draws.

    keys ─▶ press(draft, key) ─▶ a slice of the model's work ─▶ lay_out ─▶ the rows that changed ─▶ keys …

The model works in small steps and stops at once for a key, so that typing never waits for it. It first reads the text
and then generates the continuation. A key that accepts what is not generated yet waits for it, with the keys after it;
keys that leave do not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from chargen.ui.play.terminal import Key, Keyboard, Screen, join_parts
from chargen.ui.terminal_text import visible

MAX_GENERATED_CHARS = 1_000_000_000  # effectively unlimited
MIN_PROGRESS_TOKENS = 1000  # a text with fewer tokens is read too fast to show the progress
SLICE_S = 0.025  # time of work between two updates: the first one shows some lines of a new continuation already
IDLE_S = 0.2  # time between two checks of the terminal's size when there is nothing to do
LEAVE_KEYS = ("escape", "ctrl-d")
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


class BackgroundWork:
    """The work of the model for a draft, in small steps; results are reused for the next draft where they agree."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._steps: Iterator[None] = iter(())
        self._steps_key: tuple[object, str] | None = None  # inputs and text of the draft that the steps are for
        self._stream: Iterator[str] = iter(())
        self._stream_inputs: object = None  # inputs of the draft that is continued
        self._generated = ""
        self._read_text: str | None = None
        self.has_ended = False  #: whether no work is left for the draft: the continuation is complete
        self.prefix: PrefixCache | None = None  #: the newest one; for a moment it may be that of the previous draft

    def step(self, draft: Draft) -> None:
        """Do the next step of the work for a draft, which takes from some hundred microseconds to milliseconds."""
        if self._steps_key != (draft.inputs, draft.text):
            self._steps_key = (draft.inputs, draft.text)
            self._steps = self._all_steps(draft)
        self.has_ended = next(self._steps, self) is self

    def generated(self, draft: Draft) -> str:
        """Return the text that was generated after the draft's prompt so far."""
        return self._generated if self._stream_inputs == draft.inputs else ""

    def has_read(self, draft: Draft) -> bool:
        """Return whether `prefix` covers the whole text of the draft."""
        return self._read_text == draft.text

    def char_bits(self, draft: Draft) -> list[float]:
        """Return the surprisal of each character of the draft in bits; empty while it is not read."""
        if self.prefix is None or not self.has_read(draft):
            return []
        return list_char_bits(self._lm.tokenizer, self.prefix)

    def _all_steps(self, draft: Draft) -> Iterator[None]:
        if draft.inputs != self._stream_inputs:
            yield from self._read(draft.prompt)
            self._stream = self._lm.stream(
                prefix_cache=self.prefix, temperature=draft.temperature, seed=draft.seed, length=MAX_GENERATED_CHARS
            )  # fmt: skip
            self._stream_inputs = draft.inputs
            self._generated = ""
        yield from self._read(draft.text)
        for piece in self._stream:
            self._generated += piece
            yield

    def _read(self, text: str) -> Iterator[None]:
        if self._read_text == text:
            return
        self._read_text = None
        for prefix in self._lm.read_prefix(text, self.prefix):
            self.prefix = prefix
            yield
        self._read_text = text


@dataclass(frozen=True)
class View:
    """What is shown beside the text, or in place of it."""

    is_help: bool = False  #: whether the keys are shown in place of the text
    menu: Alternatives | None = None  #: the menu that is shown in place of the text
    has_colours: bool = False  #: whether the text is coloured by surprisal


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
    work, view, is_idle = BackgroundWork(lm), View(), False
    waiting: list[Key] = []  # keys that accept what is not generated yet, and those after them
    complete: Draft | None = None  # the last draft whose continuation is as long as it can be
    is_unknown = lru_cache(4096)(lambda cluster: bool(lm.unknown_characters(cluster)))
    with keyboard, Screen(console) as screen:
        while True:
            new_keys = keyboard.read(IDLE_S if is_idle and not waiting else 0.0)
            if any(key.name == "ctrl-c" for key in new_keys):
                raise KeyboardInterrupt
            if waiting and any(key.name in LEAVE_KEYS for key in new_keys):
                return draft.text
            keys, waiting = waiting + new_keys, []
            for number, key in enumerate(keys):
                turned = _turn(view, draft, key, lm, work)
                if turned:
                    view, draft = turned
                    continue
                if key.name in LEAVE_KEYS:
                    return draft.text
                if draft != complete and needs_continuation(draft, key):
                    waiting = keys[number:]
                    break
                view, draft = replace(view, menu=None), press(draft, key)
            if keys or not is_idle:
                until = time.monotonic() + SLICE_S
                work.step(draft)
                while time.monotonic() < until and not keyboard.has_key():
                    work.step(draft)
            if view.is_help or view.menu:
                is_idle = _draw_view(view, screen)
            else:
                marks, label = _marks(view, draft, work, screen, is_unknown), _label(view, name, screen)
                draft, is_idle = _draw(draft, work, label, max_chars, screen, marks)
                complete = draft if is_idle else None


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
        *_, prefix = lm.read_prefix(draft.text[: draft.cursor], work.prefix)
        return replace(view, menu=open_menu(draft, lm.guesses_after(prefix, MAX_ALTERNATIVES))), draft
    if key.name == COLOUR_KEY:
        return replace(view, has_colours=not view.has_colours), draft
    return None


def _marks(view: View, draft: Draft, work: BackgroundWork, screen: Screen, is_unknown: Callable[[str], bool]) -> Marks:
    """Return what is marked in the text: unknown characters, and the surprisals if they are shown and known."""
    if not view.has_colours or screen.ramp is None:
        return Marks(is_unknown)
    bits = work.char_bits(draft)
    return Marks(is_unknown, bits if len(bits) == len(draft.text) else ())  # composing characters changes the length


def _label(view: View, name: str, screen: Screen) -> str:
    """Return the name of the model, and a note if the colours of surprisal cannot be shown."""
    return f"{name}, no colours here" if view.has_colours and screen.ramp is None else name


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


def _draw(
    draft: Draft, work: BackgroundWork, name: str, max_chars: int, screen: Screen, marks: Marks
) -> tuple[Draft, bool]:
    """Draw, and return the draft with the part of its continuation that is shown, and whether no work is left."""
    width, height = screen.size()
    num_bars = 2 if height > 5 else 1 if height > 1 else 0
    accepted = len(draft.text) - draft.prompt_chars
    generated = max(draft.generated, work.generated(draft), key=len)  # after an undo the draft may have the longer one
    shown = generated[accepted : accepted + max_chars]
    page = lay_out(draft.text, shown, width, height - num_bars, draft.after_cursor, marks)
    draft = set_generated(draft, generated[: accepted + page.shown_chars])
    bars = [_status_line(draft, work, name, width - 1), join_parts(KEY_HELP, width - 1)]
    screen.draw(page, bars[:num_bars])
    is_complete = page.is_full or page.shown_chars >= max_chars or work.has_ended
    return draft, work.has_read(draft) and is_complete


def _status_line(draft: Draft, work: BackgroundWork, name: str, width: int) -> str:
    """Return the line about the model and the text; in a narrow terminal the least important parts are left out."""
    prefix = work.prefix
    score, unknown = "– bits/char", 0
    if prefix is not None and not work.has_read(draft):
        score = f"reading {prefix.share:.0%}" if prefix.num_ids > MIN_PROGRESS_TOKENS else score
    elif prefix is not None:
        bits, unknown = prefix.bits_per_char, prefix.unknown_chars
        score = score if bits is None else f"{format_number(bits, 2)} bits/char"
    facts = [f"temp {draft.temperature:g}", score, f"seed {draft.seed}"]
    facts += [f"{unknown:,} unknown"] if unknown else []
    return join_parts([*facts, visible(name), format_count(len(draft.text), "character")], width)
