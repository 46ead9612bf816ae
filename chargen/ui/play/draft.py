"""A text being written with a model: what is typed, what the model would write next, and the way back.

A draft is a value, and every key makes a new one: (draft, key) → draft. It knows no terminal and no model.

    text          "The king"             typed or accepted
    drawn_after    3                     "The": what the model was last asked to go on from
    drawn            " king of France"   what it wrote after that, as far as it is shown
    continuation           " of France"  what of it is not yet accepted

Whoever types asks anew, so that the continuation is what `LanguageModel.stream(text, …)` writes. Whoever accepts leaves
what comes after as it is: the words that one was looking at do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from chargen.ui.play.terminal import Key
from chargen.ui.terminal_text import clusters, is_ideograph

STEP = 0.1  #: of the temperature, for a key
MAX_UNDONE = 1000  #: steps back that are kept


@dataclass(frozen=True)
class Draft:
    """A text being written."""

    text: str = ""
    temperature: float = 1.0
    seed: int = 0
    drawn_after: int = 0  #: characters of the text
    drawn: str = ""
    history: tuple[Draft, ...] = ()  #: the drafts before this one, the newest last, each without its own

    @property
    def beginning(self) -> str:
        """What the model goes on from."""
        return self.text[: self.drawn_after]

    @property
    def continuation(self) -> str:
        """What the model wrote and nobody accepted."""
        return self.drawn[len(self.text) - self.drawn_after :]

    @property
    def cause(self) -> tuple[str, float, int]:
        """All that `drawn` depends on: beginning, temperature and seed."""
        return self.beginning, self.temperature, self.seed


def begin(text: str, temperature: float, seed: int) -> Draft:
    """Return the draft before the first key."""
    return Draft(text, temperature, seed, len(text))


def press(draft: Draft, key: Key) -> Draft:
    """Return the draft after a key; the same draft where the key does nothing."""
    after = write(draft, draft.text + key.text) if key.name == "text" else ACTIONS.get(key.name, _nothing)(draft)
    if after is draft or key.name in UNDO:
        return after
    before = replace(draft, history=())
    return replace(after, history=(*draft.history[1 - MAX_UNDONE :], before))


def show(draft: Draft, drawn: str) -> Draft:
    """Return the draft with what the model wrote after its beginning, as far as there is room for it."""
    return draft if drawn == draft.drawn else replace(draft, drawn=drawn)


def write(draft: Draft, text: str) -> Draft:
    """Return the draft with another text, whose continuation is still to come."""
    return draft if text == draft.text else replace(draft, text=text, drawn_after=len(text), drawn="")


def accept(draft: Draft, chars: int) -> Draft:
    """Return the draft with so many characters of the continuation taken over."""
    taken = draft.continuation[:chars]
    return replace(draft, text=draft.text + taken) if taken else draft


def first_word(text: str) -> str:
    """Return what a text begins with: white space and a word, or one ideograph, whose script puts no spaces.

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
    *kept, _ = list(clusters(draft.text)) or [""]
    return write(draft, "".join(kept))


def _redrawn(draft: Draft, temperature: float, seed: int) -> Draft:
    if (temperature, seed) == (draft.temperature, draft.seed):
        return draft
    return replace(draft, temperature=temperature, seed=seed, drawn_after=len(draft.text), drawn="")


def _warmer(draft: Draft) -> Draft:
    return _redrawn(draft, round(draft.temperature + STEP, 6), draft.seed)


def _colder(draft: Draft) -> Draft:
    return _redrawn(draft, max(0.0, round(draft.temperature - STEP, 6)), draft.seed)


def _reroll(draft: Draft) -> Draft:
    return _redrawn(draft, draft.temperature, draft.seed + 1)


def _nothing(draft: Draft) -> Draft:
    return draft


UNDO = ("ctrl-z", "ctrl-u")

ACTIONS: dict[str, Callable[[Draft], Draft]] = {
    "enter": lambda draft: write(draft, draft.text + "\n"),
    "backspace": _erase,
    "tab": _accept_word,
    "right": _accept_character,
    "shift-tab": _accept_character,
    "end": _accept_all,
    "ctrl-e": _accept_all,
    "up": _warmer,
    "down": _colder,
    "ctrl-r": _reroll,
    "ctrl-l": lambda draft: write(draft, ""),
    **dict.fromkeys(UNDO, undo),
}
