"""The program that measures a GPU: a part that fails or is too slow is reported, and the table says what is met."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import gpu_speed
from benchmarks.gpu import PartResult, format_table, is_met, run_part
from benchmarks.gpu_parts import Row, Settings, failure_lines, generate_text, summarize_tests


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


def test_the_error_of_each_failed_test_is_kept() -> None:
    lines = "x\n" * 60
    output = (
        "t.py::test_a PASSED\nt.py::test_b FAILED\n=== FAILURES ===\n"
        "____ test_b ____\nt.py:3: in test_b\n    assert 1 == 2\nE   assert 1 == 2\n"
        f"____ test_c[cuda] ____\n{lines}E   UserWarning: y\n=== short test summary info ===\nFAILED t.py::test_b\n"
    )
    expected = ["test_b", "t.py:3: in test_b", "    assert 1 == 2", "E   assert 1 == 2", "test_c[cuda]"]
    assert failure_lines(output) == [*expected, *["x"] * 39, "E   UserWarning: y"]
    assert failure_lines("t.py::test_a PASSED\n=== 1 passed ===\n") == []


def test_the_tensors_of_a_recorded_loop_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph has addresses only. When the tensors were freed, repeating it ended the process."""
    kept: list[weakref.ref[object]] = []

    def record(function: Callable[[], None], device: object) -> Callable[[], None]:
        kept.append(weakref.ref(function))
        return lambda: None

    monkeypatch.setattr(gpu_speed, "record", record)
    call = gpu_speed.make_recorded_torch_step(2, 3, 4, "cpu", "gru")
    gc.collect()
    assert kept[0]() is not None
    del call
    gc.collect()
    assert kept[0]() is None
