"""Stacks of layers: every way to run one computes the equations that `chargen/cells/stack.py` states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.cells.cell import NetworkState
from chargen.cells.stack import normalize
from chargen.cells.weights import count_parameters, count_table_bytes, count_tensors, get_cells, parameter_shapes
from chargen.config import ModelConfig
from chargen.engines.interface import log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import TracedStream
from chargen.engines.torch_engine import TorchEngine
from chargen.networks.kernels import members
from chargen.networks.layers import layer_norm, run_equations
from chargen.networks.network import NGRAM_TABLE, Network
from tests.conftest import random_weights
from tests.graph.small_engines import numba

V, H, E = 11, 6, 5
SWITCHES = ("residual", "skip", "layer_norm")


@st.composite
def stacks(draw: st.DrawFn, names: list[str] | None = None, min_layers: int = 1) -> ModelConfig:
    cells = draw(st.lists(st.sampled_from(names or CELLS.names()), min_size=min_layers, max_size=3))
    switches = {name: draw(st.booleans()) for name in SWITCHES if len(cells) > 1 or name == "layer_norm"}
    ngrams = draw(st.sampled_from([0, 3]))
    return ModelConfig(
        V, ",".join(cells), hidden_size=H, embedding_dim=E, ensemble_size=draw(st.integers(1, 2)), ngrams=ngrams,
        ngram_rows=16, ngram_dim=3, **switches,
    )  # fmt: skip


def network(config: ModelConfig, seed: int = 0) -> Network:
    net = Network(config).double()
    weights = {name: weight.astype(np.float64) for name, weight in random_weights(config, seed).items()}
    with torch.no_grad():
        for name, weight in weights.items():
            net.weight(name).copy_(torch.from_numpy(weight))
    return net


def reference_logits(config: ModelConfig, w: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Return the logits after each token id, [T, V], one member, layer and step after another, without n-grams."""
    cells, L = get_cells(config), config.num_layers
    states = [cell.initial_state(np, (H,)) for cell in cells * config.ensemble_size]
    logits = np.tile(w["head.bias"], (len(ids), 1))
    for t, token_id in enumerate(ids):
        seen = []
        for member in range(config.ensemble_size):
            x, reads = w["embedding.weight"][token_id], []
            total = np.zeros(H)
            for level, cell in enumerate(cells):
                layer = member * L + level
                p = {name.rpartition(".")[2]: v for name, v in w.items() if name.startswith(f"layers.{layer}.")}
                states[layer] = cell.step(np, p, cell.input_gates(p, x), states[layer])
                h = states[layer][0]
                total = h + total if config.residual else h
                x = total
                if config.layer_norm:
                    deviation = total - sum(total) / H
                    x = deviation / (sum(deviation**2) / H + 1e-5) ** 0.5 * p["norm_weight"] + p["norm_bias"]
                reads.append(x)
            seen += reads if config.skip else reads[-1:]
        logits[t] += w["head.weight"] @ np.concatenate(seen) / config.ensemble_size
    return logits


@settings(max_examples=40, deadline=None)
@given(config=stacks(), seed=st.integers(0, 99))
def test_a_network_computes_the_equations_of_its_stack(config: ModelConfig, seed: int) -> None:
    config = ModelConfig(**{**vars(config), "ngrams": 0})
    net = network(config, seed)
    weights = {name: weight.astype(np.float64) for name, weight in random_weights(config, seed).items()}
    ids = np.random.default_rng(seed).integers(0, V, 7)
    expected = reference_logits(config, weights, ids.tolist())
    for backend in (None, run_equations):
        found, _ = net(torch.from_numpy(ids)[:, None], net.initial_state(1), backend=backend)
        np.testing.assert_allclose(found[:, 0].detach(), expected, rtol=1e-9, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(config=stacks(), seed=st.integers(0, 99))
def test_both_engines_and_streams_agree_with_the_network(config: ModelConfig, seed: int) -> None:
    weights = random_weights(config, seed)
    ours, theirs = NumpyEngine(config, weights), TorchEngine.from_weights(config, weights)
    inputs, targets = np.random.default_rng(seed).integers(0, V, (2, 12, 3))
    net = network(config, seed)
    logits, _ = net(torch.from_numpy(inputs), net.initial_state(3))
    expected = np.take_along_axis(log_softmax(logits.detach().numpy()), targets[..., None], 2)[..., 0]
    np.testing.assert_allclose(ours.read(inputs, targets, ours.initial_state(3))[0], expected, atol=5e-5)
    np.testing.assert_allclose(theirs.read(inputs, targets, theirs.initial_state(3))[0], expected, atol=5e-5)
    one = ours.read(inputs[:, :1], targets[:, :1], ours.initial_state(1))[0]
    np.testing.assert_allclose(one, expected[:, :1], atol=5e-5)


@settings(max_examples=20, deadline=None)
@given(config=stacks(), cuts=st.lists(st.integers(1, 9), max_size=3, unique=True))
def test_chunks_with_carried_state_equal_the_whole_sequence(config: ModelConfig, cuts: list[int]) -> None:
    net = network(config)
    ids = torch.randint(V, (10, 3), generator=torch.Generator().manual_seed(1))
    whole, last = net(ids, net.initial_state(3))
    state, pieces = net.initial_state(3), []
    for chunk in torch.tensor_split(ids, sorted(cuts)):
        logits, state = net(chunk, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-11, atol=1e-12)
    state.map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12), last)


@settings(max_examples=20, deadline=None)
@given(config=stacks(["lstm", "gru", "mgru", "rnn"]), seed=st.integers(0, 99))
def test_gradients_equal_numerical_ones(config: ModelConfig, seed: int) -> None:
    """The derivative of the loss along a random direction of all weights, by central differences in float64."""
    net = network(config, seed)
    generator = torch.Generator().manual_seed(seed)
    ids, targets = torch.randint(V, (2, 6, 2), generator=generator)
    weights = list(net.parameters())
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    loss, _ = net.loss(ids, targets, net.initial_state(2))
    gradients = [g.to_dense() for g in torch.autograd.grad(loss, weights)]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))

    @torch.no_grad()
    def difference(distance: float) -> float:
        losses = []
        for step in (distance, -2 * distance, distance):  # the last one returns to the weights
            for weight, direction in zip(weights, directions, strict=True):
                weight += step * direction
            losses.append(float(net.loss(ids, targets, net.initial_state(2))[0]))
        return (losses[0] - losses[1]) / (2 * distance)

    # Richardson's extrapolation: with layer normalization, a single difference has an error of up to 4e-6.
    assert (4 * difference(1e-5) - difference(2e-5)) / 3 == pytest.approx(expected, rel=1e-6, abs=1e-8)


SHAPES = [
    {"cell": "lstm,gru", **dict.fromkeys(SWITCHES, True)},
    {"cell": "gru", "num_layers": 3, "residual": True},
    {"cell": "mgru,rnn", "skip": True, "ngrams": 3, "ngram_rows": 16, "ngram_dim": 3},
    {"cell": "lstm", "layer_norm": True},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_members_that_are_run_together_give_the_loss_and_the_gradients_of_one_after_another(
    shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(ModelConfig(V, hidden_size=H, embedding_dim=E, ensemble_size=3, **shape))
    assert all(name in members.FUNCTIONS for name in net.config.cell_names)
    ids, targets = torch.randint(V, (2, 7, 3), generator=torch.Generator().manual_seed(1))
    results = []
    for together in (False, True):
        monkeypatch.setattr("chargen.networks.network.can_run_together", lambda *_, value=together: value)
        loss, after = net.loss(ids, targets, net.initial_state(3))
        weights = [weight for key, weight in net.named_parameters() if key != NGRAM_TABLE]
        parts = [part for layer in after.layers for part in layer]
        results.append([loss.detach(), *parts, *torch.autograd.grad(loss, weights)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@numba
@pytest.mark.parametrize(
    "shape", [SHAPES[0], {**SHAPES[2], "layer_norm": True, "ensemble_size": 2}, SHAPES[3]], ids=str
)
def test_compiled_loops_equal_the_steps_of_the_engine(shape: dict[str, Any]) -> None:
    config = ModelConfig(V, hidden_size=H, embedding_dim=E, **shape)
    engine = NumpyEngine(config, random_weights(config))
    state = engine.initial_state(3)
    stream, batch = engine.stream(engine.select(state, np.array([0]))), engine.stream_batch(state)
    assert isinstance(stream, TracedStream) and stream.compile() and batch.compile()
    for ids in np.random.default_rng(1).integers(0, V, (20, 3)):
        expected, state = engine.step(ids, state)
        np.testing.assert_allclose(batch.step(ids), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(stream.step(int(ids[0])), expected[0], rtol=1e-5, atol=1e-5)
    uniforms = np.random.default_rng(2).random((9, 3))
    draws, alone = batch.draws(np.zeros(V), 0.8), stream.draws(np.zeros(V), 0.8)
    assert draws and alone
    assert [int(ids[0]) for ids in draws(uniforms)] == list(alone(uniforms[:, 0].tolist()))


@pytest.mark.parametrize("ensemble_size", [1, 3])
def test_layer_normalization_is_that_of_torch_in_every_form(ensemble_size: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (ensemble_size, 4, 2, H))
    params = {"norm_weight": rng.normal(size=(ensemble_size, H)), "norm_bias": rng.normal(size=(ensemble_size, H))}
    tensors = {name: torch.from_numpy(value) for name, value in params.items()}
    together = layer_norm(tensors, torch.from_numpy(x))
    for number in range(ensemble_size):
        one = {name: value[number] for name, value in params.items()}
        module = torch.nn.LayerNorm(H).double()
        module.load_state_dict({"weight": tensors["norm_weight"][number], "bias": tensors["norm_bias"][number]})
        expected = module(torch.from_numpy(x[number])).detach()
        np.testing.assert_allclose(normalize(np, one, x[number]), expected, rtol=1e-12)
        alone = layer_norm({name: value[number] for name, value in tensors.items()}, torch.from_numpy(x[number]))
        torch.testing.assert_close(alone, expected)
        torch.testing.assert_close(together[number], expected)


@settings(max_examples=40, deadline=None)
@given(config=stacks())
def test_counts_equal_the_sizes_of_the_weights(config: ModelConfig) -> None:
    shapes = parameter_shapes(config)
    assert count_tensors(config) == len(shapes)
    assert count_parameters(config) == sum(int(np.prod(shape)) for shape in shapes.values())
    engine = NumpyEngine(config, random_weights(config))
    assert count_table_bytes(config) == sum(table.nbytes for table in engine._tables) + engine._head.nbytes


def test_a_new_network_normalizes_without_a_scale() -> None:
    weights = Network(ModelConfig(V, hidden_size=H, embedding_dim=E, layer_norm=True)).export_weights()
    assert (weights["layers.0.norm_weight"] == 1).all()
    assert not weights["layers.0.norm_bias"].any()


def test_one_cell_named_for_each_layer_is_the_same_network_as_one_name() -> None:
    named, counted = (ModelConfig(V, cell, num_layers=2, hidden_size=H, embedding_dim=E) for cell in ("gru,gru", "gru"))
    assert parameter_shapes(named) == parameter_shapes(counted)
    weights, ids = random_weights(named), np.array([3])
    logits = [e.step(ids, e.initial_state(1))[0] for e in (NumpyEngine(c, weights) for c in (named, counted))]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("make", [lambda c, w: NumpyEngine(c, w), lambda c, w: TorchEngine.from_weights(c, w)])
def test_each_layer_has_the_state_of_its_cell(make: Callable[..., Any]) -> None:
    config = ModelConfig(V, "lstm,gru", hidden_size=H, embedding_dim=E, ensemble_size=2)
    state = make(config, random_weights(config)).initial_state(3)
    assert isinstance(state, NetworkState)
    assert [len(layer) for layer in state.layers] == [2, 1, 2, 1]


@settings(max_examples=20, deadline=None)
@given(config=stacks(min_layers=2))
def test_every_connection_changes_the_result(config: ModelConfig) -> None:
    """Residual connections change no weights, so that they would be easy to lose."""
    config = ModelConfig(**{**vars(config), "residual": True})
    weights = random_weights(config)
    without = ModelConfig(**{**vars(config), "residual": False})
    assert parameter_shapes(without) == parameter_shapes(config)
    with_it, plain = (NumpyEngine(c, weights).step(np.array([3]), NumpyEngine(c, weights).initial_state(1))[0]
                      for c in (config, without))  # fmt: skip
    assert not np.allclose(with_it, plain)
