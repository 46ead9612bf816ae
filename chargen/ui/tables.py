"""Tables of models and corpora.

How scores are printed: a table with bars, tab-separated values, or JSON; a line each, as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chargen.errors import ChargenError
from chargen.io import to_json_line
from chargen.probe.surprisal import CharSurprisal
from chargen.scoring.edits import Suggestion
from chargen.scoring.scorer import Score, Total
from chargen.ui import heatmap as heat
from chargen.ui.console import status, stderr_console
from chargen.ui.terminal_text import is_shown, visible, visible_json


def key_value_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return names and values, a row each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(visible(name)), Text(visible(value)))
    return table


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Table:
    """Return a table with a header; the columns named in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(visible(column)), justify="right" if column in right else "left", no_wrap=column in right)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def suggestion_table(suggestions: Iterable[Suggestion]) -> Table:
    """Return edits with what they gain, the best first; places are counted from 1."""
    rows = []
    for s in suggestions:
        old, new = (heat.visible(part, "␣") for part in (s.edit.removed, s.edit.inserted))
        what = {
            "replace": f"{old} → {new}",
            "delete": f"without {old}",
            "insert": f"with {new}",
            "swap": f"{old} → {new}",
        }
        rows.append((f"+{s.gain_bits:.1f}", str(s.edit.begin + 1), what[s.edit.kind], heat.visible(s.text)))
    return plain_table(("gain (bits)", "place", "edit", "text"), rows, ("gain (bits)", "place"))


def comparison_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return models and baselines, each with its difference from the first model; see `scoring/compare.py`."""
    cells = []
    for row in rows:
        beside = ("", "", "")
        if "difference_bits_per_byte" in row:
            interval = f"{row['interval_low']:+.4f} to {row['interval_high']:+.4f}"
            beside = (f"{row['difference_bits_per_byte']:+.4f}", interval, f"{100 * row['first_better_share']:.1f} %")
        unknown = row.get("unknown_chars", 0)
        cells.append(
            (
                row["name"],
                f"{row['bits_per_byte']:.4f}",
                f"{row['bits_per_char']:.4f}",
                f"{unknown:,}" if unknown else "",
                *beside,
            )
        )
    numbers = ("bits/byte", "bits/char", "unknown", "more", "interval", "first better")
    return plain_table(("model", *numbers), cells, numbers)


def lines_apart_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Return the lines that two models differ most on, in bits for the whole line."""
    numbers = ("line", lines[0]["first"], lines[0]["other"], "difference")
    rows = [
        (
            f"{r['line']:,}",
            f"{r['first_bits']:.1f}",
            f"{r['other_bits']:.1f}",
            f"{r['difference_bits']:+.1f}",
            heat.visible(r["text"]),
        )
        for r in lines
    ]
    return plain_table((*numbers, "text"), rows, numbers)


BAR_CELLS = 8
MAX_BITS = 8.0  #: per character: a full bar
COLOURS = ("#0072b2", "#56b4e9", "#f0e442", "#e69f00", "#d55e00")  #: from likely to unlikely; Okabe & Ito 2008
MAX_NAMES = 40  #: unknown characters that are named
MAX_ERRORS = 3  #: texts that could not be read, and are told by name
REPORT_EVERY = 1024  #: texts
EIGHTHS = " ▏▎▍▌▋▊▉█"

Line = Callable[[int | None, int, Score], None]  #: (rank, place among the input, score), prints it

WORD_COLUMNS = ("bits/word", "words")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


def table(console: Console, words: bool, ranked: bool = True) -> Line:
    """Return what prints a table's rows, the header before the first; on a terminal with a bar for the bits per char.

    Args:
        console: where.
        words: whether there are columns for words.
        ranked: whether the first column is the rank, or the place among the input.
    """
    columns = ["rank" if ranked else "input", "bits/char", "perplexity/char", "log p (nats)", "chars", "unknown"]
    columns += WORD_COLUMNS if words else ()
    widths = [max(6, len(column)) for column in columns]
    bars = console.is_terminal
    header = "   ".join(column.rjust(width) for column, width in zip(columns, widths, strict=True))
    header += f"   {'':{BAR_CELLS}}   text" if bars else "   text"
    begun = False

    def line(rank: int | None, place: int, score: Score) -> None:
        nonlocal begun
        if not begun:  # not before there is a row: what is read may be at fault
            console.print(Text(header, "bold"), soft_wrap=True)
            console.print("─" * (min(console.width, len(header) + 20)), soft_wrap=True)
            begun = True
        cells = [
            f"{place if rank is None else rank}",
            _or_dash(score.bits_per_char, ".3f"),
            _or_dash(score.perplexity_per_char, ".2f"),
            f"{score.log_prob_nats:.2f}",
            f"{score.chars:,}",
            f"{score.unknown_chars:,}" if score.unknown_chars else "",
        ]
        cells += [_or_dash(score.bits_per_word, ".3f"), f"{score.words:,}"] if words else []
        numbers = "   ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + "   "
        if bars:
            row = Text(numbers).append_text(_bar(score.bits_per_char)).append("   ").append(visible(score.text))
            console.print(row, soft_wrap=True)
        else:  # no colours: the same bytes without rich, which takes 50 µs a row
            console.file.write(f"{numbers}{visible(score.text)}\n")
            console.file.flush()

    return line


def json_lines(write: Callable[[str], Any], words: bool) -> Line:
    """Return what prints a JSON object a line."""
    if is_shown():
        return lambda rank, place, score: write(visible_json(to_json_line(record(rank, place, score, words))) + "\n")
    return lambda rank, place, score: write(to_json_line(record(rank, place, score, words)) + "\n")


def collect(rows: list[dict[str, Any]], words: bool) -> Line:
    """Return what puts a record into a list."""
    return lambda rank, place, score: rows.append(record(rank, place, score, words))


def tsv(write: Callable[[str], Any], words: bool) -> Line:
    """Return what prints rows of tab-separated values, a header before the first; texts as `escaped` has them."""
    begun = False

    def line(rank: int | None, place: int, score: Score) -> None:
        nonlocal begun
        values = record(rank, place, score, words)
        if not begun:
            write("\t".join([*(key for key in values if key != "text"), "text"]) + "\n")
            begun = True
        values["text"] = escaped(values.pop("text"))
        values["unknown"] = escaped(values["unknown"])
        write("\t".join("" if value is None else str(value) for value in values.values()) + "\n")

    return line


def chars_tsv(write: Callable[[str], Any]) -> Callable[[int | None, int, Sequence[CharSurprisal]], None]:
    """Return what prints a row for each character of a text, a header before the first; `place` counts from 1.

    The end of a text, where it is scored, is a row with an empty character.
    """
    begun = False

    def lines(rank: int | None, number: int, places: Sequence[CharSurprisal]) -> None:
        nonlocal begun
        if not begun:
            write("rank\tinput\tplace\tsurprisal_bits\tlog_prob_nats\tunknown\tcharacter\n")
            begun = True
        about = f"{'' if rank is None else rank}\t{number}"
        for n, place in enumerate(places, start=1):
            values = (n, place.surprisal_bits, place.log_prob_nats, int(place.unknown), escaped(place.text))
            write("\t".join([about, *map(str, values)]) + "\n")

    return lines


def record(rank: int | None, place: int, score: Score, words: bool) -> dict[str, Any]:
    """Return a score as JSON has it. `rank` is null where texts stand in the input's order."""
    more = {"words": score.words, "bits_per_word": score.bits_per_word} if words else {}
    return {"rank": rank, "input": place, **score.to_json(), **more}


class RunningTotals:
    """What is said of all texts together, counted as they pass."""

    def __init__(self) -> None:
        self.total = Total()
        self._empty = 0
        self._unknown: dict[str, None] = {}
        self._passed_over: list[str] = []
        self._more_passed_over = 0

    def pass_over(self, error: ChargenError) -> None:
        """Take note of a text that could not be read."""
        if len(self._passed_over) < MAX_ERRORS:
            self._passed_over.append(error.message)
        else:
            self._more_passed_over += 1

    def watching(self, scores: Iterable[Score], quiet: bool) -> Iterator[Score]:
        """Yield scores as they come; where stderr is a terminal, and not `quiet`, it says how many there were."""
        console, begin = stderr_console(), time.perf_counter()
        with nullcontext() if quiet or not console.is_terminal else status(console, "reading …") as update:
            for count, score in enumerate(scores, start=1):
                self._count(score)
                yield score
                if update and count % REPORT_EVERY == 0:
                    update(f"{count:,} texts, {count / (time.perf_counter() - begin):,.0f} a second")

    def notes(self, words: bool) -> list[str]:
        """Return what is worth saying at the end, a line each."""
        total, lines = self.total, []
        lines += [f"note: passed over: {message}" for message in self._passed_over]
        if self._more_passed_over:
            lines.append(f"note: passed over: {self._more_passed_over:,} more")
        if self._empty:
            are = "is empty and has" if self._empty == 1 else "are empty and have"
            lines.append(f"note: {self._empty:,} of {total.texts:,} texts {are} no value per character")
        if total.unknown_chars:
            names = [f"{visible(char)} (U+{ord(char):04X})" for char in self._unknown]
            more = ", …" if len(names) > MAX_NAMES else ""
            lines.append(
                f"note: the model does not know {total.unknown_chars:,} of the {total.chars:,} characters: "
                f"{', '.join(names[:MAX_NAMES])}{more}"
            )
        if total.texts > 1 and total.chars:
            numbers = [("char", total.chars), ("byte", total.bytes)] + ([("word", total.words)] if words else [])
            means = ", ".join(f"{total.bits_per(number) or 0.0:.3f} bits/{unit}" for unit, number in numbers)
            lines.append(f"{total.texts:,} texts, {total.chars:,} characters, together {means}")
        return lines

    def _count(self, score: Score) -> None:
        self.total = self.total.plus(score)
        self._empty += not score.text
        if score.unknown and len(self._unknown) <= MAX_NAMES:
            self._unknown.update(dict.fromkeys(score.unknown))


def escaped(text: str) -> str:
    r"""Return a text in one cell of tab-separated values: \t, \n, \r, \0 and \\ stand for what they are.

    >>> escaped("a\tb")
    'a\\tb'
    """
    return "".join(_ESCAPES.get(char, char) for char in text) if any(char in text for char in _ESCAPES) else text


def _bar(bits: float | None) -> Text:
    """Return a bar of BAR_CELLS cells, the longer the unlikelier; its length says what its colour does."""
    if bits is None:
        return Text(" " * BAR_CELLS)
    share = min(1.0, bits / MAX_BITS)
    whole, rest = divmod(round(share * BAR_CELLS * 8), 8)
    cells = ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR_CELLS)
    return Text(cells, COLOURS[min(len(COLOURS) - 1, int(share * len(COLOURS)))])


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
