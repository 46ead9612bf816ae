"""Saving and restoring: killed runs, full disks, damaged files, files of earlier versions, and initial models."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.survival import damage, open_damaged_files
from chargen.api import load
from chargen.checkpoint import STORAGE_VERSION, Checkpoint, load_checkpoint, load_tensors, save_checkpoint, save_tensors
from chargen.cli.main import run as command_line
from chargen.config import DataConfig, ModelConfig, TrainConfig
from chargen.engines.interface import log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError, ModelError, StorageError, TokenizerError
from chargen.lm import LanguageModel
from chargen.sampling.training_text_index import find_training_text
from chargen.text.corpus import read_corpus
from chargen.text.documents import MARK
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Started
from chargen.training.init_from import init_from_model
from chargen.training.recipe import FULL_RATE_EXCESS_NATS, MIN_LEARNING_RATE, learning_rate
from chargen.training.run import Plan
from chargen.training.saving import BackgroundWriter
from chargen.training.state import load_state
from tests.conftest import VERSE, corpus_of, random_model, run_plan

SMALL = {"cell": "gru", "hidden_size": 16, "embedding_dim": 8}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str, **more) -> Plan:
    model = ModelChoices(**more.pop("model", SMALL))
    settings = TrainChoices(**more.pop("train", {"batch_size": 4, "seq_len": 8}))
    length = RunLength(**more.pop("length", {"steps": 30}))
    return Plan(corpus_of(text), "run", length, model=model, train=settings, **more)


# ── killed ────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_that_is_killed_can_be_resumed_and_its_best_model_opens(verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    command = [sys.executable, "-m", "chargen", "train", "verse.txt", "--name", "run", "--hidden", "128"]
    process = subprocess.Popen(
        [*command, "--steps", "100000", "--save-every", "0.02s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    state, model = Path("checkpoints/run/training_state.safetensors"), Path("checkpoints/run/model.safetensors")
    while not (model.exists() and load_tensors(state)[1]["trainer"]["step"]):
        with pytest.raises(subprocess.TimeoutExpired):  # it must not end by itself
            process.wait(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    load_checkpoint(model)
    step = load_tensors(state)[1]["trainer"]["step"]
    assert step > 0
    assert command_line(["train", "--resume", "run", "--stop-after", str(step + 2)]) == 130
    assert load_tensors(state)[1]["trainer"]["step"] == step + 2


def test_the_state_is_saved_before_the_first_step_and_at_the_given_interval(verse: str, monkeypatch) -> None:
    saved: list[int] = []
    original = BackgroundWriter.start
    monkeypatch.setattr(BackgroundWriter, "start", lambda self, work: (saved.append(1), original(self, work))[1])
    run_plan(plan(verse, save_every_s=1e-9))
    assert len(saved) == 31  # before the first step and after every step
    saved.clear()
    run_plan(plan(verse, force=True))
    assert len(saved) == 2


def test_the_state_of_an_interrupted_run_does_not_contain_the_validation_that_the_interruption_adds(verse: str) -> None:
    run_plan(plan(verse, save_every_s=1e-9, stop_after=17))
    state = load_state(Path("checkpoints/run/training_state.safetensors"))
    assert state.trainer["step"] == 17
    assert 17 not in [validation["step"] for validation in state.history]


def test_an_error_in_the_background_is_raised() -> None:
    background = BackgroundWriter()
    background.start(lambda: None)
    background.start(lambda: [][0])
    with pytest.raises(IndexError):
        background.wait()
    background.wait()


def test_a_full_disk_is_an_error_and_does_not_change_earlier_files(verse: str, monkeypatch) -> None:
    run_plan(plan(verse))
    files = {path: path.read_bytes() for path in Path("checkpoints/run").glob("*.safetensors")}

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        run_plan(plan(verse, resume="run", length={"steps": 60}))
    assert {path: path.read_bytes() for path in Path("checkpoints/run").glob("*.safetensors")} == files
    assert not list(Path("checkpoints/run").glob(".*"))


@pytest.mark.slow
def test_the_budget_of_a_resumed_run_can_be_extended(verse: str) -> None:
    _, first = run_plan(plan(verse, length={"budget_s": 2.0}))
    extra_s = first.elapsed_s + 1.0  # a slow machine can exceed the first budget while it imports torch
    _, finished = run_plan(plan(verse, length={}, resume="run", extra_budget_s=extra_s))
    described = load_tensors(Path("checkpoints/run/training_state.safetensors"))[1]
    assert described["train"]["budget_s"] == 2.0 + extra_s
    assert finished.steps > first.steps
    assert finished.elapsed_s < (2.0 + extra_s) * 1.05 + 1.0
    with pytest.raises(ConfigError, match="stopped"):
        run_plan(plan(verse, extra_budget_s=1.0))


def test_only_a_run_with_a_budget_can_be_given_more_time(verse: str) -> None:
    run_plan(plan(verse))
    with pytest.raises(ConfigError, match="time budget"):
        run_plan(plan(verse, length={}, resume="run", extra_budget_s=1.0))


@pytest.mark.slow
def test_runs_that_start_together_get_different_folders_and_equal_weights(verse: str) -> None:
    Path("verse.txt").write_text(verse, encoding="utf-8")
    command = [sys.executable, "-m", "chargen", "train", "verse.txt", "--hidden", "8", "--steps", "6"]
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    models = sorted(Path("checkpoints").glob("*/model.safetensors"))
    assert [path.parent.name for path in models] == ["verse", "verse-2", "verse-3"]
    weights = [load_checkpoint(path).weights for path in models]
    assert all(np.array_equal(w[name], weights[0][name]) for w in weights for name in w)  # the same text and seed
    assert not list(Path().rglob("*.part"))


# ── files of earlier versions ─────────────────────────────────────────────────

FIRST_VERSION = Path(__file__).parents[1] / "files" / "v1"  #: a run on `verse`, stopped after 8 of 12 steps


def test_a_model_of_the_first_version_scores_as_then_but_masks_the_boundary() -> None:
    model = load(FIRST_VERSION / "model.safetensors")
    weights, described = load_tensors(FIRST_VERSION / "model.safetensors")
    engine = NumpyEngine(
        ModelConfig.from_json(described["config"]), weights
    )  # without the mask of the boundary id, as in the first version
    state, total, boundaries = engine.initial_state(1), 0.0, 0.0
    ids = model.tokenizer.encode("\nTrăm năm")
    for before, token_id in pairwise(ids.tolist()):
        logits, state = engine.step(np.array([before]), state)
        total += float(log_softmax(logits)[0, token_id])
        boundaries += math.log1p(-math.exp(log_softmax(logits)[0, BOUNDARY_ID]))
    assert total == pytest.approx(-30.499613787, abs=1e-5)
    assert model.score("Trăm năm").log_prob_nats == pytest.approx(total - boundaries, abs=1e-5)
    assert boundaries < -0.1


def test_a_run_of_the_first_version_can_be_resumed(verse: str) -> None:
    shutil.copytree(FIRST_VERSION, "checkpoints/v1")
    _, finished = run_plan(Plan(corpus_of(verse), "v1", resume="v1"))
    assert finished.steps == 12


# ── damaged files ─────────────────────────────────────────────────────────────


def test_a_damaged_model_file_is_an_error_or_gives_the_same_model(tmp_path: Path) -> None:
    model, rng = random_model(), np.random.default_rng(0)
    save_checkpoint(tmp_path / "a.safetensors", model)
    whole = (tmp_path / "a.safetensors").read_bytes()
    refused = 0
    for _ in range(500):
        (tmp_path / "b.safetensors").write_bytes(damage(whole, rng))
        try:
            found = load_checkpoint(tmp_path / "b.safetensors")
        except ModelError:
            refused += 1
        else:
            assert all(np.array_equal(found.weights[name], weight) for name, weight in model.weights.items())
    assert refused > 400


# ── initial models ────────────────────────────────────────────────────────────


def test_a_new_run_starts_with_the_weights_of_its_initial_model(verse: str) -> None:
    run_plan(plan(verse, length={"steps": 200}))
    before = load_checkpoint(Path("checkpoints/run/model.safetensors"))
    reports, _ = run_plan(plan(verse, init_from="run", length={"steps": 1}, model={}))
    started = next(r for r in reports if isinstance(r, Started))
    assert (started.run, started.model.hidden_size) == ("run-2", 16)
    after = load_checkpoint(Path("checkpoints/run-2/model.safetensors"))
    for name, weight in before.weights.items():
        assert np.abs(after.weights[name] - weight).max() < 0.02  # one small step away


def test_new_characters_grow_the_vocabulary_and_change_scores_only_slightly(verse: str) -> None:
    model = random_model(VERSE)
    grown = init_from_model(model, LongText.from_string(VERSE + "€Ω").span(), "grow", ModelChoices())
    assert grown.tokenizer.vocab_size == model.tokenizer.vocab_size + 2
    assert "2 characters" in grown.note
    config = type(model.config)(**{**model.config.to_json(), "vocab_size": grown.tokenizer.vocab_size})
    larger = LanguageModel(type(model)(config, grown.tokenizer, grown.weights, model.about))
    old, new = LanguageModel(model).surprisal("The fox"), larger.surprisal("The fox")
    # The two new characters take a small share of the probability mass from all others.
    assert [c for c, _ in old] == [c for c, _ in new]
    assert all(0 < b - a < 1.0 for (_, a), (_, b) in zip(old, new, strict=True))
    assert np.isfinite(larger.score("€Ω").log_prob_nats)
    assert larger.score("€Ω").unknown_chars == 0


def test_new_characters_can_be_an_error_or_stay_unknown(verse: str) -> None:
    model, text = random_model(VERSE), LongText.from_string(VERSE + "€Ω").span()
    with pytest.raises(TokenizerError, match="2 characters that the model does not know: '[€Ω]' .*, '[€Ω]' "):
        init_from_model(model, text, "error", ModelChoices())
    assert init_from_model(model, text, "unknown", ModelChoices()).tokenizer is model.tokenizer
    assert (
        init_from_model(model, LongText.from_string("The fox").span(), "error", ModelChoices()).tokenizer
        is model.tokenizer
    )


def test_another_shape_than_that_of_the_initial_model_is_an_error(verse: str) -> None:
    with pytest.raises(ConfigError, match="hidden_size is 99, but the initial model has 12"):
        init_from_model(random_model(), LongText.from_string(VERSE).span(), "grow", ModelChoices(hidden_size=99))


def test_a_grown_model_trains_on_the_new_text(verse: str) -> None:
    run_plan(plan(verse))
    reports, finished = run_plan(plan(verse.replace("e", "€"), init_from="run", model={}))
    assert any("grew by 1 character" in note for r in reports if isinstance(r, Started) for note in r.notes)
    assert LanguageModel(load_checkpoint(Path(finished.model_path))).score("€").unknown_chars == 0


def test_the_initial_model_is_kept_if_training_does_not_improve_it(verse: str) -> None:
    _, before = run_plan(plan(verse, length={"steps": 50}, train={"learning_rate": 1e-2}))
    spoiled = {"learning_rate": 1.0, "clip_norm": 1e9}
    _, after = run_plan(plan(verse, init_from="run", length={"steps": 3}, model={}, train=spoiled))
    assert (before.best_step, after.best_step) == (50, 0)
    assert after.val_loss_nats_per_char == pytest.approx(before.val_loss_nats_per_char, abs=1e-6)
    assert after.diagnosis.startswith("No improvement")
    first, kept = (load_checkpoint(Path(found.model_path)) for found in (before, after))
    assert all(np.array_equal(kept.weights[name], weight) for name, weight in first.weights.items())
    _, again = run_plan(plan(verse, resume=after.run, length={}, model={}, train={}))
    assert (again.steps, again.best_step) == (3, 0)  # the run is done, although its best model made no step


def test_a_run_from_an_initial_model_that_was_stopped_before_its_first_validation_can_end(verse: str) -> None:
    run_plan(plan(verse, length={"steps": 5}))
    _, stopped = run_plan(plan(verse, init_from="run", length={"steps": 90}, model={}, stop_after=7))
    _, resumed = run_plan(plan(verse, resume=stopped.run, length={"steps": 7}, model={}, train={}))
    assert resumed.steps == 8  # one step, which a validation follows


@pytest.mark.slow
def test_the_learning_rate_of_an_initial_model_rises_with_the_excess_loss_of_the_new_text(verse: str) -> None:
    text = "the quick brown fox, and then the lazy dog. " * 400
    run_plan(plan(text, length={"steps": 300}, train={"learning_rate": 1e-2}))
    rates = []
    for other in (text, text.replace("o", "x"), "".join(sorted(text))):
        reports, _ = run_plan(plan(other, init_from="run", length={"steps": 1}, model={}))
        rates += [r.train.learning_rate for r in reports if isinstance(r, Started)]
    assert rates[0] == MIN_LEARNING_RATE < rates[1] < rates[2] <= TrainConfig.learning_rate
    assert learning_rate(None) == learning_rate(FULL_RATE_EXCESS_NATS) == TrainConfig.learning_rate


# ── documents ─────────────────────────────────────────────────────────────────


def test_a_model_of_documents_starts_and_ends_documents() -> None:
    names = ["An", "Bình", "Châu", "Dũng", "Giang", "Hà"]
    Path("names.txt").write_text("\n".join(names * 30), encoding="utf-8")
    data = DataConfig(documents="line")
    corpus, settings = read_corpus(["names.txt"], data), TrainChoices(batch_size=8, seq_len=8, learning_rate=2e-2)
    reports, finished = run_plan(Plan(corpus, "names", RunLength(steps=300), data, ModelChoices(**SMALL), settings))
    assert any("documents for training" in n for r in reports if isinstance(r, Started) for n in r.notes)
    model = LanguageModel(load_checkpoint(Path(finished.model_path)))
    written = model.sample(length=200, until="length", seed=0).split("\n")[:-1]
    assert len(written) > 20
    assert model.sample(length=200, seed=0) == written[0]
    assert sum(name in names for name in written) / len(written) > 0.9
    assert MARK not in "".join(written)
    # There are six first letters: log₂ 6 bits. The rest of a name is almost certain.
    assert model.score("Bình").bits_per_char == pytest.approx(np.log2(6) / 4, abs=0.15)
    found = model.evaluate("\n".join(names))
    assert found.loss_nats_per_char == pytest.approx(finished.val_loss_nats_per_char, abs=0.1)


def test_a_resumed_run_on_documents_equals_the_unstopped_run() -> None:
    Path("names.txt").write_text("\n".join(["An", "Bình", "Châu", "Dũng"] * 30), encoding="utf-8")
    data = DataConfig(documents="line")
    settings = {"data": data, "model": ModelChoices(**SMALL), "train": TrainChoices(batch_size=4, seq_len=8)}
    settings["length"] = RunLength(steps=60)
    corpus = read_corpus(["names.txt"], data)
    run_plan(Plan(corpus, "whole", **settings))
    run_plan(Plan(corpus, "cut", stop_after=23, **settings))
    run_plan(Plan(corpus, "cut", resume="cut", **settings))
    whole, cut = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_no_damaged_file_is_read_as_another_model() -> None:
    assert "no crash" in open_damaged_files(300, np.random.default_rng(0))  # it raises otherwise


def test_a_run_of_an_earlier_version_on_documents_keeps_its_held_out_part() -> None:
    """Earlier versions held out the last documents, and wrote no `val_split`."""
    Path("names.txt").write_text("\n".join(sorted(f"{a}{b}" for a in "abcdefgh" for b in "mnopqrst")), encoding="utf-8")
    data = DataConfig(documents="line", val_split="last")
    settings = {"data": data, "model": ModelChoices(**SMALL), "train": TrainChoices(batch_size=4, seq_len=8)}
    settings["length"] = RunLength(steps=20)
    corpus = read_corpus(["names.txt"], data)
    run_plan(Plan(corpus, "whole", **settings))
    run_plan(Plan(corpus, "cut", stop_after=7, **settings))
    state = Path("checkpoints/cut/training_state.safetensors")
    tensors, header = load_tensors(state)
    header["data"].pop("val_split")
    save_tensors(state, tensors, header, STORAGE_VERSION)
    saved = load_state(state)
    assert saved.data == data
    run_plan(Plan(corpus, "cut", resume="cut", data=saved.data))
    whole, cut = (load_checkpoint(Path(f"checkpoints/{name}/model.safetensors")) for name in ("whole", "cut"))
    assert all(np.array_equal(whole.weights[name], weight) for name, weight in cut.weights.items())
    assert whole.about == cut.about
    old = Checkpoint(cut.config, cut.tokenizer, cut.weights, {**cut.about, "data": header["data"]})
    names = find_training_text(old, ["names.txt"]).read().split(MARK)[:-1]
    assert names == corpus.text.split(MARK)[: len(names)]


def test_the_split_of_a_run_is_stored_in_its_files() -> None:
    Path("names.txt").write_text("\n".join(f"name {n}" for n in range(100)), encoding="utf-8")
    for split in ("random", "last"):
        data = DataConfig(documents="line", val_split=split)
        corpus = read_corpus(["names.txt"], data)
        choices = {"model": ModelChoices(**SMALL), "train": TrainChoices(batch_size=4, seq_len=8)}
        _, finished = run_plan(Plan(corpus, split, RunLength(steps=3), data, **choices))
        model = load_checkpoint(Path(finished.model_path))
        assert model.data.val_split == split
        assert load_state(Path(f"checkpoints/{split}/training_state.safetensors")).data.val_split == split
        text = find_training_text(model, model_path=Path(finished.model_path)).read()
        Path("names.txt").rename("moved.txt")
        assert find_training_text(model).read() == text  # from the token ids in the cache
        assert find_training_text(model, ["moved.txt"]).read() == text
        assert text.startswith("name 0" + MARK) == (split == "last" or "name 0" + MARK in text)
        assert text.endswith("name 99" + MARK) == (split == "random")
        Path("moved.txt").rename("names.txt")
