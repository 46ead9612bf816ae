"""`chargen classify --train` while it runs: what a terminal shows, and what is kept when a signal stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chargen.cli.commands.classify.train import _Display
from chargen.runs import find_run
from chargen.tasks.classification.auto import MethodTrained
from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
from chargen.tasks.classification.saved import load_classifier
from chargen.training.choices import RunLength
from chargen.training.supervised.loop import FitProgress
from chargen.ui.console import stderr_console
from chargen.ui.terminal_text import visible_streams
from tests.conftest import Result, wait_for_file
from tests.ui.screen import shown_on_screen
from tests.ui.test_training import make_terminal

Chargen = Callable[..., Result]
TRAIN = ("classify", "--train", "two.tsv", "--hidden", "8", "--embedding", "8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "two.tsv"
    digits = [f"digits\t{n * 7919 % 10**6:06} {n}\n" for n in range(60)]
    letters = [f"letters\t{'abcdef'[n % 6] * 3} {chr(97 + n % 25)}{chr(97 + n // 25)}\n" for n in range(60)]
    path.write_text("".join(digits + letters))
    return path


def test_the_lines_of_a_training_stay_on_the_terminal_and_its_bars_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(label: str, **values: Any) -> tuple[str, Any]:
        return label, SimpleNamespace(to_json=lambda: values)

    terminal = make_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr("chargen.ui.console.REFRESH_S", 0.0)  # every report is drawn
    trained = TrainedClassifier(Path("two"), "generative", None, None, 0.25)  # type: ignore[arg-type]
    steps: list[Any] = [
        FitProgress(1, 0.5, 1.0, 1.0, 1.0, 10.0, 0.7, 0.01),
        MethodTrained("encoder", replace(trained, method="encoder", choice_log_loss_nats=0.5)),
        report("a", event="progress", progress=0.5),
        report("a", event="finished", val_bits_per_char=2.0),
        report("b", event="progress", progress=0.5),
        report("b", event="finished", val_bits_per_char=3.0),
        MethodTrained("generative", trained),
        trained,
    ]
    plan = ClassifierPlan({"a": ["x"], "b": ["y", "z"]}, "two", RunLength(steps=1))
    with visible_streams(), _Display(stderr_console(), plan) as display:
        assert display.show_all(iter(steps)) is trained
    assert shown_on_screen(terminal.getvalue(), 100) == [
        "encoder: log loss 0.500 nats on the texts that choose the method",
        "a: 1 text, 2.000 bits/char on held-out text",
        "b: 2 texts, 3.000 bits/char on held-out text",
        "generative: log loss 0.250 nats on the texts that choose the method",
        "kept: generative",
    ]


def signal_at_the_first(monkeypatch: pytest.MonkeyPatch, method: str, number: int) -> None:
    """Let this process get a signal when the display has shown the first report with this method."""
    show = getattr(_Display, method)
    waiting = [number]

    def show_and_signal(display: _Display, *report: Any) -> None:
        show(display, *report)
        if waiting:
            signal.raise_signal(waiting.pop())

    monkeypatch.setattr(_Display, method, show_and_signal)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_best_weights_so_far_of_an_encoder(
    chargen: Chargen, data: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    signal_at_the_first(monkeypatch, "_show_fit", number)
    result = chargen(*TRAIN, "--method", "encoder", "--steps", "100000", "--json")
    assert result.status == status, result.err
    found = json.loads(result.out)
    assert found["was_stopped"] and found["method"] == "encoder"
    assert "note: the training was stopped; the best classifier so far is kept" in result.err
    assert "nothing was saved" not in result.err
    assert find_run("two").state_path.exists()
    assert load_classifier(["two"]).labels == ("digits", "letters")


def test_a_signal_during_the_second_method_keeps_the_first_one(
    chargen: Chargen, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at_the_first(monkeypatch, "_show_model", signal.SIGINT)
    result = chargen(*TRAIN, "--epochs", "1", "--json")
    assert result.status == 130, result.err
    found = json.loads(result.out)
    assert found["was_stopped"] and found["method"] == "encoder"
    assert found["methods"]["generative"] == {"problem": "it was stopped"}
    assert "Stopping; press Ctrl-C again to quit now." in result.err
    assert load_classifier(["two"]).labels == ("digits", "letters")


def test_a_signal_before_all_labels_have_a_model_says_that_there_is_no_classifier(
    chargen: Chargen, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at_the_first(monkeypatch, "_show_model", signal.SIGINT)
    result = chargen(*TRAIN, "--method", "generative", "--epochs", "1")
    assert (result.status, result.out) == (130, "")
    assert "There is no classifier: its training was stopped." in result.err
    assert os.listdir("checkpoints") == [".locks"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", 130)])
def test_a_stopped_process_exits_with_the_status_of_its_signal(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    monkeypatch.chdir(data.parent)
    command = [sys.executable, "-m", "chargen", *TRAIN, "--method", "encoder", "--steps", "1000000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_file("checkpoints/two/metrics.jsonl", process)
    while find_run("two").metrics_path.read_text().count("\n") < 2:  # the first report has been shown
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
    process.send_signal(getattr(signal, name))
    try:
        assert process.wait(60) == status
    finally:
        process.kill()
    assert find_run("two").state_path.exists()
    assert load_classifier(["two"]).labels == ("digits", "letters")
