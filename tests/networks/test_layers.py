"""Every layer back end is the same function with the same gradient: equations == bptt == together == numerical."""

import pytest
import torch

import chargen.networks.kernels.scan as scan_module
from chargen.cells import CELLS
from chargen.networks import layers
from chargen.networks.kernels import members, num_slices
from chargen.networks.kernels.scan import LinearScan
from chargen.networks.kernels.windows import WindowSums
from chargen.networks.layers import Dense, Lookup

T, B, E, H, V = 5, 3, 4, 6, 7


def draw(name: str, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    cell = CELLS.get(name)
    params = {key: normal(*shape) for key, shape in cell.parameter_shapes(E, H).items()}
    return params, normal(T, B, E), tuple(normal(B, H) for _ in cell.state_names)


def gradients(name: str, backend: layers.LayerBackend, lookup: bool = False) -> list[torch.Tensor]:
    """Run a back end with a weighted sum of outputs and last state as the loss; return the values and all gradients."""
    params, x, state = draw(name)
    ids = torch.arange(T * B).reshape(T, B) % V
    table = torch.randn(V, E, generator=torch.Generator().manual_seed(9), dtype=torch.float64).requires_grad_()
    inputs = Lookup(ids, table) if lookup else Dense(x)
    outputs, after = backend(CELLS.get(name), params, inputs, state)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)
    total = (outputs * weights).sum() + sum((k + 2) * part.square().sum() for k, part in enumerate(after))
    leaves = [*params.values(), *state, table if lookup else x]
    return [outputs.detach(), *(part.detach() for part in after), *torch.autograd.grad(total, leaves)]


@pytest.fixture(params=[1, 32], ids=["slices", "one slice"])
def min_slice_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Split the small layers of these tests into slices, or do not."""
    monkeypatch.setattr("chargen.networks.kernels.MIN_SLICE_WIDTH", request.param)
    return int(request.param)


@pytest.mark.usefixtures("min_slice_width")
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("name", list(layers.FUNCTIONS))
def test_hand_written_gradients_equal_those_of_the_equations(name: str, lookup: bool) -> None:
    fast = gradients(name, layers.bptt_backend(name), lookup)
    slow = gradients(name, layers.run_equations, lookup)
    assert len(fast) == len(slow)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("num_members", [1, 3])
@pytest.mark.parametrize("name", list(members.FUNCTIONS))
def test_members_together_equal_each_member_and_its_gradients(name: str, num_members: int) -> None:
    drawn = [draw(name, seed) for seed in range(num_members)]
    weights = torch.linspace(-1, 1, num_members * T * B * H, dtype=torch.float64).view(num_members, T, B, H)
    params = {key: torch.stack([p[key] for p, _, _ in drawn]) for key in drawn[0][0]}
    x, state = (
        torch.stack([x for _, x, _ in drawn]),
        tuple(torch.stack(parts) for parts in zip(*(s for _, _, s in drawn), strict=True)),
    )
    outputs, *after = layers.run_together(name, params, x, state)
    total = (outputs * weights).sum() + sum((k + 2) * part.square().sum() for k, part in enumerate(after))
    leaves = [leaf for p, x, state in drawn for leaf in (*p.values(), x, *state)]
    found = torch.autograd.grad(total, leaves)
    expected_total = 0
    for member, (p, x, state) in enumerate(drawn):
        expected, expected_after = layers.run_equations(CELLS.get(name), p, Dense(x), state)
        torch.testing.assert_close(outputs[member], expected, rtol=1e-9, atol=1e-11)
        expected_total = expected_total + (expected * weights[member]).sum()
        expected_total += sum((k + 2) * part.square().sum() for k, part in enumerate(expected_after))
    for a, b in zip(found, torch.autograd.grad(expected_total, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CELLS.names())
def test_a_lookup_equals_its_dense_values(name: str) -> None:
    params, _, state = draw(name)
    table = torch.randn(V, E, dtype=torch.float64)
    for ids in (torch.randint(V, (T, B)), torch.randint(V, (1, 2))):  # more ids than rows, and fewer
        before = tuple(part[: ids.shape[1]] for part in state)
        one, _ = layers.run_equations(CELLS.get(name), params, Lookup(ids, table), before)
        other, _ = layers.run_equations(CELLS.get(name), params, Dense(table[ids]), before)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_num_slices_is_at_least_the_number_of_threads_if_the_units_allow(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.usefixtures("min_slice_width")
@pytest.mark.parametrize(("name", "function"), list(layers.FUNCTIONS.items()))
def test_hand_written_gradients_equal_numerical_ones(name: str, function: type) -> None:
    generator, cell = torch.Generator().manual_seed(3), CELLS.get(name)
    weights = cell.parameter_shapes(1, 4)
    before = [(2, 4)] * len(cell.state_names)
    shapes = [(3, 2, cell.num_input_gates * 4), *before, weights["weight_hh"], weights["bias_hh"]]
    inputs = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(function.apply, inputs)


def test_the_back_end_depends_on_the_device() -> None:
    assert layers.choose_backend("gru", torch.device("meta")) is layers.run_equations
    assert layers.choose_backend("gru", torch.device("cpu")) is not layers.run_equations
    assert layers.choose_backend("unknown cell", torch.device("cpu")) is layers.run_equations


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", list(members.FUNCTIONS))
def test_members_on_a_gpu_equal_the_equations(name: str) -> None:
    params, x, state = draw(name)
    expected, _ = layers.run_equations(CELLS.get(name), params, Dense(x), state)
    to = {key: value.detach().cuda()[None] for key, value in params.items()}
    found, *_ = layers.run_together(name, to, x.cuda()[None], tuple(part.cuda()[None] for part in state))
    torch.testing.assert_close(found[0].cpu(), expected, rtol=1e-7, atol=1e-9)


# ── compiled passes ───────────────────────────────────────────────────────────


def in_float32(name: str, backend: layers.LayerBackend, width: int, lookup: bool) -> list[torch.Tensor]:
    """Run a back end in float32, with inputs so large that the gates saturate at both ends."""
    torch.manual_seed(0)
    cell, sizes = CELLS.get(name), {"weight_hh": 1.0, "weight_ih": 4.0}
    shapes = cell.parameter_shapes(E, width)
    params = {
        k: (sizes.get(k, 1.0) * torch.randn(shape) / shape[-1] ** 0.5).requires_grad_() for k, shape in shapes.items()
    }
    h = torch.randn(B, width).clamp(-1, 1).requires_grad_()
    x, table = torch.randn(T, B, E, requires_grad=True), torch.randn(V, E, requires_grad=True)
    ids = torch.arange(T * B).reshape(T, B) % V
    outputs, after = backend(cell, params, Lookup(ids, table) if lookup else Dense(x), (h,))
    total = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum() + after[0].square().sum()
    return [
        outputs.detach(),
        after[0].detach(),
        *torch.autograd.grad(total, [*params.values(), h, table if lookup else x]),
    ]


@pytest.mark.parametrize("width", [6, 7, 64])
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("name", layers.NUMBA_CELLS)
def test_compiled_passes_equal_the_plain_back_end(name: str, lookup: bool, width: int) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    for a, b in zip(
        *(in_float32(name, backend(name), width, lookup) for backend in (layers.numba_backend, layers.bptt_backend)),
        strict=True,
    ):
        # The activations differ by up to 7e-7; five steps with large weights and sums over 15 positions enlarge that.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_compiled_activations_equal_torch() -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    from chargen.jit import sigmoid, tanh

    for x in torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([0.0, 1e-8, 1e30, -1e30])]).numpy():
        assert abs(float(tanh(x)) - float(torch.tanh(torch.tensor(x)))) < 7e-7
        assert abs(float(sigmoid(x)) - float(torch.sigmoid(torch.tensor(x)))) < 7e-7


def test_float64_uses_the_plain_back_end() -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    for name in layers.NUMBA_CELLS:
        for a, b in zip(
            gradients(name, layers.numba_backend(name)), gradients(name, layers.run_equations), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


# ── linear recurrences and windows ────────────────────────────────────────────

PARALLEL = ["mingru", "minlstm", "lru", "mlp", "mlp:1", "conv", "conv:7"]


def values_and_gradients(
    name: str, backend: layers.LayerBackend, num_steps: int, lookup: bool, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Run a layer over a window, and return its outputs, its state and the gradients of a loss of both."""
    cell, generator = CELLS.get(name), torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    params = {key: normal(*shape) for key, shape in cell.parameter_shapes(E, H).items()}
    x, table, state = normal(num_steps, B, E), normal(V, E), tuple(normal(B, H) for _ in cell.state_names)
    ids = torch.randint(V, (num_steps, B), generator=generator)
    outputs, after = backend(cell, params, Lookup(ids, table) if lookup else Dense(x), state)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=dtype).view_as(outputs)
    total = (outputs * weights).sum() + sum((k + 2) * part.square().sum() for k, part in enumerate(after))
    leaves = [*params.values(), *state, table if lookup else x]
    gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    return [outputs.detach(), *(part.detach() for part in after), *gradients]


@pytest.mark.parametrize("numbers_in_a_step", [0, 1 << 20], ids=["step by step", "chunks"])
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 23, 64])
@pytest.mark.parametrize("name", PARALLEL)
def test_a_window_at_once_equals_its_steps_with_the_same_gradients(
    name: str, num_steps: int, lookup: bool, numbers_in_a_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_CHUNKED_NUMBERS", numbers_in_a_step)
    backend = layers.choose_backend(name, torch.device("cpu"))
    assert backend in (layers.run_scan, layers.run_windows)
    fast = values_and_gradients(name, backend, num_steps, lookup, torch.float64)
    slow = values_and_gradients(name, layers.run_equations, num_steps, lookup, torch.float64)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("with_numba", [False, True])
@pytest.mark.parametrize("name", PARALLEL)
def test_a_window_at_once_equals_its_steps_in_float32(
    name: str, with_numba: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_numba:
        pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    monkeypatch.setattr(layers, "use_numba", lambda: with_numba)
    backend = layers.choose_backend(name, torch.device("cpu"))
    for lookup in (False, True):
        fast = values_and_gradients(name, backend, 64, lookup, torch.float32)
        exact = values_and_gradients(name, layers.run_equations, 64, lookup, torch.float64)
        for a, b in zip(fast, exact, strict=True):
            scale = max(1.0, float(b.abs().max()))
            torch.testing.assert_close(a.double() / scale, b / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_the_gradient_of_the_scan_equals_the_numerical_one(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for num_steps in (1, 5):
        shapes = [(num_steps, 2, 3), (num_steps, 2, 3), (2, 3)]
        inputs = [torch.randn(*s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]
        assert torch.autograd.gradcheck(LinearScan.apply, inputs)


def test_the_gradient_of_window_sums_equals_the_numerical_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for width in (1, 4):
        shapes = [(3, 2, 2 * width), (width - 1, 2, 2)]
        inputs = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
        assert torch.autograd.gradcheck(WindowSums.apply, inputs)


def test_a_decay_of_zero_and_long_products_are_exact() -> None:
    decay = torch.full((400, 1, 2), 0.5)
    decay[::50] = 0.0
    update = torch.randn(400, 1, 2, generator=torch.Generator().manual_seed(0))
    h, expected = torch.ones(1, 2), []
    for a, b in zip(decay, update, strict=True):
        h = a * h + b
        expected.append(h)
    torch.testing.assert_close(scan_module.scan(decay, update, torch.ones(1, 2)), torch.stack(expected))


@pytest.mark.parametrize("name", CELLS.names())
def test_every_back_end_has_the_numerical_gradient_of_its_cell(name: str) -> None:
    cell, generator = CELLS.get(name), torch.Generator().manual_seed(3)
    backend = layers.choose_backend(name, torch.device("cpu"))
    shapes = cell.parameter_shapes(2, 4)

    def run(x: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        params = dict(zip(shapes, rest, strict=False))
        outputs, after = backend(cell, params, Dense(x), rest[len(shapes) :])
        return outputs, *after

    sizes = [(3, 2, 2), *shapes.values(), *((2, 4) for _ in cell.state_names)]
    inputs = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in sizes]
    assert torch.autograd.gradcheck(run, inputs)


def test_a_cell_with_input_gates_of_its_own_uses_them_for_dense_inputs() -> None:
    cell = CELLS.get("mlp:2")
    params = {key: torch.randn(shape) for key, shape in cell.parameter_shapes(E, H).items()}
    x = torch.randn(T, B, E)
    torch.testing.assert_close(Dense(x).input_gates(cell, params), cell.input_gates(params, x))
