"""What `chargen compare` prints: a table of the models, the same in words, and the lines that they differ most on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chargen.schema import format_number
from chargen.ui.fitted_table import FittedTable
from chargen.ui.heatmap import visible


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Return a table of models and baselines, each with its difference from the first model (`chargen compare`)."""
    cells = []
    for row in rows:
        difference = ("", "", "")
        if "difference_bits_per_byte" in row:
            share = f"{100 * row['first_better_share']:.1f} %"
            difference = (format_number(row["difference_bits_per_byte"], 4, sign=True), _interval(row), share)
        unknown = row.get("unknown_chars", 0)
        cells.append(
            (
                row["name"],
                format_number(row["bits_per_byte"], 4),
                format_number(row["bits_per_char"], 4),
                f"{unknown:,}" if unknown else "",
                *difference,
            )
        )
    numbers = ("bits/byte", "bits/char", "unknown", "difference", "interval", "first better")
    empty = () if any(row.get("unknown_chars") for row in rows) else ("unknown",)
    # The sentences below the table contain the intervals, too.
    optional = (*empty, "interval", "first better", "bits/char")
    return FittedTable(("model", *numbers), cells, numbers, optional=optional)


def comparison_sentences(rows: Sequence[Mapping[str, Any]], confidence: float) -> list[str]:
    """Return a sentence for each model after the first: which of the two is better, by how much, and how certainly.

    Args:
        rows: The rows of the models; those of `comparison_table` without the baselines.
        confidence: Confidence level of the intervals.
    """
    first, *others = rows
    sentences = []
    for row in others:
        bits, interval = row["difference_bits_per_byte"], f"{confidence:.0%} interval {_interval(row)}"
        if row["interval_low"] <= 0 <= row["interval_high"]:
            sentences.append(f"{row['name']} and {first['name']}: neither is clearly better ({interval} bits/byte).")
            continue
        better, worse = (first, row) if bits > 0 else (row, first)
        amount = format_number(abs(bits), 4)
        sentences.append(
            f"{better['name']} is better: it needs {amount} bits/byte less than {worse['name']} ({interval})."
        )
    return sentences


def _interval(row: Mapping[str, Any]) -> str:
    return " to ".join(format_number(row[f"interval_{end}"], 4, sign=True) for end in ("low", "high"))


def line_difference_table(lines: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Return a table of the lines that two models differ most on, in bits for the whole line."""
    numbers = ("line", lines[0]["first"], lines[0]["other"], "difference")
    rows = [
        (
            f"{row['line']:,}",
            format_number(row["first_bits"], 1),
            format_number(row["other_bits"], 1),
            format_number(row["difference_bits"], 1, sign=True),
            visible(row["text"]),
        )
        for row in lines
    ]
    return FittedTable((*numbers, "text"), rows, numbers, optional=numbers[1:3])
