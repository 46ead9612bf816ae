"""The softmax over a part of a large vocabulary: which rows, and that they stand for all."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.networks import sampled_softmax as sampled
from chargen.networks.network import Network
from chargen.networks.sampled_softmax import OTHERS, rows_to_compare

V = 4000


def drawn(targets: torch.Tensor, seed: int = 0) -> sampled.Rows:
    found = rows_to_compare((targets,), V, torch.Generator().manual_seed(seed))
    assert found
    return found[0]


def test_the_rows_are_those_of_the_window_and_some_others_each_once() -> None:
    targets = torch.tensor([[5, 7], [3999, 5], [0, -100]])
    rows, places, more = drawn(targets)
    assert rows[:4].tolist() == [0, 5, 7, 3999]
    assert len(rows) == len(set(rows.tolist())) == 4 + OTHERS
    assert places.tolist() == [[1, 2], [3, 1], [0, -100]]
    assert more[:4].eq(0).all()
    assert torch.allclose(more[4:].exp().sum(), torch.tensor(float(V - 4)))


def test_all_rows_are_taken_where_a_part_saves_little_or_nothing_is_drawn() -> None:
    targets = torch.arange(V // 2)[None]
    assert rows_to_compare((targets,), V, torch.Generator()) is None
    assert rows_to_compare((targets[:, :5],), 2 * OTHERS, torch.Generator()) is None
    assert rows_to_compare((targets[:, :5],), V, None) is None


def test_the_sum_over_the_part_is_that_over_all_on_average() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(V), torch.randint(V, (20, 4))
    sums = []
    for seed in range(300):
        rows, _, more = drawn(targets, seed)
        sums.append((logits[rows] + more).exp().sum())
    assert torch.allclose(torch.stack(sums).mean(), logits.exp().sum(), rtol=0.01)


def test_the_loss_is_near_that_of_the_whole_vocabulary_and_its_gradient_points_the_same_way() -> None:
    network = Network(ModelConfig(V, hidden_size=16, embedding_dim=8), torch.Generator().manual_seed(0))
    ids, targets = torch.randint(V, (12, 8)), torch.randint(40, (12, 8))
    state = network.initial_state(8)
    whole, _ = network.loss(ids, targets, state)
    logits, _ = network(ids, state)
    assert torch.allclose(whole, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    part, _ = network.loss(ids, targets, state, torch.Generator().manual_seed(0))
    assert abs(float((part - whole).detach())) < 0.1
    gradients = [torch.autograd.grad(loss, network.weight("layers.0.weight_hh"))[0].flatten() for loss in (whole, part)]
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.95


def test_a_window_in_pieces_gives_the_loss_and_the_gradient_of_its_ids_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampled, "OTHERS", 1900)  # of 2,000: nearly nothing is left to chance
    monkeypatch.setattr(sampled, "WORTH", 1.1)
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(2000, 16, generator=generator, requires_grad=True)
    outputs, bias = torch.randn(20, 64, 16, generator=generator), torch.randn(2000, generator=generator)
    targets = torch.randint(90, (20, 64), generator=generator)
    targets[3:5, 7] = -100
    found = []
    for drawn_from in (None, generator):  # the second time in four pieces, the last smaller
        (loss,) = sampled.losses([outputs], [head], bias, targets, drawn_from)
        found.append((loss, torch.autograd.grad(loss, head)[0].flatten()))
    assert abs(float((found[0][0] - found[1][0]).detach())) < 0.02
    assert F.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.999
