"""A run with a time budget that ends before its time, since it has read its text as often as helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.checkpoint import load_tensors
from chargen.config import DataConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.text.corpus import read_corpus
from chargen.training import regularization
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.diagnosis.evidence import Evidence, collect_evidence
from chargen.training.events import Progress, Started
from chargen.training.run import Plan
from chargen.training.state import check_length, is_finished, load_state, resumed_train_config
from tests.conftest import VERSE, Result, corpus_of, run_plan

EPOCHS = 3
LONG_S = 100_000.0  #: a budget of which a run of some seconds uses nearly nothing
STATE = Path("checkpoints/run/training_state.safetensors")


@pytest.fixture(autouse=True)
def short_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs with a time budget read their text three times at most, and work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(regularization, "MAX_USEFUL_EPOCHS", float(EPOCHS))
    monkeypatch.setattr(regularization, "MIN_CAPPED_STEPS", 20)


def plan(text: str, length: RunLength | None = None, name: str = "run", **more: Any) -> Plan:
    train = TrainChoices(**more.pop("train", {}))
    model = ModelChoices()
    if not more.get("resume"):
        train = replace(train, batch_size=4, seq_len=16)
        model = ModelChoices(hidden_size=16, embedding_dim=8, ensemble_size=1, ngrams=3)
    return Plan(corpus_of(text), name, length or RunLength(), model=model, train=train, device="cpu", **more)


def assert_same_weights(name: str, other: str) -> None:
    """Check that two runs ended with the same weights, but for the rounding of products on other threads."""
    one, two = (load_tensors(Path(f"checkpoints/{run}/{STATE.name}"))[0] for run in (name, other))
    assert one.keys() == two.keys()
    for key in one:
        if key.startswith("weights."):
            np.testing.assert_allclose(one[key], two[key], atol=1e-3, err_msg=key)


def timed(seconds: float = LONG_S) -> RunLength:
    return RunLength(budget_s=seconds)


# ── a whole run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_ends_before_its_time_when_it_has_read_its_text_often_enough(verse: str) -> None:
    reports, finished = run_plan(plan(verse, timed()))
    started = reports[0]
    assert isinstance(started, Started)
    assert started.train.max_epochs == finished.epochs == EPOCHS
    assert finished.steps % EPOCHS == 0
    assert finished.reached_max_epochs
    assert not (finished.stopped_early or finished.interrupted)
    assert finished.elapsed_s < LONG_S / 100
    rates = [report.learning_rate for report in reports if isinstance(report, Progress)]
    assert rates[-1] < max(rates) / 5  # the decay ends with the last step, and not with the budget
    last = [report for report in reports if isinstance(report, Progress)][-1]
    assert last.progress == 1.0 and last.remaining_s < 60.0
    assert f"the text was read {EPOCHS} times in " in finished.diagnosis
    assert " of its 27 h 46 min 40 s." in finished.diagnosis
    assert "--budget" not in " ".join(finished.advice)


def test_it_makes_the_same_steps_as_a_run_of_as_many_epochs(verse: str) -> None:
    _, by_time = run_plan(plan(verse, timed(), "timed"))
    _, by_epochs = run_plan(plan(verse, RunLength(epochs=float(EPOCHS)), "counted"))
    assert (by_time.steps, by_time.epochs) == (by_epochs.steps, by_epochs.epochs)
    assert not by_epochs.reached_max_epochs
    assert by_time.val_loss_nats_per_char == pytest.approx(by_epochs.val_loss_nats_per_char, abs=1e-3)
    assert_same_weights("timed", "counted")


def test_a_run_whose_time_ends_first_has_not_used_up_its_text(verse: str) -> None:
    _, finished = run_plan(plan(verse, timed(0.001)))
    assert finished.epochs < EPOCHS
    assert not finished.reached_max_epochs
    assert "the text was read" not in finished.diagnosis


def test_a_tiny_text_is_read_more_often(verse: str) -> None:
    _, finished = run_plan(plan(verse[:300], timed()))
    assert finished.epochs > EPOCHS
    assert 15 <= finished.steps <= 25
    assert finished.reached_max_epochs


def test_documents_are_counted_in_passes_as_well() -> None:
    Path("lines.txt").write_text(VERSE * 20, encoding="utf-8")
    data = DataConfig(documents="line")
    corpus = read_corpus(["lines.txt"], data)
    _, finished = run_plan(replace(plan("", timed()), corpus=corpus, data=data))
    assert finished.epochs == pytest.approx(EPOCHS, abs=0.2)  # a pass has a few windows more than the average
    assert finished.reached_max_epochs
    assert f"the text was read {EPOCHS} times in " in finished.diagnosis
    assert is_finished(load_state(STATE))


def test_a_tiny_network_is_to_be_as_large_as_the_whole_time_allows(verse: str) -> None:
    evidence: list[Evidence] = []

    def collected(*found: Any, **more: Any) -> Evidence:
        evidence.append(collect_evidence(*found, **more))
        return evidence[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.training.run.collect_evidence", collected)
        run_plan(plan(verse, timed()))
        run_plan(plan(verse, RunLength(epochs=float(EPOCHS)), "counted"))
    in_time, by_epochs = (found.recommended_model.hidden_size for found in evidence)
    assert in_time >= 2 * 16
    assert in_time > by_epochs


def test_patience_may_end_a_run_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regularization, "MAX_USEFUL_EPOCHS", 80.0)
    noise = "".join(np.random.default_rng(0).choice(list("abcdef"), 1000))  # it can only be memorized
    hasty = plan(noise, timed(), train={"patience": 0.1, "learning_rate": 2e-2})
    hasty = replace(hasty, model=replace(hasty.model, hidden_size=32, dropout=0.0, weight_dropout=0.0))
    _, finished = run_plan(hasty)
    assert finished.stopped_early
    assert not finished.reached_max_epochs
    assert finished.epochs < 80.0


# ── resuming ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_interrupted_run_keeps_its_limit_and_ends_as_if_it_was_never_stopped(verse: str) -> None:
    _, whole = run_plan(plan(verse, timed(), "whole"))
    _, cut = run_plan(plan(verse, timed(), stop_after=whole.steps // 2))
    assert cut.interrupted and not cut.reached_max_epochs
    assert not is_finished(load_state(STATE))
    _, resumed = run_plan(plan(verse, resume="run"))
    assert resumed.reached_max_epochs and not resumed.interrupted
    assert (resumed.steps, resumed.epochs) == (whole.steps, EPOCHS)
    assert_same_weights("run", "whole")


def test_a_finished_run_makes_no_step_unless_it_is_given_more(verse: str) -> None:
    _, ended = run_plan(plan(verse, timed()))
    used_s = load_state(STATE).elapsed_s
    assert is_finished(load_state(STATE))
    _, again = run_plan(plan(verse, resume="run"))
    assert (again.steps, again.first_step, again.reached_max_epochs) == (ended.steps, ended.steps, True)
    assert again.val_loss_nats_per_char == ended.val_loss_nats_per_char
    _, longer = run_plan(plan(verse, resume="run", extra_budget_s=60.0, stop_after=ended.steps + 5))
    assert (longer.steps, longer.reached_max_epochs) == (ended.steps + 5, False)
    saved = load_state(STATE).train
    assert (saved.max_epochs, saved.budget_s) == (None, used_s + 60.0)
    _, counted = run_plan(plan(verse, RunLength(epochs=2.0 * EPOCHS), resume="run"))
    assert (counted.epochs, counted.reached_max_epochs) == (2 * EPOCHS, False)


def test_another_length_ends_the_limit_and_the_same_one_keeps_it(verse: str) -> None:
    _, _ = run_plan(plan(verse, timed(), stop_after=5))
    saved = load_state(STATE)
    assert saved.train.max_epochs == EPOCHS

    def resumed(length: RunLength, extra_s: float = 0.0, **choices: Any) -> TrainConfig:
        return resumed_train_config(length, TrainChoices(**choices), extra_s, saved, "cpu")

    assert resumed(RunLength()).max_epochs == EPOCHS
    assert resumed(timed()).max_epochs == EPOCHS
    assert resumed(RunLength(), patience=0.5).max_epochs == EPOCHS
    more = [resumed(RunLength(), 60.0), resumed(timed(2 * LONG_S)), resumed(RunLength(epochs=40.0))]
    more.append(resumed(RunLength(steps=10**6)))
    assert [config.max_epochs for config in more] == [None] * 4
    assert (more[0].budget_s, more[1].budget_s) == (LONG_S + 60.0, 2 * LONG_S)


def test_a_run_of_steps_that_is_resumed_with_a_budget_keeps_the_time_of_its_first_step(verse: str) -> None:
    run_plan(plan(verse, RunLength(steps=40), stop_after=20))
    stopped = load_state(STATE)
    assert stopped.first_step_s is not None
    assert 0.0 < stopped.first_step_s < stopped.elapsed_s
    run_plan(plan(verse, timed(), resume="run", stop_after=25))
    assert load_state(STATE).first_step_s == stopped.first_step_s


def test_a_run_without_a_budget_has_no_limit_of_epochs() -> None:
    for length in ({"steps": 10}, {"epochs": 2.0}):
        with pytest.raises(ConfigError, match="max_epochs limits a run with a time budget"):
            TrainConfig(max_epochs=3.0, **length)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "total_steps", "elapsed_s", "expected"), [
    ({"budget_s": 90.0, "max_epochs": 24.0}, 100, 40.0, True),
    ({"budget_s": 90.0, "max_epochs": 24.0}, 101, 40.0, False),
    ({"budget_s": 90.0, "max_epochs": 24.0}, 101, 90.0, True),
    ({"budget_s": 90.0}, None, 40.0, False),
    ({"epochs": 3.0}, 100, 40.0, True),
    ({"epochs": 3.0}, 101, 40.0, False),
    ({"steps": 200}, 200, 40.0, False),
    ({"steps": 100}, 100, 40.0, True),
])  # fmt: skip
def test_a_run_is_finished_with_the_first_of_its_limits(
    length: dict[str, Any], total_steps: int | None, elapsed_s: float, expected: bool, verse: str
) -> None:
    run_plan(plan(verse, RunLength(steps=2)))
    saved = load_state(STATE)
    trainer = {**saved.trainer, "step": 100}
    config = TrainConfig(**length)
    state = replace(saved, train=config, trainer=trainer, total_steps=total_steps, elapsed_s=elapsed_s)
    assert is_finished(state) is expected


def test_more_time_is_added_to_the_time_that_a_run_used_and_lifts_the_limit(verse: str) -> None:
    run_plan(plan(verse, RunLength(steps=2)))
    limited = TrainConfig(budget_s=90.0, max_epochs=24.0)
    ended = replace(load_state(STATE), train=limited, total_steps=2, elapsed_s=30.0)
    for more_s, saved, expected_s in (
        (20.0, ended, 50.0),
        (60.0, ended, 90.0),  # as long as its own budget
        (20.0, replace(ended, total_steps=3), 110.0),  # interrupted
        (20.0, replace(ended, elapsed_s=91.0), 110.0),  # it used its whole time
    ):
        config = resumed_train_config(RunLength(), TrainChoices(), more_s, saved, "cpu")
        assert (config.budget_s, config.max_epochs) == (expected_s, None)
        check_length(RunLength(), saved, "run", more_s)
    with pytest.raises(ConfigError, match="the budget of 1 min 31 s is already used up"):
        check_length(RunLength(), replace(ended, total_steps=3, elapsed_s=95.0), "run", 1.0)


def test_a_new_run_that_starts_from_a_model_has_a_limit_of_its_own(verse: str) -> None:
    run_plan(plan(verse, RunLength(steps=5), "first"))
    model = ModelChoices()
    again = replace(plan(verse[::-1], timed(), "second"), model=model, init_from="first")
    _, finished = run_plan(again)
    assert (finished.epochs, finished.reached_max_epochs) == (EPOCHS, True)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_why_a_run_ended_early_and_how_to_go_on(chargen: Callable[..., Result]) -> None:
    Path("verse.txt").write_text(VERSE * 40, encoding="utf-8")
    options = ("verse.txt", "--hidden", "16", "--batch", "4", "--seq-len", "16", "--name", "v", "--ensemble", "1")
    shown = chargen("train", *options, "--budget", "1h")
    assert shown.status == 0, shown.err
    assert f"a budget of 1 h (at most {EPOCHS} epochs) on cpu" in shown.err
    out = " ".join(shown.out.split())
    assert f"the text was read {EPOCHS} times in " in out and " of its 1 h" in out
    assert "--budget" not in out

    again = chargen("train", "--resume", "v")
    assert "the run v is finished" in again.err
    out = " ".join(again.out.split())
    assert "No step was made: the run has read the text as often as a run with a time budget does." in out
    assert "chargen train --resume v --more 5m" in out

    printed = json.loads(chargen("train", "--resume", "v", "--json").out)
    assert (printed["reached_max_epochs"], printed["stopped_early"]) == (True, False)
    longer = json.loads(chargen("train", "--resume", "v", "--epochs", str(EPOCHS + 1), "--json").out)
    assert (longer["reached_max_epochs"], longer["epochs"]) == (False, EPOCHS + 1)
