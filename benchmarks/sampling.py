r"""Measure the speed of sampling, beside PyTorch with the same weights and beside the time to read the weights.

    python -m benchmarks.sampling --seconds 0.2 --turns 9

For each character, a single stream has to read every recurrent weight and the output layer once: G·H² + H·V float32
numbers. All variants take turns in one process; the medians are printed, in characters per second:

    limit       a matrix–vector product over the same number of weights, by NumPy
    one         `LanguageModel.stream`; "compiled": after its first characters, if numba is installed
    many        `LanguageModel.samples` with 64 texts of 100 characters; "many_compiled": as for long texts
    products    only the matrix products of 64 texts, by NumPy
    regex       200 samples of '[A-Z][a-z]+, (the )?[a-z]+\.\n', beside "plain": 200 samples without a pattern
    torch       `torch.nn.LSTM` or `GRU`, stepped in eager mode with the same weights
    process     a whole `chargen sample --length 1000`, the time to its first character, and the same with `-n 64`

The models have random weights, as the speed does not depend on what they generate.
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
from typing import Any

import click
import numpy as np
import torch

from benchmarks.quality import machine
from chargen.cells import CELLS
from chargen.cells.weights import parameter_shapes
from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig
from chargen.engines import streams
from chargen.graph.numba_backend import numba_installed
from chargen.lm import LanguageModel
from chargen.tokenizers.tokenizer import build_tokenizer

EMBEDDING, TEMPERATURE, BATCH, LENGTH = 64, 0.8, 20, 100
PATTERN = r"[A-Z][a-z]+, (the )?[a-z]+\.\n"
Call = Callable[[], object]


@click.command()
@click.option("--shapes", default="lstm:512,gru:384,mgru:480", show_default=True, help="Cells with their hidden sizes.")
@click.option("--seconds", default=0.2, show_default=True, help="Seconds for each variant in each turn.")
@click.option("--turns", default=9, show_default=True, help="Turns whose median is taken.")
@click.option("--texts", "num_texts", default=64, show_default=True, help="Number of texts that are sampled at once.")
def main(shapes: str, seconds: float, turns: int, num_texts: int) -> None:
    """Print the speeds of each shape as a line of JSON."""
    print(json.dumps({"machine": machine()}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")
        result = measure(cell, int(hidden), seconds, turns, num_texts) | process(cell, int(hidden), num_texts)
        print(json.dumps(result), flush=True)


def model(cell: str, hidden: int) -> LanguageModel:
    """Return a model with random weights whose vocabulary has letters, digits and the characters of PATTERN."""
    tokenizer = build_tokenizer("char", "".join(map(chr, range(ord("A"), ord("z") + 1))) + "0123 .,\n")
    config = ModelConfig(tokenizer.vocab_size, cell, hidden_size=hidden, embedding_dim=EMBEDDING)
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config).items()
    weights = {name: rng.normal(0, hidden**-0.5, shape).astype(np.float32) for name, shape in shapes}
    return LanguageModel(Checkpoint(config, tokenizer, weights))


def measure(cell: str, hidden: int, seconds: float, turns: int, num_texts: int) -> dict[str, object]:
    """Measure one shape. Ratios are medians over the turns, so that a slow moment affects both numbers."""
    lm = model(cell, hidden)
    size = lm.tokenizer.vocab_size
    num_weights = hidden * (CELLS.get(cell).num_gates * hidden + size)
    variants: dict[str, Call] = {
        "limit": product(num_weights),
        "products": product(num_weights, hidden, num_texts),
        "one": one(lm),
        "torch": library(cell, hidden, lm.checkpoint.weights, size) if cell in ("lstm", "gru") else one(lm),
        "many": many(lm, num_texts),
        "plain": lambda: lm.samples(200, length=19, seed=0, stop=("\n",)),
        "regex": lambda: lm.samples(200, length=20, seed=0, regex=PATTERN),
    }
    if numba_installed():
        variants |= {"compiled": one(lm, compiled=True), "many_compiled": many(lm, num_texts, compiled=True)}
    chars_per_call = {"products": num_texts, "many": num_texts * LENGTH, "many_compiled": num_texts * LENGTH}
    for name in ("plain", "regex"):
        chars_per_call[name] = sum(len(sample.text) for sample in variants[name]())  # type: ignore[attr-defined]
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + 1):
        for name, variant in variants.items():
            calls_at_once = 1 if name in chars_per_call else BATCH
            rate = calls_per_second(variant, seconds, calls_at_once) * chars_per_call.get(name, 1)
            if turn:  # the first turn is a warm-up
                found[name].append(rate)
    result: dict[str, object] = {"cell": cell, "hidden": hidden}
    result |= {f"{name}_per_s": round(statistics.median(rates)) for name, rates in found.items()}
    ratios = [("one", "limit"), ("compiled", "limit"), ("one", "torch"), ("compiled", "torch"), ("many", "one"),
            ("many_compiled", "one"), ("many", "products"), ("many_compiled", "products"), ("products", "limit"),
            ("plain", "regex")]  # fmt: skip
    for name, other in ratios:
        if name in found and not (cell == "mgru" and other == "torch"):
            quotients = [a / b for a, b in zip(found[name], found[other], strict=True)]
            result[f"{name}_over_{other}"] = round(statistics.median(quotients), 3)
    return result


def one(lm: LanguageModel, compiled: bool = False) -> Call:
    """Return a call that generates one character of a text without end."""
    before = streams.COMPILE_AFTER_TOKENS
    streams.COMPILE_AFTER_TOKENS = 1 if compiled else 10**12
    pieces = lm.stream(length=10**9, seed=0, temperature=TEMPERATURE)
    next(pieces)
    streams.COMPILE_AFTER_TOKENS = before
    return lambda: next(pieces)


def many(lm: LanguageModel, num_texts: int, compiled: bool = False) -> Call:
    """Return a call that generates several texts at once."""

    def call() -> None:
        before = streams.COMPILE_BATCH_AFTER_TOKENS
        streams.COMPILE_BATCH_AFTER_TOKENS = 0 if compiled else 10**12
        lm.samples(num_texts, length=LENGTH, seed=0, temperature=TEMPERATURE)
        streams.COMPILE_BATCH_AFTER_TOKENS = before

    return call


def product(num_weights: int, columns: int = 512, num_texts: int | None = None) -> Call:
    """Return a call that multiplies a matrix of this many weights by one vector, or by one vector for each text."""
    rng, rows = np.random.default_rng(0), num_weights // columns
    if num_texts is None:
        matrix, vector = rng.normal(size=(rows, columns)).astype(np.float32), np.ones(columns, dtype=np.float32)
        out = np.empty(rows, dtype=np.float32)
        return lambda: np.dot(matrix, vector, out=out)
    vectors = np.ones((num_texts, columns), dtype=np.float32)
    matrix = rng.normal(size=(columns, rows)).astype(np.float32)
    products = np.empty((num_texts, rows), dtype=np.float32)
    return lambda: np.matmul(vectors, matrix, out=products)


def library(cell: str, hidden: int, weights: Mapping[str, np.ndarray], vocab_size: int) -> Call:
    """Return a call that generates one character with torch and the same weights."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](EMBEDDING, hidden)
    embedding, head = torch.nn.Embedding(vocab_size, EMBEDDING), torch.nn.Linear(hidden, vocab_size)
    with torch.no_grad():
        for name, parameter in [("embedding.weight", embedding.weight), ("head.weight", head.weight)]:
            parameter.copy_(torch.from_numpy(weights[name]))
        head.bias.copy_(torch.from_numpy(weights["head.bias"]))
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, f"{name}_l0").copy_(torch.from_numpy(weights[f"layers.0.{name}"]))
    sampler = TorchSampler(embedding, layer, head)
    return sampler.step


class TorchSampler:
    """A model of torch modules that generates one character per call."""

    def __init__(self, embedding: torch.nn.Embedding, layer: torch.nn.RNNBase, head: torch.nn.Linear) -> None:
        self._embedding = embedding
        self._layer = layer
        self._head = head
        self._ids = torch.zeros(1, 1, dtype=torch.long)
        self._state: Any = None

    def step(self) -> None:
        """Read the last character and draw the next one."""
        with torch.inference_mode():
            output, self._state = self._layer(self._embedding(self._ids), self._state)
            self._ids = torch.multinomial((self._head(output[0]) / TEMPERATURE).softmax(-1), 1)


def calls_per_second(call: Call, seconds: float, calls_at_once: int) -> float:
    """Call a function for some seconds and return the number of calls per second."""
    num_calls, start = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < seconds:
        for _ in range(calls_at_once):
            call()
        num_calls += calls_at_once
    return num_calls / elapsed_s


def process(cell: str, hidden: int, num_texts: int) -> dict[str, object]:
    """Measure whole processes: seconds to 1,000 characters, to the first one, and to 1,000 of each of many texts."""
    whole, first, many_texts = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model(cell, hidden).save(path)
        command = [sys.executable, "-m", "chargen", "sample", "-m", str(path), "--length", "1000", "--seed", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        for turn in range(8):
            for options, found in (([], whole), (["-n", str(num_texts)], many_texts)):
                start = time.perf_counter()
                with subprocess.Popen(
                    [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                ) as run:
                    assert run.stdout
                    run.stdout.read(1)
                    if turn and found is whole:  # the first turn is a warm-up
                        first.append(time.perf_counter() - start)
                    run.stdout.read()
                if turn:
                    found.append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(whole, many_texts, strict=True))
    return {
        "process_1000_chars_s": statistics.median(whole),
        "process_first_char_s": statistics.median(first),
        f"process_{num_texts}_texts_s": statistics.median(many_texts),
        "process_many_over_one": round(num_texts * ratio, 2),
    }


if __name__ == "__main__":
    main()
