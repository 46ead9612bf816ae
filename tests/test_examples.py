"""The programs in `examples/`: their gradients are right, they learn, and they need NumPy alone."""

import ast
import importlib.util
import itertools
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def example(request: pytest.FixtureRequest) -> types.ModuleType:
    """A program of `examples/`, opened as a module of its own."""
    spec = importlib.util.spec_from_file_location(request.param, ROOT / "examples" / f"{request.param}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


networks = pytest.mark.parametrize("example", ["min_char_rnn", "lstm_by_hand"], indirect=True)
gradient_flow = pytest.mark.parametrize("example", ["gradient_flow"], indirect=True)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_imports_numpy_and_the_standard_library_alone(file: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Import)]
    names = {alias.name.split(".")[0] for node in imports for alias in node.names} | {
        (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert names - set(sys.stdlib_module_names) == {"numpy"}


def test_the_plain_network_has_less_than_120_lines() -> None:
    assert len((ROOT / "examples" / "min_char_rnn.py").read_text("utf-8").splitlines()) < 120


@networks
def test_the_gradients_of_an_example_equal_the_numerical_ones(example: types.ModuleType) -> None:
    errors = dict(example.check_gradients())
    assert len(errors) >= 7
    assert max(errors.values()) <= 1e-6


@networks
def test_the_gradients_of_an_example_equal_those_of_autograd(example: types.ModuleType) -> None:
    V, H, T, B = 5, 7, 6, 3
    p = example.initial_params(V, H, np.float64)
    states = [np.random.default_rng(3).normal(size=(B, H)) for _ in range(1 if "W_ax" in p else 2)]
    x = np.random.default_rng(4).normal(size=(T, B, V))
    targets = np.random.default_rng(5).integers(0, V, (T, B))
    grads = example.backward(p, x, *example.forward(p, x, *states), targets)

    of_rnn = {"W_ax": "weight_ih_l0", "W_aa": "weight_hh_l0", "b_a": "bias_ih_l0", "W_ya": "weight", "b_y": "bias"}
    of_lstm = {"W_x": "weight_ih_l0", "W_h": "weight_hh_l0", "b": "bias_ih_l0", "W_y": "weight", "b_y": "bias"}
    layer = torch.nn.RNN(V, H).double() if "W_ax" in p else torch.nn.LSTM(V, H).double()
    head = torch.nn.Linear(H, V).double()
    theirs = dict(layer.named_parameters()) | dict(head.named_parameters())
    names = of_rnn if "W_ax" in p else of_lstm
    with torch.no_grad():
        layer.bias_hh_l0.zero_()
        for name, other in names.items():
            theirs[other].copy_(torch.from_numpy(p[name]))
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, *states)]
    state = tensors[1][None] if len(states) == 1 else (tensors[1][None], tensors[2][None])
    logits = head(layer(tensors[0], state)[0])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten()).backward()
    for name, other in names.items():
        np.testing.assert_allclose(grads[name], theirs[other].grad, rtol=1e-9, atol=1e-14)
    for name, tensor in zip(["x", *(name for name in grads if name.endswith("0"))], tensors, strict=True):
        np.testing.assert_allclose(grads[name], tensor.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.slow
@networks
def test_an_example_learns_to_recite_the_alphabet(
    example: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(example, "time", types.SimpleNamespace(time=lambda: next(clock)))  # a second for each step
    monkeypatch.setattr(example, "H", 32)
    p = example.initial_params(26, 32)
    example.train(p, np.arange(26 * 200) % 26, seconds=1002)
    assert "   1000 steps   loss 0.0" in capsys.readouterr().out.splitlines()[-1]
    written = "".join(ALPHABET[i] for i in example.sample(p, 25, 260))
    assert written.count(ALPHABET) >= 5  # each letter is drawn, so a few are wrong


@pytest.mark.parametrize("name", ["min_char_rnn.py", "lstm_by_hand.py"])
def test_an_example_runs_as_a_program(name: str, tmp_path: Path) -> None:
    (tmp_path / "alphabet.txt").write_text(ALPHABET * 200, encoding="utf-8")
    done = run(str(ROOT / "examples" / name), "alphabet.txt", "--seconds", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "relative errors of the gradients: " in done.stdout
    assert "validation loss " in done.stdout
    assert len(done.stdout.splitlines()[-1]) == 500


@pytest.mark.parametrize("name", ["min_char_rnn.py", "lstm_by_hand.py"])
def test_an_example_refuses_a_short_text(name: str, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(ALPHABET, encoding="utf-8")
    done = run(str(ROOT / "examples" / name), "short.txt", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "The text is too short: give at least 605 characters.\n"
    (tmp_path / "long.txt").write_text((ALPHABET * 24)[:605], encoding="utf-8")
    assert run(str(ROOT / "examples" / name), "long.txt", "--seconds", "0.1", folder=tmp_path).returncode == 0


@gradient_flow
def test_the_jacobians_of_gradient_flow_equal_the_numerical_ones(example: types.ModuleType) -> None:
    for step, size in example.networks(np.random.default_rng(0)).values():
        state, epsilon = np.random.default_rng(1).normal(size=size), 1e-6
        _, jacobian = step(np.random.default_rng(2), state)
        for i in range(size):
            d = np.zeros(size)
            d[i] = epsilon
            after, before = (step(np.random.default_rng(2), s)[0] for s in (state + d, state - d))
            np.testing.assert_allclose(jacobian[:, i], (after - before) / (2 * epsilon), atol=1e-8)


@gradient_flow
def test_gradients_vanish_or_explode_in_plain_networks_and_stay_in_an_lstm_that_remembers(
    example: types.ModuleType,
) -> None:
    small, identity, large, _, lstm = (norms[-1] for norms in example.measure().values())
    assert small < 1e-12
    assert large > 1e3
    assert 1e-3 < identity < 10
    assert 1 < lstm < 100


def test_gradient_flow_prints_a_table_and_writes_a_picture(tmp_path: Path) -> None:
    done = run(str(ROOT / "examples" / "gradient_flow.py"), "flow.svg", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [len(line) for line in done.stdout.splitlines()] == [80] * 6
    svg = ElementTree.parse(tmp_path / "flow.svg").getroot()
    words = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"distance k (steps)", "LSTM, forget bias 5", "plain, W = identity"} <= set(words)
