"""Loss curves: what is read from the reports of a run, and what `chargen plot` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import ModelError
from chargen.runs import Run
from chargen.training.logs.loss_curves import read_loss_curves
from tests.conftest import Result


def progress(step: int, loss: float | None, kind: str = "progress") -> dict[str, Any]:
    key = "loss_nats_per_char" if kind == "progress" else "val_loss_nats_per_char"
    return {"event": kind, "step": step, "epoch": step / 10, "elapsed_s": step / 2, key: loss}


def save_run(name: str, reports: list[dict[str, Any]], end: str = "") -> Run:
    run = Run(Path("checkpoints") / name, name)
    run.folder.mkdir(parents=True)
    run.metrics_path.write_text("".join(json.dumps(report) + "\n" for report in reports) + end)
    return run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_run(
        "a",
        [progress(n, 3.0 - n / 50) for n in range(1, 100)] + [progress(99, 1.5, "evaluated"), {"event": "finished"}],
    )
    save_run("b", [progress(10, 2.5), progress(10, 2.0, "evaluated")])


def test_a_resumed_run_replaces_the_steps_after_its_state() -> None:
    run = save_run("c", [progress(10, 3.0), progress(20, 2.0), progress(30, 1.0), progress(20, 2.5), progress(25, 2.4)])
    assert [(p.step, p.loss_nats_per_char) for p in read_loss_curves(run).training] == [(10, 3.0), (20, 2.5), (25, 2.4)]


def test_a_line_that_is_being_written_and_a_loss_that_is_not_finite_are_left_out() -> None:
    run = save_run("c", [progress(10, 3.0), progress(20, None)], end='{"event": "prog')
    assert [p.step for p in read_loss_curves(run).training] == [10]


def test_a_loss_of_exactly_zero_is_a_loss() -> None:
    curves = read_loss_curves(save_run("c", [progress(10, 0.5), progress(20, 0.0), progress(20, 0.0, "evaluated")]))
    assert [(p.step, p.loss_nats_per_char) for p in curves.training] == [(10, 0.5), (20, 0.0)]
    assert [(p.step, p.loss_nats_per_char) for p in curves.validation] == [(20, 0.0)]


@pytest.mark.parametrize("line", ["{", "[]", '{"event": "progress", "step": 1}', "\x00", '{"step": 3}', "[" * 100_000])
def test_a_damaged_line_is_named(line: str) -> None:
    run = save_run("c", [progress(10, 3.0)], end=line + "\n")
    with pytest.raises(ModelError, match="line 2 is no report"):
        read_loss_curves(run)


def test_the_command_prints_curves_of_several_runs(chargen: Callable[..., Result]) -> None:
    printed = chargen("plot", "a", "b", "-o", "losses.svg")
    assert (printed.status, printed.err) == (0, "")
    assert "loss (bits per character)" in printed.out
    assert "● a, validation  ○ a, training  ■ b, validation  □ b, training" in printed.out
    assert all(len(line) <= 160 for line in printed.out.splitlines())
    picture = Path("losses.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg") and "b, validation" in picture and "step" in picture
    assert "time (s)" in chargen("plot", "a", "--x", "time").out
    values = json.loads(chargen("plot", "checkpoints/b", "--json").out)
    assert values["runs"] == [
        {
            "run": "b",
            "training": [{"step": 10, "epoch": 1.0, "elapsed_s": 5.0, "loss_nats_per_char": 2.5}],
            "validation": [{"step": 10, "epoch": 1.0, "elapsed_s": 5.0, "loss_nats_per_char": 2.0}],
        }
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aa"], "no run named 'aa'"),
        (["a", "-o", "x.gif"], "Charts are written as .svg or .png."),
        (["a", "-o", "no/x.svg"], "there is no folder no"),
        (["a", "-o", "checkpoints/a/metrics.jsonl"], "would overwrite"),
        (["empty"], "has no reports yet"),
        ([], "no model under checkpoints/ yet"),
    ],
)
def test_bad_input_is_refused(chargen: Callable[..., Result], words: list[str], message: str) -> None:
    save_run("empty", [])
    result = chargen("plot", *words)
    assert result.status in (1, 2) and result.out == ""
    assert message in " ".join(result.err.split())
    assert not list(Path().glob("x.*"))


def test_the_losses_of_a_classifier_are_not_drawn_as_losses_per_character() -> None:
    evaluated = {"event": "evaluated", "step": 5, "epoch": 0.1, "elapsed_s": 1.0, "train_loss": 1.0, "val_loss": 0.9}
    with pytest.raises(ModelError, match="not losses per character"):
        read_loss_curves(save_run("labels", [evaluated]))
