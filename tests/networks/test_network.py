import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.cells.cell import NetworkState
from chargen.cells.weights import check_weights, count_parameters, parameter_shapes
from chargen.config import ModelConfig
from chargen.errors import ModelError
from chargen.networks.draws import Draws
from chargen.networks.kernels import members
from chargen.networks.layers import run_equations
from chargen.networks.network import NGRAM_TABLE, Network, locked_dropout, ngram_dropout, reset, weight_dropout
from tests.conftest import random_weights


def network(**shape: object) -> Network:
    config = ModelConfig(**{"vocab_size": 11, "hidden_size": 8, "embedding_dim": 5, **shape})  # type: ignore[arg-type]
    return Network(config, torch.Generator().manual_seed(0)).double()


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(CELLS.names()),
    depth=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 11), max_size=3, unique=True),
    by_equations=st.booleans(),
    ngrams=st.sampled_from([0, 2, 5]),
)
def test_chunks_with_carried_state_equal_the_whole_sequence(
    name: str, depth: int, cuts: list[int], by_equations: bool, ngrams: int
) -> None:
    net = network(cell=name, num_layers=depth, ngrams=ngrams, ngram_rows=64, ngram_dim=4)
    backend = run_equations if by_equations else None
    ids = torch.randint(11, (12, 3), generator=torch.Generator().manual_seed(1))
    whole, last = net(ids, net.initial_state(3), backend=backend)
    state, pieces = net.initial_state(3), []
    for chunk in torch.tensor_split(ids, sorted(cuts)):
        logits, state = net(chunk, state, backend=backend)
        pieces.append(logits)
    # A product over 12 steps and one over fewer may add in different orders, which changes float64 rounding only.
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-12, atol=1e-13)
    state.map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13), last)


@pytest.mark.parametrize("ngrams", [0, 3])
def test_no_logit_depends_on_a_later_id(ngrams: int) -> None:
    net = network(num_layers=2, ngrams=ngrams)
    ids = torch.randint(11, (8, 1), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[5] = (ids[5] + 1) % 11
    before, _ = net(ids, net.initial_state(1))
    after, _ = net(changed, net.initial_state(1))
    torch.testing.assert_close(before[:5], after[:5], rtol=0, atol=0)
    assert not torch.equal(before[5], after[5])


def test_batch_rows_are_independent() -> None:
    net = network()
    ids = torch.randint(11, (6, 4), generator=torch.Generator().manual_seed(1))
    together, _ = net(ids, net.initial_state(4))
    alone, _ = net(ids[:, 2:3], net.initial_state(1))
    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-12, atol=1e-13)


def test_reset_zeroes_only_the_marked_batch_rows() -> None:
    state = NetworkState(((torch.ones(3, 2), torch.full((3, 2), 5.0)),))
    ((h, c),) = reset(state, torch.tensor([False, True, False])).layers
    assert h.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert c.tolist() == [[5, 5], [0, 0], [5, 5]]


def test_tied_weights_share_one_matrix() -> None:
    net = network(tie_weights=True, embedding_dim=8)
    assert "head.weight" not in net.export_weights()
    logits, _ = net(torch.tensor([[3]]), net.initial_state(1))
    assert logits.shape == (1, 1, 11)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_uses_one_mask_for_a_window_and_keeps_the_mean(p: float) -> None:
    x = torch.ones(7, 50, 40)
    dropped = locked_dropout(x, p, Draws(torch.Generator().manual_seed(0)))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))  # the same units at every step
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    # 2,000 units: the share kept is within 5 standard errors of 1 − p.
    share = (dropped[0] > 0).float().mean().item()
    assert abs(share - (1 - p)) < 5 * (p * (1 - p) / 2000) ** 0.5


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_weight_dropout_drops_single_weights_and_keeps_the_mean(p: float) -> None:
    weight = torch.ones(50, 40, requires_grad=True)
    dropped = weight_dropout(weight, p, Draws(torch.Generator().manual_seed(0)))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    share = (dropped > 0).float().mean().item()
    assert abs(share - (1 - p)) < 5 * (p * (1 - p) / 2000) ** 0.5
    dropped.sum().backward()
    assert torch.equal(weight.grad > 0, dropped > 0)  # dropped weights get no gradient
    assert torch.equal(weight, torch.ones(50, 40))


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_ngram_dropout_drops_single_ngrams_and_keeps_the_mean(p: float) -> None:
    rows = torch.zeros(100, 4, 5, dtype=torch.int64)
    kept = ngram_dropout(rows, torch.float64, p, Draws(torch.Generator().manual_seed(0)))
    assert kept.dtype == torch.float64
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    assert abs((kept > 0).double().mean().item() - (1 - p)) < 5 * (p * (1 - p) / 2000) ** 0.5
    assert len((kept > 0).sum(2).unique()) > 1  # the n-grams of a position are dropped independently


@pytest.mark.parametrize("kind", ["dropout", "weight_dropout", "ngram_dropout"])
def test_dropout_follows_its_generator_and_is_off_without_one(kind: str) -> None:
    net = network(**{kind: 0.5, "num_layers": 2, "ngrams": 3, "ngram_rows": 16})
    torch.nn.init.normal_(net.weight("ngrams.weight"), generator=torch.Generator().manual_seed(2))
    ids = torch.randint(11, (6, 2), generator=torch.Generator().manual_seed(1))

    def logits(generator: torch.Generator | None) -> torch.Tensor:
        return net(ids, net.initial_state(2), generator and Draws(generator))[0]

    assert torch.equal(logits(torch.Generator().manual_seed(5)), logits(torch.Generator().manual_seed(5)))
    assert not torch.equal(logits(torch.Generator().manual_seed(5)), logits(torch.Generator().manual_seed(6)))
    assert torch.equal(logits(None), logits(None))


def test_exported_weights_are_copies_that_can_be_imported() -> None:
    net, other = network(cell="lstm", num_layers=2), network(cell="lstm", num_layers=2)
    weights = random_weights(net.config)
    net.import_weights(weights)
    other.import_weights(net.export_weights())
    ids = torch.tensor([[1], [2]])
    assert torch.equal(net(ids, net.initial_state(1))[0], other(ids, other.initial_state(1))[0])
    exported = net.export_weights()
    exported["head.bias"][:] = 99
    assert net.export_weights()["head.bias"].max() < 99


def test_an_ensemble_averages_the_logits_of_independent_networks() -> None:
    both = network(ensemble_size=2, num_layers=2)
    weights = both.export_weights()
    ids, targets = torch.randint(11, (2, 6, 3), generator=torch.Generator().manual_seed(1))
    logits, losses = [], []
    for member in range(2):
        alone = network(num_layers=2)
        single = {name: weight for name, weight in weights.items() if not name.startswith(("layers", "head.weight"))}
        single["head.weight"] = weights["head.weight"][:, 8 * member : 8 * member + 8]
        for level in range(2):
            for name in alone.layer(level):
                single[f"layers.{level}.{name}"] = weights[f"layers.{2 * member + level}.{name}"]
        alone.import_weights(single)
        logits.append(alone(ids, alone.initial_state(3))[0])
        losses.append(torch.nn.functional.cross_entropy(logits[-1].flatten(0, 1), targets.flatten()))
    together, _ = both(ids, both.initial_state(3))
    torch.testing.assert_close(together, (logits[0] + logits[1]) / 2)
    loss, _ = both.loss(ids, targets, both.initial_state(3))
    torch.testing.assert_close(loss, (losses[0] + losses[1]) / 2)
    assert not torch.allclose(logits[0], logits[1])


def test_count_parameters_equals_the_size_of_the_network() -> None:
    tied = {"tie_weights": True, "embedding_dim": 8}
    for shape in (
        {"cell": "lstm", "num_layers": 3},
        {"cell": "rnn"},
        tied,
        {"ensemble_size": 2, **tied},
        {"ensemble_size": 3},
    ):
        net = network(**shape)
        assert count_parameters(net.config) == sum(p.numel() for p in net.parameters())


def test_the_error_for_wrong_weights_names_them() -> None:
    config = ModelConfig(vocab_size=5, hidden_size=3, embedding_dim=2)
    good = random_weights(config)
    assert list(good) == list(parameter_shapes(config))
    for change, words in (
        ({"head.bias": np.zeros(4, np.float32)}, "head.bias"),
        ({"head.bias": np.full(5, np.nan, np.float32)}, "NaN"),
        ({"extra": np.zeros(1, np.float32)}, "extra"),
    ):
        with pytest.raises(ModelError, match=words):
            check_weights(config, {**good, **change})
    del good["head.weight"]
    with pytest.raises(ModelError, match="missing"):
        check_weights(config, good)


@pytest.mark.parametrize("name", list(members.FUNCTIONS))
def test_the_members_of_an_ensemble_together_equal_one_after_another(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(11, name, num_layers=2, ensemble_size=3, hidden_size=6, embedding_dim=4, ngrams=3)
    network = Network(config, torch.Generator().manual_seed(0)).double()
    ids, targets = torch.randint(11, (2, 7, 3))
    results = []
    for together in (False, True):
        monkeypatch.setattr("chargen.networks.network.can_run_together", lambda *_, value=together: value)
        loss, after = network.loss(ids, targets, network.initial_state(3))
        parts = [part for parts in after.layers for part in parts]
        weights = [weight for key, weight in network.named_parameters() if key != NGRAM_TABLE]
        results.append([loss.detach(), *parts, *torch.autograd.grad(loss, weights)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_members_together_drop_different_units() -> None:
    config = ModelConfig(11, "gru", ensemble_size=2, hidden_size=64, embedding_dim=4, dropout=0.5)
    network = Network(config, torch.Generator().manual_seed(0))
    ids = torch.randint(11, (7, 3))
    tops, _ = network._run_members_together(ids, network.initial_state(3), Draws(torch.Generator().manual_seed(0)))
    dropped = [top == 0.0 for top in tops]
    assert torch.equal(dropped[0], dropped[0][:1].expand_as(dropped[0]))  # one mask for all steps
    assert 0.4 < dropped[0].double().mean() < 0.6
    assert not torch.equal(*dropped)
