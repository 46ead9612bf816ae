"""A text that a person writes with a model: how keys change it, and how it is laid out in rows of a screen.

A draft is a value, and every key makes a new one: (draft, key) → draft. It knows no terminal and no model.

    text              "The king"             typed or accepted by the person
    prompt_chars       3                     "The": the prompt that the model continued
    generated           " king of France"    what the model generated after the prompt, as far as it is shown
    continuation              " of France"   the part of it that is not accepted yet

Typing changes the prompt, so the continuation is then what `LanguageModel.stream(text, …)` generates. Accepting does
not: the rest of the continuation stays as it is, so that the words that the person is reading do not change.

The layout wraps the typed text and the continuation at words. The page shows the row of the cursor and, where the text
is long, leaves a third of the height for what comes after it.

    width ├──────────────────┤
          The king of France       typed │ generated
          and Burgundy, to thy
          noble ▮mother's grave
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from chargen.ui.play.terminal import Key
from chargen.ui.terminal_text import clusters, glyph, is_ideograph

TEMPERATURE_STEP = 0.1  # change for each press of Up or Down
MAX_HISTORY = 1000  # number of keys that can be undone
TAB_WIDTH = 8

# ── drafts and keys ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Draft:
    """A text, its continuation, and the drafts before it."""

    text: str = ""
    temperature: float = 1.0
    seed: int = 0
    prompt_chars: int = 0  #: length of the prompt, the first part of the text
    generated: str = ""
    history: tuple[Draft, ...] = ()  #: earlier drafts, the newest last, each without its own history

    @property
    def prompt(self) -> str:
        """The text that the model continued."""
        return self.text[: self.prompt_chars]

    @property
    def continuation(self) -> str:
        """The generated text that is not accepted yet."""
        return self.generated[len(self.text) - self.prompt_chars :]

    @property
    def inputs(self) -> tuple[str, float, int]:
        """Everything that `generated` depends on: prompt, temperature and seed."""
        return self.prompt, self.temperature, self.seed


def new_draft(text: str, temperature: float, seed: int) -> Draft:
    """Return the draft before the first key."""
    return Draft(text, temperature, seed, len(text))


def press(draft: Draft, key: Key) -> Draft:
    """Return the draft after a key, or the same draft if the key has no effect."""
    action = ACTIONS.get(key.name, _unchanged)
    changed = set_text(draft, draft.text + key.text) if key.name == "text" else action(draft)
    if changed is draft or key.name in UNDO_KEYS:
        return changed
    previous = replace(draft, history=())
    return replace(changed, history=(*draft.history[1 - MAX_HISTORY :], previous))


def set_generated(draft: Draft, generated: str) -> Draft:
    """Return the draft with another generated text, as far as it fits on the screen."""
    return draft if generated == draft.generated else replace(draft, generated=generated)


def set_text(draft: Draft, text: str) -> Draft:
    """Return the draft with another text; it becomes the prompt, and nothing is generated for it yet."""
    return draft if text == draft.text else replace(draft, text=text, prompt_chars=len(text), generated="")


def accept(draft: Draft, num_chars: int) -> Draft:
    """Return the draft after the first `num_chars` characters of the continuation were accepted."""
    accepted = draft.continuation[:num_chars]
    return replace(draft, text=draft.text + accepted) if accepted else draft


def first_word(text: str) -> str:
    """Return the first word of a text with the white space before it; or one ideograph, in a script without spaces.

    >>> first_word("  king, and")
    '  king,'
    >>> first_word("春眠不覚暁")
    '春'
    """
    word = ""
    for cluster in clusters(text):
        if word.strip() and (cluster.isspace() or is_ideograph(cluster)):
            break
        word += cluster
        if is_ideograph(cluster):
            break
    return word


def undo(draft: Draft) -> Draft:
    """Return the draft before the last key that changed it."""
    return replace(draft.history[-1], history=draft.history[:-1]) if draft.history else draft


def _accept_word(draft: Draft) -> Draft:
    return accept(draft, len(first_word(draft.continuation)))


def _accept_character(draft: Draft) -> Draft:
    return accept(draft, len(next(clusters(draft.continuation), "")))


def _accept_all(draft: Draft) -> Draft:
    return accept(draft, len(draft.continuation))


def _erase(draft: Draft) -> Draft:
    *rest, _ = list(clusters(draft.text)) or [""]
    return set_text(draft, "".join(rest))


def _regenerate(draft: Draft, temperature: float, seed: int) -> Draft:
    if (temperature, seed) == (draft.temperature, draft.seed):
        return draft
    return replace(draft, temperature=temperature, seed=seed, prompt_chars=len(draft.text), generated="")


def _raise_temperature(draft: Draft) -> Draft:
    return _regenerate(draft, round(draft.temperature + TEMPERATURE_STEP, 6), draft.seed)


def _lower_temperature(draft: Draft) -> Draft:
    return _regenerate(draft, max(0.0, round(draft.temperature - TEMPERATURE_STEP, 6)), draft.seed)


def _next_seed(draft: Draft) -> Draft:
    return _regenerate(draft, draft.temperature, draft.seed + 1)


def _unchanged(draft: Draft) -> Draft:
    return draft


UNDO_KEYS = ("ctrl-z", "ctrl-u")

ACTIONS: dict[str, Callable[[Draft], Draft]] = {
    "enter": lambda draft: set_text(draft, draft.text + "\n"),
    "backspace": _erase,
    "tab": _accept_word,
    "right": _accept_character,
    "shift-tab": _accept_character,
    "end": _accept_all,
    "ctrl-e": _accept_all,
    "up": _raise_temperature,
    "down": _lower_temperature,
    "ctrl-r": _next_seed,
    "ctrl-l": lambda draft: set_text(draft, ""),
    **dict.fromkeys(UNDO_KEYS, undo),
}

# ── layout ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """One cluster on the screen."""

    drawn: str
    width: int
    num_chars: int  #: length of the cluster in the text
    is_typed: bool
    may_break: bool  #: whether a row may end after it
    must_break: bool = False  #: whether the row ends after it


class Page(NamedTuple):
    """The part of a draft that fits on the screen."""

    rows: list[tuple[str, str]]  #: the typed and the generated part of each row
    cursor: tuple[int, int]  #: row and column, from 0
    shown_chars: int  #: number of characters of the continuation that are shown
    is_full: bool  #: whether no more characters fit


def lay_out(text: str, continuation: str, width: int, height: int) -> Page:
    """Lay a text and its continuation out on a screen of width × height cells, each at least 1."""
    rows = list(wrap(_cells(_visible_end(text, width, height), continuation, width), width))
    row, column = _cursor(rows, width)
    if row == len(rows):
        rows.append([])
    top = max(0, row + 1 - (height - height // 3))
    shown_rows = rows[top : top + height]
    shown_chars = sum(cell.num_chars for cells in rows[: top + height] for cell in cells if not cell.is_typed)
    parts = [
        (
            "".join(cell.drawn for cell in cells if cell.is_typed),
            "".join(cell.drawn for cell in cells if not cell.is_typed),
        )
        for cells in shown_rows
    ]
    is_full = shown_chars < len(continuation) or (len(shown_rows) == height and _row_width(shown_rows[-1]) >= width)
    return Page(parts, (row - top, column), shown_chars, is_full)


def wrap(cells: Iterable[Cell], width: int) -> Iterator[list[Cell]]:
    """Yield rows of at most `width` cells that end, if possible, after white space or an ideograph."""
    row: list[Cell] = []
    used = 0  # width of the row
    end = 0  # number of its cells up to the last position where it may break
    for cell in cells:
        is_space = cell.may_break and cell.drawn.isspace()
        if is_space and used + cell.width > width:  # white space at the end of a row is cut to what fits
            cell = cell._replace(drawn=" " * (width - used), width=width - used)
        while row and used + cell.width > width:
            yield row[: end or len(row)]
            row = row[end or len(row) :]
            end = 0
            used = _row_width(row)
        row.append(cell)
        used += cell.width
        if cell.must_break:
            yield row
            row, used, end = [], 0, 0
        elif cell.may_break:
            end = len(row)
    yield row


def _visible_end(text: str, width: int, height: int) -> str:
    """Return a suffix of the text that fills the screen, cut at a newline, or else at a position that rarely moves."""
    screen_chars = 2 * width * height
    start = max(0, len(text) // screen_chars - 1) * screen_chars
    newline = len(text)
    for _ in range(height):
        newline = text.rfind("\n", start, newline)
        if newline < 0:
            return text[start:]
    return text[newline + 1 :]


def _cells(text: str, continuation: str, width: int) -> Iterator[Cell]:
    column = 0  # since the last newline: tabs are set as if the line were not wrapped
    for part, is_typed in ((text, True), (continuation, False)):
        for cluster in clusters(part):
            if cluster == "\t":
                tab = TAB_WIDTH - column % TAB_WIDTH
                cell = Cell(" " * tab, tab, 1, is_typed, may_break=True)
            else:
                cell = _cell(cluster, is_typed, width)
            yield cell
            column = 0 if cell.must_break else column + cell.width


@lru_cache(4096)
def _cell(cluster: str, is_typed: bool, width: int) -> Cell:
    if cluster == "\n":
        return Cell("", 0, 1, is_typed, may_break=False, must_break=True)
    drawn, cells = glyph(cluster)
    if cells > width:  # a character of double width on a screen with one column
        drawn, cells = "·", 1
    return Cell(drawn, cells, len(cluster), is_typed, may_break=cluster in (" ", "-") or is_ideograph(cluster))


def _cursor(rows: list[list[Cell]], width: int) -> tuple[int, int]:
    """Return the row and column of the next typed character; after a full row it is the start of the next one."""
    cursor = (0, 0)
    for row, cells in enumerate(rows):
        if cells and not cells[0].is_typed:
            break
        column = 0
        for cell in cells:
            if not cell.is_typed:
                break
            column += cell.width
            cursor = (row + 1, 0) if cell.must_break or column >= width else (row, column)
    return cursor


def _row_width(cells: list[Cell]) -> int:
    return sum(cell.width for cell in cells)
