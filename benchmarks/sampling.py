r"""How fast text is written, beside what PyTorch makes of the same weights and what reading the weights alone takes.

    python -m benchmarks.sampling --seconds 0.2 --turns 9

Per character one stream has to read every recurrent weight, and the head, once: G·H² + H·V float32 numbers. All that is
compared takes turns in one process; the medians are printed, in characters a second:

    limit       a matrix–vector product over as many numbers, by NumPy
    one         `LanguageModel.stream`; "compiled": as it is after its first characters where numba is installed
    many        `LanguageModel.samples` of 64 texts of 100 characters; "many_compiled": as it is where they are long
    products    the matrix products of 64 texts, by NumPy, and nothing else
    regex       200 samples of '[A-Z][a-z]+, (the )?[a-z]+\.\n', and the same number of plain ones
    torch       `torch.nn.LSTM` or `GRU`, stepped in eager mode with the same weights
    process     `chargen sample --length 1000` as a whole, its first character, and with `-n 64`

The models have random weights: how fast text is written does not depend on what it says.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.quality import machine
from chargen.cells import CELLS
from chargen.cells.weights import parameter_shapes
from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig
from chargen.engines import streams as lanes
from chargen.engines import streams as stream
from chargen.graph.numba_backend import numba_installed
from chargen.lm import LanguageModel
from chargen.tokenizers.tokenizer import build_tokenizer

EMBEDDING, TEMPERATURE, BATCH, LENGTH = 64, 0.8, 20, 100
PATTERN = r"[A-Z][a-z]+, (the )?[a-z]+\.\n"
Call = Callable[[], object]


@click.command()
@click.option("--shapes", default="lstm:512,gru:384,mgru:480", show_default=True, help="Cells and hidden units.")
@click.option("--seconds", default=0.2, show_default=True, help="Of one turn of one way.")
@click.option("--turns", default=9, show_default=True)
@click.option("--streams", default=64, show_default=True, help="How many are many.")
def main(shapes: str, seconds: float, turns: int, streams: int) -> None:
    """Print a line of JSON for each shape."""
    print(json.dumps({"machine": machine()}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")
        result = measure(cell, int(hidden), seconds, turns, streams) | process(cell, int(hidden), streams)
        print(json.dumps(result), flush=True)


def model(cell: str, hidden: int) -> LanguageModel:
    """Return a model of random weights that knows letters, digits and what the pattern needs."""
    tokenizer = build_tokenizer("char", "".join(map(chr, range(ord("A"), ord("z") + 1))) + "0123 .,\n")
    config = ModelConfig(tokenizer.vocab_size, cell, hidden_size=hidden, embedding_dim=EMBEDDING)
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config).items()
    weights = {name: rng.normal(0, hidden**-0.5, shape).astype(np.float32) for name, shape in shapes}
    return LanguageModel(Checkpoint(config, tokenizer, weights))


def measure(cell: str, hidden: int, seconds: float, turns: int, streams: int) -> dict[str, object]:
    """Measure one shape; the ratios are medians of what each turn gave, so that a slow moment falls on both sides."""
    lm = model(cell, hidden)
    size = lm.tokenizer.vocab_size
    numbers = hidden * (CELLS.get(cell).num_gates * hidden + size)
    ways: dict[str, Call] = {
        "limit": product(numbers),
        "products": product(numbers, hidden, streams),
        "one": one(lm),
        "torch": library(cell, hidden, lm.checkpoint.weights, size) if cell in ("lstm", "gru") else one(lm),
        "many": many(lm, streams),
        "plain": lambda: lm.samples(200, length=19, seed=0, stop=("\n",)),
        "regex": lambda: lm.samples(200, length=20, seed=0, regex=PATTERN),
    }
    if numba_installed():
        ways |= {"compiled": one(lm, compiled=True), "many_compiled": many(lm, streams, compiled=True)}
    written = {"products": streams, "many": streams * LENGTH, "many_compiled": streams * LENGTH}
    for name in ("plain", "regex"):
        written[name] = sum(len(each.text) for each in ways[name]())  # type: ignore[attr-defined]
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            rate = calls_a_second(way, seconds, 1 if name in written else BATCH) * written.get(name, 1)
            if turn:  # the first warms up
                found[name].append(rate)
    result: dict[str, object] = {"cell": cell, "hidden": hidden}
    result |= {f"{name}_per_s": round(statistics.median(rates)) for name, rates in found.items()}
    over = [("one", "limit"), ("compiled", "limit"), ("one", "torch"), ("compiled", "torch"), ("many", "one"),
            ("many_compiled", "one"), ("many", "products"), ("many_compiled", "products"), ("products", "limit"),
            ("plain", "regex")]  # fmt: skip
    for name, other in over:
        if name in found and not (cell == "mgru" and other == "torch"):
            ratios = [a / b for a, b in zip(found[name], found[other], strict=True)]
            result[f"{name}_over_{other}"] = round(statistics.median(ratios), 3)
    return result


def one(lm: LanguageModel, compiled: bool = False) -> Call:
    """Return a call that writes a character of an endless text."""
    before = stream.COMPILE_AFTER_TOKENS
    stream.COMPILE_AFTER_TOKENS = 1 if compiled else 10**12
    pieces = lm.stream(length=10**9, seed=0, temperature=TEMPERATURE)
    next(pieces)
    stream.COMPILE_AFTER_TOKENS = before
    return lambda: next(pieces)


def many(lm: LanguageModel, streams: int, compiled: bool = False) -> Call:
    """Return a call that writes texts side by side."""

    def call() -> None:
        before, lanes.COMPILE_BATCH_AFTER_TOKENS = lanes.COMPILE_BATCH_AFTER_TOKENS, 0 if compiled else 10**12
        lm.samples(streams, length=LENGTH, seed=0, temperature=TEMPERATURE)
        lanes.COMPILE_BATCH_AFTER_TOKENS = before

    return call


def product(numbers: int, columns: int = 512, streams: int | None = None) -> Call:
    """Return a call that reads so many numbers, in one product with a vector, or with as many as there are streams."""
    rng, rows = np.random.default_rng(0), numbers // columns
    if streams is None:
        matrix, vector = rng.normal(size=(rows, columns)).astype(np.float32), np.ones(columns, dtype=np.float32)
        out = np.empty(rows, dtype=np.float32)
        return lambda: np.dot(matrix, vector, out=out)
    vectors, matrix = np.ones((streams, columns), dtype=np.float32), rng.normal(size=(columns, rows)).astype(np.float32)
    products = np.empty((streams, rows), dtype=np.float32)
    return lambda: np.matmul(vectors, matrix, out=products)


def library(cell: str, hidden: int, weights: Mapping[str, np.ndarray], vocab_size: int) -> Call:
    """Return a call that writes a character by torch, with the same weights."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](EMBEDDING, hidden)
    embedding, head = torch.nn.Embedding(vocab_size, EMBEDDING), torch.nn.Linear(hidden, vocab_size)
    with torch.no_grad():
        for name, parameter in [("embedding.weight", embedding.weight), ("head.weight", head.weight)]:
            parameter.copy_(torch.from_numpy(weights[name]))
        head.bias.copy_(torch.from_numpy(weights["head.bias"]))
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, f"{name}_l0").copy_(torch.from_numpy(weights[f"layers.0.{name}"]))
    ids, state = torch.zeros(1, 1, dtype=torch.long), None

    def call() -> None:
        nonlocal ids, state
        with torch.inference_mode():
            output, state = layer(embedding(ids), state)
            ids = torch.multinomial((head(output[0]) / TEMPERATURE).softmax(-1), 1)

    return call


def calls_a_second(call: Call, seconds: float, at_once: int) -> float:
    """Return how often a second a call can be made."""
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(at_once):
            call()
        calls += at_once
    return calls / spent


def process(cell: str, hidden: int, streams: int) -> dict[str, object]:
    """Measure whole processes: seconds to 1,000 characters, to the first, and to 1,000 of each of many texts."""
    whole, first, many = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model(cell, hidden).save(path)
        command = [sys.executable, "-m", "chargen", "sample", "-m", str(path), "--length", "1000", "--seed", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        for turn in range(8):
            for options, found in (([], whole), (["-n", str(streams)], many)):
                begin = time.perf_counter()
                with subprocess.Popen(
                    [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                ) as run:
                    assert run.stdout
                    run.stdout.read(1)
                    if turn and found is whole:  # the first warms up
                        first.append(time.perf_counter() - begin)
                    run.stdout.read()
                if turn:
                    found.append(time.perf_counter() - begin)
    return {
        "process_1000_chars_s": statistics.median(whole),
        "process_first_char_s": statistics.median(first),
        f"process_{streams}_texts_s": statistics.median(many),
        "process_many_over_one": round(streams * statistics.median(a / b for a, b in zip(whole, many, strict=True)), 2),
    }


if __name__ == "__main__":
    main()
