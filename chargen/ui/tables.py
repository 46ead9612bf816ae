"""Tables of models and corpora."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from chargen.scoring.suggest import Suggestion
from chargen.ui import heat
from chargen.ui.visible import visible


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
