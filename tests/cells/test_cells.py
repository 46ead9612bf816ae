"""Each cell against its equations, computed here in plain Python one unit at a time, and against torch's modules."""

import math

import array_api_strict
import numpy as np
import pytest
import torch

from chargen.cells import CELLS
from chargen.errors import ConfigError

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


def reference_variant(
    name: str, p: dict[str, np.ndarray], x: np.ndarray, state: tuple[np.ndarray, ...]
) -> list[list[float]]:
    """Return one step of a variant for one batch row, one unit at a time."""
    h = [float(each) for each in state[0]]
    a = [dot(row, x) for row in p["weight_ih"]]
    if "bias_ih" in p:
        a = [value + float(bias) for value, bias in zip(a, p["bias_ih"], strict=True)]
    units = range(H)

    def recurrent(gate: int, j: int, vector: list[float]) -> float:
        """Return the recurrent product of a unit in a gate, with its bias."""
        return dot(p["weight_hh"][gate * H + j], np.array(vector)) + float(p["bias_hh"][gate * H + j])

    if name == "rnn-relu":
        return [[max(0.0, a[j] + recurrent(0, j, h)) for j in units]]
    if name == "indrnn":
        return [[max(0.0, a[j] + math.tanh(p["weight_hh"][j]) * h[j]) for j in units]]
    if name == "gru-v1":
        r = [logistic(a[j] + recurrent(0, j, h)) for j in units]
        z = [logistic(a[H + j] + recurrent(1, j, h)) for j in units]
        reset = [r[j] * h[j] for j in units]
        n = [math.tanh(a[2 * H + j] + recurrent(2, j, reset)) for j in units]
        return [[(1 - z[j]) * n[j] + z[j] * h[j] for j in units]]
    if name == "mgu":
        f = [logistic(a[j] + recurrent(0, j, h)) for j in units]
        n = [math.tanh(a[H + j] + recurrent(1, j, [f[k] * h[k] for k in units])) for j in units]
        return [[(1 - f[j]) * h[j] + f[j] * n[j] for j in units]]
    if name in ("lstm-peephole", "lstm-coupled", "mlstm"):
        return reference_lstm(name, p, a, recurrent, h, [float(each) for each in state[1]])
    if name == "mingru":
        return [[(1 - logistic(a[j])) * h[j] + logistic(a[j]) * a[H + j] for j in units]]
    if name == "minlstm":
        i, f = [logistic(a[j]) for j in units], [logistic(a[H + j]) for j in units]
        return [[f[j] / (f[j] + i[j]) * h[j] + i[j] / (f[j] + i[j]) * a[2 * H + j] for j in units]]
    if name == "lru":
        s = [complex(h[j], float(state[1][j])) for j in units]
        r = [logistic(float(p["decay"][j])) for j in units]
        rotation = [complex(math.cos(p["angle"][j]), math.sin(p["angle"][j])) for j in units]
        s = [r[j] * rotation[j] * s[j] + math.sqrt(1 - r[j] ** 2) * complex(a[j], a[H + j]) for j in units]
        return [[each.real for each in s], [each.imag for each in s]]
    n = CELLS.get(name).num_input_gates
    sums = [[a[k * H + j] + (float(state[k + 1][j]) if k + 1 < n else 0.0) for j in units] for k in range(n)]
    activation = math.tanh if name.startswith("mlp") else lambda value: max(0.0, value)
    return [[activation(sums[0][j] + float(p["bias"][j])) for j in units], *sums[1:]]


def reference_lstm(
    name: str, p: dict[str, np.ndarray], a: list[float], recurrent: object, h: list[float], c: list[float]
) -> list[list[float]]:
    """Return one step of a variant of the LSTM: (h', c')."""
    units, order = range(H), {"lstm-coupled": "fgo"}.get(name, "ifgo")
    if name == "mlstm":
        h = [a[4 * H + j] * dot(p["weight_hm"][j], np.array(h)) for j in units]
    peephole = p.get("peephole", np.zeros(3 * H))

    def gate(letter: str, j: int, cell_state: float) -> float:
        k = order.index(letter)
        seen = float(peephole["ifo".index(letter) * H + j]) * cell_state if letter != "g" else 0.0
        return a[k * H + j] + recurrent(k, j, h) + seen  # type: ignore[operator]

    f, g = [logistic(gate("f", j, c[j])) for j in units], [math.tanh(gate("g", j, c[j])) for j in units]
    i = [1 - f[j] if name == "lstm-coupled" else logistic(gate("i", j, c[j])) for j in units]
    c = [f[j] * c[j] + i[j] * g[j] for j in units]
    return [[logistic(gate("o", j, c[j])) * math.tanh(c[j]) for j in units], c]


CLASSIC = ("rnn", "lstm", "gru", "mgru")


@pytest.mark.parametrize("name", [*CELLS.names(), "mlp:1", "mlp:2", "conv:5"])
def test_a_step_equals_the_equations_of_its_cell(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    after = cell.step(np, params, cell.input_gates(params, x), state)
    for row in range(B):
        reference = reference_step if name in CLASSIC else reference_variant
        expected = reference(name, params, x[row], tuple(part[row] for part in state))
        assert len(after) == len(expected)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["rnn", "rnn-relu", "lstm", "gru"])
def test_steps_equal_torch_modules(name: str, dtype: torch.dtype) -> None:
    params, _, state = random_inputs(name)
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(name, torch.nn.RNN)
    reference = module(E, H, **({"nonlinearity": "relu"} if name == "rnn-relu" else {})).to(dtype)
    with torch.no_grad():
        for key, value in params.items():
            getattr(reference, f"{key}_l0").copy_(torch.from_numpy(value))
    xs = np.random.default_rng(1).normal(size=(5, B, E))
    numpy_dtype = torch.zeros((), dtype=dtype).numpy().dtype
    params = {key: value.astype(numpy_dtype) for key, value in params.items()}
    xs, state = xs.astype(numpy_dtype), tuple(part.astype(numpy_dtype) for part in state)
    before = [torch.from_numpy(part)[None] for part in state]
    expected, _ = reference(torch.from_numpy(xs), tuple(before) if name == "lstm" else before[0])
    cell = CELLS.get(name)
    for x, y in zip(xs, expected, strict=True):
        state = cell.step(np, params, cell.input_gates(params, x), state)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-10
        np.testing.assert_allclose(state[0], y.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CELLS.names())
def test_large_inputs_stay_finite_without_warnings(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    after = cell.step(np, params, cell.input_gates(params, 1e6 * x), state)
    assert all(np.isfinite(part).all() for part in after)


@pytest.mark.parametrize("name", CELLS.names())
def test_every_parameter_changes_the_step(name: str) -> None:
    params, x, state = random_inputs(name)
    cell = CELLS.get(name)
    expected = cell.step(np, params, cell.input_gates(params, x), state)
    assert set(cell.recurrent_names) <= set(params)
    for key in params:
        changed = {**params, key: 0.5 * params[key]}
        found = cell.step(np, changed, cell.input_gates(changed, x), state)
        assert not all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), key


@pytest.mark.parametrize(("name", "width"), [("mlp", 8), ("conv", 3), ("mlp:1", 1), ("conv:4", 4)])
def test_a_window_cell_sees_exactly_its_last_inputs(name: str, width: int) -> None:
    cell, rng = CELLS.get(name), np.random.default_rng(0)
    params = {key: rng.normal(size=shape) for key, shape in cell.parameter_shapes(E, H).items()}
    xs = rng.normal(size=(2 * width + 3, E))
    last = len(xs) - 1

    def output(inputs: np.ndarray) -> np.ndarray:
        state = cell.initial_state(np, (H,))
        for x in inputs:
            state = cell.step(np, params, cell.input_gates(params, x), state)
        return np.asarray(state[0])

    weights = params["weight_ih"].reshape(width, H, E)
    total = sum(weights[j] @ xs[last - j] for j in range(width)) + params["bias"]
    activation = np.tanh(total) if name.startswith("mlp") else np.maximum(total, 0.0)
    np.testing.assert_allclose(output(xs), activation, rtol=1e-12)
    changed = xs.copy()
    changed[last - width] += 1.0
    np.testing.assert_allclose(output(changed), output(xs), rtol=1e-12)  # one step too far back


@pytest.mark.parametrize("ratio", [1e-30, 1e-3, 1.0, 1e30])
def test_the_share_of_the_minimal_lstm_is_a_quotient_also_where_both_gates_round_to_zero(ratio: float) -> None:
    cell = CELLS.get("minlstm")
    gates = np.array([-200.0 + math.log(ratio), -200.0, 1.0])  # i = f · ratio, and both are about 1e-87
    (h,) = cell.step(np, {}, gates.astype(np.float32), (np.array([0.0], np.float32),))
    assert h == pytest.approx(ratio / (1 + ratio), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gruu", "no cell named 'gruu'"), ("gru:5", "takes no option"), ("gru:", "takes no option"),
        ("mlp:0", "window of 0"), ("mlp:65", "window of 65"), ("mlp:", "not a number"), ("conv:x", "'x' is not"),
        ("mlp:-3", "not a number"), ("mlp:2.5", "not a number"), ("mlp:٣", "not a number"), ("mpl:8", "'mpl'"),
        ("conv:99999999999999999999", "not a number"), ("mlp:8:9", "not a number"), ("", "no cell named ''"),
    ],
)  # fmt: skip
def test_a_wrong_cell_name_is_an_error_that_says_what_to_do(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        CELLS.get(name)
    assert error.value.hint


def test_an_unknown_cell_is_corrected_with_and_without_an_option() -> None:
    for name, meant in [("mingur", "mingru"), ("lstm_peephole", "lstm-peephole"), ("mpl:4", "mlp")]:
        with pytest.raises(ConfigError) as error:
            CELLS.get(name)
        assert f"Did you mean '{meant}'?" in error.value.hint
