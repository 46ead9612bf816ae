"""A run is resumed on the device on which it was trained, if the machine has it, and can continue on another one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.checkpoint import STORAGE_VERSION, load_tensors, save_tensors
from chargen.config import BF16, FLOAT32
from chargen.errors import ConfigError
from chargen.networks.precision import resumed_precision
from chargen.runs import MODEL_FILE, STATE_FILE
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Started
from chargen.training.ranks.group import Ranks
from chargen.training.run import Plan, _choose_device
from chargen.training.state import DROPOUT, load_state
from tests.conftest import corpus_of, run_plan

CUT = Path("checkpoints/cut")
STEPS = 12


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def new_plan(text: str, name: str, **more: Any) -> Plan:
    model = ModelChoices(cell="lstm", hidden_size=16, embedding_dim=8, dropout=0.2, weight_dropout=0.2)
    train = TrainChoices(batch_size=4, seq_len=16)
    return Plan(corpus_of(text), name, RunLength(steps=STEPS), model=model, train=train, device="cpu", **more)


def pretend(monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    """Let this machine have these devices."""
    monkeypatch.setattr("chargen.networks.torch_runtime.list_devices", lambda: list(devices))


def test_a_run_on_a_cpu_is_resumed_there_on_a_machine_with_a_gpu(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_plan(new_plan(verse, "whole"))
    run_plan(new_plan(verse, "cut", stop_after=5))
    pretend(monkeypatch, "cpu", "cuda")
    reports, finished = run_plan(Plan(corpus_of(verse), resume="cut"))
    started = reports[0]
    assert isinstance(started, Started)
    assert (started.train.device, finished.steps) == ("cpu", STEPS)
    assert (CUT / MODEL_FILE).read_bytes() == Path("checkpoints/whole", MODEL_FILE).read_bytes()


def test_a_run_on_a_gpu_is_resumed_on_a_cpu_with_dropout_masks_of_its_seed(verse: str) -> None:
    run_plan(new_plan(verse, "cut", stop_after=5))
    tensors, described = load_tensors(CUT / STATE_FILE)
    described["train"].update(device="cuda", precision=BF16)
    on_gpu = {**tensors, DROPOUT: np.zeros(16, np.uint8)}  # the size of the random state on a GPU
    save_tensors(CUT / STATE_FILE, on_gpu, described, STORAGE_VERSION)
    shutil.copytree(CUT, "checkpoints/again")
    for name in ("cut", "again"):
        reports, finished = run_plan(Plan(corpus_of(verse), resume=name, device="cpu"))
        started = reports[0]
        assert isinstance(started, Started)
        assert (started.train.device, started.train.precision) == ("cpu", FLOAT32)
        assert (started.first_step, finished.steps) == (5, STEPS)
    assert (CUT / MODEL_FILE).read_bytes() == Path("checkpoints/again", MODEL_FILE).read_bytes()
    moved = load_state(CUT / STATE_FILE)
    assert moved.train.device == "cpu"
    assert moved.tensors[DROPOUT].shape == tensors[DROPOUT].shape


def test_only_a_single_process_resumes_a_run_on_mps(verse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_plan(new_plan(verse, "cut", stop_after=5))
    saved = load_state(CUT / STATE_FILE)
    saved = replace(saved, train=replace(saved.train, device="mps"))
    a_plan = Plan(corpus_of(verse), resume="cut")
    pretend(monkeypatch, "cpu", "mps")
    assert [_choose_device(a_plan, saved, ranks) for ranks in (None, Ranks(), Ranks(0, 2))] == ["mps", "mps", "cpu"]
    assert _choose_device(a_plan, None, None) == "cpu"
    assert _choose_device(replace(a_plan, device="cpu"), saved, None) == "cpu"


@pytest.mark.parametrize(
    ("precision", "device", "own_device", "expected"),
    [
        (BF16, "cpu", "cuda", FLOAT32), (BF16, "mps", "cuda", FLOAT32), (BF16, "cuda", "cpu", BF16),
        (FLOAT32, "cpu", "cuda", FLOAT32), (BF16, "cuda", "cuda", BF16),
    ],
)  # fmt: skip
def test_a_precision_that_another_device_lacks_becomes_float32(
    precision: str, device: str, own_device: str, expected: str
) -> None:
    assert resumed_precision(precision, ["lstm"], device, own_device) == expected


def test_a_precision_that_the_own_device_lacks_is_an_error() -> None:
    with pytest.raises(ConfigError, match="is for the cells gru and mgru on a CPU"):
        resumed_precision(BF16, ["lstm"], "cpu", "cpu")
