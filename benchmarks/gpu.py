"""What a GPU gives: training beside a bare loop of the library's, the CPU's losses beside its own, and writing.

    python -m benchmarks.gpu

A line of JSON each:

    training    ids a second by `Trainer`, and by a loop of nn.Embedding, nn.GRU or nn.LSTM (cuDNN), nn.Linear, the
                loss, clipping and fused AdamW; both in TF32, in turns
    agreement   the losses of the first steps by the same seed, on a CPU and there, and the largest difference
    writing     characters a second of one stream and of many, through `LanguageModel`, in float32

`--device cpu` tries the program where there is no GPU; its figures say nothing.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import click
import torch

from benchmarks.quality import machine
from benchmarks.sampling import TEMPERATURE, model
from benchmarks.speed import EMBEDDING, VOCABULARY, library_step, placed, step
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.training.trainer import Trainer

AGREED_STEPS = 20


@click.command()
@click.option("--device", default="cuda", show_default=True, type=click.Choice(["cuda", "cpu"]))
@click.option("--shapes", default="lstm:512,gru:384,gru:512", show_default=True, help="Cells and hidden units.")
@click.option("--lanes", default=128, show_default=True, help="Of training, with windows of 64.")
@click.option("--steps", default=200, show_default=True, help="Of a turn of training.")
@click.option("--turns", default=5, show_default=True)
@click.option("--texts", default=4096, show_default=True, help="That are written side by side.")
@click.option("--length", default=1000, show_default=True, help="Characters of each.")
def main(device: str, shapes: str, lanes: int, steps: int, turns: int, texts: int, length: int) -> None:
    """Measure each shape."""
    where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(json.dumps({"machine": machine(), "device": where}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")[0], int(shape.split(":")[1])
        result: dict[str, object] = {"cell": cell, "hidden": hidden}
        result |= writing(cell, hidden, device, texts, length, turns)
        result |= agreement(cell, hidden, device)
        torch.set_float32_matmul_precision("high")
        result |= training(cell, hidden, device, lanes, steps, turns)
        torch.set_float32_matmul_precision("highest")
        print(json.dumps(result), flush=True)


def training(cell: str, hidden: int, device: str, B: int, steps: int, turns: int) -> dict[str, object]:
    """Return ids a second of both loops, and the median of their ratios."""
    T, ours, library = 64, [], []
    ways = [(ours, step(cell, B, T, hidden, device)), (library, library_step(B, T, hidden, device, cell))]
    for turn in range(turns + 1):
        for rates, call in ways:
            seconds = timed(lambda call=call: [call() for _ in range(steps)], device)  # type: ignore[misc]
            if turn:  # the first warms up
                rates.append(B * T * steps / seconds)
    return {
        "trained_per_s": round(statistics.median(ours)),
        "library_per_s": round(statistics.median(library)),
        "trained_over_library": round(statistics.median(a / b for a, b in zip(ours, library, strict=True)), 3),
    }


def agreement(cell: str, hidden: int, device: str) -> dict[str, object]:
    """Return how far the losses of the first steps are apart, in nats, with products in float32."""
    losses = []
    ids = torch.randint(VOCABULARY, (200_000,), generator=torch.Generator().manual_seed(0)).numpy()
    for name in ("cpu", device):
        config = ModelConfig(VOCABULARY, cell, hidden_size=hidden, embedding_dim=EMBEDDING)
        network = placed(config, name)
        settings = TrainConfig(steps=AGREED_STEPS, batch_size=32, seq_len=32, learning_rate=1e-3, device=name)
        trainer, found = Trainer(network, TextBatches(ids, 0, 32, 32), settings), []
        with torch.backends.cudnn.flags(allow_tf32=False):
            for number in range(AGREED_STEPS):
                trainer.train_step(number / AGREED_STEPS)
                found.append(trainer.recent.take())
        losses.append(found)
    return {"first_losses_apart_nats": max(abs(a - b) for a, b in zip(*losses, strict=True))}


def writing(cell: str, hidden: int, device: str, texts: int, length: int, turns: int) -> dict[str, object]:
    """Return characters a second of one stream, of many, and seconds to the first character."""
    lm = model(cell, hidden)
    lm.device = device
    begin = time.perf_counter()
    next(iter(lm.stream(length=10, seed=0)))
    first = time.perf_counter() - begin
    one, many = [], []
    for turn in range(turns + 1):
        alone = timed(lambda: lm.sample(length=20 * length, seed=0, temperature=TEMPERATURE), device)
        together = timed(lambda: lm.samples(texts, length=length, seed=0, temperature=TEMPERATURE), device)
        if turn:
            one.append(20 * length / alone)
            many.append(texts * length / together)
    return {
        "first_char_s": round(first, 2),
        "one_stream_per_s": round(statistics.median(one)),
        f"{texts}_streams_per_s": round(statistics.median(many)),
    }


def timed(call: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes, to the end of what it asks of the device."""
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
