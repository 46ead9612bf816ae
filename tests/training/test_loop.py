"""The training loop: a run whose validation loss has not improved for a share of its length stops early."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import ConfigError
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Evaluated
from chargen.training.run import Plan
from tests.conftest import Result, corpus_of, run_plan

STEPS = 1000


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def noise() -> str:
    """Return random characters, which a network can only memorize."""
    rng = random.Random(0)
    return "".join(rng.choice("abcdef") for _ in range(1000))


def plan(text: str, patience: float | None, steps: int = STEPS, **more: Any) -> Plan:
    train, model = TrainChoices(patience=patience), ModelChoices()
    if not more.get("resume"):
        train = replace(train, batch_size=8, seq_len=32, learning_rate=2e-2)
        model = ModelChoices(hidden_size=32, embedding_dim=8, ensemble_size=1)
    return Plan(corpus_of(text), "run", RunLength(steps=steps), model=model, train=train, device="cpu", **more)


def losses(reports: list[Any]) -> dict[int, float]:
    return {r.step: r.val_loss_nats_per_char for r in reports if isinstance(r, Evaluated)}


def test_a_run_stops_at_the_first_validation_after_its_patience(noise: str) -> None:
    reports, stopped = run_plan(plan(noise, 0.2))
    assert stopped.stopped_early and not stopped.interrupted
    assert stopped.steps < STEPS
    validated = losses(reports)
    *before, last = validated
    assert last == stopped.steps
    assert last - stopped.best_step >= 0.2 * STEPS
    assert all(step - stopped.best_step < 0.2 * STEPS for step in before if step > stopped.best_step)


def test_a_run_with_patience_makes_the_same_steps_until_it_stops(noise: str) -> None:
    _, stopped = run_plan(plan(noise, 0.2))
    reports, _ = run_plan(plan(noise, None, stop_after=stopped.steps, force=True))
    again, _ = run_plan(plan(noise, 0.2, force=True))
    assert losses(again) == losses(reports)


def test_a_run_without_patience_never_stops_early(noise: str) -> None:
    _, finished = run_plan(plan(noise, None, steps=300))
    assert not finished.stopped_early
    assert finished.steps == 300 > finished.best_step


def test_a_run_that_improves_does_not_stop_early(verse: str) -> None:
    _, finished = run_plan(plan(verse, 0.5, steps=150))
    assert not finished.stopped_early
    assert finished.steps == 150


@pytest.mark.slow
def test_an_interruption_does_not_change_where_a_run_stops_early(noise: str) -> None:
    _, stopped = run_plan(plan(noise, 0.2))
    for at in (30, stopped.best_step + 10, stopped.steps - 10):
        run_plan(plan(noise, 0.2, stop_after=at, force=True))
        _, resumed = run_plan(plan(noise, None, resume="run"))
        assert (resumed.stopped_early, resumed.steps, resumed.best_step) == (True, stopped.steps, stopped.best_step)


def test_a_resumed_run_that_stopped_early_makes_no_step_unless_it_is_given_more(noise: str) -> None:
    _, stopped = run_plan(plan(noise, 0.2))
    _, again = run_plan(plan(noise, None, resume="run"))
    assert again.stopped_early
    assert (again.steps, again.best_step) == (stopped.steps, stopped.best_step)
    _, patient = run_plan(plan(noise, 1.0, resume="run", stop_after=stopped.steps + 5))
    assert (patient.stopped_early, patient.steps) == (False, stopped.steps + 5)
    _, longer = run_plan(plan(noise, 0.2, 20 * STEPS, resume="run", stop_after=stopped.steps + 10))
    assert (longer.stopped_early, longer.steps) == (False, stopped.steps + 10)


@pytest.mark.slow
def test_a_run_with_a_time_budget_stops_early(noise: str) -> None:
    _, finished = run_plan(replace(plan(noise, 0.02), length=RunLength(budget_s=60.0)))
    assert finished.stopped_early
    assert finished.elapsed_s < 60.0


@pytest.mark.parametrize("patience", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_patience_that_is_no_share_is_an_error(noise: str, patience: float) -> None:
    with pytest.raises(ConfigError, match="patience"):
        plan(noise, patience)


def test_the_command_says_that_it_stopped_early(chargen: Any, noise: str) -> None:
    Path("noise.txt").write_text(noise, encoding="utf-8")
    options = f"noise.txt --steps {STEPS} --hidden 32 --ensemble 1 --batch 8 --lr 0.02 --name n".split()
    shown: Result = chargen("train", *options, "--patience", "0.2")
    assert shown.status == 0
    assert "Stopped early after" in shown.out
    assert "chargen train --resume n --patience 1" in shown.out
    resumed = json.loads(chargen("train", "--resume", "n", "--json").out)
    assert resumed["stopped_early"] is True
    assert resumed["interrupted"] is False
