"""Measure training and generation on a GPU, and compare training there with PyTorch's modules and with the CPU.

    python -m benchmarks.gpu

Each cell and size gives one line of JSON with the results of three measurements:

    training    ids per second of `Trainer`, and of a loop of nn.Embedding, nn.GRU or nn.LSTM (cuDNN), nn.Linear, the
                loss, gradient clipping and fused AdamW; both in TF32, in turns
    agreement   the largest difference of the losses of the first steps between the CPU and the GPU, with the same seed
    writing     characters per second that `LanguageModel` generates in a single stream and in many, in float32

With `--device cpu` the program can be tried without a GPU; its figures then mean nothing.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import click
import torch

from benchmarks.quality import describe_machine
from benchmarks.sampling import TEMPERATURE, create_model
from benchmarks.speed import EMBEDDING_DIM, VOCAB_SIZE, create_network, make_step, make_torch_step
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.training.trainer import Trainer

NUM_COMPARED_STEPS = 20  #: steps whose losses are compared between the devices


@click.command()
@click.option(
    "--device", default="cuda", show_default=True, type=click.Choice(["cuda", "cpu"]), help="Device to measure."
)
@click.option("--shapes", default="lstm:512,gru:384,gru:512", show_default=True, help="Cells and hidden sizes.")
@click.option("--batch-size", default=128, show_default=True, help="Batch size of training; a window has 64 ids.")
@click.option("--steps", default=200, show_default=True, help="Training steps in each turn.")
@click.option("--turns", default=5, show_default=True, help="Number of timed turns for each median.")
@click.option("--texts", default=4096, show_default=True, help="Number of texts that are generated in parallel.")
@click.option("--length", default=1000, show_default=True, help="Length of each text, in characters.")
def main(device: str, shapes: str, batch_size: int, steps: int, turns: int, texts: int, length: int) -> None:
    """Print one line of JSON for each cell and hidden size."""
    device_name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(json.dumps({"machine": describe_machine(), "device": device_name}))
    for shape in shapes.split(","):
        cell, hidden = shape.split(":")[0], int(shape.split(":")[1])
        result: dict[str, object] = {"cell": cell, "hidden": hidden}
        result |= measure_generation(cell, hidden, device, texts, length, turns)
        result |= compare_losses(cell, hidden, device)
        torch.set_float32_matmul_precision("high")
        result |= measure_training(cell, hidden, device, batch_size, steps, turns)
        torch.set_float32_matmul_precision("highest")
        print(json.dumps(result), flush=True)


def measure_training(cell: str, hidden: int, device: str, B: int, steps: int, turns: int) -> dict[str, object]:
    """Return the ids per second of `Trainer` and of PyTorch's modules, and the median of their ratios."""
    T = 64
    calls = {"ours": make_step(cell, B, T, hidden, device), "torch": make_torch_step(B, T, hidden, device, cell)}
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            elapsed_s = measure_time(lambda call=call: [call() for _ in range(steps)], device)  # type: ignore[misc]
            if turn:  # the first turn is a warm-up
                speeds[name].append(B * T * steps / elapsed_s)
    ratios = [ours / torch_speed for ours, torch_speed in zip(speeds["ours"], speeds["torch"], strict=True)]
    return {
        "trained_per_s": round(statistics.median(speeds["ours"])),
        "library_per_s": round(statistics.median(speeds["torch"])),
        "trained_over_library": round(statistics.median(ratios), 3),
    }


def compare_losses(cell: str, hidden: int, device: str) -> dict[str, object]:
    """Return the largest difference of the losses of the first steps, in nats; a GPU trains with TF32 products."""
    losses = []
    ids = torch.randint(VOCAB_SIZE, (200_000,), generator=torch.Generator().manual_seed(0)).numpy()
    for name in ("cpu", device):
        config = ModelConfig(VOCAB_SIZE, cell, hidden_size=hidden, embedding_dim=EMBEDDING_DIM)
        network = create_network(config, name)
        settings = TrainConfig(steps=NUM_COMPARED_STEPS, batch_size=32, seq_len=32, learning_rate=1e-3, device=name)
        trainer = Trainer(network, TextBatches(ids, 0, 32, 32), settings)
        step_losses = []
        for number in range(NUM_COMPARED_STEPS):
            trainer.train_step(number / NUM_COMPARED_STEPS)
            step_losses.append(trainer.recent.pop())
        losses.append(step_losses)
    return {"first_losses_apart_nats": max(abs(a - b) for a, b in zip(*losses, strict=True))}


def measure_generation(
    cell: str, hidden: int, device: str, num_texts: int, length: int, turns: int
) -> dict[str, object]:
    """Return the characters per second of a single stream and of many, and the seconds to the first character."""
    lm = create_model(cell, hidden)
    lm.device = device
    begin = time.perf_counter()
    next(iter(lm.stream(length=10, seed=0)))
    first_char_s = time.perf_counter() - begin
    single_speeds = []
    parallel_speeds = []
    for turn in range(turns + 1):
        single_s = measure_time(lambda: lm.sample(length=20 * length, seed=0, temperature=TEMPERATURE), device)
        parallel_s = measure_time(lambda: lm.samples(num_texts, length=length, seed=0, temperature=TEMPERATURE), device)
        if turn:  # the first turn is a warm-up
            single_speeds.append(20 * length / single_s)
            parallel_speeds.append(num_texts * length / parallel_s)
    return {
        "first_char_s": round(first_char_s, 2),
        "one_stream_per_s": round(statistics.median(single_speeds)),
        f"{num_texts}_streams_per_s": round(statistics.median(parallel_speeds)),
    }


def measure_time(call: Callable[[], object], device: str) -> float:
    """Return the time of a call in seconds, including the work that it launches on the device."""
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
