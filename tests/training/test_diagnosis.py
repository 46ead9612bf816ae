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
from chargen.training.diagnosis.evidence import Evidence, share_of_budget
from chargen.training.diagnosis.rules import diagnose
from chargen.training.events import Finished
from chargen.training.recipe import num_flops, recommended_settings
from chargen.training.run import Plan
from chargen.training.validation import Baselines
from tests.conftest import corpus_of, run_plan

UNIGRAM, UNIFORM = 3.0, 4.0
BASELINES = Baselines(2.0, 2.5, UNIGRAM, UNIFORM)


def result(val: float, train: float, **more: Any) -> Finished:
    values: dict[str, Any] = dict.fromkeys(Finished.__dataclass_fields__, 0.0)
    values |= {
        "run": "r", "interrupted": False, "stopped_early": False, "reached_max_epochs": False, "steps": 300,
        "best_step": 300, "diagnosis": "", "advice": (), "val_loss_nats_per_char": val,
        "train_loss_without_dropout_nats_per_char": train, "entropy_nats_per_char": None,
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
    assert diagnose(falling).advice == ("Train longer: --steps 600.",)
    half = replace(falling, result=result(1.3, 0.6))
    assert diagnose(half).advice == ("Train longer: --steps 600.", "More text will help more.")
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


def test_a_small_held_out_text_cannot_tell_small_differences() -> None:
    risen = evidence([1.5, 1.3, 1.35, 1.5], train=0.8)
    assert diagnose(risen).advice[1] == "Then only more text will help."
    few = replace(risen, val_chars=225)  # 1.3 nats are 1.88 bits
    assert_diagnosis(few, "Overfitting", "of 225 held-out characters, a difference of 0.04 bits may be chance")


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


def test_a_learning_rate_far_from_the_recommended_one_is_the_first_thing_to_change() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.0)
    for rate in (0.0002, 0.3):
        unsuited = replace(level, train=TrainConfig(steps=300, learning_rate=rate))
        assert_diagnosis(unsuited, "Limited by the settings", "Use the settings that suit this text: --lr 0.01.")
        falling = replace(evidence([2.5, 2.0, 1.6, 1.3], train=1.2), train=unsuited.train)
        assert_diagnosis(falling, "still falling", "Use the settings that suit this text: --lr 0.01.")
        assert "longer" not in " ".join(diagnose(falling).advice)
    near = replace(level, train=TrainConfig(steps=300, learning_rate=0.02))
    assert_diagnosis(near, "Limited by the text", "Only more text")


def test_a_rate_that_is_low_for_a_new_network_suits_a_model_that_is_continued() -> None:
    low = TrainConfig(steps=300, learning_rate=0.0003)
    level = replace(evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.0), train=low)
    assert_diagnosis(replace(level, is_new_network=False), "Limited by the text", "Only more text")
    nothing = replace(evidence([2.99], train=2.99), train=TrainConfig(steps=300, learning_rate=1e-6))
    assert_diagnosis(nothing, "Nothing learned", "higher learning rate: --lr 0.01")


def test_far_too_much_dropout_is_not_a_limit_of_the_text() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.0)
    high = replace(level, model=replace(level.model, dropout=0.7, weight_dropout=0.6))
    assert_diagnosis(high, "Limited by the settings", "--dropout 0.2 --weight-dropout 0.2")
    moderate = replace(level, model=replace(level.model, dropout=0.35, weight_dropout=0.35))
    assert_diagnosis(moderate, "Limited by the text", "Only more text")
    without_gap = replace(high, result=result(1.3, 1.28))
    assert_diagnosis(without_gap, "Limited by the settings", "--dropout 0.2 --weight-dropout 0.2")


def test_a_little_less_dropout_is_not_what_a_falling_loss_lacks() -> None:
    falling = evidence([2.5, 2.0, 1.6, 1.3], train=0.9)
    less = replace(falling, model=replace(falling.model, dropout=0.13))
    assert_diagnosis(less, "still falling", "Train longer")


def test_a_network_that_is_too_large_for_the_time_is_to_be_smaller() -> None:
    falling = evidence([2.5, 2.0, 1.6, 1.3], train=1.2, model=ModelConfig(50, "gru", hidden_size=512))
    large = replace(falling, max_hidden_size=512)
    assert_diagnosis(large, "still falling", "Train longer: --steps 600")
    timed = replace(large, train=TrainConfig(budget_s=20.0))
    assert_diagnosis(timed, "still falling", "Train longer: --budget 40s")  # it is better than the 5-gram
    assert_diagnosis(replace(timed, result=result(2.1, 2.0)), "still falling", "--hidden 128")


def test_only_a_loss_that_rose_shows_that_a_network_is_too_large() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=0.9)
    large = replace(level, model=replace(level.model, hidden_size=512))
    assert_diagnosis(large, "Limited by the text", "Only more text")
    falling = evidence([2.5, 2.0, 1.6, 1.3], train=0.9)
    assert_diagnosis(replace(falling, model=large.model), "still falling", "Train longer")


def test_a_loss_whose_fall_would_still_be_felt_after_twice_the_time_is_not_level() -> None:
    large_loss = evidence([2.9, 2.62, 2.598, 2.575], train=2.5, baselines=Baselines(2.9, 2.9, 4.0, 5.0))
    assert 0.02 < large_loss.fall(1 / 3) < 0.015 * 2.575
    assert_diagnosis(large_loss, "still falling", "Train longer")
    small_loss = evidence([0.2, 0.13, 0.11, 0.1], train=0.1)
    assert small_loss.fall(1 / 3) < 0.02
    assert_diagnosis(small_loss, "still falling", "Train longer")


def test_a_fall_that_is_over_is_not_a_falling_loss() -> None:
    over = evidence([2.5, 2.2, 2.1, 2.06, 2.03, 2.031], train=1.7)
    assert over.fall(1 / 3) > 0.02 and over.fall(1 / 6) < 0.0
    assert_diagnosis(over, "Limited by the text", "Only more text")


def test_a_network_far_too_small_is_the_first_limit() -> None:
    tiny = ModelConfig(50, "gru", hidden_size=24, dropout=0.2, weight_dropout=0.2)
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.05, model=tiny)
    assert_diagnosis(level, "Limited by the network", "--hidden 128")
    falling = evidence([2.9, 2.7, 2.5, 2.3], train=2.2, model=tiny)
    timed = replace(falling, train=TrainConfig(budget_s=20.0))
    assert_diagnosis(timed, "still falling", "--hidden 128")


def test_the_fall_is_that_of_the_last_third() -> None:
    found = evidence([3.0, 2.0, 1.0], train=1.0)
    assert found.fall(1 / 3) == pytest.approx(1.0)  # from step 200 to 300
    between = evidence([4.0, 3.0, 2.0, 1.0], train=1.0)
    assert between.fall(1 / 3) == pytest.approx(4 / 3)  # steps 150 and 225 have 3.0 and 2.0, so step 200 has 2.33
    late = replace(found, history=[{"step": 250, "train": 1.5, "val": 1.1}, {"step": 300, "train": 1.4, "val": 1.0}])
    assert late.fall(1 / 3) == pytest.approx(0.2)  # a sixth of the run, twice as much in a third
    later = replace(late, history=[{"step": 280, "train": 1.5, "val": 1.001}, late.history[1]])
    assert_diagnosis(later, "still falling", "Train longer")


def test_a_harder_validation_text_is_not_memorization() -> None:
    small = ModelConfig(50, "gru", hidden_size=80)
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.05, model=small)
    assert_diagnosis(level, "Limited by the text", "--dropout 0.2")
    harder = replace(level, relative_difficulty=1.2)
    assert harder.gap == pytest.approx(1.3 - 1.05 * 1.2)
    assert_diagnosis(harder, "Limited by the network", "--hidden 128")


def test_the_gap_is_of_the_validated_part() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.25)
    other_end = replace(level, result=replace(level.result, val_loss_nats_per_char=1.9))
    assert_diagnosis(other_end, "Learned", "")


def test_parts_of_different_kinds_are_named() -> None:
    level = evidence([1.5, 1.32, 1.31, 1.305, 1.301, 1.3], train=1.28)
    halves = {"val_first_half_nats_per_char": 1.3, "val_second_half_nats_per_char": 2.4}
    found = replace(level, result=replace(level.result, **halves))
    assert "different kinds" in " ".join(diagnose(found).advice)
    assert "different kinds" in " ".join(diagnose(replace(level, relative_difficulty=1.7)).advice)
    empty = {"val_first_half_nats_per_char": 1.3, "val_second_half_nats_per_char": None}
    assert diagnose(replace(level, result=replace(level.result, **empty))).advice == ()


def test_a_rise_above_the_frequencies_of_a_random_text_is_not_a_high_rate() -> None:
    random_text = Baselines(3.6, 3.2, UNIGRAM, UNIFORM)
    risen = evidence([2.99, 3.02, 3.05], train=2.99, train_curve=[3.05, 2.9, 2.8], baselines=random_text)
    assert risen.rise > 0.02
    assert_diagnosis(risen, "Nothing to learn", "No setting will help")


def test_a_text_is_not_called_random_before_the_model_has_reached_its_frequencies() -> None:
    random_text = Baselines(3.6, 3.2, UNIGRAM, UNIFORM)
    short = evidence([3.3], train=3.3, steps=3, baselines=random_text)
    assert_diagnosis(short, "Nothing learned in 3 steps", "Train longer")
    diverged = replace(evidence([9.0], train=9.0, baselines=random_text), train=TrainConfig(steps=3, learning_rate=3.0))
    assert_diagnosis(diverged, "Diverged", "--lr 0.01")


def test_the_size_for_a_time_is_that_for_the_same_computation() -> None:
    tiny = ModelConfig(150, "mgru", hidden_size=16)
    by_epochs, _, largest = recommended_settings(tiny, TrainConfig(epochs=20.0), 720_000, 20.0)
    by_time, _, _ = recommended_settings(tiny, TrainConfig(budget_s=20.0), 720_000, 20.0)
    assert 64 <= by_time.hidden_size < by_epochs.hidden_size / 2 <= largest / 2
    again = replace(tiny, hidden_size=by_time.hidden_size)
    ratio = num_flops(again, 1.0) / num_flops(tiny, 1.0)
    assert (
        recommended_settings(again, TrainConfig(budget_s=20.0), 720_000, 20.0 / ratio)[0].hidden_size
        == again.hidden_size
    )


# ── runs that ended before their time ─────────────────────────────────────────────────────────────────────────────────

TIMED = TrainConfig(budget_s=90.0, max_epochs=24.0)
LEVEL = [1.5, 1.32, 1.31, 1.305, 1.301, 1.3]
FALLING = [2.5, 2.0, 1.6, 1.3]
READ = "the text was read 24 times in 41 s of its 1 min 30 s"


def used_up(curve: Sequence[float], train: float, **more: Any) -> Evidence:
    """Return the evidence of a run that had read its text 24 times after 41 of 90 seconds."""
    ended = {"reached_max_epochs": True, "epochs": 24.0, "elapsed_s": 41.2}
    return replace(evidence(curve, train, **{**ended, **more}), train=TIMED)


def test_a_run_that_used_up_its_text_asks_for_more_text_and_not_for_more_time() -> None:
    found = diagnose(used_up(LEVEL, 1.0))
    assert found.summary == (
        f"Text used up: {READ}. The validation loss has stopped falling, 0.43 bits above the training loss without "
        "dropout."
    )
    more_often = "To read this text more often all the same: --epochs 48."
    assert found.advice == ("Only more text will help.", more_often)
    falling = diagnose(used_up(FALLING, 1.0))
    assert falling.summary.startswith(f"Text used up: {READ}. The validation loss was still falling at the end")
    assert falling.advice == ("More text will help most.", more_often)


def test_a_run_that_its_time_ended_does_not_say_that_its_text_is_used_up() -> None:
    for curve, expected in ((LEVEL, "Limited by the text"), (FALLING, "Underfitting")):
        found = diagnose(used_up(curve, 1.0, reached_max_epochs=False))
        assert found.summary.startswith(expected)
        assert "was read" not in found.summary


@pytest.mark.parametrize("curve", [LEVEL, FALLING])
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"train": replace(TIMED, learning_rate=0.0002)}, "--lr 0.01"),
        ({"model": ModelConfig(50, "gru", hidden_size=128, dropout=0.7, weight_dropout=0.6)}, "--dropout 0.2"),
        ({"model": ModelConfig(50, "gru", hidden_size=128)}, "--dropout 0.2"),
    ],
)
def test_settings_far_from_the_recipe_are_named_before_the_text(
    curve: Sequence[float], change: dict[str, Any], advice: str
) -> None:
    found = diagnose(replace(used_up(curve, 1.0), **change))
    assert found.summary.endswith(f"The run ended early: {READ}.")
    assert not found.summary.startswith("Text used up")
    assert f"Use the settings that suit this text: {advice}" in found.advice[0]
    assert "--budget" not in " ".join(found.advice)


def test_a_network_that_is_too_small_for_the_unused_time_is_named_before_the_text() -> None:
    small = replace(used_up(LEVEL, 1.0), model=ModelConfig(50, "gru", hidden_size=32, dropout=0.2, weight_dropout=0.2))
    found = diagnose(small)
    assert found.summary.startswith("Limited by the network")
    assert found.summary.endswith(f"The run ended early: {READ}.")
    assert found.advice == ("Use a larger network: --hidden 128.",)


@pytest.mark.parametrize(
    ("found", "start", "advice"),
    [
        (used_up([1.5, 1.3, 1.35, 1.5], 0.8), "Overfitting", "Train shorter: --epochs 15"),
        (used_up([2.99], 2.99), "Nothing learned", "Train longer: --epochs 96"),
        (used_up(FALLING, 1.0, val_chars=12), "Too little text", "longer text"),
        (used_up([0.5, 0.003], 0.003), "Fully predicted", ""),
        (replace(used_up(LEVEL, 1.0), relative_difficulty=1.25), "Learned", ""),
    ],
)
def test_every_other_diagnosis_says_why_the_run_ended_early(found: Evidence, start: str, advice: str) -> None:
    diagnosis = diagnose(found)
    assert diagnosis.summary.startswith(start)
    assert diagnosis.summary.endswith(f"The run ended early: {READ}.")
    assert advice in " ".join(diagnosis.advice)
    assert "--budget" not in " ".join(diagnosis.advice)


def test_the_share_of_the_budget_is_that_of_the_time_for_training() -> None:
    ended = result(1.3, 1.0, reached_max_epochs=True, elapsed_s=30.0)
    assert share_of_budget(ended, TIMED, 10.0) == pytest.approx(20.0 / 80.0)
    assert share_of_budget(replace(ended, elapsed_s=95.0), TIMED, 10.0) == 1.0
    assert share_of_budget(replace(ended, elapsed_s=2.0), TIMED, 10.0) > 0.0
    assert share_of_budget(ended, TIMED, 100.0) == 1.0
    assert share_of_budget(replace(ended, reached_max_epochs=False), TIMED, 10.0) == 1.0


# ── whole runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_dim": 8, "ngrams": 0}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(text: str, steps: int, model: dict[str, Any] | None = None, **train: Any) -> Finished:
    settings = TrainChoices(**{"batch_size": 8, "seq_len": 16, **train})
    shape = ModelChoices(**{**SMALL, **(model or {})})
    return run_plan(Plan(corpus_of(text), "run", RunLength(steps=steps), model=shape, train=settings, device="cpu"))[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "option", "advice"),
    [
        (96, "hidden", r"Use the settings that suit this text: --hidden (\d+)\."),
        (64, "steps", r"Train shorter: --steps (\d+)\."),
    ],
)
def test_the_advice_after_overfitting_lowers_the_loss(hidden: int, option: str, advice: str) -> None:
    text = markov(2).generate(2500, np.random.default_rng(0))
    choices = {"hidden": hidden, "steps": 1200}

    def finish() -> Finished:
        model = {"hidden_size": choices["hidden"], "ensemble_size": 2, "dropout": 0.2, "weight_dropout": 0.2}
        return run(text, choices["steps"], model, weight_decay=0.1)

    found = finish()
    assert found.diagnosis.startswith("Overfitting")
    advised = re.fullmatch(advice, found.advice[0])
    assert advised, found.advice
    choices[option] = int(advised[1])
    assert finish().val_loss_nats_per_char < found.val_loss_nats_per_char


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
