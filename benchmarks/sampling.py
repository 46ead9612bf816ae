"""How fast text is written, beside what PyTorch makes of the same weights and what reading the weights alone takes.

    python -m benchmarks.sampling --seconds 3

Per character one stream has to read every recurrent weight, and the head, once: W = G·H² + H·V numbers of the first
layer. "Limit" is how often a second a matrix–vector product of that size can be done here, by NumPy, measured in turns
with the rest. The models have random weights: how fast text is written does not depend on what it says.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

VOCAB_SIZE = 67
SHAPES = (("lstm", 512), ("gru", 384), ("mgru", 480))
ROUNDS = 5


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="A measurement.")
@click.option("--streams", default=64, show_default=True)
def main(seconds: float, streams: int) -> None:
    """Print a line of JSON for each shape, and one for a whole process."""
    for cell, hidden in SHAPES:
        print(json.dumps(shape(cell, hidden, seconds, streams)), flush=True)
    print(json.dumps(process()))


def shape(cell: str, hidden: int, seconds: float, streams: int) -> dict[str, object]:
    """Measure one shape; characters a second, each the median of several rounds that take turns."""
    model = _model(cell, hidden)
    ways: dict[str, Callable[[], float]] = {
        "one": lambda: _stream(model, seconds),
        "limit": lambda: _products(hidden * (_gates(cell) * hidden + VOCAB_SIZE), seconds),
        "many": lambda: _streams(model, streams, seconds),
    }
    if cell in ("lstm", "gru"):
        ways["torch"] = lambda: _torch(cell, hidden, seconds)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            found[name].append(way())
    rate = {name: statistics.median(values) for name, values in found.items()}
    result: dict[str, object] = {
        "cell": cell,
        "hidden": hidden,
        **{f"{n}_chars_per_s": round(r) for n, r in rate.items()},
    }
    result["share_of_limit"] = round(rate["one"] / rate["limit"], 3)
    result["many_over_one"] = round(rate["many"] / rate["one"], 2)
    if "torch" in rate:
        result["over_torch"] = round(rate["one"] / rate["torch"], 2)
    return result


def _gates(cell: str) -> int:
    from chargen.cells import CELLS

    return CELLS.get(cell).num_gates


def _model(cell: str, hidden: int):  # type: ignore[no-untyped-def]
    from chargen.cells.weights import parameter_shapes
    from chargen.checkpoint import Checkpoint
    from chargen.config import ModelConfig
    from chargen.lm import LanguageModel
    from chargen.text.tokenizer import build_tokenizer

    tokenizer = build_tokenizer("char", "".join(chr(48 + i) for i in range(VOCAB_SIZE - 3)) + "\n")
    config = ModelConfig(tokenizer.vocab_size, cell, hidden_size=hidden, embedding_dim=64)
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 1 / hidden**0.5, s).astype(np.float32) for n, s in parameter_shapes(config).items()}
    return LanguageModel(Checkpoint(config, tokenizer, weights))


def _stream(model, seconds: float) -> float:  # type: ignore[no-untyped-def]
    pieces = model.stream(length=10**9, seed=0, temperature=0.8)
    for _ in range(50):
        next(pieces)
    return _rate(lambda: next(pieces), seconds, 100)


def _streams(model, streams: int, seconds: float) -> float:  # type: ignore[no-untyped-def]
    model.samples(streams, length=5, seed=0)
    length = max(20, round(300 * seconds))
    begin = time.perf_counter()
    model.samples(streams, length=length, seed=0, temperature=0.8)
    return streams * length / (time.perf_counter() - begin)


def _products(weights: int, seconds: float) -> float:
    rows = 512
    matrix = np.random.default_rng(0).normal(size=(weights // rows, rows)).astype(np.float32)
    vector = np.ones(rows, dtype=np.float32)
    out = np.empty(len(matrix), dtype=np.float32)
    return _rate(lambda: np.dot(matrix, vector, out=out), seconds, 100)


def _torch(cell: str, hidden: int, seconds: float) -> float:
    import torch

    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](64, hidden)
    embedding, head = torch.nn.Embedding(VOCAB_SIZE, 64), torch.nn.Linear(hidden, VOCAB_SIZE)
    ids, state = torch.zeros(1, 1, dtype=torch.long), None

    def step() -> None:
        nonlocal ids, state
        output, state = layer(embedding(ids), state)
        ids = torch.multinomial((head(output[0]) / 0.8).softmax(-1), 1)

    with torch.inference_mode():
        return _rate(step, seconds, 20)


def _rate(call: Callable[[], object], seconds: float, times: int) -> float:
    """Return how often a second a call can be made."""
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(times):
            call()
        calls += times
    return calls / spent


def process() -> dict[str, float]:
    """Measure the whole process: 1,000 characters of an LSTM 1×512, and when the first one is there."""
    whole, first = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _model("lstm", 512).save(path)
        command = [sys.executable, "-m", "chargen", "sample", "-m", str(path), "--length", "1000", "--seed", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as run:
                assert run.stdout
                run.stdout.read(1)
                first.append(time.perf_counter() - begin)
                run.stdout.read()
            whole.append(time.perf_counter() - begin)
    return {"process_1000_chars_s": statistics.median(whole), "process_first_char_s": statistics.median(first)}


if __name__ == "__main__":
    main()
