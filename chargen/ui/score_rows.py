"""Scores, printed one row at a time in any of the output forms.

Scores are printed while they are computed, because there may be any number of them. A `RowPrinter` prints one score:
`TableRows` for people, `TsvRows` and `JsonLines` for programs, `RecordList` to collect them for one JSON document.

A file or a pipe gets its rows without rich, whose import takes as long as the score of a hundred sentences.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from chargen.io import to_json_line
from chargen.schema import format_count, format_number
from chargen.scoring.scorer import Score, Total
from chargen.text.cleaning import quote_characters
from chargen.ui.output import FILE_WIDTH, may_be_terminal
from chargen.ui.terminal_text import is_shown, shorten, stream_below, visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from chargen.probe.surprisal import CharSurprisal

BAR_WIDTH = 8  # cells of a terminal
MAX_BAR_BITS = 8.0  # bits per character of a full bar
BAR_COLOURS = ("#0072b2", "#56b4e9", "#f0e442", "#e69f00", "#d55e00")  # from likely to unlikely; Okabe & Ito (2008)
EIGHTHS = " ▏▎▍▌▋▊▉█"
MAX_UNKNOWN = 100  # unknown characters that are remembered for a note
REPORT_EVERY = 1024  # texts between two updates of the progress line

RowPrinter = Callable[[int | None, int, Score], None]  #: prints (rank or None, number of the input from 1, score)

WORD_COLUMNS = ("bits/word", "words")
SEPARATOR = "   "  # between two columns of the table of scores
MIN_TEXT_WIDTH = 24  # cells; a terminal on which the text would have fewer shows fewer columns
#: The order in which columns are left out on a narrow terminal. The first two repeat bits/char in another form.
OPTIONAL_COLUMNS = ("perplexity/char", "bar", "unknown", "chars", "words", "log p (nats)")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


def record(rank: int | None, number: int, score: Score, words: bool) -> dict[str, Any]:
    """Return a score as a JSON object.

    Args:
        rank: Rank of the text, from 1; None (null) where texts are in the order of the input.
        number: Number of the text in the input, from 1.
        score: Score of the text.
        words: Whether to include bits per word.
    """
    more = {"words": score.words, "bits_per_word": score.bits_per_word} if words else {}
    return {"rank": rank, "input": number, **score.to_dict(), **more}


class TableRows:
    """Prints scores as rows of a table, with a header before the first row.

    On a terminal, there is also a bar for bits/char, and each row is a single line: a long text is shortened in the
    middle, and a narrow terminal shows fewer columns. Elsewhere texts and columns are complete.

    Args:
        words: Whether there are columns for words.
        ranked: Whether the first column is the rank, or the number of the input.
    """

    def __init__(self, words: bool, ranked: bool = True) -> None:
        self._console: Console | None = None  # of a terminal; None for a file or a pipe
        if may_be_terminal(sys.stdout):
            from chargen.ui.console import stdout_console

            console = stdout_console()
            self._console = console if console.is_terminal else None
        self._file = stream_below(sys.stdout)
        self._words = words
        columns = ["rank" if ranked else "input", "bits/char", "perplexity/char", "log p (nats)", "chars", "unknown"]
        columns += WORD_COLUMNS if words else ()
        widths = {column: max(6, len(column)) for column in columns}
        if self._console:
            widths = _fitting_columns({**widths, "bar": BAR_WIDTH}, self._console.width)
        self._has_bars = widths.pop("bar", 0) > 0
        self._widths = widths
        header = [column.rjust(width) for column, width in widths.items()] + [" " * BAR_WIDTH] * self._has_bars
        self._header = SEPARATOR.join([*header, "text"])
        self._has_header = False

    def __call__(self, rank: int | None, number: int, score: Score) -> None:
        """Print one score."""
        if not self._has_header:  # only now that there is a row: reading the input may have failed
            self._print_header()
        cells = {
            "rank": f"{rank}",
            "input": f"{number}",
            "bits/char": format_number(score.bits_per_char, 3),
            "perplexity/char": format_number(score.perplexity_per_char, 2),
            "log p (nats)": format_number(score.log_prob_nats, 2),
            "chars": f"{score.chars:,}",
            "unknown": f"{score.unknown_chars:,}" if score.unknown_chars else "",
        }
        if self._words:
            cells |= {"bits/word": format_number(score.bits_per_word, 3), "words": f"{score.words:,}"}
        numbers = "".join(cells[column].rjust(width) + SEPARATOR for column, width in self._widths.items())
        if self._console is None:
            self._file.write(f"{numbers}{visible(score.text)}\n")
            self._file.flush()
            return
        from rich.text import Text

        row = Text(numbers)
        if self._has_bars:
            row.append_text(_bar(score.bits_per_char)).append(SEPARATOR)
        row.append(shorten(score.text, max(1, self._console.width - row.cell_len)))
        self._console.print(row, soft_wrap=True)

    def _print_header(self) -> None:
        width = FILE_WIDTH if self._console is None else self._console.width
        rule = "─" * min(width, len(self._header) + 20)
        if self._console is None:
            self._file.write(f"{self._header}\n{rule}\n")
        else:
            from rich.text import Text

            self._console.print(Text(self._header, "bold"), soft_wrap=True)
            self._console.print(rule, soft_wrap=True)
        self._has_header = True


class JsonLines:
    """Prints each score as a JSON object on a line of its own."""

    def __init__(self, write: Callable[[str], Any], words: bool) -> None:
        self._write = write
        self._words = words
        self._is_shown = is_shown()

    def __call__(self, rank: int | None, number: int, score: Score) -> None:
        """Print one score."""
        line = to_json_line(record(rank, number, score, self._words))
        self._write((visible_json(line) if self._is_shown else line) + "\n")


class RecordList:
    """Appends each score to a list, as a JSON object."""

    def __init__(self, records: list[dict[str, Any]], words: bool) -> None:
        self._records = records
        self._words = words

    def __call__(self, rank: int | None, number: int, score: Score) -> None:
        """Append one score."""
        self._records.append(record(rank, number, score, self._words))


class TsvRows:
    """Prints scores as tab-separated values, with a header before the first; texts are escaped by `escaped`."""

    def __init__(self, write: Callable[[str], Any], words: bool) -> None:
        self._write = write
        self._words = words
        self._has_header = False

    def __call__(self, rank: int | None, number: int, score: Score) -> None:
        """Print one score."""
        values = record(rank, number, score, self._words)
        if not self._has_header:
            self._write("\t".join([*(key for key in values if key != "text"), "text"]) + "\n")
            self._has_header = True
        values["text"] = escaped(values.pop("text"))  # moves it to the last column
        values["unknown"] = escaped(values["unknown"])
        self._write("\t".join("" if value is None else str(value) for value in values.values()) + "\n")


class CharRows:
    """Prints a row of tab-separated values for each character of a text, with a header before the first row.

    The column `position` is the number of the character in the text, from 1. The end of a text, where it is scored, is
    a row with an empty character.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._has_header = False

    def __call__(self, rank: int | None, number: int, chars: Sequence[CharSurprisal]) -> None:
        """Print the characters of a text."""
        if not self._has_header:
            self._write("rank\tinput\tposition\tsurprisal_bits\tlog_prob_nats\tunknown\tcharacter\n")
            self._has_header = True
        prefix = f"{'' if rank is None else rank}\t{number}"
        for position, char in enumerate(chars, start=1):
            values = (position, char.surprisal_bits, char.log_prob_nats, int(char.unknown), escaped(char.text))
            self._write("\t".join([prefix, *map(str, values)]) + "\n")


class RunningTotals:
    """Totals over all texts, counted while the scores pass through, and the notes about them.

    Args:
        min_bits: bits per character from which texts are printed; None to print all.
        max_bits: bits per character above which texts are counted in `num_above`; None for no limit.
    """

    def __init__(self, min_bits: float | None = None, max_bits: float | None = None) -> None:
        self.total = Total()
        self.num_above = 0
        self._num_printed = 0
        self._min_bits, self._max_bits = min_bits, max_bits
        self._num_empty = 0
        self._unknown: dict[str, None] = {}

    def count(self, scores: Iterable[Score], quiet: bool) -> Iterator[Score]:
        """Yield the scores unchanged and count them; unless `quiet`, show the number on stderr if it is a terminal."""
        started = time.perf_counter()
        with _count_display() if not quiet and may_be_terminal(sys.stderr) else nullcontext() as update:
            for number, score in enumerate(scores, start=1):
                self._add(score)
                yield score
                if update and number % REPORT_EVERY == 0:
                    update(f"{number:,} texts, {number / (time.perf_counter() - started):,.0f} texts/s")

    def notes(self, words: bool) -> list[str]:
        """Return the notes to print at the end, one line each: empty and unknown; and the means of all texts.

        Args:
            words: Whether to include bits per word.
        """
        total = self.total
        lines = []
        if self._num_empty:
            are = "is empty and has" if self._num_empty == 1 else "are empty and have"
            texts = format_count(total.texts, "text")
            lines.append(f"note: {self._num_empty:,} of {texts} {are} no value per character")
        if total.unknown_chars:
            lines.append(
                f"note: the model does not know {total.unknown_chars:,} of the "
                f"{format_count(total.chars, 'character')}: {quote_characters(self._unknown)}"
            )
        if total.texts > 1 and total.chars:
            numbers = [("char", total.chars), ("byte", total.bytes)] + ([("word", total.words)] if words else [])
            means = ", ".join(
                f"{format_number(total.bits_per(number) or 0.0, 3)} bits/{unit}" for unit, number in numbers
            )
            lines.append(
                f"{format_count(total.texts, 'text')}, {format_count(total.chars, 'character')}, together {means}"
            )
        for number, bits, comparison in (
            (self._num_printed, self._min_bits, "at least"),
            (self.num_above, self._max_bits, "more than"),
        ):
            if bits is not None:
                texts = format_count(total.texts, "text")
                lines.append(
                    f"{number:,} of {texts} {'has' if number == 1 else 'have'} {comparison} {bits:g} bits/char"
                )
        return lines

    def is_printed(self, score: Score) -> bool:
        """Return whether a text has the bits per character from which texts are printed."""
        bits = score.bits_per_char
        return self._min_bits is None or (bits is not None and bits >= self._min_bits)

    def _add(self, score: Score) -> None:
        self.total = self.total.plus(score)
        self._num_printed += self.is_printed(score)
        self.num_above += self._max_bits is not None and (score.bits_per_char or 0.0) > self._max_bits
        self._num_empty += not score.text
        if score.unknown and len(self._unknown) < MAX_UNKNOWN:
            self._unknown.update(dict.fromkeys(score.unknown))


def escaped(text: str) -> str:
    r"""Return a text as one cell of tab-separated values, with the escapes \t, \n, \r, \0 and \\.

    >>> escaped("a\tb")
    'a\\tb'
    """
    return "".join(_ESCAPES.get(char, char) for char in text) if any(char in text for char in _ESCAPES) else text


def _count_display() -> AbstractContextManager[Callable[[str], None]]:
    """Return the display of the number of texts on stderr."""
    from chargen.ui.console import status, stderr_console

    return status(stderr_console(), "reading …")


def _fitting_columns(widths: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the columns that leave the text MIN_TEXT_WIDTH cells of a terminal, with their widths, if possible."""
    kept = dict(widths)
    for column in OPTIONAL_COLUMNS:
        if sum(kept.values()) + len(SEPARATOR) * len(kept) + MIN_TEXT_WIDTH <= width:
            break
        kept.pop(column, None)
    return kept


def _bar(bits: float | None) -> Text:
    """Return a bar of BAR_WIDTH cells that is longer for less likely texts; its colour shows the same as its length."""
    from rich.text import Text

    if bits is None:
        return Text(" " * BAR_WIDTH)
    fraction = min(1.0, bits / MAX_BAR_BITS)
    whole, rest = divmod(round(fraction * BAR_WIDTH * 8), 8)
    cells = ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR_WIDTH)
    return Text(cells, BAR_COLOURS[min(len(BAR_COLOURS) - 1, int(fraction * len(BAR_COLOURS)))])
