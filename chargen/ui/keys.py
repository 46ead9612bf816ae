r"""What a terminal sends, as keys.

    "abc"          Key("text", "abc")       several characters in one read are one key, and one step to undo
    "\x1b[A"       Key("up")
    "\x1b"         Key("escape"), if nothing follows it soon
    "\x1b[200~Xin chào\r\x1b[201~"          Key("text", "Xin chào\n"): a paste is never taken for keys

Sequences that have no name here (function keys, Alt with a key) are read whole and dropped, so that none leaves its
tail in the text. (ECMA-48 for their form, xterm's for their meaning.)
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Key(NamedTuple):
    """One key: its name; "text" for characters that are written, with them."""

    name: str
    text: str = ""


PASTE, PASTE_END = "\x1b[200~", "\x1b[201~"
NAMES = {
    **{"A": "up", "B": "down", "C": "right", "D": "left", "F": "end", "H": "home", "Z": "shift-tab"},
    **dict.fromkeys(["4~", "8~"], "end"),
    **{chr(code): f"ctrl-{chr(code + 96)}" for code in range(1, 27)},
    **{"\t": "tab", "\r": "enter", "\n": "enter", "\b": "backspace", "\x7f": "backspace"},
}
TOKEN = re.compile(
    r"(?P<text>[^\0-\x1f\x7f-\x9f]+)"
    r"|\x1b\[\[[A-E]"  # F1 to F5 of a Linux console, no arrows
    r"|\x1b?\x1b(?:\[(?P<parameters>[0-?]*)[ -/]*(?P<csi>[@-Z\\-~])|O(?P<ss3>[ -~]))"  # an arrow; with Alt too
    r"|\x1b[^\x1b\x03\x04]"  # Alt with a key
    r"|(?P<control>[\0-\x1f\x7f-\x9f])",
    re.DOTALL,
)
TORN = re.compile(r"\x1b?\x1b(?:\[\[?[0-?]*[ -/]*|O)?\Z")
DROPPED = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def decode(received: str, more: bool = True) -> tuple[list[Key], str]:
    """Return the keys that were pressed, and what was received of one that is not whole.

    Args:
        received: what came from the terminal, after what an earlier call left over.
        more: whether something may follow at once; without, nothing is left over.
    """
    keys: list[Key] = []
    place = 0
    while place < len(received):
        if received.startswith(PASTE, place):
            begin, end = place + len(PASTE), received.find(PASTE_END, place)
            if end < 0 and more:
                break
            keys.append(Key("text", _pasted(received[begin : end if end >= 0 else None])))
            place = end + len(PASTE_END) if end >= 0 else len(received)
            continue
        if more and TORN.match(received, place):
            break
        found = TOKEN.match(received, place)
        assert found is not None, "every character begins a token"
        place = found.end()
        name = _name(found)
        if name:
            keys.append(Key(name, found["text"] or ""))
    return [key for key in keys if key != Key("text")], received[place:]


def _name(token: re.Match[str]) -> str | None:
    if token["text"]:
        return "text"
    if token["control"]:
        return "escape" if token["control"] == "\x1b" else NAMES.get(token["control"])
    if token["csi"] == "~":
        return NAMES.get(token["parameters"].partition(";")[0] + "~")
    return NAMES.get(token["csi"] or token["ss3"] or "")


def _pasted(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(DROPPED)
