"""The sampled softmax: which rows are used, and that they estimate the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.networks import sampled_softmax
from chargen.networks.draws import Draws
from chargen.networks.network import Network
from chargen.networks.sampled_softmax import NUM_SAMPLED, sample_rows

V = 4000


def sample(targets: torch.Tensor, seed: int = 0) -> sampled_softmax.SampledRows:
    found = sample_rows((targets,), (targets,), V, Draws(torch.Generator().manual_seed(seed)))
    assert found
    return found[0]


def test_the_rows_are_the_targets_and_a_sample_of_other_ids_without_duplicates() -> None:
    targets = torch.tensor([[5, 7], [3999, 5], [0, -100]])
    rows, indices, log_weights = sample(targets)
    assert rows[:4].tolist() == [0, 5, 7, 3999]
    assert len(rows) == len(set(rows.tolist())) == 4 + NUM_SAMPLED
    assert indices.tolist() == [[1, 2], [3, 1], [0, -100]]
    assert log_weights[:4].eq(0).all()
    assert torch.allclose(log_weights[4:].exp().sum(), torch.tensor(float(V - 4)))


def test_the_full_softmax_is_used_if_sampling_saves_little_or_has_no_generator() -> None:
    targets = torch.arange(V // 2)[None]
    assert sample_rows((targets,), (targets,), V, Draws(torch.Generator())) is None
    few = (targets[:, :5],)
    assert sample_rows(few, few, 2 * NUM_SAMPLED, Draws(torch.Generator())) is None
    assert sample_rows(few, few, V, None) is None


def test_the_estimate_of_the_partition_sum_is_unbiased() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(V), torch.randint(V, (20, 4))
    sums = []
    for seed in range(300):
        rows, _, log_weights = sample(targets, seed)
        sums.append((logits[rows] + log_weights).exp().sum())
    assert torch.allclose(torch.stack(sums).mean(), logits.exp().sum(), rtol=0.01)


def test_loss_and_gradient_are_close_to_those_of_the_full_softmax() -> None:
    network = Network(ModelConfig(V, hidden_size=16, embedding_dim=8), torch.Generator().manual_seed(0))
    ids, targets = torch.randint(V, (12, 8)), torch.randint(40, (12, 8))
    state = network.initial_state(8)
    whole, _ = network.loss(ids, targets, state)
    logits, _ = network(ids, state)
    assert torch.allclose(whole, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    part, _ = network.loss(ids, targets, state, Draws(torch.Generator().manual_seed(0)))
    assert abs(float((part - whole).detach())) < 0.1
    gradients = [torch.autograd.grad(loss, network.weight("layers.0.weight_hh"))[0].flatten() for loss in (whole, part)]
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.95


def test_pieces_of_a_window_give_the_loss_and_the_gradient_of_the_whole_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampled_softmax, "NUM_SAMPLED", 1900)  # of 2,000: almost no sampling error
    monkeypatch.setattr(sampled_softmax, "MAX_SHARE", 1.1)
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(2000, 16, generator=generator, requires_grad=True)
    outputs, bias = torch.randn(20, 64, 16, generator=generator), torch.randn(2000, generator=generator)
    targets = torch.randint(90, (20, 64), generator=generator)
    targets[3:5, 7] = -100
    found = []
    for sampled_by in (None, Draws(generator)):  # the second time in four pieces, the last smaller
        (loss,) = sampled_softmax.sampled_losses([outputs], [head], bias, targets, sampled_by)
        found.append((loss, torch.autograd.grad(loss, head)[0].flatten()))
    assert abs(float((found[0][0] - found[1][0]).detach())) < 0.02
    assert F.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.999
