"""The storage of the weights of a run: in its model file, in the losses that it reports, and when it is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chargen.api import load
from chargen.cells.weights import FIXED_DTYPES, NGRAM_INDEX, NGRAM_TABLE
from chargen.checkpoint import load_checkpoint, load_tensors
from chargen.config import WEIGHT_STORAGES, TrainConfig
from chargen.errors import ConfigError
from chargen.storage.stored_weights import count_stored_rows, round_weights
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.run import Plan
from tests.conftest import corpus_of, run_plan

MODEL, STATE = "checkpoints/run/model.safetensors", "checkpoints/run/training_state.safetensors"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str, storage: str | None, **more: object) -> Plan:
    model = ModelChoices(cell="gru", hidden_size=16, embedding_dim=8, ngrams=3, ngram_rows=1024, ngram_dim=4)
    train = TrainChoices(batch_size=4, seq_len=8, weight_storage=storage)
    return Plan(corpus_of(text), "run", RunLength(steps=40), model=model, train=train, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("storage", [None, *WEIGHT_STORAGES])
def test_the_model_file_has_the_rounded_weights_of_the_state_and_the_reported_loss(
    verse: str, storage: str | None
) -> None:
    reports, finished = run_plan(plan(verse, storage))
    wanted = storage or "float16"
    model, (tensors, _) = load_checkpoint(Path(MODEL)), load_tensors(Path(STATE))
    assert model.weight_storage == wanted
    best = {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
    assert all(weight.dtype == FIXED_DTYPES.get(name, "float32") for name, weight in best.items())
    for name, weight in round_weights(best, wanted, [NGRAM_TABLE]).items():
        np.testing.assert_array_equal(model.weights[name], weight)
    num_used = int(best[NGRAM_TABLE].any(axis=1).sum())
    assert 0 < num_used <= np.count_nonzero(best[NGRAM_INDEX]) < 1024  # rows of indexed n-grams only
    assert count_stored_rows(model.weights, NGRAM_TABLE) == (None if wanted == "float32" else num_used)
    validation = verse[len(verse) * 9 // 10 :]
    loss = load("run").evaluate(validation).loss_nats_per_char
    assert abs(loss - finished.val_loss_nats_per_char) < 1e-4
    assert reports[0].train.weight_storage == wanted  # type: ignore[union-attr]


def test_the_storage_changes_neither_the_training_nor_its_state(verse: str) -> None:
    states = []
    for storage in ("int8", "float32"):
        run_plan(plan(verse, storage, force=True))
        states.append(load_tensors(Path(STATE))[0])
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_a_resumed_run_keeps_its_storage_or_gets_another_one_from_exact_weights(verse: str) -> None:
    run_plan(plan(verse, "int8", stop_after=20))
    stopped = Path("checkpoints/run")
    assert load_checkpoint(Path(MODEL)).weight_storage == "int8"
    run_plan(replace(plan(verse, None), resume="run", model=ModelChoices(), train=TrainChoices()))
    assert load_checkpoint(Path(MODEL)).weight_storage == "int8"
    exact = replace(plan(verse, None), resume="run", model=ModelChoices(), train=TrainChoices(weight_storage="float32"))
    run_plan(exact)  # the run is finished: its model is evaluated and written again
    resumed = load_checkpoint(Path(MODEL))
    stopped.rename("checkpoints/cut")
    run_plan(plan(verse, "float32"))
    whole = load_checkpoint(Path(MODEL))
    assert resumed.weight_storage == whole.weight_storage == "float32"
    assert all(np.array_equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_run_can_start_from_rounded_weights(verse: str) -> None:
    run_plan(plan(verse, "int8"))
    _, finished = run_plan(
        replace(
            plan(verse + "€", None), name="second", init_from="run", model=ModelChoices(), length=RunLength(steps=5)
        )
    )
    second = load_checkpoint(Path("checkpoints/second/model.safetensors"))
    assert second.weight_storage == "float16" and finished.steps == 5
    assert second.config.vocab_size == load_checkpoint(Path(MODEL)).config.vocab_size + 1


def test_states_of_earlier_versions_have_no_storage_and_an_unknown_one_is_refused() -> None:
    values = TrainConfig(steps=5).to_json()
    del values["weight_storage"]
    assert TrainConfig.from_json(values).weight_storage == "float16"
    with pytest.raises(ConfigError, match="weight_storage"):
        TrainChoices(weight_storage="int4")
