r"""Measure the speed of generation, beside PyTorch with the same weights and beside the time to read the weights.

    python -m benchmarks.sampling --seconds 0.2 --turns 9

For each character, a single stream must read every recurrent weight and the head once: G·H² + H·V float32 numbers. All
measured calls take turns in one process. The medians are printed, in characters per second:

    limit       a matrix–vector product with that number of weights, in NumPy
    one         `LanguageModel.stream`, without compiled loops; "compiled": with the compiled loops that take over
                after the first characters, if numba is installed
    many        `LanguageModel.samples` of 64 texts of 100 characters, without compiled loops; "many_compiled": with
                the compiled loops that long texts use
    products    the matrix products of 64 texts alone, in NumPy
    regex       200 samples of '[A-Z][a-z]+, (the )?[a-z]+\.\n'; "plain": the same number of samples without a pattern
    torch       `torch.nn.LSTM` or `torch.nn.GRU` with the same weights, one step at a time in eager mode
    process     `chargen sample --length 1000` as a whole process, its first character, and with `-n 64`

The models have random weights, because the speed does not depend on the text.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.quality import describe_machine
from chargen.cells import CELLS
from chargen.cells.weights import parameter_shapes
from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig
from chargen.engines import streams
from chargen.graph import numba_installed
from chargen.lm import LanguageModel
from chargen.tokenizers.tokenizer import build_tokenizer

EMBEDDING_DIM = 64
TEMPERATURE = 0.8
CALLS_PER_CLOCK_READ = 20  #: calls between two readings of the clock, for calls that generate a single character
LENGTH = 100  #: characters of each of many texts
PATTERN = r"[A-Z][a-z]+, (the )?[a-z]+\.\n"
NEVER = 10**12  #: number of ids after which the compiled loops take over, if they must not
Call = Callable[[], object]


@click.command()
@click.option("--shapes", default="lstm:512,gru:384,mgru:480", show_default=True, help="Cells and hidden sizes.")
@click.option("--seconds", default=0.2, show_default=True, help="Duration of each measured call in each turn.")
@click.option("--turns", default=9, show_default=True, help="Number of timed turns for each median.")
@click.option("--streams", "num_streams", default=64, show_default=True, help="Number of streams of a batch.")
def main(shapes: str, seconds: float, turns: int, num_streams: int) -> None:
    """Print one line of JSON for each cell and hidden size."""
    print(json.dumps({"machine": describe_machine()}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")
        result = measure_calls(cell, int(hidden), seconds, turns, num_streams)
        result |= measure_processes(cell, int(hidden), num_streams)
        print(json.dumps(result), flush=True)


def create_model(cell: str, hidden: int) -> LanguageModel:
    """Return a model with random weights whose vocabulary has letters, digits and the characters of the pattern."""
    tokenizer = build_tokenizer("char", "".join(map(chr, range(ord("A"), ord("z") + 1))) + "0123 .,\n")
    config = ModelConfig(tokenizer.vocab_size, cell, hidden_size=hidden, embedding_dim=EMBEDDING_DIM)
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config).items()
    weights = {name: rng.normal(0, hidden**-0.5, shape).astype(np.float32) for name, shape in shapes}
    return LanguageModel(Checkpoint(config, tokenizer, weights))


def measure_calls(cell: str, hidden: int, seconds: float, turns: int, num_streams: int) -> dict[str, object]:
    """Measure the calls within this process.

    The ratios are medians of the ratios within each turn, so a slow period affects both sides.

    Args:
        cell: Name of the cell.
        hidden: Hidden size.
        seconds: Duration of each call's part of a turn.
        turns: Number of timed turns.
        num_streams: Number of streams that are generated in parallel.
    """
    lm = create_model(cell, hidden)
    vocab_size = lm.tokenizer.vocab_size
    num_weights = hidden * (CELLS.get(cell).num_gates * hidden + vocab_size)
    has_torch = cell in ("lstm", "gru")
    calls: dict[str, Call] = {
        "limit": make_product(num_weights),
        "products": make_product(num_weights, hidden, num_streams),
        "one": make_stream(lm),
        "torch": make_torch_stream(cell, hidden, lm.checkpoint.weights, vocab_size) if has_torch else make_stream(lm),
        "many": make_batch(lm, num_streams),
        "plain": lambda: lm.samples(200, length=19, seed=0, stop=("\n",)),
        "regex": lambda: lm.samples(200, length=20, seed=0, regex=PATTERN),
    }
    if numba_installed():
        calls |= {"compiled": make_stream(lm, compiled=True), "many_compiled": make_batch(lm, num_streams, True)}
    chars_per_call = {"products": num_streams, "many": num_streams * LENGTH, "many_compiled": num_streams * LENGTH}
    for name in ("plain", "regex"):
        chars_per_call[name] = sum(len(sample.text) for sample in calls[name]())  # type: ignore[attr-defined]
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            calls_per_read = 1 if name in chars_per_call else CALLS_PER_CLOCK_READ
            speed = measure_calls_per_s(call, seconds, calls_per_read) * chars_per_call.get(name, 1)
            if turn:  # the first turn is a warm-up
                speeds[name].append(speed)
    result: dict[str, object] = {"cell": cell, "hidden": hidden}
    result |= {f"{name}_per_s": round(statistics.median(values)) for name, values in speeds.items()}
    pairs = [("one", "limit"), ("compiled", "limit"), ("one", "torch"), ("compiled", "torch"), ("many", "one"),
             ("many_compiled", "one"), ("many", "products"), ("many_compiled", "products"), ("products", "limit"),
             ("plain", "regex")]  # fmt: skip
    for name, other in pairs:
        if name in speeds and not (cell == "mgru" and other == "torch"):
            ratios = [a / b for a, b in zip(speeds[name], speeds[other], strict=True)]
            result[f"{name}_over_{other}"] = round(statistics.median(ratios), 3)
    return result


def make_stream(lm: LanguageModel, compiled: bool = False) -> Call:
    """Return a call that generates one character of an endless text."""
    default = streams.COMPILE_AFTER_TOKENS
    streams.COMPILE_AFTER_TOKENS = 1 if compiled else NEVER
    pieces = lm.stream(length=10**9, seed=0, temperature=TEMPERATURE)
    next(pieces)
    streams.COMPILE_AFTER_TOKENS = default
    return lambda: next(pieces)


def make_batch(lm: LanguageModel, num_streams: int, compiled: bool = False) -> Call:
    """Return a call that generates a batch of texts."""

    def call() -> None:
        default = streams.COMPILE_BATCH_AFTER_TOKENS
        streams.COMPILE_BATCH_AFTER_TOKENS = 0 if compiled else NEVER
        lm.samples(num_streams, length=LENGTH, seed=0, temperature=TEMPERATURE)
        streams.COMPILE_BATCH_AFTER_TOKENS = default

    return call


def make_product(num_weights: int, columns: int = 512, num_streams: int | None = None) -> Call:
    """Return a call that multiplies a matrix with a vector, or with one vector for each stream.

    Args:
        num_weights: Size of the matrix; a remainder of the division by `columns` is left out.
        columns: Length of a vector.
        num_streams: Number of vectors; None for a matrix–vector product.
    """
    rng = np.random.default_rng(0)
    rows = num_weights // columns
    if num_streams is None:
        matrix = rng.normal(size=(rows, columns)).astype(np.float32)
        vector = np.ones(columns, dtype=np.float32)
        out = np.empty(rows, dtype=np.float32)
        return lambda: np.dot(matrix, vector, out=out)
    vectors = np.ones((num_streams, columns), dtype=np.float32)
    matrix = rng.normal(size=(columns, rows)).astype(np.float32)
    products = np.empty((num_streams, rows), dtype=np.float32)
    return lambda: np.matmul(vectors, matrix, out=products)


def make_torch_stream(cell: str, hidden: int, weights: Mapping[str, np.ndarray], vocab_size: int) -> Call:
    """Return a call that generates one character with PyTorch's modules and the same weights."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](EMBEDDING_DIM, hidden)
    embedding, head = torch.nn.Embedding(vocab_size, EMBEDDING_DIM), torch.nn.Linear(hidden, vocab_size)
    with torch.no_grad():
        for name, parameter in [("embedding.weight", embedding.weight), ("head.weight", head.weight)]:
            parameter.copy_(torch.from_numpy(weights[name]))
        head.bias.copy_(torch.from_numpy(weights["head.bias"]))
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, f"{name}_l0").copy_(torch.from_numpy(weights[f"layers.0.{name}"]))

    def generate() -> Iterator[None]:
        ids = torch.zeros(1, 1, dtype=torch.long)
        state = None
        while True:
            with torch.inference_mode():
                output, state = layer(embedding(ids), state)
                ids = torch.multinomial((head(output[0]) / TEMPERATURE).softmax(-1), 1)
            yield

    chars = generate()
    return lambda: next(chars)


def measure_calls_per_s(call: Call, seconds: float, calls_per_read: int) -> float:
    """Return the number of calls per second.

    Args:
        call: What to measure.
        seconds: Minimum duration of the measurement.
        calls_per_read: Calls between two readings of the clock.
    """
    num_calls = 0
    begin = time.perf_counter()
    while (elapsed_s := time.perf_counter() - begin) < seconds:
        for _ in range(calls_per_read):
            call()
        num_calls += calls_per_read
    return num_calls / elapsed_s


def measure_processes(cell: str, hidden: int, num_streams: int) -> dict[str, object]:
    """Measure whole processes: seconds to the first character, to 1,000, and to 1,000 of each of many texts."""
    first_char_s: list[float] = []
    single_s: list[float] = []
    many_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        create_model(cell, hidden).save(path)
        command = [sys.executable, "-m", "chargen", "sample", "-m", str(path), "--length", "1000", "--seed", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        for turn in range(8):
            for options, times in (([], single_s), (["-n", str(num_streams)], many_s)):
                begin = time.perf_counter()
                with subprocess.Popen(
                    [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                ) as process:
                    assert process.stdout
                    process.stdout.read(1)
                    if turn and times is single_s:  # the first turn is a warm-up
                        first_char_s.append(time.perf_counter() - begin)
                    process.stdout.read()
                if turn:
                    times.append(time.perf_counter() - begin)
    ratio = statistics.median(a / b for a, b in zip(single_s, many_s, strict=True))
    return {
        "process_1000_chars_s": statistics.median(single_s),
        "process_first_char_s": statistics.median(first_char_s),
        f"process_{num_streams}_texts_s": statistics.median(many_s),
        "process_many_over_one": round(num_streams * ratio, 2),
    }


if __name__ == "__main__":
    main()
