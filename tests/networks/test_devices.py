"""The code for a GPU on a stand-in for one: it mixes no devices, copies nothing between them, and never waits.

The stand-in is torch's device "meta", whose tensors have shapes and types but no values. Where Python asks for a value,
as `.item()` and `.cpu()` do, torch raises an error. The random numbers of a step come from a generator on the CPU, so
they are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig
from chargen.engines import cuda_graphs
from chargen.engines.torch_engine import TorchEngine
from chargen.networks import draws, encoder, network
from chargen.networks.kernels import members
from chargen.networks.network import Network
from chargen.training import optimizers, update
from chargen.training.ranks.group import ALONE, Ranks
from chargen.training.update import RecordedUpdate, Update
from tests.networks import test_encoder, test_series_network

V, B, T = 30, 6, 10
DROPOUTS = {"dropout": 0.2, "weight_dropout": 0.2, "ngrams": 3, "ngram_rows": 64, "ngram_dropout": 0.3}
SHAPES: list[dict[str, Any]] = [
    {"cell": "mgru", "ensemble_size": 3, **DROPOUTS},
    {"cell": "lstm", "num_layers": 2, "residual": True, "layer_norm": True, "skip": True, **DROPOUTS},
    {"cell": "gru", "tie_weights": True, "embedding_dim": 12},
    *({"cell": name} for name in CELLS.names()),
]


class OneDevice(TorchDispatchMode):
    """Raises an error where tensors of two devices meet, or a tensor is copied to another device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = {each.device for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor) and each.ndim}
        devices |= {torch.device(kwargs["device"])} if kwargs.get("device") and devices else set()
        assert len(devices) < 2, f"{func} on {devices}"
        return func(*args, **kwargs)


class StandIn(draws.Draws):
    """Draws on the stand-in."""

    def uniform(self, shape: tuple[int, ...], row_axis: int) -> Tensor:
        rows = self.rows
        if rows is None:
            return torch.rand(shape, device="meta")
        whole = (*shape[:row_axis], rows.total, *shape[row_axis + 1 :])
        return torch.rand(whole, device="meta").narrow(row_axis, rows.first, rows.count)


class TorchOfStandIn:
    """The module torch, whose generators are on the CPU."""

    @staticmethod
    def Generator(device: Any) -> torch.Generator:  # noqa: N802
        return torch.Generator()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class OneOfTwo(Ranks):
    """A rank whose gradients no one exchanges."""

    def __init__(self) -> None:
        super().__init__(1, 2)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the stand-in take the paths of a GPU."""
    monkeypatch.setattr(update, "Draws", StandIn)
    monkeypatch.setattr(update, "torch", TorchOfStandIn())
    monkeypatch.setattr(network, "can_run_together", lambda name, device: name in members.FUNCTIONS)
    monkeypatch.setattr(network, "weight_dropout", lambda weight, p, _: weight * (torch.rand_like(weight) >= p))
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False)
    monkeypatch.setattr(update, "bf16_products", lambda device, is_used: autocast(enabled=is_used))
    monkeypatch.setattr(optimizers, "adamw", lambda **arguments: None)  # torch has no fused one for the stand-in
    yield


def test_the_stand_in_shows_mixed_devices_copies_and_waits() -> None:
    a, b = torch.zeros(3, device="meta"), torch.zeros(3)
    with OneDevice():
        for forbidden in (lambda: a + b, lambda: a.copy_(b), lambda: a.cpu(), lambda: b.to("meta")):
            with pytest.raises((AssertionError, NotImplementedError)):
                forbidden()
        with pytest.raises((RuntimeError, NotImplementedError)):
            a.sum().item()
        a.add_(1.0).mul_(a)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("ranks", [ALONE, OneOfTwo()], ids=["alone", "one of two ranks"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_update_of_the_weights(shape: dict[str, Any], ranks: Ranks, precision: str) -> None:
    trained = Network(ModelConfig(V, **{"hidden_size": 12, "embedding_dim": 8, **shape})).to("meta")
    settings = {"batch_size": B, "seq_len": T, "learning_rate": 1e-3, "precision": precision, "device": "meta"}
    made = Update(trained, TrainConfig(steps=40, **settings), B, T, ranks)  # type: ignore[arg-type]
    parts = RecordedUpdate(made, B, T)._parts(T)
    with OneDevice():
        for _ in range(2):
            for part in parts:
                part()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_recorded_draws_and_steps(shape: dict[str, Any]) -> None:
    trained = Network(ModelConfig(V, **{"hidden_size": 12, "embedding_dim": 8, **shape})).to("meta")
    recording = cuda_graphs.Recording(trained, B)
    with OneDevice():
        recording.read()
        recording.draw_one()
        recording.draw(torch.rand(cuda_graphs.TOKENS_PER_LAUNCH + 1, B, dtype=torch.float64, device="meta"))
    with OneDevice(), torch.no_grad():
        TorchEngine(trained)._run_layers(torch.zeros(T, B, dtype=torch.int64, device="meta"), recording.state)


@pytest.mark.parametrize("pooling", encoder.POOLINGS)
def test_the_loss_of_an_encoder(pooling: str) -> None:
    trained = test_encoder.random_encoder(pooling=pooling, ngrams=2).to("meta")
    none = torch.zeros(4, dtype=torch.int64)
    ids, lengths = test_encoder.random_ids(), test_encoder.LENGTHS
    batch = encoder.EncoderBatch(ids, lengths, none, none.float(), none).to(torch.device("meta"))
    with OneDevice():
        trained(batch, StandIn(torch.Generator())).sum().backward()


def test_the_loss_of_a_series_network() -> None:
    trained = test_series_network.network().to("meta")
    values, calendar = (part.to("meta") for part in test_series_network.windows())
    with OneDevice():
        trained(values, calendar, StandIn(torch.Generator())).center.sum().backward()
