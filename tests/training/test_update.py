"""An update of the weights, made directly and as a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import Position, TextBatches
from chargen.networks.network import Network
from chargen.training import update
from chargen.training.trainer import Trainer

V, B, T = 30, 4, 10
on_gpu = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")],
)


def make_trainer(recorded: bool, device: str = "cpu", precision: str = "tf32", **shape: Any) -> Trainer:
    """Return a trainer of a small network on random token ids; its windows have two lengths."""
    config = ModelConfig(V, **{"cell": "gru", "hidden_size": 24, "embedding_dim": 8, **shape})
    network = Network(config, torch.Generator().manual_seed(0)).to(device)
    ids = np.random.default_rng(0).integers(1, V, 4 * 65)
    settings = TrainConfig(steps=40, batch_size=B, seq_len=T, learning_rate=2e-3, precision=precision, device=device)
    return Trainer(network, TextBatches(ids, 0, B, T), settings, recorded)


def train(trainer: Trainer, first: int, last: int) -> dict[str, np.ndarray]:
    """Make the steps `first` to `last` of 40, and return the training state."""
    for step in range(first, last):
        trainer.train_step(step / 40)
    return trainer.tensors()


@pytest.mark.parametrize("device", ["cpu", on_gpu])
@pytest.mark.parametrize("cell", CELLS.names())
def test_bf16_products_change_the_losses_little_and_no_type(cell: str, device: str) -> None:
    """A run on a CPU refuses bf16 for cells without compiled passes; their losses test the code for a GPU."""
    losses = []
    for precision in ("tf32", "bf16"):
        trainer = make_trainer(False, device, precision=precision, cell=cell, num_layers=2, ngrams=2, ngram_rows=64)
        found = train(trainer, 0, 20)
        losses.append(trainer.since_validation.pop())
        assert {str(array.dtype) for array in found.values()} == {"float32", "int64", "uint8"}
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)


SHAPES: list[dict[str, Any]] = [
    {},
    {"cell": "lstm", "num_layers": 2, "dropout": 0.2},
    {"ensemble_size": 3, "weight_dropout": 0.3, "dropout": 0.1},
    {"cell": "mgru", "ngrams": 3, "ngram_rows": 64, "ngram_dropout": 0.5},
    {"tie_weights": True, "embedding_dim": 24},
]


@pytest.mark.parametrize("device", ["cpu", on_gpu])
@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_updates_equal_direct_ones(shape: dict[str, Any], device: str) -> None:
    direct, recorded = (make_trainer(kind, device, **shape) for kind in (False, True))
    expected, found = train(direct, 0, 40), train(recorded, 0, 40)
    assert expected.keys() == found.keys()
    # A recording rounds the learning rate to float32, and a GPU adds in another order in each run.
    atol = {"cpu": 1e-5, "cuda": 5e-3}[device]
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=atol, err_msg=name)
    np.testing.assert_array_equal(found[update.DROPOUT], expected[update.DROPOUT])
    assert recorded.since_validation.pop() == pytest.approx(direct.since_validation.pop(), rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", on_gpu])
def test_a_recording_continues_from_a_restored_state(device: str) -> None:
    shape = {"ensemble_size": 2, "weight_dropout": 0.3, "ngrams": 3, "ngram_rows": 64}
    whole, first, second = (make_trainer(True, device, **shape) for _ in range(3))
    expected = train(whole, 0, 40)
    state, counters = train(first, 0, 23), first.counters()
    second.restore(state, counters)
    found = train(second, 23, 40)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0.0, atol={"cpu": 0.0, "cuda": 5e-3}[device], err_msg=name)
    np.testing.assert_array_equal(found[update.DROPOUT], expected[update.DROPOUT])


def test_windows_of_both_lengths_are_recorded_after_the_first_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings: list[object] = []

    def record(function: update.Function, *others: object) -> update.Function:
        recordings.append(others)
        return function

    monkeypatch.setattr(update, "record", record)
    trainer = make_trainer(True)
    lengths = {trainer.batches.get_batch(Position(0, k)).inputs.shape for k in range(trainer.batches.windows_per_epoch)}
    assert len(lengths) == 2
    train(trainer, 0, update.NUM_WARM_UP_CALLS)
    assert not recordings
    train(trainer, update.NUM_WARM_UP_CALLS, 40)
    assert len(recordings) == 2
