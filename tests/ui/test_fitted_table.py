"""Tables fit every terminal: no line is longer, no number is cut, and what is shortened keeps its start and its end."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from chargen.checkpoint import save_checkpoint
from chargen.cli.commands.compare import comparison_sentences
from chargen.cli.main import run
from chargen.ui.fitted_table import FittedTable
from tests.conftest import VERSE, Result, random_model

TEXTS = st.text("ab 漢é", max_size=60)
NUMBERS = st.text("0123456789.", min_size=1, max_size=9)


def drawn(table: FittedTable, width: int, is_terminal: bool = True) -> list[str]:
    """Return the lines of a table on a terminal of this width."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None, markup=False, highlight=False
    )
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, NUMBERS, TEXTS, NUMBERS), max_size=4), st.integers(20, 130))
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(
    rows: list[tuple[str, str, str, str]], width: int
) -> None:
    lines = drawn(
        FittedTable(("name", "bits/char", "text", "a number with a long header"), rows, ("bits/char",)), width
    )
    assert all(cell_len(line) <= width for line in lines)
    for row in rows:
        assert any(row[1] in line for line in lines)


def test_a_table_that_fits_is_complete_and_each_row_is_a_line() -> None:
    table = FittedTable(("name", "bits"), [("short", "1.5"), ("x" * 30, "2.5")], ("bits",))
    assert [line.rstrip() for line in drawn(table, 40)[3:5]] == [
        " short" + " " * 29 + "1.5", " " + "x" * 30 + "    2.5"
    ]  # fmt: skip
    shortened = drawn(table, 30)
    assert shortened[4].rstrip() == " " + "x" * 10 + "…" + "x" * 10 + "    2.5"


def test_a_very_narrow_terminal_gets_a_block_for_each_row() -> None:
    columns = ("name", "bits/char", "parameters", "text")
    lines = drawn(
        FittedTable(columns, [("first", "1.500", "1,000,000", "long " * 20), ("second", "2", "3", "")], columns[1:3]),
        40,
    )
    assert [line.rstrip() for line in lines] == [
        "",
        "name        first",
        "bits/char   1.500",
        "parameters  1,000,000",
        "text        long long long…ng long long",
        "",
        "name        second",
        "bits/char   2",
        "parameters  3",
        "",
    ]


def test_cells_are_complete_where_the_output_is_not_a_terminal() -> None:
    lines = drawn(FittedTable(("name", "text"), [("a" * 30, "b" * 90)]), 160, is_terminal=False)
    assert "b" * 90 in lines[3]


LABELS = ["this model, on the held-out text, all of it", "  its second half, not used to choose the model", "lzma"]


@pytest.mark.parametrize("has_rule", [False, True])
@pytest.mark.parametrize("header", ["", "a text.txt"])
def test_labels_and_headers_are_wrapped_at_spaces_and_never_cut(header: str, has_rule: bool) -> None:
    rows = [(label, "1.638", "12.5") for label in LABELS]
    numbers = ("bits/char", "below 1 % from k")
    table = FittedTable((header, *numbers), rows, numbers, has_rule=has_rule, labels=(header,))
    for width in range(24, 100):
        lines = drawn(table, width)
        assert all(cell_len(line) <= width for line in lines) and "…" not in "".join(lines)
        words = " ".join(lines).split()
        assert all(word in words for label in [*LABELS, *numbers, header] for word in label.split()), lines
    lines = [line.rstrip() for line in drawn(FittedTable(("", numbers[0]), rows, numbers, False, labels=("",)), 50)]
    assert lines == [
        "                                       bits/char",
        "this model, on the held-out text, all      1.638",
        "  of it",
        "  its second half, not used to choose      1.638",
        "    the model",
        "lzma                                       1.638",
    ]


COMMANDS = {
    "info": ["info"],
    "info of a model": ["info", "a-model-with-a-long-name-of-forty-letters"],
    "corpora": ["corpora"],
    "corpora check": ["corpora", "check", "text.txt"],
    "compare": ["compare", "a-model-with-a-long-name-of-forty-letters", "m", "text.txt", "--resamples", "100"],
    "eval": ["eval", "-m", "m", "text.txt"],
    "classify": ["classify", "-m", "a-model-with-a-long-name-of-forty-letters", "-m", "m", VERSE],
    "classify --labelled": ["classify", "-m", "m", "-m", "m2", "--labelled", "labelled.tsv"],
    "classify --train": ["classify", "--train", "labelled.tsv", "--steps", "2", "--hidden", "8"],
    "score": ["score", "-m", "m", VERSE.splitlines()[0] * 3, VERSE.splitlines()[1] * 3],
    "score --chars": ["score", "-m", "m", VERSE.splitlines()[0] * 3, "--chars"],
    "score --suggest": ["score", "-m", "m", VERSE.splitlines()[0], "--suggest", "--chars"],
    "train": ["train", "text.txt", "--steps", "5", "--hidden", "8", "--name", "new"],
}


@pytest.mark.parametrize("width", [40, 50, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_fits_the_terminal(
    command: str, width: int, chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", str(width))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("chargen.ui.console.FILE_WIDTH", width)
    for name in ("a-model-with-a-long-name-of-forty-letters", "m", "m2"):
        save_checkpoint(Path("checkpoints", name, "model.safetensors"), random_model())
    Path("text.txt").write_text(VERSE * 30, encoding="utf-8")
    texts = (f"{label}\t{VERSE[start : start + 20]!r}\n" for label in ("m", "m2") for start in range(10))
    Path("labelled.tsv").write_text("".join(texts), encoding="utf-8")
    result = chargen(*COMMANDS[command])
    assert result.status == 0, result.err
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.out).splitlines()
    copied = (
        "The best model",
        "The classifier is",
        "Try: ",
        "     chargen ",
    )  # what a person copies is whole; the terminal wraps it
    assert [line for line in lines if cell_len(line) > width and not line.startswith(copied)] == []
    if command == "train":
        assert str(Path("checkpoints/new/model.safetensors").absolute()) in result.out


def test_columns_that_can_be_left_out_are_before_rows_become_blocks() -> None:
    columns = ("model", "bits", "interval", "share")
    rows = [("a model with a long name", "1.2345", "+0.0001 to +0.0002", "100.0 %"), ("b", "2.5", "", "")]
    table = FittedTable(columns, rows, columns[1:], optional=("interval", "share"))
    widths = [width for width in range(10, 81) if drawn(table, width)[1].split()[:2] == ["model", "bits"]]
    assert widths == list(range(min(widths), 81)) and min(widths) < 30
    assert "interval" in drawn(table, 80)[1] and "interval" not in drawn(table, 40)[1]
    assert "share" in drawn(table, 40)[1] and "share" not in drawn(table, 24)[1]
    assert any("+0.0002" in line for line in drawn(table, min(widths) - 1))  # the blocks are complete


@pytest.mark.parametrize("width", [120, 80, 50, 40])
def test_a_comparison_and_the_list_of_models_are_tables_on_a_narrow_terminal(
    width: int, chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("small", "large"):
        save_checkpoint(Path("checkpoints", name, "model.safetensors"), random_model(seed=len(name)))
    Path("text.txt").write_text(VERSE * 20)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for command, headers in (
        (["compare", "small", "large", "text.txt", "--resamples", "100", "--top", "0"], ["bits/byte", "difference"]),
        (["info"], ["name", "bits/char"]),
    ):
        screen = Terminal()
        monkeypatch.setattr("sys.stdout", screen)
        assert run(command) == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
        assert all(header in shown[1] for header in headers), shown
        assert set(shown[2].strip()) == {"─"}
        assert all(cell_len(line) <= width for line in shown)
        if command[0] == "compare":
            names = [line.split()[0] for line in shown[3:8]]
            assert names == ["small", "large", "5-gram", "uniform", "lzma"] and "…" not in "".join(shown)
            words = " ".join(" ".join(shown).split())
            assert "Baselines: 5-gram, trained on the other half of this text; uniform over the 51 " in words
            for column in ("interval", "first better"):  # no line explains a column that is not shown
                assert (f"{column}: " in words) == (f" {column} " in f"{shown[1]} "), column


def test_a_comparison_says_in_words_which_model_is_better() -> None:
    rows = [
        {"name": "first", "bits_per_byte": 2.0},
        {"name": "worse", "difference_bits_per_byte": 0.25, "interval_low": 0.2, "interval_high": 0.3},
        {"name": "better", "difference_bits_per_byte": -0.5, "interval_low": -0.6, "interval_high": -0.4},
        {"name": "same", "difference_bits_per_byte": 0.00001, "interval_low": -0.1, "interval_high": 0.1},
    ]
    assert comparison_sentences(rows, 0.95) == [
        "first is better: it needs 0.2500 bits/byte less than worse (95% interval +0.2000 to +0.3000).",
        "better is better: it needs 0.5000 bits/byte less than first (95% interval -0.6000 to -0.4000).",
        "same and first: neither is clearly better (95% interval -0.1000 to +0.1000 bits/byte).",
    ]
