"""A text that a person writes with a model, and how keys change it.

A draft is a value, and every key makes a new one: (draft, key) → draft. It knows no terminal and no model.

    text              "The king"             typed or accepted by the person
    prompt_chars       3                     "The": the prompt that the model continued
    generated           " king of France"    what the model generated after the prompt, as far as it is shown
    continuation              " of France"   the part of it that is not accepted yet

Typing changes the prompt, so the continuation is then what `LanguageModel.stream(text, …)` generates. Accepting does
not: the rest of the continuation stays as it is, so that the words that the person is reading do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from chargen.ui.play.terminal import Key
from chargen.ui.terminal_text import clusters, is_ideograph

TEMPERATURE_STEP = 0.1  # change for each press of Up or Down
MAX_HISTORY = 1000  # number of keys that can be undone


@dataclass(frozen=True)
class Draft:
    """A text, its continuation, and the drafts before it."""

    text: str = ""
    temperature: float = 1.0
    seed: int = 0
    prompt_chars: int = 0  #: length of the prompt, the first part of the text
    generated: str = ""
    after_cursor: int = 0  #: number of characters of the text after the cursor
    history: tuple[Draft, ...] = ()  #: earlier drafts, the newest last, each without its own history

    @property
    def cursor(self) -> int:
        """The number of characters of the text before the cursor."""
        return len(self.text) - self.after_cursor

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
    changed = _insert(draft, key.text) if key.name == "text" else action(draft)
    return changed if key.name in UNDO_KEYS else _record(draft, changed)


def choose(draft: Draft, character: str) -> Draft:
    """Return the draft with another character at the cursor, and without the text after it; "" ends the text there.

    A character that is there already is moved over, or accepted, and the text after it remains.
    """
    before, after = _split(draft)
    if character and after.startswith(character):
        return _record(draft, _move(draft, draft.cursor + len(character)))
    if character and not after and draft.continuation.startswith(character):
        return _record(draft, accept(draft, len(character)))
    return _record(draft, set_text(draft, before + character))


def _record(draft: Draft, changed: Draft) -> Draft:
    """Return the changed draft, with the draft before it in its history."""
    if changed is draft:
        return changed
    return replace(changed, history=(*draft.history[1 - MAX_HISTORY :], replace(draft, history=())))


def set_generated(draft: Draft, generated: str) -> Draft:
    """Return the draft with another generated text, as far as it fits on the screen."""
    return draft if generated == draft.generated else replace(draft, generated=generated)


def set_text(draft: Draft, before: str, after: str = "") -> Draft:
    """Return the draft with another text; it becomes the prompt, and nothing is generated for it yet.

    Args:
        draft: The draft.
        before, after: The text before and after the cursor.
    """
    text = before + after
    if text == draft.text:
        return _move(draft, len(before))
    return replace(draft, text=text, prompt_chars=len(text), generated="", after_cursor=len(after))


def accept(draft: Draft, num_chars: int) -> Draft:
    """Return the draft after the first `num_chars` characters of the continuation were accepted."""
    accepted = draft.continuation[:num_chars]
    return replace(draft, text=draft.text + accepted, after_cursor=0) if accepted else _move(draft, len(draft.text))


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


def needs_continuation(draft: Draft, key: Key) -> bool:
    """Return whether a key would accept more of the continuation than there is so far: a whole word, or a character."""
    if key.name not in ACCEPTING_KEYS or (draft.after_cursor and key.name in MOVING_KEYS):
        return False
    if key.name == "tab":
        return first_word(draft.continuation) == draft.continuation
    return not draft.continuation


def undo(draft: Draft) -> Draft:
    """Return the draft before the last key that changed it."""
    return replace(draft.history[-1], history=draft.history[:-1]) if draft.history else draft


def _accept_word(draft: Draft) -> Draft:
    return accept(draft, len(first_word(draft.continuation)))


def _accept_character(draft: Draft) -> Draft:
    return accept(draft, len(next(clusters(draft.continuation), "")))


def _move(draft: Draft, cursor: int) -> Draft:
    """Return the draft with its cursor after `cursor` characters of the text."""
    return draft if cursor == draft.cursor else replace(draft, after_cursor=len(draft.text) - cursor)


def _insert(draft: Draft, text: str) -> Draft:
    before, after = _split(draft)
    return set_text(draft, before + text, after)


def _split(draft: Draft) -> tuple[str, str]:
    return draft.text[: draft.cursor], draft.text[draft.cursor :]


def _move_left(draft: Draft) -> Draft:
    *_, last = list(clusters(_split(draft)[0])) or [""]
    return _move(draft, draft.cursor - len(last))


def _move_right(draft: Draft) -> Draft:
    """Move over a character of the text, or accept one of the continuation at the end of the text."""
    if not draft.after_cursor:
        return _accept_character(draft)
    return _move(draft, draft.cursor + len(next(clusters(_split(draft)[1]))))


def _move_home(draft: Draft) -> Draft:
    """Move to the start of the line, and from there to the start of the text."""
    line = draft.text.rfind("\n", 0, draft.cursor) + 1
    return _move(draft, 0 if line == draft.cursor else line)


def _move_end(draft: Draft) -> Draft:
    """Move to the end of the line, from there to the end of the text, and at the end accept all of the continuation."""
    if not draft.after_cursor:
        return _accept_all(draft)
    line = draft.text.find("\n", draft.cursor)
    return _move(draft, len(draft.text) if line in (-1, draft.cursor) else line)


def _delete(draft: Draft) -> Draft:
    before, after = _split(draft)
    return set_text(draft, before, after[len(next(clusters(after), "")) :])


def _accept_all(draft: Draft) -> Draft:
    return accept(draft, len(draft.continuation))


def _erase(draft: Draft) -> Draft:
    before, after = _split(draft)
    *rest, _ = list(clusters(before)) or [""]
    return set_text(draft, "".join(rest), after)


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


ACCEPTING_KEYS = ("tab", "right", "shift-tab", "end", "ctrl-e")
MOVING_KEYS = ("right", "end")  # before the end of the text they move the cursor
UNDO_KEYS = ("ctrl-z", "ctrl-u")

ACTIONS: dict[str, Callable[[Draft], Draft]] = {
    "enter": lambda draft: _insert(draft, "\n"),
    "backspace": _erase,
    "delete": _delete,
    "left": _move_left,
    "home": _move_home,
    "ctrl-a": _move_home,
    "tab": _accept_word,
    "right": _move_right,
    "shift-tab": _accept_character,
    "end": _move_end,
    "ctrl-e": _accept_all,
    "up": _raise_temperature,
    "down": _lower_temperature,
    "ctrl-r": _next_seed,
    "ctrl-l": lambda draft: set_text(draft, ""),
    **dict.fromkeys(UNDO_KEYS, undo),
}
