"""Adding a cell is one file and one line: a cell that is registered here trains, generates, scores and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.cells.cell import Cell, sigmoid
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from tests.conftest import random_model


class LeakyRNN(Cell):
    """A tanh RNN whose units change by a share a of their own: with another matrix name, a vector, and an option."""

    num_gates = 0
    num_input_gates = 1
    state_names = ("h",)
    recurrent_names = ("transition",)

    def __init__(self, slowness: float = 0.0) -> None:
        self.slowness = slowness

    def with_option(self, option: str) -> Cell:
        return LeakyRNN(float(option))

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        shapes = super().parameter_shapes(input_size, hidden_size)
        return {**shapes, "transition": (hidden_size, hidden_size), "share": (hidden_size,)}

    def initial_weight(self, xp: Any, name: str, shape: tuple[int, ...], uniform: Any) -> Any:
        return uniform(shape) - self.slowness if name == "share" else None

    def step(self, xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
        (h,) = state
        return (h + sigmoid(xp, params["share"]) * (xp.tanh(x_gates + h @ params["transition"].T) - h),)


@pytest.fixture(autouse=True)
def leaky(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "_loaded", dict(CELLS._loaded))
    CELLS.register("leaky", LeakyRNN())


@pytest.mark.parametrize("cell", ["leaky", "leaky:2"])
def test_a_new_cell_trains_samples_scores_and_resumes(chargen: Any, verse: str, cell: str) -> None:
    Path("text.txt").write_text(verse, encoding="utf-8")
    settings = ["--cell", cell, "--steps", "12", "--hidden", "16", "--layers", "2", "--weight-dropout", "0.2"]
    settings += ["--batch", "4", "--seq-len", "8", "--seed", "1", "--ngrams", "0"]
    assert chargen("train", "text.txt", "--name", "whole", *settings).status == 0
    assert chargen("train", "text.txt", "--name", "cut", "--stop-after", "5", *settings).status == 130
    assert chargen("train", "--resume", "cut").status == 0
    whole, cut = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert len(chargen("sample", "-m", "cut", "--length", "30", "--seed", "1").out) >= 30
    assert chargen("score", "-m", "cut", "--json", "Trăm năm").status == 0
    facts = json.loads(chargen("info", "cut", "--explain", "--json").out)
    assert facts["cell"] == cell
    assert facts["parts"][1]["formula"] == "H·E + H + H·H + H"


def test_a_new_cell_is_the_same_in_both_engines() -> None:
    model = random_model(cell="leaky", num_layers=2, ensemble_size=2)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 15, 3))
    engines = NumpyEngine(model.config, model.weights), TorchEngine.from_weights(model.config, model.weights)
    found = [engine.read(*ids, engine.initial_state(3))[0] for engine in engines]  # type: ignore[attr-defined]
    np.testing.assert_allclose(*found, atol=1e-5)
