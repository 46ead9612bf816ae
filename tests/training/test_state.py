"""Malformed training states and extreme settings are clear errors before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.api import load
from chargen.checkpoint import STORAGE_VERSION, load_tensors, save_tensors
from chargen.config import MAX_SEED, DataConfig, TrainConfig
from chargen.errors import ConfigError, DivergenceError, ModelError
from chargen.networks.network import Network
from chargen.sampling.settings import SampleConfig
from chargen.text.corpus import read_corpus
from chargen.text.limits import check_memory, total_bytes
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.run import Plan
from chargen.training.state import load_state
from tests.conftest import VERSE, Result, corpus_of, run_plan

Chargen = Callable[..., Result]
V1 = Path(__file__).parents[1] / "files" / "v1"
HUGE = 10**400


# ── training states ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"corpus_arguments": 5}, {"corpus_arguments": [5]}, {"corpus_arguments": {"a": 1}}, {"corpus_sha256": None},
        {"val_argument": 5}, {"data": []}, {"model": {}}, {"train": None}, {"trainer": [1, 2]}, {"trainer": {}},
        {"best": 5}, {"best": [1.0]}, {"best": [None, 5]}, {"best": [1.0, 0]}, {"best": ["x", 0]}, {"elapsed_s": "x"},
        {"elapsed_s": -1}, {"elapsed_s": 1e30}, {"first_step_s": 1e9}, {"history": 5}, {"history": [5]},
        {"history": [{"step": 1}]}, {"history": [{"step": "1", "train": 1.0, "val": 1.0}]}, {"tokenizer": {}},
        {"tokenizer": {"name": "byte"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_state_with_wrong_types_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    tensors, described = load_tensors(V1 / "training_state.safetensors")
    save_tensors(tmp_path / "state", tensors, {**described, **change})
    with pytest.raises(ModelError, match="state cannot be used"):
        load_state(tmp_path / "state")


@pytest.mark.parametrize("key", ["step", "epoch", "window"])
@pytest.mark.parametrize("value", [-1, 1.5, "8", None, HUGE, 2**63])
def test_a_state_with_a_wrong_position_is_an_error(tmp_path: Path, key: str, value: Any) -> None:
    tensors, described = load_tensors(V1 / "training_state.safetensors")
    described["trainer"][key] = value
    save_tensors(tmp_path / "state", tensors, described)
    with pytest.raises(ModelError, match=f"trainer.{key} is "):
        load_state(tmp_path / "state")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("dropout", np.zeros(5056, np.float32)),
        ("dropout", np.zeros((2, 5056), np.uint8)),
        ("exp_avg.head__bias", np.full(53, np.nan, np.float32)),
        ("exp_avg_sq.head__bias", np.full(53, -1, np.float32)),
        ("exp_avg_sq.head__bias", np.zeros(52, np.float32)),
        ("step.head__bias", np.full(1, -3, np.float32)),
        ("state.0.0", np.zeros((17, 6), np.float32)),
        ("state.0.0", np.zeros((0, 6), np.float32)),
        ("state.0.0", np.full((16, 6), np.inf, np.float32)),
        ("weights.head.bias", np.full(53, 1e9, np.float32)),
        ("weights.head.bias", np.zeros(53, np.float64)),
        ("best.head.bias", np.zeros(53, np.float32)),
        ("more", np.zeros(1, np.float32)),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.shape),
)
def test_a_state_with_a_wrong_tensor_is_an_error(tmp_path: Path, name: str, tensor: np.ndarray) -> None:
    tensors, described = load_tensors(V1 / "training_state.safetensors")
    save_tensors(tmp_path / "state", {**tensors, name: tensor}, described)
    with pytest.raises(ModelError, match="state cannot be used"):
        load_state(tmp_path / "state")
    save_tensors(tmp_path / "state", {n: t for n, t in tensors.items() if n != "dropout"}, described)
    with pytest.raises(ModelError, match="'dropout' is missing"):
        load_state(tmp_path / "state")


@pytest.mark.parametrize("documents", ["none", "line"])
def test_a_state_that_does_not_fit_its_text_is_an_error_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("verse.txt").write_text(VERSE * 20, encoding="utf-8")
    data = DataConfig(documents=documents)
    corpus = read_corpus(["verse.txt"], data)
    model, settings = ModelChoices(hidden_size=8, embedding_dim=8), TrainChoices(batch_size=4, seq_len=8)
    run_plan(Plan(corpus, "run", RunLength(steps=4), data, model, settings, stop_after=2))
    state = Path("checkpoints/run/training_state.safetensors")
    tensors, described = load_tensors(state)
    wrong: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = [
        (tensors, {**described, "trainer": {**described["trainer"], "window": 10**6}}),
        ({**tensors, "dropout": np.zeros(16, np.uint8)}, described),
        ({**tensors, "dropout": np.full(5056, 255, np.uint8)}, described),
        ({n: t[:1] if n.startswith("state.") else t for n, t in tensors.items()}, described),
        (tensors, {**described, "corpus_sha256": "0" * 64}),
    ]
    for changed, header in wrong:
        save_tensors(state, changed, header, STORAGE_VERSION)
        with pytest.raises(ModelError):
            run_plan(Plan(corpus, "run", data=data, resume="run"))


def test_a_random_state_that_does_not_fit_the_device_of_its_run_is_a_clear_error(
    tmp_path: Path, chargen: Chargen
) -> None:
    Path("v.txt").write_text(VERSE * 20, encoding="utf-8")
    options = ("--steps", "4", "--stop-after", "2", "--hidden", "8", "--name", "r", "--device", "cpu")
    assert chargen("train", "v.txt", *options).status == 130
    state = Path("checkpoints/r/training_state.safetensors")
    tensors, described = load_tensors(state)
    save_tensors(state, {**tensors, "dropout": np.zeros(16, np.uint8)}, described, STORAGE_VERSION)
    result = chargen("train", "--resume", "r")
    assert result.status == 1
    assert "does not fit a generator of its device cpu" in result.err
    assert "--init-from" in result.err


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [
        ("--hidden", "1000000"), ("--layers", str(10**7)), ("--ensemble", str(10**9)), ("--embedding", str(10**9)),
        ("--hidden", str(HUGE)), ("--batch", str(10**12)), ("--seq-len", str(10**12)), ("--seed", str(2**64)),
        ("--seed", str(HUGE)), ("--lr", "1e300"), ("--lr", "nan"), ("--clip", "inf"), ("--weight-decay", "1e300"),
        ("--hidden", "60000"), ("--ensemble", "200", "--layers", "200"), ("--ngrams", "1000"),
    ],
    ids=lambda options: " ".join(options)[:30],
)  # fmt: skip
def test_extreme_settings_are_errors_before_a_run_is_created(chargen: Chargen, options: tuple[str, ...]) -> None:
    Path("v.txt").write_text(VERSE * 3, encoding="utf-8")
    result = chargen("train", "v.txt", "--steps", "2", *options)
    assert result.status == 2, result.err
    assert len(result.err) < 500
    assert not Path("checkpoints").exists()


def test_too_little_memory_is_an_error_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert total_bytes() > 1 << 28
    monkeypatch.setattr("chargen.text.limits.total_bytes", lambda: 8 << 30)
    check_memory(8 << 30, "a network", "")
    with pytest.raises(ConfigError, match="a network would need at least 9.0 GiB of memory, but there are 8.0 GiB"):
        check_memory(9 << 30, "a network", "")


def test_weights_too_large_for_a_model_file_end_a_run(
    verse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export = Network.export_weights

    def exported(self: Network) -> dict[str, np.ndarray]:
        weights = export(self)
        if weights["head.bias"][2:].any():  # after the first step
            weights["head.weight"] *= np.float32(1e9)
        return weights

    monkeypatch.setattr(Network, "export_weights", exported)
    settings = TrainChoices(batch_size=4, seq_len=8)
    plan = Plan(corpus_of(verse), "run", RunLength(steps=3), model=ModelChoices(hidden_size=8), train=settings)
    with pytest.raises(DivergenceError, match=r"the weight 'head.weight' holds .*e\+.* \(step 3\)") as caught:
        run_plan(plan)
    assert "--lr" in caught.value.hint
    load_state(Path("checkpoints/run/training_state.safetensors"))  # the state from before the first step is intact


def test_the_largest_seed_trains_and_samples(verse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TrainChoices(batch_size=4, seq_len=8, seed=MAX_SEED)
    model = ModelChoices(hidden_size=8, dropout=0.1)
    _, finished = run_plan(Plan(corpus_of(verse), "run", RunLength(steps=2), model=model, train=settings))
    assert len(load(finished.model_path).sample(length=5, seed=MAX_SEED)) == 5
    for make in (lambda: TrainConfig(steps=1, seed=MAX_SEED + 1), lambda: SampleConfig(seed=MAX_SEED + 1)):
        with pytest.raises(ConfigError, match="seed is "):
            make()
