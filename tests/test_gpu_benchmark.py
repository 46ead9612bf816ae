"""The program that measures a GPU: a part that fails or is too slow is reported, and the table says what is met."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import PartResult, format_table, is_met, run_part
from benchmarks.gpu_parts import Row, Settings, generate_text, summarize_tests


def test_a_part_that_fails_reports_its_error(tmp_path: Path) -> None:
    settings = Settings("cpu", str(tmp_path / "missing.txt"), str(tmp_path), 10.0, "")
    result = run_part("adapted", settings, 60.0)
    assert result.problem.startswith("failed: ")
    assert "missing.txt" in result.problem
    assert "Traceback" in result.traceback


def test_a_part_that_reaches_its_time_limit_is_stopped(tmp_path: Path) -> None:
    settings = Settings("cpu", str(tmp_path / "missing.txt"), str(tmp_path), 10.0, "")
    assert run_part("adapted", settings, 0.01).problem.startswith("stopped at its time limit")
    assert run_part("adapted", settings, -1.0).problem.startswith("not started")


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", 1.2), ""),
        (Row("a", 1.2, bar=1.3), "no"),
        (Row("a", 1.3, bar=1.3), "yes"),
        (Row("a", 1.3, bar=1.3, is_upper=True), "yes"),
        (Row("a", 1.4, bar=1.3, is_upper=True), "no"),
        (Row("a", "as before", bar="as before"), "yes"),
        (Row("a", "failed", bar="as before"), "no"),
        (Row("a", "failed", bar=1.0), "no"),
    ],
)
def test_a_bar_is_met_or_not(row: Row, met: str) -> None:
    assert is_met(row) == met


def test_the_table_has_a_row_for_each_value_and_each_problem() -> None:
    results = [
        PartResult("train", 180.4, rows=[Row("loss", 1.35, "nats", 1.36, True)]),
        PartResult("long", 2.0, "failed: x | y"),
    ]
    assert format_table(results).splitlines() == [
        "| part | what | measured | bar | met |",
        "|---|---|---|---|---|",
        "| train | loss | 1.35 nats | ≤ 1.36 | yes |",
        "| long | failed: x \\| y | | | no |",
        "",
        "Seconds of each part: train 180, long 2; together 182.",
    ]


def test_the_generated_text_has_its_size_and_is_the_same_each_time() -> None:
    text = generate_text(30_000)
    assert len(text) == 30_000
    assert text == generate_text(30_000)


def test_the_tests_of_a_file_are_counted() -> None:
    output = "t.py::test_a PASSED [ 50%]\nt.py::test_b[1] FAILED [100%]\n\nFAILED t.py::test_b[1] - x\n== 1 failed ==\n"
    assert summarize_tests(output, is_stopped=False) == "1 passed, 1 failed (test_b[1]); 1 failed"
    assert summarize_tests(output[:60], is_stopped=True) == "1 passed, 1 failed (test_b[1]); stopped before its end"
