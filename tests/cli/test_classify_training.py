"""`chargen classify --train` while it runs: what a terminal shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chargen.cli.commands.classify.train import _Display
from chargen.tasks.classification.auto import MethodTrained
from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
from chargen.training.choices import RunLength
from chargen.training.supervised.loop import FitProgress
from chargen.ui.console import stderr_console
from chargen.ui.terminal_text import visible_streams
from tests.ui.screen import shown_on_screen
from tests.ui.test_training import make_terminal


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
