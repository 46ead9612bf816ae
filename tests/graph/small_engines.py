"""Small engines for the tests of generated code, and comparisons with the steps of an engine."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chargen.cells import CELLS, Cell
from chargen.cells.cell import NetworkState, sigmoid
from chargen.cells.ngram_features import NO_WORD
from chargen.cells.ngram_index import build_index
from chargen.config import ModelConfig
from chargen.engines.interface import Stream
from chargen.engines.numpy_engine import NumpyEngine
from chargen.graph.ngram_reader import NGramTable
from tests.conftest import random_weights

SHAPES = [
    {},
    {"num_layers": 3},
    {"ensemble_size": 3, "tie_weights": True, "embedding_dim": 12},
    {"ensemble_size": 2, "num_layers": 2},
    {"hidden_size": 1},
    {"ensemble_size": 2, "ngrams": 4, "ngram_rows": 16, "ngram_dim": 3},
    {"num_layers": 2, "ngrams": 2, "ngram_rows": 1, "ngram_dim": 20},
    {"ngrams": 4, "ngram_rows": 1 << 10, "ngram_dim": 3, "ngram_words": 2, "ngram_index": True},
    {"ensemble_size": 2, "ngrams": 2, "ngram_rows": 16, "ngram_dim": 3, "ngram_index": True},
]
numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def engine(cell: str = "gru", seed: int = 0, scale: float | None = None, **shape: Any) -> NumpyEngine:
    config = ModelConfig(19, cell, **{"hidden_size": 12, "embedding_dim": 5, **shape})
    return NumpyEngine(config, random_weights(config, seed, scale))


def traced(name: str, monkeypatch: pytest.MonkeyPatch, **shape: Any) -> NumpyEngine:
    """Return an engine with small weights, for a cell of the registry or for the new cell "crossed"."""
    if name == "crossed":
        monkeypatch.setattr(CELLS, "get", lambda _: CustomCell(crossed))
    return engine(name, scale=0.2, **shape)


def assert_same_as_steps(ours: NumpyEngine, stream: Stream, ids: list[int], state: Any, tolerance: float) -> None:
    for token_id in ids:
        expected, state = ours.step(np.array([token_id]), state)
        np.testing.assert_allclose(stream.step(token_id), expected[0], rtol=tolerance, atol=tolerance)
    assert_states_close(stream.state(), state, tolerance)


def assert_states_close(found: NetworkState, expected: NetworkState, tolerance: float) -> None:
    found.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), expected)


def random_state(ours: NumpyEngine, seed: int, batch_size: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    return ours.initial_state(batch_size).map(lambda part: drawn_like(part, rng))


def drawn_like(part: Any, rng: np.random.Generator) -> Any:
    """Return random numbers for a part of a state: a hidden vector or the n-gram history."""
    return rng.integers(0, 19, part.shape) if part.dtype == np.int64 else rng.normal(size=part.shape).astype(np.float32)


def indexed_ngrams(num_words: int, num_rows: int, vocab_size: int) -> tuple[NGramTable, NDArray[np.int64]]:
    """Return a table with an index of random token ids that occur twice, and these ids, followed by other ones."""
    config = ModelConfig(
        vocab_size, ngrams=3, ngram_rows=num_rows, ngram_dim=5, ngram_words=num_words, ngram_index=True
    )
    rng = np.random.default_rng(num_words)
    ids = np.tile(rng.integers(0, vocab_size, 300), 2)
    kinds = rng.integers(0, 3, vocab_size, dtype=np.uint8)
    kinds[0] = NO_WORD
    table = rng.normal(size=(num_rows, config.ngram_dim)).astype(np.float32)
    ngrams = NGramTable(config, table[:0], table, build_index(config, ids, kinds), kinds)
    return ngrams, np.concatenate([ids, rng.integers(0, vocab_size, 100)])


class CustomCell(Cell):
    """A new cell with the step of a test."""

    num_gates = num_input_gates = 1
    state_names = ("h", "last")

    def __init__(self, step: Any) -> None:
        self.step = step  # type: ignore[method-assign]

    def step(self, xp: Any, params: Any, x_gates: Any, state: Any) -> Any: ...


def crossed(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
    """Both parts of the state read both old parts, and the output is multiplied before the other gates are read."""
    h, last = state
    W, b = params["weight_hh"], params["bias_hh"]
    new = xp.tanh(last @ W.T - x_gates) / (1.5 + sigmoid(xp, h))
    return new, 1 - xp.maximum(h @ W.T + b, -(new @ W)) * 0.1 + xp.exp(-xp.abs(x_gates * b))
