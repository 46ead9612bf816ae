"""Every way to run a layer is one function with one gradient: equations == by hand == fused == numeric."""

import pytest
import torch

from chargen.cells import CELLS
from chargen.networks import layers as paths
from chargen.networks.kernels import num_slices
from chargen.networks.kernels.gru import GRUFunction
from chargen.networks.kernels.lstm import LSTMFunction
from chargen.networks.kernels.mgru import MGRUFunction
from chargen.networks.kernels.rnn import RNNFunction
from chargen.networks.layers import Dense, Lookup

T, B, E, H, V = 5, 3, 4, 6, 7


def draw(name: str, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    cell = CELLS.get(name)
    params = {key: normal(*shape) for key, shape in cell.parameter_shapes(E, H).items()}
    return params, normal(T, B, E), tuple(normal(B, H) for _ in cell.state_names)


def gradients(name: str, path: paths.LayerBackend, lookup: bool = False) -> list[torch.Tensor]:
    """Run a path, weigh every output and the last state by other numbers, and return values and all gradients."""
    params, x, state = draw(name)
    ids = torch.arange(T * B).reshape(T, B) % V
    table = torch.randn(V, E, generator=torch.Generator().manual_seed(9), dtype=torch.float64).requires_grad_()
    inputs = Lookup(ids, table) if lookup else Dense(x)
    outputs, after = path(CELLS.get(name), params, inputs, state)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)
    total = (outputs * weights).sum() + sum((k + 2) * part.square().sum() for k, part in enumerate(after))
    leaves = [*params.values(), *state, table if lookup else x]
    return [outputs.detach(), *(part.detach() for part in after), *torch.autograd.grad(total, leaves)]


@pytest.fixture(params=[1, 32], ids=["in slices", "whole"])
def narrowest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let layers as small as those of the tests be cut into slices, or not."""
    monkeypatch.setattr("chargen.networks.kernels.NARROWEST", request.param)
    return int(request.param)


@pytest.mark.usefixtures("narrowest")
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("bptt", name) for name in CELLS.names()), *(("fused", name) for name in paths.MODULES)],
)
def test_fast_paths_equal_the_equations_and_their_gradients(kind: str, name: str, lookup: bool) -> None:
    fast = gradients(name, getattr(paths, kind)(name), lookup)
    slow = gradients(name, paths.equations, lookup)
    assert len(fast) == len(slow)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CELLS.names())
def test_a_lookup_is_its_rows(name: str) -> None:
    params, _, state = draw(name)
    table = torch.randn(V, E, dtype=torch.float64)
    for ids in (torch.randint(V, (T, B)), torch.randint(V, (1, 2))):  # more ids than rows, and fewer
        before = tuple(part[: ids.shape[1]] for part in state)
        one, _ = paths.equations(CELLS.get(name), params, Lookup(ids, table), before)
        other, _ = paths.equations(CELLS.get(name), params, Dense(table[ids]), before)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_units_are_cut_into_as_many_slices_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, hidden, slices in [
        (1, 512, 2),
        (2, 512, 2),
        (8, 512, 8),
        (6, 512, 8),
        (8, 96, 2),
        (8, 192, 4),
        (2, 33, 1),
    ]:
        monkeypatch.setattr("torch.get_num_threads", lambda n=threads: n)
        assert num_slices(hidden) == slices


@pytest.mark.usefixtures("narrowest")
@pytest.mark.parametrize(
    ("name", "function"),
    [("rnn", RNNFunction), ("lstm", LSTMFunction), ("gru", GRUFunction), ("mgru", MGRUFunction)],
)
def test_hand_written_gradients_equal_numeric_ones(name: str, function: type) -> None:
    generator, cell = torch.Generator().manual_seed(3), CELLS.get(name)
    weights = cell.parameter_shapes(1, 4)
    before = [(2, 4)] * len(cell.state_names)
    shapes = [(3, 2, cell.num_input_gates * 4), *before, weights["weight_hh"], weights["bias_hh"]]
    inputs = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(function.apply, inputs)


def test_the_path_follows_the_device() -> None:
    assert paths.choose_backend("gru", torch.device("meta")) is paths.equations
    assert paths.choose_backend("gru", torch.device("cpu")) is not paths.equations
    assert paths.choose_backend("a cell of one's own", torch.device("cpu")) is paths.equations


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", list(paths.MODULES))
def test_the_gpu_path_equals_the_cpu_path(name: str) -> None:
    params, x, state = draw(name)
    to = {key: value.detach().cuda() for key, value in params.items()}
    expected, _ = paths.equations(CELLS.get(name), params, Dense(x), state)
    found, _ = paths.fused(name)(CELLS.get(name), to, Dense(x.cuda()), tuple(part.cuda() for part in state))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-7, atol=1e-9)


# ── compiled passes ───────────────────────────────────────────────────────────


def in_float32(name: str, path: paths.LayerBackend, width: int, lookup: bool) -> list[torch.Tensor]:
    """The same in float32, with large inputs, so that the gates reach both their ends."""
    torch.manual_seed(0)
    cell, sizes = CELLS.get(name), {"weight_hh": 1.0, "weight_ih": 4.0}
    shapes = cell.parameter_shapes(E, width)
    params = {
        k: (sizes.get(k, 1.0) * torch.randn(shape) / shape[-1] ** 0.5).requires_grad_() for k, shape in shapes.items()
    }
    h = torch.randn(B, width).clamp(-1, 1).requires_grad_()
    x, table = torch.randn(T, B, E, requires_grad=True), torch.randn(V, E, requires_grad=True)
    ids = torch.arange(T * B).reshape(T, B) % V
    outputs, after = path(cell, params, Lookup(ids, table) if lookup else Dense(x), (h,))
    total = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum() + after[0].square().sum()
    return [
        outputs.detach(),
        after[0].detach(),
        *torch.autograd.grad(total, [*params.values(), h, table if lookup else x]),
    ]


@pytest.mark.parametrize("width", [6, 7, 64])
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("name", paths.JIT)
def test_compiled_passes_equal_the_plain_ones(name: str, lookup: bool, width: int) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    for a, b in zip(*(in_float32(name, path(name), width, lookup) for path in (paths.jit, paths.bptt)), strict=True):
        # The functions differ by up to 7e-7; five steps with large weights, and sums over 15 places, make more of it.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_compiled_functions_are_those_of_the_library() -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    from chargen.jit import sigmoid, tanh

    for x in torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([0.0, 1e-8, 1e30, -1e30])]).numpy():
        assert abs(float(tanh(x)) - float(torch.tanh(torch.tensor(x)))) < 7e-7
        assert abs(float(sigmoid(x)) - float(torch.sigmoid(torch.tensor(x)))) < 7e-7


def test_numbers_of_another_precision_take_the_plain_way() -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    for name in paths.JIT:
        for a, b in zip(gradients(name, paths.jit(name)), gradients(name, paths.equations), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
