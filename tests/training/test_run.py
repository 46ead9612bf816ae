"""Training runs: files and reports, exact resuming, the time budget, the recipe, and what a model learns."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import chargen
from chargen.api import load
from chargen.cells import CELLS
from chargen.cells.weights import table_rows
from chargen.checkpoint import load_checkpoint, load_tensors
from chargen.config import FLOAT32, DataConfig
from chargen.data.batches import Position, TextBatches
from chargen.data.dataset import prepare_dataset, split
from chargen.errors import ConfigError, CorpusError, DeviceError, DivergenceError, ModelError, StoppedError
from chargen.networks.torch_runtime import keep_freed_memory
from chargen.run_writer import create_run
from chargen.runs import RUN_FILES, find_run
from chargen.storage.stored_weights import round_weights
from chargen.text import builtin_corpora as automata
from chargen.tokenizers.tokenizer import build_tokenizer
from chargen.training import run as training_run
from chargen.training.budget import Budget
from chargen.training.calibration import HIDDEN_SIZE, TRAINING_SHARE, VOCAB_SIZE, load_kernels, measure_flops_per_s
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Evaluated, Progress, Started
from chargen.training.optimizers import learning_rate_factor
from chargen.training.recipe import (
    DEFAULT_CELL,
    FLOPS_PER_WEIGHT,
    batch_size,
    recurrent_weights,
    seq_len,
)
from chargen.training.run import Plan, train
from chargen.training.saving import RunSaver
from chargen.training.trainer import DeviceLoader, Trainer
from tests.conftest import corpus_of, run_plan

SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_dim": 8}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(text: str, name: str = "run", steps: int = 40, **more: Any) -> Plan:
    shape = ModelChoices(**{**SMALL, **more.pop("model", {})})
    training = TrainChoices(**{"batch_size": 4, "seq_len": 16, **more.pop("train", {})})
    length = RunLength(**more.pop("length", {"steps": steps}))
    return Plan(corpus_of(text), name, length, model=shape, train=training, device="cpu", **more)


def test_a_run_yields_reports_and_writes_its_files(verse: str) -> None:
    reports, finished = run_plan(plan(verse))
    assert isinstance(reports[0], Started)
    assert [type(r) for r in reports].count(Started) == 1
    assert any(isinstance(r, Progress) for r in reports)
    assert any(isinstance(r, Evaluated) for r in reports)
    assert finished.steps == 40
    assert sorted(os.listdir("checkpoints/run")) == [
        "metrics.jsonl",
        "model.safetensors",
        "training_state.safetensors",
    ]
    lines = [json.loads(line) for line in Path("checkpoints/run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["event"] == "finished"
    assert lines[-1]["val_loss_nats_per_char"] == pytest.approx(finished.val_loss_nats_per_char)
    assert load("run").score("Chữ").chars == 3


def test_the_loss_falls_and_the_reported_one_is_that_of_the_saved_model(verse: str) -> None:
    reports, _ = run_plan(plan(verse, "first", steps=1))
    assert next(r for r in reports if isinstance(r, Progress)).loss_nats_per_char > 3.0
    _, finished = run_plan(
        plan(verse, steps=400, train={"learning_rate": 1e-2}, model={"dropout": 0.0, "weight_dropout": 0.0})
    )
    assert finished.val_loss_nats_per_char < 1.0  # the verse is the same 20 times
    val = verse[int(len(verse) * 0.9) :]
    assert load("run").evaluate(val).loss_nats_per_char == pytest.approx(finished.val_loss_nats_per_char, abs=1e-4)


def test_importing_the_module_does_not_load_torch() -> None:
    """A wrong file name is reported at once, and torch is loaded while the baselines are computed."""
    code = "import sys, chargen.training.run; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(chargen.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    ("cell", "tokenizer"),
    [
        pytest.param(cell, tokenizer, marks=() if tokenizer == "char" or cell == DEFAULT_CELL else pytest.mark.slow)
        for cell in CELLS.names()
        for tokenizer in ("char", "byte", "sp:320")
    ],
)
@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
def test_a_resumed_run_equals_the_unstopped_run(cell: str, dropout: float, tokenizer: str, verse: str) -> None:
    members = 2 if dropout else 1
    shape = {"cell": cell, "dropout": dropout, "weight_dropout": dropout, "num_layers": 2, "ensemble_size": members}
    shape |= {"ngrams": 4, "ngram_rows": 64, "ngram_dropout": dropout} if dropout else {}
    if not CELLS.get(cell).recurrent_names:
        del shape["weight_dropout"]
    data = DataConfig(tokenizer=tokenizer)
    whole, _ = run_plan(plan(verse, "whole", 30, model=shape, data=data))
    stop = int(np.random.default_rng(len(cell) + len(tokenizer)).integers(1, 30))
    _, interrupted = run_plan(plan(verse, "cut", 30, model=shape, data=data, stop_after=stop))
    assert interrupted.interrupted
    assert interrupted.steps == stop
    _, finished = run_plan(plan(verse, length={}, data=data, resume="cut"))
    assert finished.steps == 30
    assert not finished.interrupted
    model = Path("checkpoints/cut/model.safetensors").read_bytes()
    assert model == Path("checkpoints/whole/model.safetensors").read_bytes()
    resumed, resumed_header = load_tensors(Path("checkpoints/cut/training_state.safetensors"))
    unstopped, unstopped_header = load_tensors(Path("checkpoints/whole/training_state.safetensors"))
    assert resumed.keys() == unstopped.keys()
    assert all(np.array_equal(resumed[key], unstopped[key]) for key in resumed)
    assert resumed_header["trainer"] == unstopped_header["trainer"]


def test_validations_before_and_after_a_stop_equal_those_of_an_unstopped_run(verse: str) -> None:
    # A validation is due every 50 steps: once before the stop, and once after it.
    _, whole = run_plan(plan(verse, "whole", 130))
    run_plan(plan(verse, "cut", 130, stop_after=70))
    run_plan(plan(verse, length={}, resume="cut"))
    history = [load_tensors(find_run(name).state_path)[1]["history"] for name in ("whole", "cut")]
    for key in ("step", "val"):
        assert [validation[key] for validation in history[0]] == [validation[key] for validation in history[1]]
    assert len(history[0]) > 2
    assert (
        Path("checkpoints/whole/model.safetensors").read_bytes()
        == Path("checkpoints/cut/model.safetensors").read_bytes()
    )
    assert whole.best_step > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(verse: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_plan(plan(verse, name, 10, train={"seed": seed}))
    a, b, c = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_resuming_with_another_text_is_an_error(verse: str) -> None:
    run_plan(plan(verse, steps=20, stop_after=5))
    with pytest.raises(ModelError, match="another text"):
        run_plan(plan(verse.replace("fox", "cat"), length={}, resume="run"))


def test_a_finished_run_can_be_resumed_with_more_steps(verse: str) -> None:
    run_plan(plan(verse, steps=20))
    _, finished = run_plan(plan(verse, length={"steps": 35}, resume="run"))
    assert finished.steps == 35


def test_a_stopped_run_keeps_its_best_model(verse: str) -> None:
    model = Path("checkpoints/run/model.safetensors")
    _, finished = run_plan(plan(verse, steps=500), stop=model.exists)
    assert finished.interrupted
    assert finished.steps == 52  # the step after the first validation
    assert load("run").sample(length=5, seed=0)


@pytest.mark.parametrize("call", range(7))
def test_a_run_that_is_stopped_before_its_first_validation_leaves_nothing(call: int, verse: str) -> None:
    calls = iter(range(1000))
    with pytest.raises(StoppedError, match="nothing was saved or changed"):
        list(train(plan(verse, steps=500), stop=lambda: next(calls) >= call))
    assert [name for name in os.listdir() if name != "checkpoints"] == []
    assert not Path("checkpoints").exists() or os.listdir("checkpoints") == [".locks"]


def test_a_run_that_is_abandoned_before_its_first_validation_leaves_nothing(verse: str) -> None:
    for kind in (Started, Progress):
        reports = train(plan(verse, steps=500))
        with pytest.raises(KeyboardInterrupt):
            while not isinstance(next(reports), kind):
                pass
            reports.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
        assert os.listdir("checkpoints") == [".locks"]


def test_a_run_that_was_stopped_long_before_its_first_validation_is_validated_and_kept(verse: str) -> None:
    # Each step is followed by a save of the training state, as after a minute of training on a long text.
    calls = iter(range(1000))
    a_plan = replace(plan(verse, steps=500), save_every_s=0.0)
    _, finished = run_plan(a_plan, stop=lambda: next(calls) >= 9)
    assert finished.interrupted
    assert finished.best_step == finished.steps < 10
    _, resumed = run_plan(plan(verse, resume="run", length={"steps": 12}))
    assert resumed.steps == 12


def test_a_resumed_run_that_is_stopped_before_its_first_step_is_unchanged(verse: str) -> None:
    run_plan(plan(verse, steps=20, stop_after=5))
    before = {path.name: path.read_bytes() for path in Path("checkpoints/run").iterdir()}
    with pytest.raises(StoppedError):
        list(train(plan(verse, resume="run"), stop=lambda: True))
    assert {path.name: path.read_bytes() for path in Path("checkpoints/run").iterdir()} == before


@pytest.mark.parametrize(("keep", "has_stopped", "has_finished"), [
    (None, True, True), ("always", True, True), ("until-done", True, False), ("never", False, False),
])  # fmt: skip
def test_the_training_state_is_kept_as_long_as_the_plan_says(
    keep: str | None, has_stopped: bool, has_finished: bool, verse: str
) -> None:
    state = Path("checkpoints/run/training_state.safetensors")
    run_plan(replace(plan(verse, steps=20, stop_after=5), keep_state=keep))
    assert state.exists() == has_stopped
    if has_stopped:
        run_plan(plan(verse, resume="run"))  # a resumed run keeps the setting
        assert state.exists() == has_finished
    if not has_finished:
        with pytest.raises(ModelError, match="the run 'run' has no training state") as raised:
            run_plan(plan(verse, resume="run", length={"steps": 30}))
        assert "--init-from run" in raised.value.hint
    assert load("run").sample(length=5, seed=0)


def test_a_plan_with_another_way_to_keep_the_state_is_refused(verse: str) -> None:
    with pytest.raises(ConfigError, match="'sometimes'"):
        replace(plan(verse), keep_state="sometimes")


def test_the_speed_measurement_ends_in_seconds_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))  # each timed step takes 2 s
    monkeypatch.setattr("chargen.training.calibration.time.perf_counter", lambda: float(next(clock)))
    measure_flops_per_s("gru", "cpu")
    assert next(clock) <= 8


def test_a_diverging_run_stops_and_keeps_its_best_model(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, cross_entropy = iter(range(1000)), torch.nn.functional.cross_entropy

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        training = "reduction" not in kwargs  # validation uses reduction="none"
        diverges = training and next(calls) == 30
        return cross_entropy(*args, **kwargs) * (math.nan if diverges else 1.0)

    monkeypatch.setattr("chargen.networks.network.F.cross_entropy", poisoned)
    monkeypatch.setattr(training_run, "_prepare_network", lambda *_: None)  # it makes a step, too
    with pytest.raises(DivergenceError, match="the loss is nan .* at step 31") as caught:
        run_plan(plan(verse, steps=300, model={"ensemble_size": 1}))
    assert "checkpoints/run/model.safetensors" in caught.value.hint
    saved = load_checkpoint(Path("checkpoints/run/model.safetensors"))
    assert saved.about["step"] == 30
    assert math.isfinite(load("run").score("Chữ").log_prob_nats)


def test_a_run_without_a_finite_validation_loss_says_so(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save_if_best = RunSaver.save_if_best
    monkeypatch.setattr(RunSaver, "save_if_best", lambda self, loss, *more: save_if_best(self, math.nan, *more))
    with pytest.raises(DivergenceError, match="none of its validation losses was a finite number") as caught:
        run_plan(plan(verse, steps=3))
    assert "--lr" in caught.value.hint


@pytest.mark.parametrize("length", [2, 3, 10, 100])
@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:320"])
def test_tiny_texts_reduce_the_batch_size(length: int, tokenizer: str) -> None:
    text = ("xin chào các bạn\n" * 10)[:length]
    reports, finished = run_plan(
        plan(text, steps=5, data=DataConfig(tokenizer=tokenizer), train={"batch_size": 32, "seq_len": 32})
    )
    started = reports[0]
    assert isinstance(started, Started)
    assert started.train_chars + started.val_chars == length
    assert any("instead of 32" in note for note in started.notes)
    assert math.isfinite(finished.val_loss_nats_per_char)


def test_a_single_character_is_an_error() -> None:
    with pytest.raises(CorpusError, match="1 character"):
        run_plan(plan("x", steps=5))


def test_a_separate_validation_text_can_have_unknown_characters(verse: str) -> None:
    unknown = corpus_of("Chữ €\n" * 30)
    _, finished = run_plan(plan(verse, steps=5, val_corpus=unknown))
    model = load("run")
    expected = model.evaluate(unknown.text)
    assert expected.unknown_chars == 30
    assert finished.val_loss_nats_per_char == pytest.approx(expected.loss_nats_per_char, abs=1e-4)
    assert finished.val_bits_per_byte < finished.val_bits_per_char  # some of its characters have several bytes


def test_no_held_out_score_is_below_the_entropy_and_training_comes_close() -> None:
    source = automata.markov(1, seed=3, letters="abcd")
    text = source.generate(60_000, np.random.default_rng(1))
    entropy = source.entropy_nats_per_char()
    settings = {"batch_size": 16, "seq_len": 16, "learning_rate": 1e-2}
    _, finished = run_plan(plan(text, steps=400, train=settings, model={"hidden_size": 24}))
    val = text[int(len(text) * 0.9) :]
    # The log probability of this text under the source removes most of the sampling error; 3 standard errors remain.
    source_loss = -source.log_prob_nats(text) / len(text)
    error = 3 * 1.0 / math.sqrt(len(val))
    assert finished.val_loss_nats_per_char > entropy - error
    assert finished.val_loss_nats_per_char < 1.02 * entropy + error
    assert abs(source_loss - entropy) < 3 / math.sqrt(len(text))


def test_the_alphabet_is_memorized() -> None:
    text = automata.alphabet().generate(4000, np.random.default_rng(0))
    run_plan(plan(text, steps=250, train={"learning_rate": 1e-2}, model={"hidden_size": 32}))
    letters = "abcdefghijklmnopqrstuvwxyz"
    sample = load("run").sample("f", temperature=0.0, length=1000)
    assert sample == (letters * 50)[5 : 5 + 1001]


def test_a_taken_name_gets_a_number_and_force_replaces_the_run(verse: str) -> None:
    for name in ("x", "x-2", "x-3"):
        with create_run("x") as writer:
            assert writer.run.name == name
    run_plan(plan(verse, "x", force=True, steps=2))
    assert sorted(os.listdir("checkpoints/x")) == sorted(RUN_FILES)
    assert sorted(os.listdir("checkpoints")) == [".locks", "x", "x-2", "x-3"]


def test_a_budget_is_the_duration_of_the_whole_run(verse: str) -> None:
    start = time.perf_counter()
    reports, finished = run_plan(plan(verse, length={"budget_s": 3.0}, started=start))
    elapsed_s = time.perf_counter() - start
    assert elapsed_s < 3.0 * 1.05 + 1.0
    assert elapsed_s > 1.5
    assert finished.steps > 10
    rates = [r.learning_rate for r in reports if isinstance(r, Progress)]
    assert rates[-1] < max(rates) / 5  # the decay ends with the budget


def test_a_budget_shorter_than_a_step_makes_one_step(verse: str) -> None:
    _, finished = run_plan(plan(verse, length={"budget_s": 0.001}))
    assert finished.steps == 1
    assert not finished.interrupted
    assert load("run").score("Chữ").chars == 3


def test_the_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(p / 100, 0.1, 0.02) for p in range(101)]
    assert factors[0] == 0
    assert factors[10] == 1
    assert factors[100] == pytest.approx(0.02)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_progress_is_measured_in_steps_or_in_seconds() -> None:
    by_steps = Budget(time.perf_counter(), None, 40, 100)
    assert [by_steps.progress(step) for step in (0, 10, 40, 50)] == [0, 0.25, 1, 1]
    by_time = Budget(time.perf_counter() - 100, 90.0, None, 100)
    assert by_time.progress(3) == 1.0


def test_a_first_step_that_compiles_its_loops_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    train_step, clock = Trainer.train_step, SimpleNamespace(now=0.0, durations=iter(()))

    def timed_step(trainer: Trainer, progress: float) -> None:
        train_step(trainer, progress)
        clock.now += next(clock.durations)

    monkeypatch.setattr(Trainer, "train_step", timed_step)
    readings = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("chargen.training.calibration.time", readings)
    speeds = []
    for first_s in (20.0, 0.25):
        clock.durations = iter([first_s, *[0.25] * 100])
        speeds.append(measure_flops_per_s("gru", "cpu"))
    assert speeds[0] == speeds[1]


def test_the_network_is_prepared_while_the_baselines_are_computed(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_prepared = threading.Event()
    prepare, measure = training_run._prepare_network, training_run.measure_baselines

    def prepared(*arguments: Any) -> Any:
        ngrams = prepare(*arguments)
        is_prepared.set()
        return ngrams

    def measured(data: Any) -> Any:
        assert is_prepared.wait(60)
        return measure(data)

    monkeypatch.setattr(training_run, "_prepare_network", prepared)
    monkeypatch.setattr(training_run, "measure_baselines", measured)
    assert run_plan(plan(verse, steps=2))[-1].steps == 2


@pytest.mark.parametrize("cell", ["gru", "lstm,mgru", "mingru"])
@pytest.mark.parametrize("has_ngrams", [True, False])
def test_loading_the_loops_of_a_network_makes_a_step_on_one_thread(
    cell: str, has_ngrams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    train_step, threads = Trainer.train_step, []

    def counted_step(trainer: Trainer, progress: float) -> None:
        threads.append(torch.get_num_threads())
        train_step(trainer, progress)

    monkeypatch.setattr(Trainer, "train_step", counted_step)
    before, random_state = torch.get_num_threads(), torch.get_rng_state()
    load_kernels(cell, "cpu", FLOAT32, has_ngrams)
    assert (threads, torch.get_num_threads()) == ([1], before)
    load_kernels(cell, "cuda", FLOAT32, has_ngrams)
    monkeypatch.setattr("chargen.training.calibration.use_numba", lambda: False)
    load_kernels(cell, "cpu", FLOAT32, has_ngrams)
    assert threads == [1]
    assert torch.equal(torch.get_rng_state(), random_state)  # other code draws the same random numbers


def test_a_run_keeps_the_random_numbers_of_other_code(verse: str) -> None:
    before = torch.get_rng_state()
    run_plan(plan(verse, length={"budget_s": 0.5}))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_settings_of_a_new_index_do_not_matter_to_a_run_that_has_none(verse: str) -> None:
    shape = {"ngrams": 3, "ngram_rows": 8, "ngram_index": False, "cell": "rnn", "hidden_size": 8}
    run_plan(plan(verse, steps=2, model=shape))
    given = ModelChoices(ngram_rows=8)
    assert run_plan(Plan(corpus_of(verse), resume="run", length=RunLength(steps=4), model=given))[1].steps == 4
    assert run_plan(Plan(corpus_of(verse), init_from="run", length=RunLength(steps=2), model=given))[1].steps == 2


def test_the_measured_speed_is_operations_divided_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count(0.0, 0.25)  # every timed step takes a quarter of a second
    monkeypatch.setattr("chargen.training.calibration.time", SimpleNamespace(perf_counter=lambda: next(readings)))
    weights = recurrent_weights("mgru", 1, HIDDEN_SIZE) + VOCAB_SIZE * HIDDEN_SIZE
    per_step = FLOPS_PER_WEIGHT * weights * seq_len(0.0, "cpu") * batch_size(0.0, 0.0, "cpu")
    assert measure_flops_per_s("mgru", "cpu") == pytest.approx(TRAINING_SHARE * per_step / 0.25)


@pytest.mark.parametrize("windows", [0, 5, 40])
def test_a_text_in_device_memory_gives_the_same_batches(windows: int) -> None:
    batches = TextBatches(np.random.default_rng(0).integers(1, 60, 500).astype(np.uint8), 0, 5, 8)
    position = Position()
    for _ in range(windows):
        position = batches.next_position(position)
    device = torch.device("cpu")
    streamed, resident = (DeviceLoader(batches, device, resident=kept).get_batch(position) for kept in (False, True))
    for one, other in zip(streamed, resident, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("cell", CELLS.names())
def test_a_run_on_a_gpu_starts_like_a_run_on_a_cpu(verse: str, cell: str) -> None:
    """TF32 rounds weights and gradients by up to 2⁻¹¹. On a CPU, relative noise of this size changes the loss after 20
    steps by at most 0.03 %, and by 0.6 % for rnn-relu. After 60 steps of rnn-relu, noise of 10⁻⁶ is enough for 2.6 %.
    """
    losses = []
    for device in ("cpu", "cuda"):
        planned = plan(verse, device, steps=20, model={"cell": cell, "ensemble_size": 2}, train={"batch_size": 8})
        reports, _ = run_plan(replace(planned, device=device))
        losses.append([r.val_loss_nats_per_char for r in reports if isinstance(r, Evaluated)][-1])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02 if cell == "rnn-relu" else 0.002)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_run_on_a_gpu_with_dropout_can_be_resumed(verse: str) -> None:
    shape = {"weight_dropout": 0.2, "dropout": 0.2}
    run_plan(replace(plan(verse, "cut", model=shape, stop_after=20), device="cuda"))
    _, finished = run_plan(replace(plan(verse, length={}, resume="cut"), device="cuda"))
    assert finished.steps == 40


def test_a_missing_device_is_an_error(verse: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeviceError, match="cuda"):
        run_plan(Plan(corpus_of(verse), "g", RunLength(steps=1), device="cuda"))


def test_less_is_validated_with_a_large_vocabulary_unless_the_user_chose_the_text() -> None:
    letters = "".join(chr(0x4E00 + i % 4000) for i in range(1_000_000))
    corpus, val = corpus_of(letters), corpus_of(letters[:150_000])
    selection, rest, last = prepare_dataset(corpus, None, DataConfig()).val
    assert selection.num_chars == int(1e8 / 4002)
    assert selection.num_chars + rest.num_chars == last.num_chars == int(4e8 / 4002) // 2
    selection, rest, last = prepare_dataset(corpus, val, DataConfig()).val
    assert selection.num_chars == int(1e8 / 4002)
    assert selection.num_chars + rest.num_chars == last.num_chars == 75_000


def test_the_best_model_is_kept_when_later_ones_are_worse() -> None:
    rng = np.random.default_rng(0)
    noise = "".join(rng.choice(list("abcdef"), 1200))  # random: a large network can only memorize it
    settings = {"learning_rate": 2e-2, "batch_size": 8, "seq_len": 32}
    reports, finished = run_plan(plan(noise, steps=200, train=settings, model={"hidden_size": 64}))
    validations = [r for r in reports if isinstance(r, Evaluated)]
    best = min(validations, key=lambda r: r.val_loss_nats_per_char)
    assert validations[-1].val_loss_nats_per_char > best.val_loss_nats_per_char + 0.1
    assert finished.best_step == best.step < 200
    assert "Overfitting" in finished.diagnosis
    saved = load_checkpoint(Path("checkpoints/run/model.safetensors"))
    for name, weight in round_weights(best.checkpoint.weights, "float16", table_rows(saved.config)).items():
        np.testing.assert_array_equal(saved.weights[name], weight)


@pytest.mark.slow
def test_a_resumed_budget_continues_where_it_stopped(verse: str) -> None:
    stopped_at = iter(range(10_000))
    reports, interrupted = run_plan(plan(verse, length={"budget_s": 4.0}), stop=lambda: next(stopped_at) >= 60)
    assert interrupted.interrupted
    last = [r for r in reports if isinstance(r, Progress)][-1]
    resumed, finished = run_plan(plan(verse, length={}, resume="run"))
    first = next(r for r in resumed if isinstance(r, Progress))
    assert first.progress > 0.5 * last.progress > 0.02  # a new run would have a hundredth of that
    assert first.step > 60
    assert finished.elapsed_s < 4.0 * 1.05 + 1.0


def test_subword_pieces_are_learned_from_the_training_text_only(verse: str) -> None:
    held_out = "zyxwvut" * (len(verse) // 60)  # the end of the corpus; its piece does not occur before
    corpus = corpus_of(verse + held_out)
    pieces = prepare_dataset(corpus, None, DataConfig(tokenizer="sp:320")).tokenizer
    letters = prepare_dataset(corpus, None, DataConfig()).tokenizer
    leaking = build_tokenizer("sp:320", corpus.text)
    assert len(leaking.encode("zyxwvut" * 4)) <= 4 < 20 < len(pieces.encode("zyxwvut" * 4))
    assert not letters.is_unknown(letters.encode("zyxwvut")).any()  # an alphabet has the characters of the whole text


def test_freed_memory_is_kept_if_the_allocator_can_be_configured() -> None:
    assert keep_freed_memory() or sys.platform != "linux" or platform.libc_ver()[0] != "glibc"


def test_a_tenth_of_a_long_text_is_held_out_and_its_start_is_validated() -> None:
    train_text, val_text = split(corpus_of("ab" * 2_000_000), None, DataConfig())
    assert (train_text.num_chars, val_text.num_chars) == (3_600_000, 200_000)
