"""Hashed n-grams: which rows the last characters stand for, and what training makes of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells.ngram_features import MASK, hashing, rows_read
from chargen.checkpoint import load_checkpoint
from chargen.config import ModelConfig
from chargen.errors import ConfigError
from chargen.networks.network import Network
from chargen.scoring.dynamic_evaluation import Adaptation, DynamicModel
from chargen.text.long_text import LongText
from chargen.training.init_from import init_from_model
from chargen.training.optimizers import SparseAdagrad
from tests.conftest import VERSE, random_model, run_plan
from tests.training.test_run import plan

R = 64


def rows_of(ids: np.ndarray, longest: int, rows: int = R) -> np.ndarray:
    """The definition: the highest bits of Σ w · id over the last n ids, for each place, n and lane."""
    multipliers, _ = hashing(longest, rows)
    T, B = ids.shape
    found = np.zeros((T, B, longest - 1), dtype=np.int64)
    for t in range(T):
        for b in range(B):
            for n in range(2, longest + 1):
                last = [int(ids[t - j, b]) if t >= j else 0 for j in range(n)]
                total = sum(int(w) * c for w, c in zip(multipliers[n - 2], last, strict=False)) & MASK
                found[t, b, n - 2] = (n - 2) * rows + total * rows // (MASK + 1)
    return found


@settings(max_examples=30, deadline=None)
@given(longest=st.integers(2, 7), cut=st.integers(1, 8), seed=st.integers(0, 99))
def test_rows_are_those_of_the_definition_however_a_text_is_cut(longest: int, cut: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 9000, (9, 3))
    expected = rows_of(ids, longest)
    by = hashing(longest, R)
    by_torch = (torch.from_numpy(by[0]), torch.from_numpy(by[1]))
    history = np.zeros((3, longest - 1), dtype=np.int64)
    first, history = rows_read(np, ids[:cut], history, by, R)
    second, history = rows_read(torch, torch.from_numpy(ids[cut:]), torch.from_numpy(history.copy()), by_torch, R)
    np.testing.assert_array_equal(np.concatenate([first, second.numpy()]), expected)
    assert np.array_equal(history, np.concatenate([np.zeros((longest, 3), int), ids])[1 - longest :].T)


@pytest.mark.parametrize(("n", "count"), [(2, 1600), (3, 64_000)])
def test_ngrams_share_rows_as_chance_would_have_it(n: int, count: int) -> None:
    R, letters = 1 << 15, range(2, 42)
    ids = np.array(list(product(letters, repeat=n))).T
    rows, _ = rows_read(np, ids, np.zeros((count, n - 1), dtype=np.int64), hashing(n, R), R)
    found = len(np.unique(rows[-1, :, n - 2]))
    assert found > 0.9 * R * (1 - np.exp(-count / R))


def test_a_source_of_order_two_is_learned_by_its_trigrams_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rng, text = np.random.default_rng(0), "ab"
    after = {a + b: "".join(rng.choice(list("abcdef"), 6)) for a in "abcdef" for b in "abcdef"}
    while len(text) < 30_000:
        text += after[text[-2:]][int(rng.integers(6))]
    losses = []
    for ngrams in (0, 3):
        given = plan(text, f"run{ngrams}", 150, model={"hidden_size": 8, "ngrams": ngrams, "ngram_rows": 4096})
        train = {"learning_rate": 1e-2, "batch_size": 16, "seq_len": 16}
        _, finished = run_plan(replace(given, train=train))
        losses.append(finished.val_loss_nats_per_char)
    assert losses[1] < losses[0] - 0.1
    model = load_checkpoint(Path("checkpoints/run3/model.safetensors"))
    used = np.abs(model.weights["ngrams.weight"]).sum(1) > 0
    assert 30 <= used[:4096].sum() < 50  # 36 pairs; rows of what was never read stay zero


def test_adapting_leaves_the_table_alone() -> None:
    model = random_model(ngrams=3, ngram_rows=16)
    ids = model.tokenizer.encode(VERSE)
    learner = DynamicModel(model, ids[:1], Adaptation("sgd", 0.3))
    before = {name: weight.clone() for name, weight in learner.network.named_parameters()}
    learner.read(ids[:20], ids[1:21], learner.initial_state())
    changed = {name for name, weight in learner.network.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == set(before) - {"ngrams__weight"}


def test_a_vocabulary_that_grows_keeps_what_the_ngrams_say() -> None:
    model = random_model(VERSE, ngrams=3, ngram_rows=16)
    grown = init_from_model(model, LongText.from_string(VERSE + "€").span(), "grow", {})
    assert grown.shape["ngrams"] == 3
    head = grown.weights["ngrams.head"]
    np.testing.assert_array_equal(head[:-1], model.weights["ngrams.head"])
    assert not head[-1].any()


@pytest.mark.parametrize(
    "shape", [{"ngrams": 1}, {"ngrams": 17}, {"ngram_rows": 100}, {"ngrams": -1}, {"ngram_dim": 0}]
)
def test_shapes_that_cannot_be_are_refused(shape: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ModelConfig(**{"vocab_size": 5, **shape})


def test_rows_of_a_dense_gradient_move_as_those_of_a_sparse_one() -> None:
    config = ModelConfig(9, hidden_size=4, embedding_dim=3, ngrams=3, ngram_rows=8, ngram_dim=2)
    networks = [Network(config, torch.Generator().manual_seed(0)) for _ in range(2)]
    rules = [SparseAdagrad(network, 10) for network in networks]
    for step in range(4):
        indices = torch.tensor([[3, 5, 4, (0, 6, 7, 6)[step]]])
        gradient = torch.sparse_coo_tensor(indices, torch.randn(4, 2), (16, 2), check_invariants=True)
        for network, rule, own in zip(networks, rules, (gradient, gradient.to_dense()), strict=True):
            network.weight("ngrams.weight").grad = own
            rule.step(1e-2)
            assert network.weight("ngrams.weight").grad is None
    sparse, dense = (network.weight("ngrams.weight").detach() for network in networks)
    torch.testing.assert_close(sparse, dense)
    assert torch.equal(sparse.abs().sum(1) > 0, torch.isin(torch.arange(16), torch.tensor([0, 3, 4, 5, 6, 7])))


def test_rows_that_many_places_share_move_to_the_same_bits_each_time() -> None:
    config = ModelConfig(9, hidden_size=4, embedding_dim=3, ngrams=2, ngram_rows=64, ngram_dim=16)
    indices, values = torch.randint(64, (1, 40_000)), torch.randn(40_000, 16)
    tables = []
    for _ in range(8):
        network = Network(config, torch.Generator().manual_seed(0))
        network.weight("ngrams.weight").grad = torch.sparse_coo_tensor(indices, values, (64, 16), check_invariants=True)
        SparseAdagrad(network, 10).step(1e-2)
        tables.append(network.weight("ngrams.weight").detach())
    assert all(torch.equal(table, tables[0]) for table in tables)


def test_a_row_moves_by_the_rule_as_it_is_written() -> None:
    config = ModelConfig(9, hidden_size=4, embedding_dim=3, ngrams=2, ngram_rows=4, ngram_dim=2)
    network = Network(config, torch.Generator().manual_seed(0))
    rule, squares, expected = SparseAdagrad(network, 5), 0.0, np.zeros(2)
    for step in range(1, 4):
        g = np.array([0.5 * step, -1.0])
        gradient = torch.zeros(4, 2)
        gradient[2] = torch.from_numpy(g)
        network.weight("ngrams.weight").grad = gradient
        rule.step(0.01)
        squares += ((5 * g) ** 2).mean()
        expected -= 5 * 0.01 * 5 * g / np.sqrt(5 + squares)
    np.testing.assert_allclose(network.weight("ngrams.weight").detach()[2], expected, rtol=1e-5)
