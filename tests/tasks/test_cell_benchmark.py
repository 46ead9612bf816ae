"""`chargen bench cells`: equal sizes, one process for each cell, and what is printed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chargen.cells import CELLS
from chargen.errors import ChargenError, ConfigError
from chargen.tasks import cell_benchmark
from chargen.tasks.cell_benchmark import CellBenchmark, CellResult, benchmark_cells, equal_hidden_size
from tests.conftest import VERSE, Result, corpus_of

RESULTS = {
    "rnn": CellResult("rnn", 100, 9_990, 50, 2.0, 1e4, 300_000_000, 7, 200, ((0.5, 3.0), (1.0, 2.5))),
    "lstm": CellResult("lstm", 45, 10_020, 40, 1.5, 9e3, None, None, 200, ((0.5, 3.1), (1.0, 2.2))),
    "gru": CellResult("gru", error="the loss is not finite"),
    "mgru": CellResult("mgru", 60, 10_000, 45, 1.8, 9e3, 310_000_000, None, None, ()),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(VERSE * 12, encoding="utf-8")
    return tmp_path


@pytest.fixture
def measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[CellBenchmark]:
    """Replace the trainings by `RESULTS`; the list has what was asked for."""
    asked: list[CellBenchmark] = []

    def benchmark(settings: CellBenchmark, corpus: object) -> Iterator[CellResult]:
        asked.append(settings)
        yield from (RESULTS[name] for name in settings.cells)

    monkeypatch.setattr(cell_benchmark, "benchmark_cells", benchmark)
    return asked


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("num_layers", [1, 3])
def test_no_other_hidden_size_has_a_closer_number_of_parameters(cell: str, num_layers: int) -> None:
    wanted = 200_000
    size = equal_hidden_size(cell, 70, num_layers, wanted)
    errors = [abs(cell_benchmark._count(cell, 70, num_layers, each) - wanted) for each in (size - 1, size, size + 1)]
    assert errors[1] == min(errors)
    assert errors[1] < 0.04 * wanted


def test_too_few_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="are too few: a gru with a single unit"):
        equal_hidden_size("gru", 5_000, 1, 1_000)


@pytest.mark.slow
def test_a_cell_is_trained_in_a_process_of_its_own(chargen: Callable[..., Result], folder: Path) -> None:
    result = chargen(
        "bench", "cells", "text.txt", "--budget", "1s", "--cells", "rnn", "--parameters", "10000", "--json"
    )
    assert result.status == 0, result.err
    (found,) = json.loads(result.out)["cells"]
    assert found["cell"] == "rnn" and found["steps"] >= 1 and found["chars_per_s"] > 0
    assert abs(found["parameters"] - 10_000) < 500
    assert 0.1 < found["loss_nats_per_char"] < 6
    assert found["peak_memory_bytes"] is None or found["peak_memory_bytes"] > 10_000_000
    assert found["max_lag"] == 200 and 1 <= (found["gradient_horizon"] or 1) <= 200
    assert sorted(path.name for path in folder.iterdir()) == ["text.txt"]


def child_that(status: int, out: str, err: str = "") -> Callable[..., Any]:
    return lambda *arguments: subprocess.CompletedProcess([], status, out.encode(), err.encode())


def test_a_process_that_fails_is_a_row_and_a_text_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = CellBenchmark(("rnn", "gru"), num_parameters=5000)
    corpus = corpus_of(VERSE)
    monkeypatch.setattr(cell_benchmark, "run_child", child_that(-9, "", "Traceback\nout of memory"))
    errors = [result.error for result in benchmark_cells(benchmark, corpus)]
    assert errors == ["its process ended with status -9: out of memory"] * 2
    monkeypatch.setattr(cell_benchmark, "run_child", child_that(0, '{"cell": "rnn", "error": "it diverged"}\n'))
    assert [result.error for result in benchmark_cells(benchmark, corpus)] == ["it diverged"] * 2
    monkeypatch.setattr(
        cell_benchmark, "run_child", child_that(0, '{"refused": ["the text is too short", "a hint"]}\n')
    )
    with pytest.raises(ChargenError, match="too short"):
        next(benchmark_cells(benchmark, corpus))


def test_the_table_has_the_lowest_loss_first(
    chargen: Callable[..., Result], measured: list[CellBenchmark], folder: Path
) -> None:
    result = chargen("bench", "cells", "text.txt", "--cells", ",".join(RESULTS), "--plot", "cells.svg")
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines() if line.split()[:1] and line.split()[0] in RESULTS]
    assert [line[0] for line in lines[:4]] == ["lstm", "mgru", "rnn", "gru"]
    assert lines[0][-1] == ">200" and lines[1][-1] == "–" and lines[2][-1] == "7"
    assert "training loss (bits per character)" in result.out
    assert "note: gru has no result: the loss is not finite" in result.err
    assert "time (s)" in Path("cells.svg").read_text(encoding="utf-8")
    assert measured == [CellBenchmark(tuple(RESULTS))]


@pytest.mark.parametrize("num_done", [0, 2])
def test_a_signal_keeps_the_cells_before_it(
    chargen: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch, num_done: int
) -> None:
    def benchmark(settings: CellBenchmark, corpus: object) -> Iterator[CellResult]:
        yield from [RESULTS[name] for name in settings.cells][:num_done]
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal ends the benchmark")

    monkeypatch.setattr(cell_benchmark, "benchmark_cells", benchmark)
    result = chargen("bench", "cells", "text.txt", "--cells", ",".join(RESULTS), "--json")
    assert result.status == 130
    if num_done:
        assert [cell["cell"] for cell in json.loads(result.out)["cells"]] == list(RESULTS)[:num_done]
        assert "Stopped after 2 cells." in result.err and "nothing was saved" not in result.err
    else:
        assert result.out == ""
        assert "nothing was saved or changed." in result.err


def test_all_cells_are_the_default_and_no_result_is_status_1(
    chargen: Callable[..., Result], measured: list[CellBenchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CELLS.names():
        monkeypatch.setitem(RESULTS, name, CellResult(name, error="it failed"))
    assert chargen("bench", "cells", "text.txt", "--budget", "2m", "--layers", "2").status == 1
    assert measured == [CellBenchmark(tuple(CELLS.names()), budget_s=120.0, num_layers=2)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cells", "lstmm"], "Did you mean 'lstm'?"),
        (["--cells", "rnn,,gru"], "empty name"),
        (["--cells", "rnn,rnn"], "given 2 times"),
        (["--plot", "x.pdf"], ".svg or .png"),
        (["--plot", "text.txt"], "would overwrite"),
        (["--parameters", "1000"], "are too few"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    chargen: Callable[..., Result], folder: Path, words: list[str], message: str
) -> None:
    result = chargen("bench", "cells", "text.txt", *words)
    assert result.status == 2 and result.out == ""
    assert message in " ".join(result.err.split())


def test_the_chart_leaves_out_the_losses_of_the_first_steps() -> None:
    from chargen.cli.commands.bench import _chart

    slow = CellResult("slow", loss_nats_per_char=2.0, curve=((1.0, 1e6), (2.0, 2.4), (3.0, 2.0)))
    fast = CellResult("fast", loss_nats_per_char=1.0, curve=((1.0, 3.0), (2.0, 1.5), (3.0, 1.0)))
    lines = dict(_chart([slow, CellResult("none", error="no"), fast], "x").lines())
    assert list(lines) == ["fast", "slow"]
    assert [[x for x, _ in piece] for piece in lines["slow"]] == [[2.0, 3.0]]
    assert [[x for x, _ in piece] for piece in lines["fast"]] == [[2.0, 3.0]]
