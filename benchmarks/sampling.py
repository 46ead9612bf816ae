"""How fast text is written, beside what PyTorch makes of the same weights and what reading the weights alone takes.

    python -m benchmarks.sampling --seconds 0.2 --turns 9

Per character one stream has to read every recurrent weight, and the head, once: G·H² + H·V float32 numbers. All that is
compared takes turns in one process; the medians are printed, in characters a second:

    limit       a matrix–vector product over as many numbers, by NumPy
    steps       NumpyEngine.step, and a draw
    stream      a stream's NumPy program, and a draw
    compiled    a stream with compiled loops, and a compiled draw (where numba is installed)
    engine      the two streams without the draw
    many        NumpyEngine.step of many streams at once, and their draws
    torch       `torch.nn.LSTM` or `GRU`, stepped in eager mode, of the same shape

The models have random weights: how fast text is written does not depend on what it says.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from itertools import cycle

import click
import numpy as np
import torch

from benchmarks.quality import machine
from chargen.cells import CELLS
from chargen.cells.weights import parameter_shapes
from chargen.config import ModelConfig
from chargen.engine.kernel import installed
from chargen.engine.numpy_engine import NumpyEngine
from chargen.engine.stream import TracedStream
from chargen.sampling.rules import draw

VOCABULARY, EMBEDDING, TEMPERATURE, BATCH = 67, 64, 0.8, 20
Call = Callable[[], object]


@click.command()
@click.option("--shapes", default="lstm:512,gru:384,mgru:480", show_default=True, help="Cells and hidden units.")
@click.option("--seconds", default=0.2, show_default=True, help="Of one turn of one way.")
@click.option("--turns", default=9, show_default=True)
@click.option("--streams", default=64, show_default=True, help="How many are many.")
def main(shapes: str, seconds: float, turns: int, streams: int) -> None:
    """Print a line of JSON for each shape."""
    print(json.dumps({"machine": machine(), "threads": torch.get_num_threads(), "numba": installed()}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")
        print(json.dumps(measure(cell, int(hidden), seconds, turns, streams)), flush=True)


def measure(cell: str, hidden: int, seconds: float, turns: int, streams: int) -> dict[str, object]:
    """Measure one shape; the ratios are medians of what each turn gave, so that a slow moment falls on both sides."""
    config = ModelConfig(VOCABULARY, cell, hidden_size=hidden, embedding_dim=EMBEDDING)
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config).items()
    weights = {name: rng.normal(0, hidden**-0.5, shape).astype(np.float32) for name, shape in shapes}
    engine = NumpyEngine(config, weights)
    ways: dict[str, Call] = {
        "limit": product(hidden * (CELLS.get(cell).num_gates * hidden + VOCABULARY)),
        "steps": steps(engine),
        "stream": stream(engine),
        "stream_engine": reading(engine, compiled=False),
        "many": many(engine, streams),
    }
    if installed():
        ways |= {"compiled": compiled(engine), "compiled_engine": reading(engine, compiled=True)}
    if cell in ("lstm", "gru"):
        ways["torch"] = library(cell, hidden, weights)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            rate = calls_a_second(way, seconds) * (streams if name == "many" else 1)
            if turn:  # the first warms up
                found[name].append(rate)
    result: dict[str, object] = {"cell": cell, "hidden": hidden}
    result |= {f"{name}_per_s": round(statistics.median(rates)) for name, rates in found.items()}
    for name in ("stream", "compiled"):
        for other in ("limit", "torch"):
            if name in found and other in found:
                ratios = [a / b for a, b in zip(found[name], found[other], strict=True)]
                result[f"{name}_over_{other}"] = round(statistics.median(ratios), 3)
    return result


def product(numbers: int) -> Call:
    """Return a call that reads so many numbers, in one matrix–vector product."""
    columns = 512
    matrix = np.random.default_rng(0).normal(size=(numbers // columns, columns)).astype(np.float32)
    vector, out = np.ones(columns, dtype=np.float32), np.empty(len(matrix), dtype=np.float32)
    return lambda: np.dot(matrix, vector, out=out)


def steps(engine: NumpyEngine) -> Call:
    """Return a call that writes a character, as it is done without a stream."""
    rng, state, token_id = np.random.default_rng(0), engine.initial_state(1), 1

    def call() -> None:
        nonlocal state, token_id
        logits, state = engine.step(np.array([token_id]), state)
        token_id = draw(logits[0].astype(np.float64) / TEMPERATURE, rng)

    return call


def stream(engine: NumpyEngine) -> Call:
    """Return a call that writes a character by a stream's NumPy program, the draw in five calls."""
    inner = engine.stream(engine.initial_state(1))
    assert isinstance(inner, TracedStream)
    step = inner._step  # which does not go over to compiled loops
    rng, x, inverse, token_id = np.random.default_rng(0), np.empty(VOCABULARY), np.array(1 / TEMPERATURE), 1
    multiply, subtract, exp, accumulate, random = np.multiply, np.subtract, np.exp, np.add.accumulate, rng.random

    def call() -> None:
        nonlocal token_id
        multiply(step(token_id), inverse, x)
        subtract(x, x[x.argmax()], x)
        exp(x, x)
        accumulate(x, 0, None, x)
        token_id = int(x.searchsorted(random() * x.item(-1), "right"))

    return call


def compiled(engine: NumpyEngine) -> Call:
    """Return a call that writes a character by compiled loops, the draw's among them."""
    from chargen.sampling.drawing import draw_one

    inner = engine.stream(engine.initial_state(1))
    assert isinstance(inner, TracedStream) and inner.compile()
    rng, added, room, token_id = np.random.default_rng(0), np.zeros(VOCABULARY), np.empty(VOCABULARY), 1
    step, random, inverse = inner.step, rng.random, 1 / TEMPERATURE

    def call() -> None:
        nonlocal token_id
        token_id = draw_one(step(token_id), added, room, inverse, random())

    return call


def reading(engine: NumpyEngine, compiled: bool) -> Call:
    """Return a call that reads one id."""
    inner = engine.stream(engine.initial_state(1))
    assert isinstance(inner, TracedStream)
    if compiled:
        inner.compile()
    step, ids = inner._step, cycle(range(VOCABULARY))
    return lambda: step(next(ids))


def many(engine: NumpyEngine, streams: int) -> Call:
    """Return a call that writes a character of each of many streams."""
    rng, state, ids = np.random.default_rng(0), engine.initial_state(streams), np.ones(streams, dtype=np.int64)

    def call() -> None:
        nonlocal state, ids
        logits, state = engine.step(ids, state)
        x = logits / np.float32(TEMPERATURE)
        cumulative = np.cumsum(np.exp(x - x.max(axis=1, keepdims=True)), axis=1, dtype=np.float64)
        ids = (cumulative <= rng.random((streams, 1)) * cumulative[:, -1:]).sum(axis=1)

    return call


def library(cell: str, hidden: int, weights: dict[str, np.ndarray]) -> Call:
    """Return a call that writes a character by torch, with the same weights."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](EMBEDDING, hidden)
    embedding, head = torch.nn.Embedding(VOCABULARY, EMBEDDING), torch.nn.Linear(hidden, VOCABULARY)
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


def calls_a_second(call: Call, seconds: float) -> float:
    """Return how often a second a call can be made."""
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(BATCH):
            call()
        calls += BATCH
    return calls / spent


if __name__ == "__main__":
    main()
