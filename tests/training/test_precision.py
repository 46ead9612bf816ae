"""Runs with products in bf16 on a CPU: what they learn, resuming them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import load_tensors
from chargen.config import BF16, FLOAT32
from chargen.errors import ConfigError
from chargen.networks import precision
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Started
from chargen.training.run import Plan
from tests.conftest import corpus_of, run_plan

MODEL, STATE = Path("model.safetensors"), Path("training_state.safetensors")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(text: str, name: str, wanted: str | None, steps: int = 60, cell: str = "mgru", **more: Any) -> Plan:
    shape = ModelChoices(
        cell=cell, hidden_size=33, embedding_dim=8, num_layers=2, ensemble_size=1, ngrams=2, ngram_rows=64
    )
    training = TrainChoices(batch_size=4, seq_len=16, precision=wanted)
    length = RunLength(steps=steps) if steps else RunLength()
    return Plan(corpus_of(text), name, length, model=shape, train=training, device="cpu", **more)


@pytest.mark.parametrize("cell", ["mgru", "gru"])
def test_a_run_in_bf16_learns_what_one_in_float32_learns(cell: str, verse: str) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    losses = [run_plan(plan(verse, p, p, 200, cell))[1].val_loss_nats_per_char for p in (FLOAT32, BF16)]
    assert losses[0] < 2.0  # a uniform distribution has more than 3
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], abs=0.03)


def test_a_resumed_run_keeps_its_precision_and_equals_the_unstopped_run(verse: str) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    run_plan(plan(verse, "whole", BF16))
    run_plan(plan(verse, "cut", BF16, stop_after=23))
    reports, _ = run_plan(plan(verse, "", None, steps=0, resume="cut"))
    started = next(report for report in reports if isinstance(report, Started))
    assert started.train.precision == BF16
    runs = [Path("checkpoints") / name for name in ("whole", "cut")]
    assert (runs[0] / MODEL).read_bytes() == (runs[1] / MODEL).read_bytes()
    whole, cut = (load_tensors(run / STATE)[0] for run in runs)
    assert whole.keys() == cut.keys()
    assert all((whole[name] == cut[name]).all() for name in whole)


def test_a_resumed_run_refuses_another_precision(verse: str) -> None:
    run_plan(plan(verse, "cut", FLOAT32, stop_after=5))
    with pytest.raises(ConfigError, match="precision is bf16, but the run 'cut' has float32"):
        run_plan(plan(verse, "", BF16, steps=0, resume="cut"))


def test_a_run_in_bf16_is_not_resumed_without_numba(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    run_plan(plan(verse, "cut", BF16, stop_after=5))
    monkeypatch.setattr(precision, "is_installed", lambda name: False)
    with pytest.raises(ConfigError, match="needs numba"):
        run_plan(plan(verse, "", None, steps=0, resume="cut"))


@pytest.mark.parametrize(("wanted", "cell"), [("bf16", "lstm"), ("tf32", "mgru")])
def test_a_precision_without_effect_is_refused_before_files_are_written(wanted: str, cell: str, verse: str) -> None:
    with pytest.raises(ConfigError, match=f"--precision {wanted}"):
        run_plan(plan(verse, "new", wanted, cell=cell))
    assert not Path("checkpoints").exists()
