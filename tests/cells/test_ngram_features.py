"""Hashed n-grams: the table rows of the last tokens, and how training changes these rows."""

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

from chargen.cells.ngram_features import MASK, find_ngram_rows, make_hash_parameters
from chargen.checkpoint import load_checkpoint
from chargen.config import ModelConfig
from chargen.errors import ConfigError
from chargen.networks.network import Network
from chargen.scoring.dynamic_evaluation import Adaptation, DynamicModel
from chargen.text.long_text import LongText
from chargen.training.choices import ModelChoices, TrainChoices
from chargen.training.init_from import init_from_model
from chargen.training.optimizers import SparseAdagrad
from tests.conftest import VERSE, random_model, run_plan
from tests.training.test_run import plan

R = 64


def reference_rows(ids: np.ndarray, max_n: int, num_rows: int = R) -> np.ndarray:
    """Return the rows by definition, [T, B, N − 1]: the highest bits of Σ w · id over the last n ids."""
    multipliers, _ = make_hash_parameters(max_n, num_rows)
    T, B = ids.shape
    rows = np.zeros((T, B, max_n - 1), dtype=np.int64)
    for t in range(T):
        for b in range(B):
            for n in range(2, max_n + 1):
                last = [int(ids[t - j, b]) if t >= j else 0 for j in range(n)]
                total = sum(int(w) * c for w, c in zip(multipliers[n - 2], last, strict=False)) & MASK
                rows[t, b, n - 2] = (n - 2) * num_rows + total * num_rows // (MASK + 1)
    return rows


@settings(max_examples=30, deadline=None)
@given(max_n=st.integers(2, 7), cut=st.integers(1, 8), seed=st.integers(0, 99))
def test_rows_follow_the_definition_for_any_split_of_a_text(max_n: int, cut: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 9000, (9, 3))
    expected = reference_rows(ids, max_n)
    parameters = make_hash_parameters(max_n, R)
    torch_parameters = (torch.from_numpy(parameters[0]), torch.from_numpy(parameters[1]))
    history = np.zeros((3, max_n - 1), dtype=np.int64)
    first, history = find_ngram_rows(np, ids[:cut], history, parameters, R)
    torch_history = torch.from_numpy(history.copy())
    second, history = find_ngram_rows(torch, torch.from_numpy(ids[cut:]), torch_history, torch_parameters, R)
    np.testing.assert_array_equal(np.concatenate([first, second.numpy()]), expected)
    assert np.array_equal(history, np.concatenate([np.zeros((max_n, 3), int), ids])[1 - max_n :].T)


@pytest.mark.parametrize(("n", "count"), [(2, 1600), (3, 64_000)])
def test_ngrams_share_rows_no_more_often_than_random_ones(n: int, count: int) -> None:
    R, letters = 1 << 15, range(2, 42)
    ids = np.array(list(product(letters, repeat=n))).T
    rows, _ = find_ngram_rows(np, ids, np.zeros((count, n - 1), dtype=np.int64), make_hash_parameters(n, R), R)
    num_used = len(np.unique(rows[-1, :, n - 2]))
    assert num_used > 0.9 * R * (1 - np.exp(-count / R))


@pytest.mark.parametrize("has_index", [False, True])
def test_trigrams_learn_a_source_of_order_two_faster(tmp_path: Path, monkeypatch: Any, has_index: bool) -> None:
    monkeypatch.chdir(tmp_path)
    rng, text = np.random.default_rng(0), "ab"
    after = {a + b: "".join(rng.choice(list("abcdef"), 6)) for a in "abcdef" for b in "abcdef"}
    while len(text) < 30_000:
        text += after[text[-2:]][int(rng.integers(6))]
    losses = []
    for ngrams in (0, 3):
        shape = {"hidden_size": 8, "ngrams": ngrams, "ngram_rows": 4096, "ngram_index": has_index and ngrams > 0}
        training = plan(text, f"run{ngrams}", 150, model=shape)
        train = TrainChoices(learning_rate=1e-2, batch_size=16, seq_len=16)
        _, finished = run_plan(replace(training, train=train))
        losses.append(finished.val_loss_nats_per_char)
    assert losses[1] < losses[0] - 0.1
    model = load_checkpoint(Path("checkpoints/run3/model.safetensors"))
    used = np.abs(model.weights["ngrams.weight"]).sum(1) > 0
    if has_index:
        is_owned = model.weights["ngrams.index"] > 0
        assert 36 + 36 <= is_owned.sum() <= 36 + 216 + 4  # pairs, triples, and few n-grams from the start of the text
        assert not used[~is_owned].any()
        assert used.sum() > 0.9 * is_owned.sum()
    else:
        assert 30 <= used[:4096].sum() < 50  # 36 pairs; the other rows stay zero


def test_dynamic_evaluation_does_not_change_the_ngram_table() -> None:
    model = random_model(ngrams=3, ngram_rows=16)
    ids = model.tokenizer.encode(VERSE)
    learner = DynamicModel(model, ids[:1], Adaptation("sgd", 0.3))
    before = {name: weight.clone() for name, weight in learner.network.named_parameters()}
    learner.read(ids[:20], ids[1:21], learner.initial_state())
    changed = {name for name, weight in learner.network.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == set(before) - {"ngrams__weight"}


def test_a_larger_vocabulary_keeps_the_ngram_weights_of_the_old_ids() -> None:
    model = random_model(VERSE, ngrams=3, ngram_rows=16)
    grown = init_from_model(model, LongText.from_string(VERSE + "€").span(), "grow", ModelChoices())
    assert grown.shape.ngrams == 3
    head = grown.weights["ngrams.head"]
    np.testing.assert_array_equal(head[:-1], model.weights["ngrams.head"])
    assert not head[-1].any()


@pytest.mark.parametrize(
    "shape", [{"ngrams": 1}, {"ngrams": 17}, {"ngram_rows": 100}, {"ngrams": -1}, {"ngram_dim": 0}]
)
def test_invalid_ngram_settings_are_refused(shape: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ModelConfig(**{"vocab_size": 5, **shape})


def test_a_dense_gradient_updates_rows_like_a_sparse_one() -> None:
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


def test_repeated_rows_of_a_gradient_are_summed_deterministically() -> None:
    config = ModelConfig(9, hidden_size=4, embedding_dim=3, ngrams=2, ngram_rows=64, ngram_dim=16)
    indices, values = torch.randint(64, (1, 40_000)), torch.randn(40_000, 16)
    tables = []
    for _ in range(8):
        network = Network(config, torch.Generator().manual_seed(0))
        network.weight("ngrams.weight").grad = torch.sparse_coo_tensor(indices, values, (64, 16), check_invariants=True)
        SparseAdagrad(network, 10).step(1e-2)
        tables.append(network.weight("ngrams.weight").detach())
    assert all(torch.equal(table, tables[0]) for table in tables)


def test_the_update_of_a_row_follows_the_formula() -> None:
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
