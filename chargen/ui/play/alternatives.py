"""The alternatives for a character in `chargen play`: what the model expected there, each with its probability.

    the king of ▮
    ▸ F   41.2 %  ████████████████████
    ● t   20.6 %  ██████████
      E    9.8 %  ████▊

▸ marks the selected character, and ● the one that the text has there. To choose a character means to cut the text
before the cursor, to add the character, and to let the model continue from there.

The menu is a value: (menu, key) → menu. It knows no terminal and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size

from chargen.probe.surprisal import Guess
from chargen.ui.heatmap import END, visible
from chargen.ui.play.draft import Draft
from chargen.ui.play.layout import Page
from chargen.ui.terminal_text import clusters

MAX_ALTERNATIVES = 50
BAR_CELLS = 20
EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
MENU_HELP = ["Esc back", "Enter continue from it", "↑↓ select"]
SPACE = "␣"
CONTEXT_CHARS = 200  # a suffix of the text that is longer than any line of a terminal that a person reads


@dataclass(frozen=True)
class Alternatives:
    """The menu of the characters that may come at the cursor."""

    before: str  #: the text before the cursor
    current: str  #: the character at the cursor, of the text or of its continuation; "" if there is none yet
    guesses: tuple[Guess, ...]  #: the likeliest first; at least one
    selected: int = 0  #: number of the selected one

    @property
    def chosen(self) -> str:
        """The selected character; "" for the end of the text."""
        return self.guesses[self.selected].text


def open_menu(draft: Draft, guesses: tuple[Guess, ...]) -> Alternatives:
    """Return the menu for the character at the cursor of a draft. The current character is selected, if it is there."""
    rest = draft.text[draft.cursor :] or draft.continuation
    current = next((guess.text for guess in guesses if guess.text and rest.startswith(guess.text)), "")
    current = current or next(clusters(rest), "")
    selected = next((number for number, guess in enumerate(guesses) if current and guess.text == current), 0)
    return Alternatives(draft.text[: draft.cursor], current, guesses, selected)


def select(menu: Alternatives, key: str) -> Alternatives | None:
    """Return the menu after a key, or None if the key is none of the menu's."""
    last = len(menu.guesses) - 1
    positions = {"up": menu.selected - 1, "down": menu.selected + 1, "home": 0, "end": last}
    if key not in positions:
        return None
    return replace(menu, selected=min(max(0, positions[key]), last))


def menu_page(menu: Alternatives, width: int, height: int) -> Page:
    """Return the rows of a menu on a screen of width × height cells, each at least 1, with the selected one in view."""
    rows = [(_last_cells(menu.before, max(0, width - 2)) + "▮", "")] if height > 1 else []
    num_shown = height - len(rows)
    first = min(max(0, menu.selected - num_shown // 2), max(0, len(menu.guesses) - num_shown))
    largest = max(guess.prob for guess in menu.guesses)
    cursor = 0
    for number, guess in list(enumerate(menu.guesses))[first : first + num_shown]:
        is_current = guess.text == menu.current and bool(guess.text)
        mark = "▸" if number == menu.selected else "●" if is_current else " "
        name = set_cell_size(visible(guess.text, SPACE) if guess.text else END, 4)
        line = f"{mark} {name}{100 * guess.prob:6.2f} %  {_bar(guess.prob / largest if largest else 0.0)}"
        line = set_cell_size(line, width - 1).rstrip()
        if number == menu.selected:
            cursor = len(rows)
        rows.append((line, "") if number == menu.selected else ("", line))
    return Page(rows, (cursor, 0), 0, True, 0, [[] for _ in rows])


def _bar(share: float) -> str:
    """Return a bar for a share of `BAR_CELLS`, in eighths of a cell."""
    whole, part = divmod(round(8 * BAR_CELLS * share), 8)
    return "█" * whole + EIGHTHS[part]


def _last_cells(text: str, width: int) -> str:
    """Return the end of the last line of a text, as it is drawn, in at most `width` cells."""
    line = text[-CONTEXT_CHARS:].rpartition("\n")[2]
    drawn: list[str] = []
    used = 0
    for cluster in reversed(list(clusters(line))):
        shown = visible(cluster)
        used += cell_len(shown)
        if used > width:
            break
        drawn.append(shown)
    return "".join(reversed(drawn))
