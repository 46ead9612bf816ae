"""Each cell against its equations, computed here in plain Python one unit at a time, and against torch's modules."""

import math

import array_api_strict
import numpy as np
import pytest
import torch

from chargen.cells import CELLS

H, E, B = 3, 2, 4


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dot(row: np.ndarray, vector: np.ndarray) -> float:
    return sum(float(a) * float(b) for a, b in zip(row, vector, strict=True))


def reference_step(
    name: str, p: dict[str, np.ndarray], x: np.ndarray, state: tuple[np.ndarray, ...]
) -> list[list[float]]:
    """Return one step for one batch row, one unit at a time."""
    h = state[0]
    a = [dot(p["weight_ih"][k], x) + float(p["bias_ih"][k]) for k in range(len(p["bias_ih"]))]
    if name == "mgru":
        h = np.array([2 * logistic(a[2 * H + j]) * float(h[j]) for j in range(H)])
    b = [dot(p["weight_hh"][k], h) + float(p["bias_hh"][k]) for k in range(len(p["bias_hh"]))]
    if name == "rnn":
        return [[math.tanh(a[j] + b[j]) for j in range(H)]]
    if name == "lstm":
        c_new, h_new = [], []
        for j in range(H):
            i, f = logistic(a[j] + b[j]), logistic(a[H + j] + b[H + j])
            g, o = math.tanh(a[2 * H + j] + b[2 * H + j]), logistic(a[3 * H + j] + b[3 * H + j])
            c_new.append(f * float(state[1][j]) + i * g)
            h_new.append(o * math.tanh(c_new[-1]))
        return [h_new, c_new]
    h_new = []
    if name == "mgru":
        for j in range(H):
            z, n = logistic(a[j] + b[j]), math.tanh(a[H + j] + b[H + j])
            h_new.append((1 - z) * n + z * float(state[0][j]))
        return [h_new]
    for j in range(H):
        r, z = logistic(a[j] + b[j]), logistic(a[H + j] + b[H + j])
        n = math.tanh(a[2 * H + j] + r * b[2 * H + j])
        h_new.append((1 - z) * n + z * float(h[j]))
    return [h_new]


def random_inputs(name: str, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
    rng, cell = np.random.default_rng(seed), CELLS.get(name)
    params = {key: rng.normal(size=shape) for key, shape in cell.parameter_shapes(E, H).items()}
    return params, rng.normal(size=(B, E)), tuple(rng.normal(size=(B, H)) for _ in cell.state_names)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mgru"])
def test_a_step_equals_the_equations_of_its_cell(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    after = cell.step(np, params, cell.input_gates(params, x), state)
    for row in range(B):
        expected = reference_step(name, params, x[row], tuple(part[row] for part in state))
        for part, numbers in zip(after, expected, strict=True):
            np.testing.assert_allclose(part[row], numbers, rtol=1e-12)


@pytest.mark.parametrize("name", CELLS.names())
def test_a_step_without_batch_axis_equals_the_same_row_of_a_batch(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    batched = cell.step(np, params, cell.input_gates(params, x), state)
    single = cell.step(np, params, cell.input_gates(params, x[1]), tuple(part[1] for part in state))
    for batched_part, single_part in zip(batched, single, strict=True):
        np.testing.assert_allclose(batched_part[1], single_part, rtol=1e-12)


@pytest.mark.parametrize("name", CELLS.names())
def test_cells_use_only_the_array_api_standard(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    expected = cell.step(np, params, cell.input_gates(params, x), state)
    strict = {key: array_api_strict.asarray(value) for key, value in params.items()}
    gates = cell.input_gates(strict, array_api_strict.asarray(x))
    found = cell.step(array_api_strict, strict, gates, tuple(array_api_strict.asarray(part) for part in state))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12)


@pytest.mark.parametrize(("name", "module"), [("rnn", torch.nn.RNN), ("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)])
def test_steps_equal_torch_modules(name: str, module: type[torch.nn.Module]) -> None:
    params, _, state = random_inputs(name)
    reference = module(E, H).double()
    with torch.no_grad():
        for key, value in params.items():
            getattr(reference, f"{key}_l0").copy_(torch.from_numpy(value))
    xs = np.random.default_rng(1).normal(size=(5, B, E))
    before = [torch.from_numpy(part)[None] for part in state]
    expected, _ = reference(torch.from_numpy(xs), tuple(before) if name == "lstm" else before[0])
    cell = CELLS.get(name)
    for x, y in zip(xs, expected, strict=True):
        state = cell.step(np, params, cell.input_gates(params, x), state)
        np.testing.assert_allclose(state[0], y.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("name", CELLS.names())
def test_large_inputs_stay_finite_without_warnings(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    after = cell.step(np, params, cell.input_gates(params, 1e6 * x), state)
    assert all(np.isfinite(part).all() for part in after)
