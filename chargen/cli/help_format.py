"""The layout of help: it fits narrow terminals, and nothing in it is broken inside a word.

click wraps paragraphs and the descriptions of options. Blocks that keep their lines (they begin with "\\b") are wrapped
here if a line is longer than the terminal is wide:

    a row of two columns    the second column is wrapped, or moved below the first one
    an example              it continues on the next line after a backslash, so that it can still be copied
    other lines             are wrapped at spaces
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

MIN_WIDTH = 30  # help for a narrower terminal is as wide as this
NARROW = 60  # columns of a terminal on which the first column of a list is narrower than click makes it
MIN_COLUMN_WIDTH = 20  # of a second column beside the first one
ROW = r"( *)(\S.*?) {2,}(\S.*)"  # a row of two columns
WORD = r"""(?:"[^"]*"|'[^']*'|[^\s"'])+"""  # of a shell command
OPTION_WITH_VALUE = rf"-{WORD} (?!-){WORD}|{WORD}"


class HelpFormatter(click.HelpFormatter):
    """Formats help for the width of the terminal."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        if width is None:
            import shutil  # takes 2 ms, and only help needs it

            width = max(min(shutil.get_terminal_size().columns, max_width or 80) - 2, MIN_WIDTH)
        super().__init__(indent_increment, width, max_width)

    def write_text(self, text: str) -> None:
        """Write paragraphs; also those that keep their lines fit the width."""
        start = len(self.buffer)
        super().write_text(text)
        written = "".join(self.buffer[start:])
        blocks = re.split(r"(\n{2,})", written.rstrip("\n"))
        self.buffer[start:] = ["".join(_fit_block(block, self.width) for block in blocks), "\n"]

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of names and descriptions; on a narrow terminal, most descriptions are below their names."""
        super().write_dl(rows, self.width // 4 if self.width < NARROW else col_max, col_spacing)


class HelpContext(click.Context):
    """A context whose help is formatted by `HelpFormatter`."""

    formatter_class = HelpFormatter


def _fit_block(block: str, width: int) -> str:
    """Return the lines of a block, none of which is longer than `width` if they can be wrapped."""
    lines = block.split("\n")
    if all(len(line) <= width for line in lines):
        return block
    if any(re.fullmatch(ROW, line) for line in lines):
        return "\n".join(_fit_columns(lines, width))
    first, *examples = lines
    indent = _indent_of(first)
    fitted = [first] if len(first) <= width else _wrapped(first.strip(), width, indent, indent)
    return "\n".join([*fitted, *(part for line in examples for part in _fit_example(line, width))])


def _fit_columns(lines: Iterable[str], width: int) -> Iterator[str]:
    """Yield rows of two columns; a line that only continues the second column is a part of the row before it."""
    rows: list[list[str]] = []
    for line in lines:
        match = re.fullmatch(ROW, line)
        if match:
            rows.append(list(match.groups()))
        elif rows and line.startswith(" " * (len(rows[-1][0]) + 2)):
            rows[-1][2] += " " + line.strip()
        else:
            rows.append(["", line, ""])
    column = max(len(indent + name) for indent, name, text in rows if text) + 2
    for indent, name, text in rows:
        if not text:
            yield name
        elif width - column >= MIN_COLUMN_WIDTH:
            yield from _wrapped(text, width, (indent + name).ljust(column), " " * column)
        else:
            yield indent + name
            yield from _wrapped(text, width, indent + "    ", indent + "    ")


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    from textwrap import wrap  # only a line that is too long needs it

    return wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _fit_example(line: str, width: int) -> Iterator[str]:
    """Yield a command on several lines, each but the last with a backslash at its end."""
    indent = _indent_of(line)
    if len(line) <= width:
        yield line
        return
    row = ""
    for part in re.findall(OPTION_WITH_VALUE, line):
        if row.strip() and len(row) + len(part) + 3 > width:  # two spaces and the backslash
            yield f"{row} \\"
            row = f"{indent}    {part}"
        else:
            row = f"{row} {part}" if row else indent + part
    yield row


def _indent_of(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
