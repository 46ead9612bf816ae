"""The diagnosis after training: each kind of run is recognised, and the advice names options that fit it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.config import ModelConfig, TrainConfig
from chargen.text.builtin_corpora import markov
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.diagnosis import Evidence, diagnose
from chargen.training.events import Finished
from chargen.training.run import Plan
from chargen.training.validation import Baselines
from tests.conftest import corpus_of, run_plan

UNIGRAM, UNIFORM = 3.0, 4.0
BASELINES = Baselines(2.0, 2.5, UNIGRAM, UNIFORM)


def result(val: float, train: float, **more: Any) -> Finished:
    values: dict[str, Any] = dict.fromkeys(Finished.__dataclass_fields__, 0.0)
    values |= {
        "run": "r", "interrupted": False, "stopped_early": False, "steps": 300, "best_step": 300, "diagnosis": "",
        "advice": (), "val_loss_nats_per_char": val, "train_loss_without_dropout_nats_per_char": train,
        "entropy_nats_per_char": None,
    }  # fmt: skip
    return Finished(**{**values, **more})


def evidence(curve: Sequence[float], train: float, train_curve: Sequence[float] | None = None, **more: Any) -> Evidence:
    """Return the evidence of a run of 300 steps with validations at equal distances."""
    steps = [300 * (k + 1) // len(curve) for k in range(len(curve))]
    best = min(range(len(curve)), key=lambda k: curve[k])
    falling = train_curve or [5.0 - k for k in range(len(curve))]
    finished = {name: more.pop(name) for name in list(more) if name in Finished.__dataclass_fields__}
    settings = ModelConfig(50, "gru", hidden_size=128, dropout=0.2, weight_dropout=0.2)
    config = TrainConfig(steps=300)
    built = Evidence(
        result=result(min(curve), train, best_step=steps[best], **finished),
        progress=1.0,
        overhead_s=2.0,
        history=[{"step": s, "train": t, "val": v} for s, t, v in zip(steps, falling, curve, strict=True)],
        val_chars=10_000,
        baselines=BASELINES,
        model=settings,
        train=config,
        recommended_model=settings,
        recommended_train=config,
        max_hidden_size=128,
    )
    return replace(built, **more)


def assert_diagnosis(found: Evidence, summary: str, advice: str) -> None:
    diagnosis = diagnose(found)
    assert summary in diagnosis.summary
    assert advice in " ".join(diagnosis.advice)


def test_a_loss_that_still_falls_asks_for_a_longer_run() -> None:
    falling = evidence([2.5, 2.0, 1.6, 1.3], train=1.2)
    assert_diagnosis(falling, "Underfitting: the validation loss was still falling", "--steps 600")
    by_time = replace(falling, train=TrainConfig(budget_s=150.0))
    assert_diagnosis(by_time, "still falling", "--budget 5m")
    by_epochs = replace(falling, train=TrainConfig(epochs=1.5))
    assert_diagnosis(by_epochs, "still falling", "--epochs 3.")


def test_a_loss_that_falls_far_above_the_training_loss_asks_for_dropout_first() -> None:
    falling = evidence([2.5, 2.0, 1.6, 1.3], train=0.9)
    assert_diagnosis(falling, "still falling", "--steps 600")
    without_dropout = replace(falling, model=replace(falling.model, dropout=0.0))
    assert diagnose(without_dropout).advice == ("Use the settings that suit this text: --dropout 0.2.",)


def test_a_single_validation_is_a_short_run() -> None:
    assert_diagnosis(evidence([2.4], train=2.4), "still falling", "--steps 600")


def test_a_level_loss_near_the_training_loss_is_not_underfitting() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.28)
    diagnosis = diagnose(level)
    assert diagnosis.summary.startswith("Learned") and "nderfitting" not in diagnosis.summary
    assert not any("--" in advice for advice in diagnosis.advice)


def test_a_level_loss_of_a_small_network_asks_for_a_larger_one() -> None:
    small = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.28, model=ModelConfig(50, "gru", hidden_size=32))
    assert_diagnosis(small, "Limited by the network", "--hidden 128")


def test_a_level_loss_far_above_the_training_loss_asks_for_text() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=0.9)
    assert_diagnosis(level, "Limited by the text", "Only more text")
    without_dropout = replace(level, model=replace(level.model, dropout=0.0))
    assert_diagnosis(without_dropout, "Limited by the text", "--dropout 0.2")


def test_a_rise_while_the_training_loss_falls_is_overfitting() -> None:
    risen = evidence([1.5, 1.3, 1.35, 1.5], train=0.8)
    assert_diagnosis(risen, "Overfitting: the validation loss was lowest at step 150", "Train shorter: --steps 188")
    large = replace(risen, model=replace(risen.model, hidden_size=512, dropout=0.0))
    assert_diagnosis(large, "Overfitting", "--dropout 0.2 --hidden 128")
    by_time = replace(risen, train=TrainConfig(budget_s=42.0))
    assert_diagnosis(by_time, "Overfitting", "--budget 27s")  # 2 s of overhead, and 5/8 of 40 s


def test_a_rise_of_both_losses_is_unstable() -> None:
    both = evidence([1.5, 1.3, 1.6, 2.0], train=1.2, train_curve=[1.6, 1.4, 1.8, 2.1])
    assert_diagnosis(both, "Unstable", "--lr 0.003")
    high = replace(both, train=TrainConfig(steps=300, learning_rate=0.5))
    assert_diagnosis(high, "Unstable", "--lr 0.01")


@pytest.mark.parametrize("last", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_is_unstable(last: float) -> None:
    found = evidence([1.5, 1.3, 1.2], train=1.2)
    history = [*found.history[:2], {**found.history[2], "val": last}]
    ended = replace(found, history=history, result=replace(found.result, best_step=200))
    assert_diagnosis(ended, "Unstable: the validation loss was lowest at step 200", "--lr 0.003")


def test_a_model_worse_than_the_uniform_distribution_has_diverged() -> None:
    found = replace(evidence([42.0], train=41.0), train=TrainConfig(steps=300, learning_rate=3.0))
    assert_diagnosis(found, "Diverged", "--lr 0.01")


def test_a_model_of_character_frequencies_has_learned_nothing() -> None:
    assert_diagnosis(evidence([2.99], train=2.99, steps=1), "Nothing learned in 1 step:", "Train longer: --steps 30000")
    high = replace(evidence([2.99], train=2.99), train=TrainConfig(steps=300, learning_rate=0.5))
    assert_diagnosis(high, "Nothing learned", "--lr 0.01")


def test_a_text_that_nothing_predicts_gets_no_setting() -> None:
    random_text = Baselines(3.1, 3.2, UNIGRAM, UNIFORM)
    found = evidence([3.01, 3.0], train=2.5, baselines=random_text)
    assert_diagnosis(found, "Nothing to learn", "No setting will help")
    risen = evidence([3.0, 3.2, 3.4], train=2.0, baselines=random_text)
    assert_diagnosis(risen, "Overfitting", "No setting will help")


def test_nothing_is_left_to_learn() -> None:
    assert diagnose(evidence([0.5, 0.003], train=0.003)).advice == ()
    assert_diagnosis(evidence([0.5, 0.003], train=0.003), "Fully predicted", "")
    at_entropy = evidence([1.2, 1.01], train=1.0, entropy_nats_per_char=1.0)
    assert_diagnosis(at_entropy, "reaches the entropy", "")


def test_an_interrupted_run_is_to_be_continued() -> None:
    found = evidence([2.5, 2.0], train=1.9, interrupted=True, progress=0.34)
    assert_diagnosis(found, "Interrupted after 34%", "--resume r")


def test_a_few_characters_are_too_few_to_judge() -> None:
    assert_diagnosis(evidence([2.5, 2.0], train=1.9, val_chars=12), "Too little text to judge", "longer text")


def test_a_better_baseline_is_named() -> None:
    found = evidence([2.5, 2.3, 2.1], train=2.0)
    assert_diagnosis(found, "still falling", "A 5-gram is still better")
    repeated = replace(found, baselines=Baselines(2.0, 0.3, UNIGRAM, UNIFORM))
    assert_diagnosis(repeated, "still falling", "A compressor is better")
    assert len(diagnose(replace(found, baselines=Baselines(None, None, UNIGRAM, UNIFORM))).advice) == 1


# ── whole runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_dim": 8, "ngrams": 0}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(text: str, steps: int, model: dict[str, Any] | None = None, **train: Any) -> Finished:
    settings = TrainChoices(**{"batch_size": 8, "seq_len": 16, **train})
    shape = ModelChoices(**{**SMALL, **(model or {})})
    return run_plan(Plan(corpus_of(text), "run", RunLength(steps=steps), model=shape, train=settings, device="cpu"))[1]


def test_the_advice_after_overfitting_lowers_the_loss() -> None:
    text = markov(2).generate(2500, np.random.default_rng(0))
    model = {"hidden_size": 96, "dropout": 0.2, "weight_dropout": 0.2}
    found = run(text, 600, model)
    assert found.diagnosis.startswith("Overfitting")
    steps = re.fullmatch(r"Train shorter: --steps (\d+)\.", found.advice[0])
    assert steps, found.advice
    assert run(text, int(steps[1]), model).val_loss_nats_per_char < found.val_loss_nats_per_char


def test_a_run_with_a_huge_learning_rate_is_not_underfitting(verse: str) -> None:
    found = run(verse, 60, learning_rate=10.0, clip_norm=100.0)
    assert found.diagnosis.split(":")[0] in ("Diverged", "Unstable", "Nothing learned in 60 steps")
    assert "--lr 0.01" in " ".join(found.advice)
    better = run(verse, 60, learning_rate=0.01, clip_norm=100.0)
    assert better.val_loss_nats_per_char < found.val_loss_nats_per_char


def test_a_repeated_line_is_fully_predicted() -> None:
    found = run("abcd\n" * 1000, 400)
    assert found.diagnosis.startswith("Fully predicted") and found.advice == ()


def test_random_characters_get_no_advice_to_train_longer() -> None:
    rng = random.Random(0)
    found = run("".join(rng.choice("abcdefgh") for _ in range(4000)), 60)
    assert "No setting will help" in " ".join(found.advice)
    assert "nderfitting" not in found.diagnosis


def test_the_training_loss_of_the_diagnosis_has_no_dropout(verse: str) -> None:
    found = run(verse, 200, model={"dropout": 0.5, "weight_dropout": 0.3})
    assert found.train_loss_without_dropout_nats_per_char < found.train_loss_nats_per_char - 0.1


def test_a_shorter_run_is_advised_in_steps_if_its_start_takes_most_of_the_budget() -> None:
    overfitted = replace(evidence([1.5, 1.7, 1.9], train=1.0), train=TrainConfig(budget_s=10.0))
    assert_diagnosis(replace(overfitted, overhead_s=4.0), "Overfitting", "Train shorter: --steps")
    assert_diagnosis(replace(overfitted, overhead_s=0.5), "Overfitting", "Train shorter: --budget")
