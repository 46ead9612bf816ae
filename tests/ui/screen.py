"""What a terminal shows: a small emulator for the control codes of live displays."""

from __future__ import annotations

import re

CODES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def shown_on_screen(written: str, width: int) -> list[str]:
    """Return the rows that a terminal of this width shows, without spaces at their ends and empty rows at the end.

    It knows CR, LF (which also returns the cursor), moving up, erasing a row, and the wrapping of a row
    that is full when another character follows. All characters are one cell wide.
    """
    rows: list[list[str]] = [[]]
    row, column, at = 0, 0, 0
    while at < len(written):
        code = CODES.match(written, at)
        if code:
            at = code.end()
            if code[2] == "A":
                row = max(0, row - int(code[1] or 1))
            elif code[2] == "K":
                rows[row] = []
            continue
        char, at = written[at], at + 1
        if char == "\r":
            column = 0
            continue
        if char == "\n" or column == width:
            row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
        if char != "\n":
            line = rows[row]
            line += [" "] * (column + 1 - len(line))
            line[column] = char
            column += 1
    lines = ["".join(line).rstrip() for line in rows]
    return "\n".join(lines).rstrip("\n").split("\n")
