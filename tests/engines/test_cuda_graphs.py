"""Recorded steps and draws against those of NumPy: called directly on a CPU, replayed on a GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from chargen.cells import CELLS
from chargen.config import ModelConfig
from chargen.engines import cuda_graphs
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.lm import LanguageModel
from chargen.networks.cuda_runtime import Function
from chargen.networks.network import Network
from chargen.sampling.logits_rules import draw_batch
from tests.conftest import random_model, random_weights
from tests.graph.small_engines import SHAPES

V, TOKENS_PER_LAUNCH = 19, 3
on_gpu = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")],
)


def traced(function: Function, device: torch.device) -> Function:
    """Record the operations as a CUDA graph does, whose replay does not run the Python code."""
    unused = torch.zeros(())
    replay = make_fx(lambda _: function())(unused)  # fails if Python code reads a value
    return torch.no_grad()(lambda: replay(unused))


@pytest.fixture(params=["cpu", on_gpu])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cuda_graphs, "TOKENS_PER_LAUNCH", TOKENS_PER_LAUNCH)
    return str(request.param)


def engines(device: str, cell: str, **shape: Any) -> tuple[NumpyEngine, TorchEngine]:
    """Return a NumPy engine and a torch engine with recorded steps, of the same model."""
    config = ModelConfig(V, cell, **{"hidden_size": 12, "embedding_dim": 5, **shape})
    weights, network = random_weights(config, 0, 0.3), Network(config)
    network.import_weights(weights)
    return NumpyEngine(config, weights), TorchEngine(network.to(device), frozen=True, recorded=True)


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_steps_equal_those_of_the_numpy_engine(cell: str, shape: dict[str, Any], device: str) -> None:
    ours, recorded = engines(device, cell, **shape)
    for count in (1, 4):
        rng = np.random.default_rng(1)
        state, batch = ours.initial_state(count), recorded.stream_batch(recorded.initial_state(count))
        for ids in rng.integers(0, V, (6, count)):
            expected, state = ours.step(ids, state)
            np.testing.assert_allclose(batch.step(ids), expected, atol=1e-5)


@pytest.mark.parametrize("as_graph", [False, True])
@pytest.mark.parametrize("cell", CELLS.names())
def test_recorded_draws_equal_a_draw_before_each_step(
    cell: str, as_graph: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if as_graph and device == "cpu":
        monkeypatch.setattr(cuda_graphs, "record", traced)
    ours, recorded = engines(device, cell)
    B, T, inverse = 3, 2 * TOKENS_PER_LAUNCH + 5, 1.25
    added, uniforms = np.zeros(V), np.random.default_rng(0).random((T, B))
    added[[0, 4, V - 1]] = -np.inf
    ids, state = np.array([1, 2, 3]), ours.initial_state(B)
    expected = []
    for row in uniforms:
        logits, state = ours.step(ids, state)
        tempered = (logits + added) * inverse
        ids = draw_batch(tempered - tempered.max(-1, keepdims=True), row)
        expected.append(ids)
    batch = recorded.stream_batch(recorded.initial_state(B))
    batch.step(np.array([1, 2, 3]))
    draws = batch.draws(added, inverse)
    assert draws
    np.testing.assert_array_equal([*draws(uniforms)], expected)
    stream = recorded.stream(recorded.initial_state(1))
    stream.step(2)
    draws = stream.draws(added, inverse)
    assert draws
    assert [*draws(uniforms[:7, 1]), *draws(uniforms[7:, 1])] == np.array(expected)[:, 1].tolist()


def test_streams_can_use_one_recording_in_turns(device: str) -> None:
    ours, recorded = engines(device, "lstm")
    rng = np.random.default_rng(0)
    states = [ours.initial_state(1) for _ in range(3)]
    streams = [recorded.stream(recorded.initial_state(1)) for _ in range(3)]
    for _ in range(40):
        turn, token_id = int(rng.integers(3)), int(rng.integers(V))
        expected, states[turn] = ours.step(np.array([token_id]), states[turn])
        np.testing.assert_allclose(streams[turn].step(token_id), expected[0], atol=1e-5)
    for stream, state in zip(streams, states, strict=True):
        (h, c), (expected_h, expected_c) = stream.state().layers[0], state.layers[0]
        np.testing.assert_allclose(h.cpu(), expected_h, atol=1e-5)
        np.testing.assert_allclose(c.cpu(), expected_c, atol=1e-5)


def test_draws_of_two_streams_do_not_mix(device: str) -> None:
    _, recorded = engines(device, "gru")
    uniforms, warm, cold = np.random.default_rng(0).random(3 * TOKENS_PER_LAUNCH), 1.0, 4.0

    def start_draws(inverse: float) -> Iterator[Any]:
        stream = recorded.stream(recorded.initial_state(1))
        stream.step(3)
        draws = stream.draws(np.zeros(V), inverse)
        assert draws
        return draws(uniforms)

    alone = [list(start_draws(warm)), list(start_draws(cold))]
    one, other = start_draws(warm), start_draws(cold)
    together = list(zip(one, other, strict=True))
    assert [list(drawn) for drawn in zip(*together, strict=True)] == alone
    assert alone[0] != alone[1]


def test_recorded_batches_can_be_selected_and_reset(device: str) -> None:
    ours, recorded = engines(device, "mgru", num_layers=2)
    rng, state = np.random.default_rng(0), ours.initial_state(4)
    batch = recorded.stream_batch(recorded.initial_state(4))
    for turn in range(12):
        if turn in (3, 9):
            rows = np.array([1])
            batch.reset(rows)
            state = ours.reset(state, rows)
        if turn == 6:
            rows = np.array([0, 1, 3])
            batch, state = batch.select(rows), ours.select(state, rows)
        ids = rng.integers(0, V, state.batch_size)
        expected, state = ours.step(ids, state)
        np.testing.assert_allclose(batch.step(ids), expected, atol=1e-5)


def test_recordings_of_the_last_two_batch_sizes_are_kept(device: str) -> None:
    _, recorded = engines(device, "rnn")
    for count in (1, 2, 3, 2, 4):
        recorded.stream_batch(recorded.initial_state(count))
    assert len(recorded._recordings) == 2


def test_a_recording_is_freed_with_its_last_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collection could free a graph while another one is recorded, which the library refuses."""
    monkeypatch.setattr(cuda_graphs, "record", lambda function, device: lambda: None)  # a graph refers to no object
    _, recorded = engines("cpu", "lstm")
    batch = recorded.stream_batch(recorded.initial_state(4))
    recording = weakref.ref(recorded._recordings[4])
    batch.step(np.array([1, 2, 3, 4]))
    gc.disable()
    try:
        del recorded, batch
        assert recording() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"stop": ("e ",)}, {"temperature": 0.0}])
def test_recorded_texts_equal_those_of_numpy(
    settings: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(hidden_size=16, cell="gru")
    plain = LanguageModel(model, device="cpu")
    settings = {"length": 80, "seed": 3, **settings}
    expected = plain.samples(6, "the", **settings)
    ours, network = LanguageModel(model, device="cpu"), Network(model.config)
    network.import_weights(model.weights)
    engine = TorchEngine(network.to(device), frozen=True, recorded=True)
    monkeypatch.setitem(ours.__dict__, "_numpy", engine)
    assert ours.samples(6, "the", **settings) == expected
    assert ours.sample("the", **settings) == plain.sample("the", **settings)
