"""Compiled passes on several threads, and with products in bf16: the same layer with the same gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.cli.options import THREAD_VARIABLES
from chargen.networks import layers
from chargen.networks.layers import Dense, Lookup
from chargen.networks.sampled_softmax import LinearFunction
from chargen.networks.torch_runtime import set_num_threads

pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")

from chargen.jit import narrow, njit, widen  # noqa: E402 - it needs numba
from chargen.networks.kernels import threads  # noqa: E402

E, V = 4, 7
HALF_ULP = 2.0**-9  #: largest relative error of a rounding to bf16
SHAPES = [(1, 1, 64), (1, 4, 7), (2, 1, 33), (3, 5, 33), (5, 6, 48), (64, 3, 96)]  #: T, B, H


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Divide passes of any size between two threads."""
    if threads.max_threads() == 1:
        pytest.skip("numba has no threads here that it shares with torch")
    monkeypatch.setattr(threads, "MIN_NUMBERS", 0)
    before = torch.get_num_threads()
    set_num_threads(2)
    yield
    set_num_threads(before)


def run_layer(
    name: str, shape: tuple[int, int, int], lookup: bool, product_dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Run a layer, and return its outputs, its state and the gradients of a loss of both."""
    T, B, H = shape
    cell, generator = CELLS.get(name), torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator)

    sizes = cell.parameter_shapes(E, H)
    params = {key: (normal(*size) / size[-1] ** 0.5).requires_grad_() for key, size in sizes.items()}
    x, table = normal(T, B, E).requires_grad_(), normal(V, E).requires_grad_()
    h = normal(B, H).clamp(-1, 1).requires_grad_()
    inputs = Lookup(torch.arange(T * B).view(T, B) % V, table) if lookup else Dense(x)
    outputs, (last,) = layers.numba_backend(name, product_dtype)(cell, params, inputs, (h,))
    total = (outputs * normal(*outputs.shape)).sum() + (last * normal(*last.shape)).sum()
    leaves = [*params.values(), h, table if lookup else x]
    return [outputs.detach(), last.detach(), *torch.autograd.grad(total, leaves)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("product_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("name", layers.NUMBA_CELLS)
def test_divided_passes_equal_undivided_ones(
    name: str, lookup: bool, shape: tuple[int, int, int], product_dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert threads.count_parts(*shape[1:]) == min(2, shape[1])
    first, second = (run_layer(name, shape, lookup, product_dtype) for _ in range(2))
    monkeypatch.setattr(threads, "MIN_NUMBERS", 1 << 40)
    assert threads.count_parts(*shape[1:]) == 1
    for a, again, b in zip(first, second, run_layer(name, shape, lookup, product_dtype), strict=True):
        assert torch.equal(a, again)
        torch.testing.assert_close(a, b, rtol=0.0, atol=1e-6 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lookup", [False, True], ids=["dense", "lookup"])
@pytest.mark.parametrize("name", layers.NUMBA_CELLS)
def test_products_in_bf16_change_values_and_gradients_by_a_few_roundings(
    name: str, lookup: bool, shape: tuple[int, int, int]
) -> None:
    """Three roundings in a product (both operands and the result), in the forward pass and in the backward pass."""
    exact, rounded = (run_layer(name, shape, lookup, dtype) for dtype in (torch.float32, torch.bfloat16))
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == torch.float32
        assert 0.0 < relative_error(a, b) <= 6 * HALF_ULP


@pytest.mark.parametrize("shape", [(1, 1, 5), (3, 4, 33)], ids=str)
def test_the_head_has_exact_logits_and_a_rounded_gradient(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [shape, (V, shape[2]), (V,)]
    parts = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
    weights = torch.randn(*shape[:2], V, generator=generator)
    exact, rounded = (function(*parts) for function in (F.linear, LinearFunction.apply))
    assert torch.equal(exact, rounded)
    d_exact, d_rounded = (torch.autograd.grad((each * weights).sum(), parts) for each in (exact, rounded))
    for found, expected in zip(d_rounded[:2], d_exact[:2], strict=True):
        assert 0.0 < relative_error(found, expected) <= 3 * HALF_ULP
    torch.testing.assert_close(d_rounded[2], d_exact[2])


def test_bf16_numbers_are_rounded_as_by_torch() -> None:
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=1000).astype(np.float32) * np.float32(10.0) ** generator.integers(-30, 30, 1000)
    ties = np.array([0x3F808000, 0x3F818000, 0x3F7F8000, 0xBF808000], np.uint32).view(np.float32)  # between two numbers
    values = np.concatenate([numbers, ties, np.array([0.0, -0.0, np.inf, -np.inf], np.float32)]).astype(np.float32)
    bits = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    like = np.uint16(0)

    @njit
    def narrow_all(values: np.ndarray, narrowed: np.ndarray, widened: np.ndarray) -> None:
        for k in range(len(values)):
            narrowed[k] = narrow(values[k], narrowed[k])
            widened[k] = widen(narrowed[k])

    narrowed, widened = np.zeros(len(values), np.uint16), np.zeros(len(values), np.float32)
    narrow_all(values, narrowed, widened)
    np.testing.assert_array_equal(narrowed, bits)
    np.testing.assert_array_equal(widened, torch.from_numpy(values).bfloat16().float().numpy())
    np.testing.assert_array_equal([narrow(x, like) for x in values], bits)
    np.testing.assert_array_equal([widen(x) for x in bits], widened)
    assert narrow(values[0], values[0]) == widen(values[0]) == values[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_runs_its_passes_on_one_thread() -> None:
    """OpenMP would wait for threads that the child does not have; with one thread it trains as the parent does."""
    script = (
        "import os, torch\n"
        "from chargen.networks.kernels import threads\n"
        "from tests.networks.test_compiled_passes import run_layer\n"
        "threads.MIN_NUMBERS = 0\n"
        "torch.set_num_threads(2)\n"
        "assert threads.count_parts(3, 33) == 2\n"
        "run_layer('mgru', (3, 5, 33), True)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert threads.count_parts(3, 33) == 1\n"
        "    torch.set_num_threads(1)\n"
        "    run_layer('mgru', (3, 5, 33), True)\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == "7\n", done.stderr


@pytest.mark.usefixtures("two_threads")
def test_code_is_compiled_after_the_number_of_threads_was_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")

    @njit
    def doubled(x: float) -> float:
        return x + x

    assert doubled(2.0) == 4.0


def test_compiled_code_is_loaded_without_the_compiler() -> None:
    script = (
        "import sys\n"
        "from tests.networks.test_compiled_passes import run_layer\n"
        "run_layer('mgru', (1, 4, 7), True)\n"
        "print('numba.np.arraymath' in sys.modules)\n"  # one of the modules that the compiler needs
    )
    command = [sys.executable, "-c", script]
    subprocess.run(command, capture_output=True, timeout=240, check=True)  # compiles it, if that was not done before
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr


def test_without_compilation_functions_run_as_python() -> None:
    script = (
        "from chargen.jit import int64, njit\n"
        "print(njit((int64,), cache=True)(lambda x: x + 1)(2), njit(cache=True)(lambda x: x + 1)(3))\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == "3 4\n", done.stderr


def test_another_number_of_threads_of_torch_is_kept() -> None:
    before = torch.get_num_threads()
    script = (
        "import torch\n"
        "from chargen.networks.kernels import threads\n"
        "torch.set_num_threads(3)\n"
        "assert threads.max_threads() >= 1\n"
        "print(torch.get_num_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "3\n", done.stderr
    assert torch.get_num_threads() == before
