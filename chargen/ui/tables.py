"""Tables of models, corpora and edits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from chargen.schema import format_number
from chargen.ui.terminal_text import visible

if TYPE_CHECKING:  # a table that is shown imports it; the heat map is needed for edits only
    from rich.table import Table

    from chargen.scoring.edits import Suggestion
    from chargen.ui.fitted_table import FittedTable


def key_value_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of names and values, one row each."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(visible(name)), Text(visible(value)))
    return table


def parameter_table(parts: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the parameters of each part of a network, as formula and as numbers, and of their sum.

    Args:
        parts: Dicts with the fields of `cells.parameter_count.PartCount`.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    total = 0
    for part in parts:
        total += part["parameters"]
        lines = Text(f"= {part['formula']}\n= {part['numbers']}")
        table.add_row(Text(part["part"]), Text(f"{part['parameters']:,}"), lines)
    table.add_row(Text("total"), Text(f"{total:,}"), Text())
    return table


def plain_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
    optional: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> FittedTable:
    """Return a table with a header.

    Args:
        columns: The headers.
        rows: The cells of each row.
        right: Headers of the columns that contain numbers; they are aligned to the right.
        optional: Headers of the columns that a narrow terminal does not show, the least important one first.
        labels: Headers of the columns that contain words of ours, which are wrapped, and not names or texts.
    """
    from chargen.ui.fitted_table import FittedTable

    return FittedTable(columns, rows, right, optional=optional, labels=labels)


def suggestion_table(suggestions: Iterable[Suggestion]) -> FittedTable:
    """Return a table of edits with their gain in bits, the best first; positions are counted from 1."""
    from chargen.ui import heatmap

    rows = []
    for suggestion in suggestions:
        old = heatmap.visible(suggestion.edit.removed, "␣")
        new = heatmap.visible(suggestion.edit.inserted, "␣")
        descriptions = {
            "replace": f"{old} → {new}",
            "delete": f"without {old}",
            "insert": f"with {new}",
            "swap": f"{old} → {new}",
        }
        position = str(suggestion.edit.begin + 1)
        text = heatmap.visible(suggestion.text)
        rows.append(
            (format_number(suggestion.gain_bits, 1, sign=True), position, descriptions[suggestion.edit.kind], text)
        )
    return plain_table(("gain (bits)", "position", "edit", "text"), rows, ("gain (bits)", "position"))
