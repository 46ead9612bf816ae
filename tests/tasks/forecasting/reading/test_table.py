"""Tables with one column: spreadsheets write an empty cell as a blank line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.errors import CorpusError
from chargen.tasks.forecasting.reading import table
from chargen.tasks.forecasting.series import read_series
from chargen.text.cleaning import CleaningReport


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells_of(text: str) -> tuple[list[str], list[int]]:
    """Return the cells of the column y of a file, and their lines."""
    Path("a.csv").write_text(text)
    with table.open_table("a.csv", "utf-8", CleaningReport()) as opened:
        chunks = list(opened.chunks(["y"]))
    return [cell for each in chunks for cell in each.columns["y"]], [n for each in chunks for n in each.places.tolist()]


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 5, 4096])
def test_a_blank_line_is_an_empty_cell_except_at_the_end(monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    monkeypatch.setattr(table, "CHUNK_ROWS", chunk_rows)
    values = ["", "1", "2", "", "", "", "", "", "", "3", '"4\n\n5"', "", "6"]
    cells = [value.strip('"') for value in values]
    lines = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16]
    for end in ("", "\n", "\n\n\n\n\n\n"):
        assert cells_of("\n".join(["y", *values]) + end) == (cells, lines)
    assert cells_of("y\n\n\n\n\n\n\n") == ([], [])


def test_a_blank_line_of_a_table_with_several_columns_is_no_row() -> None:
    assert cells_of("x,y\n1,2\n\n3,4\n") == (["2", "4"], [2, 4])


def test_a_missing_value_of_the_only_column_is_an_error_or_filled() -> None:
    Path("a.csv").write_text("y\n1\n\n3\n\n")
    with pytest.raises(CorpusError) as caught:
        read_series("a.csv", ["y"])
    assert caught.value.message == "a.csv, line 3: the column 'y' has no value"
    assert "--fill" in caught.value.hint
    series = read_series("a.csv", ["y"], fill="linear")
    assert series.values[:, 0].tolist() == [1, 2, 3]
    assert np.array_equal(series.is_filled, [False, True, False])


def test_a_row_of_another_width_after_blank_lines_is_named() -> None:
    Path("a.csv").write_text("y\n1\n\n\n2,3\n")
    with pytest.raises(CorpusError, match="a.csv, line 5 has 2 columns, but the first line has 1"):
        read_series("a.csv", ["y"])
