"""The probe of gradients: its norms are those of numerical differentiation, and it says what vanishes and explodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.cells.cell import Array, Cell, Params, State
from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig
from chargen.errors import ConfigError, CorpusError
from chargen.networks.network import Network
from chargen.probe.gradient_comparison import GradientSettings, compare_cells, measure_model
from chargen.probe.gradients import (
    _measure,
    carries_state,
    cut_windows,
    gradient_growth,
    gradient_horizon,
    measure_gradients,
)
from chargen.probe.small_networks import build_network
from chargen.tokenizers.tokenizer import build_tokenizer
from tests.conftest import VERSE, random_model


class Bag(Cell):
    """A cell without recurrence: its output is a function of the last two inputs."""

    num_gates = 1
    num_input_gates = 1
    state_names = ("h", "last")

    def step(self, xp: Any, params: Params, x_gates: Array, state: State) -> State:
        return xp.tanh(x_gates + state[1]), x_gates


@pytest.fixture
def bag() -> Iterator[None]:
    CELLS.register("bag", Bag())
    yield
    del CELLS._loaded["bag"]


def network_of(cell: str, **shape: int) -> Network:
    config = ModelConfig(vocab_size=9, cell=cell, **{"hidden_size": 4, "embedding_dim": 3, **shape})
    return build_network(config, seed=1, init_scale=2.0 if "gru" in cell else 1.0)


def state_cells() -> list[str]:
    return [name for name in CELLS.names() if carries_state(CELLS.get(name))]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", state_cells())
def test_the_gradient_is_that_of_numerical_differentiation(cell: str, num_layers: int) -> None:
    network = build_network(
        ModelConfig(vocab_size=9, cell=cell, hidden_size=4, embedding_dim=3, num_layers=num_layers), seed=1
    ).double()
    ids = np.random.default_rng(0).integers(0, 9, 6)
    found = measure_gradients(network, ids, max_lag=4, num_positions=1)
    inputs, target = torch.from_numpy(ids[:-1, None]), torch.from_numpy(ids[-1:])
    with torch.no_grad():
        for lag in range(1, 5):  # the state after the inputs up to t − lag is changed, one number after another
            _, state = network(inputs[: len(inputs) - lag], network.initial_state(1))
            squares = 0.0
            for layer, parts in enumerate(state.layers):
                for part, value in enumerate(parts):
                    for unit in range(value.shape[1]):
                        losses = []
                        for change in (1e-5, -1e-5):
                            changed = [list(each) for each in state.layers]
                            changed[layer][part] = value.clone()
                            changed[layer][part][0, unit] += change
                            after = state._replace(layers=tuple(map(tuple, changed)))
                            logits, _ = network(inputs[len(inputs) - lag :], after)
                            losses.append(float(F.cross_entropy(logits[-1], target)))
                        squares += ((losses[0] - losses[1]) / 2e-5) ** 2
            assert found.norms[lag] == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_the_rows_do_not_change_each_other() -> None:
    network, ids = network_of("lstm"), np.random.default_rng(0).integers(0, 9, 40)
    together = measure_gradients(network, ids, 5, num_positions=3)
    windows = cut_windows(ids, 5, 3)
    alone = [_measure(network.double(), torch.from_numpy(windows[:, [row]]), 5).norms for row in range(3)]
    assert np.median(alone, axis=0) == pytest.approx(together.norms)
    assert together.num_positions == 3


def test_the_norm_of_the_state_is_made_of_those_of_its_parts() -> None:
    found = measure_gradients(network_of("lstm"), np.arange(30) % 9, 4, num_positions=1)
    assert list(found.parts) == ["h", "c"]
    squares = np.square(list(found.parts.values())).sum(axis=0)
    assert np.sqrt(squares) == pytest.approx(found.norms)
    assert found.parts["c"][0] == 0.0  # the output layer reads h alone


def test_the_network_is_not_changed() -> None:
    network = network_of("gru")
    before = network.export_weights()
    measure_gradients(network, np.arange(30) % 9, 4, 2)
    assert all(np.array_equal(before[name], weight) for name, weight in network.export_weights().items())


def test_windows_are_spread_over_the_text_and_within_it() -> None:
    windows = cut_windows(np.arange(1000), 20, 5)
    assert windows[0, 0] == 0 and windows[-1, -1] == 999
    assert (np.diff(windows, axis=0) == 1).all()
    assert cut_windows(np.arange(22), 20, 5).tolist() == [[n] for n in range(22)]


def test_the_horizon_and_the_growth_of_a_geometric_series() -> None:
    assert gradient_horizon([0.5**k for k in range(9)]) == 7
    assert gradient_horizon([1.0, 1.0, 1.0]) is None
    assert gradient_horizon([1.0, 1e3, 5.0]) == 2  # below 1 % of what it was before
    assert gradient_growth([1.0, 3.0, 9.0, 27.0]) == pytest.approx(3.0)
    assert gradient_growth([1.0, 0.0, 0.0]) == 0.0


@pytest.mark.parametrize("cell", CELLS.names())
def test_a_recurrent_cell_carries_its_state(cell: str) -> None:
    is_window = cell.partition(":")[0] in ("mlp", "conv")
    assert carries_state(CELLS.get(cell)) is not is_window


@pytest.mark.usefixtures("bag")
def test_a_cell_without_hidden_state_is_refused() -> None:
    assert not carries_state(CELLS.get("bag"))
    with pytest.raises(ConfigError, match="bag has no hidden state"):
        measure_gradients(network_of("bag"), np.arange(30) % 9, 4, 2)


def test_a_text_too_short_for_the_lag_is_refused() -> None:
    with pytest.raises(CorpusError, match="at least 102 tokens, but this one has 50"):
        measure_gradients(network_of("rnn"), np.zeros(50, np.int64), 100, 2)
    assert measure_gradients(network_of("rnn"), np.zeros(102, np.int64), 100, 2).num_positions == 1


def test_cells_are_measured_before_and_after_their_training() -> None:
    text = VERSE * 20
    settings = GradientSettings(max_lag=12, num_positions=8, steps=20, hidden_size=16)
    shares: list[float] = []
    curves = list(
        compare_cells(("rnn", "lstm"), text, build_tokenizer("char", text), settings, lambda _, s: shares.append(s))
    )
    assert [(c.name, c.stage) for c in curves] == [
        ("rnn", "before training"), ("rnn", "after training"), ("lstm", "before training"), ("lstm", "after training"),
    ]  # fmt: skip
    assert curves[1].gradients.loss_nats < curves[0].gradients.loss_nats
    assert curves[1].training is not None and curves[1].training.steps == 20
    assert len(shares) == 40 and shares[19] == 1.0
    again = list(compare_cells(("rnn",), text, build_tokenizer("char", text), settings))
    assert again[1].gradients == curves[1].gradients


def test_the_gradient_of_a_plain_rnn_vanishes_and_explodes_with_its_recurrent_weights() -> None:
    text = VERSE * 20
    tokenizer = build_tokenizer("char", text)
    settings = GradientSettings(max_lag=40, num_positions=8, steps=10)
    small, _ = compare_cells(("rnn",), text, tokenizer, settings)
    assert small.gradients.horizon is not None and small.gradients.horizon < 20 and not small.gradients.explodes
    large, trained = compare_cells(
        ("rnn",), text, tokenizer, GradientSettings(max_lag=40, num_positions=8, steps=10, init_scale=6.0)
    )
    assert large.gradients.explodes and large.gradients.growth > 1
    assert trained.training is not None
    assert trained.training.clipped_steps > 0 and trained.training.largest_gradient_norm > 10
    assert not trained.training.has_diverged  # clipping caught it


def test_init_scale_needs_recurrent_weights() -> None:
    lean = ModelConfig(vocab_size=9, cell="rnn", hidden_size=4, embedding_dim=3)
    plain, scaled = build_network(lean, 0), build_network(lean, 0, 3.0)
    assert torch.equal(scaled.weight("layers.0.weight_hh"), 3.0 * plain.weight("layers.0.weight_hh"))
    assert torch.equal(scaled.weight("layers.0.weight_ih"), plain.weight("layers.0.weight_ih"))


def test_a_model_is_measured_with_its_own_tokenizer() -> None:
    model: Checkpoint = random_model(VERSE, ensemble_size=2, num_layers=2, ngrams=3)
    curve = measure_model("m", model, VERSE, GradientSettings(max_lag=10, num_positions=4))
    assert curve.stage == "model" and len(curve.gradients.norms) == 11
    assert list(curve.gradients.parts) == ["h"]
    assert all(norm > 0 for norm in curve.gradients.norms)
