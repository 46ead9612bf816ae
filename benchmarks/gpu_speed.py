"""The parts of `benchmarks/gpu.py` that run within one process: throughput, generation, agreement, precision.

Calls that are compared take turns, and medians are compared.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.gpu_parts import Row, Settings
from benchmarks.quality import describe_machine
from benchmarks.sampling import TEMPERATURE, create_model
from benchmarks.speed import EMBEDDING_DIM, VOCAB_SIZE, create_network, make_step, make_torch_step
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.engines.cuda_graphs import DeviceUniforms
from chargen.networks import kernels
from chargen.networks.cuda_runtime import NUM_WARM_UP_CALLS, Function, record, warm_up
from chargen.tokenizers.tokenizer import build_tokenizer
from chargen.training import update
from chargen.training.ranks.group import ALONE, Ranks
from chargen.training.trainer import Trainer

Call = Callable[[], object]
MIN_BARE_RATIO, MIN_ONE_STREAM, MIN_MANY_STREAMS = 0.9, 15_000, 10_000_000  #: the bars
MAX_DIFFERENCE = 1e-4  #: bar for the losses of a CPU and a GPU in float32, in nats
NUM_STREAMS = 4096


def measure_time(call: Call, device: str) -> float:
    """Return the time of a call in seconds, including the work that it launches on the device."""
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_turns(calls: dict[str, Call], count: int, turns: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each call in each turn, as the mean of `count` calls; the first turn is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            elapsed_s = measure_time(lambda call=call: [call() for _ in range(count)], device)  # type: ignore[misc]
            if turn:
                times[name].append(elapsed_s / count)
    return times


# ── throughput of training ────────────────────────────────────────────────────


def throughput(settings: Settings) -> Iterator[Row]:
    """Compare the training steps of `Trainer` with a bare loop of cuDNN, in TF32."""
    yield Row("machine", describe_machine())
    if settings.device == "cuda":
        yield Row("device", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    yield from compare_with_loop(settings, "bare loop", make_torch_step, MIN_BARE_RATIO)


def launches(settings: Settings) -> Iterator[Row]:
    """Measure how much of a training step Python needs to launch it."""
    B, T, H = (4, 8, 16) if settings.is_small else (128, 64, 512)
    for shape in ({"cell": "gru"}, {"cell": "mgru", "ensemble_size": 8}, {"cell": "mgru", "ngrams": 4}):
        trainer = make_trainer(synthetic_ids(200_000), B, T, settings.device, hidden_size=H, **shape)
        yield from measure_waiting(
            trainer, str(trainer.network.config), 5 if settings.is_small else 100, settings.device
        )


def graph_loop(settings: Settings) -> Iterator[Row]:
    """Compare the training steps of `Trainer` with the bare loop as a CUDA graph, which has no bar."""
    yield from compare_with_loop(settings, "bare loop as a CUDA graph", make_recorded_torch_step, None)


def compare_with_loop(
    settings: Settings, name: str, make: Callable[[int, int, int, str, str], Call], bar: float | None
) -> Iterator[Row]:
    """Let the training steps of `Trainer` and those of another loop take turns."""
    device = settings.device
    torch.set_float32_matmul_precision("high")
    B, T, H, count, turns = (4, 8, 16, 3, 2) if settings.is_small else (128, 64, 512, 60, 4)
    for cell in ("gru", "lstm"):
        calls = {"chargen": make_step(cell, B, T, H, device), name: make(B, T, H, device, cell)}
        times = measure_turns(calls, count, turns, device)
        for loop, values in times.items():
            speed = B * T / statistics.median(values)
            yield Row(f"{cell} 1×{H}, {B} × {T}: {loop}", speed, "characters/s", details={"seconds": values})
        ratios = [theirs / ours for ours, theirs in zip(times["chargen"], times[name], strict=True)]
        yield Row(f"{cell} 1×{H}: speed divided by that of the {name}", statistics.median(ratios), bar=bar)


def make_recorded_torch_step(B: int, T: int, H: int, device: str, cell: str) -> Call:
    """Return a call that repeats the step of `make_torch_step` as a CUDA graph: a loop without the cost of launches."""
    make_one_step = make_torch_step(B, T, H, device, cell, is_recorded=True)

    def step() -> None:
        make_one_step()

    warm_up(step, torch.device(device))
    repeat = record(step, torch.device(device))

    def call() -> Function:
        repeat()
        return step  # this function keeps the tensors of the recording, which does not keep them itself

    return call


def measure_waiting(trainer: Trainer, name: str, count: int, device: str) -> Iterator[Row]:
    """Measure a training step, and how much of it Python needs to launch it: the rest is free to be overlapped."""
    for _ in range(2 * NUM_WARM_UP_CALLS + 2):
        trainer.train_step(0.5)
    if device == "cuda":
        torch.cuda.synchronize()
    launched = []
    start = time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        trainer.train_step(0.5)
        launched.append(time.perf_counter() - before)
    trainer.recent.pop()  # waits for the device
    step_s = (time.perf_counter() - start) / count
    yield Row(f"{name}: a training step", 1e3 * step_s, "ms")
    yield Row(f"{name}: until Python has launched it, median", 1e3 * statistics.median(launched), "ms")


def synthetic_ids(count: int) -> np.ndarray:
    """Return random token ids."""
    return np.random.default_rng(0).integers(1, VOCAB_SIZE, count)


def make_trainer(
    ids: np.ndarray,
    B: int,
    T: int,
    device: str,
    precision: str = "tf32",
    ranks: Ranks = ALONE,
    vocab_size: int = VOCAB_SIZE,
    **shape: object,
) -> Trainer:
    """Return a trainer of a network of some shape."""
    config = ModelConfig(vocab_size, **{"embedding_dim": EMBEDDING_DIM, **shape})  # type: ignore[arg-type]
    train = TrainConfig(steps=1000, batch_size=B, seq_len=T, learning_rate=2e-3, device=device, precision=precision)
    return Trainer(create_network(config, device), TextBatches(ids, 0, B, T), train, ranks=ranks)


# ── generation ────────────────────────────────────────────────────────────────


def sampling(settings: Settings) -> Iterator[Row]:
    """Measure the characters per second of a single stream and of many, with random weights."""
    cells, H, length, turns = (["gru"], 16, 20, 2) if settings.is_small else (["gru", "lstm", "mgru"], 512, 1000, 3)
    for cell in cells:
        lm = create_model(cell, H)
        lm.device = settings.device
        start = time.perf_counter()
        next(iter(lm.stream(length=10, seed=0)))
        yield Row(f"{cell} 1×{H}: first character", time.perf_counter() - start, "s")
        calls: dict[str, tuple[int, Call, float | None]] = {
            "one stream": (
                20 * length,
                lambda lm=lm: lm.sample(length=20 * length, seed=0, temperature=TEMPERATURE),  # type: ignore[misc]
                MIN_ONE_STREAM,
            ),
            f"{NUM_STREAMS:,} streams of {length:,}": (
                NUM_STREAMS * length,
                lambda lm=lm: lm.samples(NUM_STREAMS, length=length, seed=0, temperature=TEMPERATURE),  # type: ignore[misc]
                MIN_MANY_STREAMS,
            ),
        }
        if cell == "gru":
            calls[f"{NUM_STREAMS:,} streams of {3 * length:,}"] = (
                NUM_STREAMS * 3 * length,
                lambda lm=lm: lm.samples(NUM_STREAMS, length=3 * length, seed=0, temperature=TEMPERATURE),  # type: ignore[misc]
                None,
            )
        times = measure_turns({name: call for name, (_, call, _) in calls.items()}, 1, turns, settings.device)
        for name, (num_chars, _, bar) in calls.items():
            speeds = [num_chars / seconds for seconds in times[name]]
            yield Row(f"{cell} 1×{H}: {name}", statistics.median(speeds), "characters/s", bar, details={"all": speeds})
    yield from measure_host_work(length, settings)


def measure_host_work(length: int, settings: Settings) -> Iterator[Row]:
    """Measure what many streams need beside the kernels of their steps."""
    lm, device = create_model("gru", 16), torch.device(settings.device)
    generator = lm.generator("", length=length, seed=0, num_texts=NUM_STREAMS)
    rows = generator.uniform_rows(range(NUM_STREAMS))
    ids = np.random.default_rng(0).integers(2, lm.tokenizer.vocab_size, (NUM_STREAMS, length), dtype=np.int32)
    calls: dict[str, Call] = {
        f"host: {NUM_STREAMS:,} seeds": lambda: generator.uniform_rows(range(NUM_STREAMS)),
        f"host: {NUM_STREAMS:,} states on the device": lambda: DeviceUniforms(rows, device),
        f"device: these, and {length:,} random numbers of each": lambda: DeviceUniforms(rows, device)(length),
        f"host: decoding {ids.size:,} token ids": lambda: lm.tokenizer.decode_rows(ids),
    }
    for name, seconds in measure_turns(calls, 1, 3, settings.device).items():
        yield Row(name, 1e3 * statistics.median(seconds), "ms")


# ── agreement of a CPU and a GPU ──────────────────────────────────────────────


def agreement(settings: Settings) -> Iterator[Row]:
    """Compare the losses of the first steps on the corpus between a CPU and the device, with the same seed."""
    kernels.MAX_NUMBA_THREADS = 0  # to compile the loops of the CPU would take longer than to measure
    text = Path(settings.text).read_text(encoding="utf-8")
    tokenizer = build_tokenizer("char", text)
    ids = tokenizer.encode(text[:300_000])
    H, count = (16, 8) if settings.is_small else (256, 100)
    for shape in ({"cell": "gru"}, {"cell": "mgru", "ensemble_size": 2, "ngrams": 4}, {"cell": "lstm"}):
        curves = {}
        for name, device in (("CPU", "cpu"), ("float32", settings.device), ("TF32", settings.device)):
            with product_precision_of(name):
                trainer = make_trainer(ids, 32, 32, device, vocab_size=tokenizer.vocab_size, hidden_size=H, **shape)
                curves[name] = losses_of_steps(trainer, count)
        about = str(trainer.network.config)
        for name in ("float32", "TF32"):
            apart = np.abs(np.array(curves[name]) - curves["CPU"])
            what, bar = (
                f"{about}, {name}: largest difference from the CPU's losses",
                MAX_DIFFERENCE if name == "float32" else None,
            )
            yield Row(f"{what} of the first 20 steps", float(apart[:20].max()), "nats", bar, True, {"losses": curves})
            yield Row(f"{what} of {count} steps", float(apart.max()), "nats")


@contextmanager
def product_precision_of(name: str) -> Iterator[None]:
    """Let training steps use float32 products inside the `with` block if the name is float32."""
    if name != "float32":
        yield
        return
    original = update.product_precision
    with mock.patch.object(update, "product_precision", lambda device, tf32: original(device, False)):
        yield


def losses_of_steps(trainer: Trainer, count: int) -> list[float]:
    """Return the loss of each of the next steps."""
    losses = []
    for number in range(count):
        trainer.train_step(number / count)
        losses.append(trainer.recent.pop())
    return losses


# ── precision, and a rank ─────────────────────────────────────────────────────


class OneRank(Ranks):
    """A single process that exchanges its gradients with itself, as the processes of a run on several GPUs do."""

    @property
    def is_divided(self) -> bool:
        """Whether gradients are exchanged: always."""
        return True


def precision(settings: Settings) -> Iterator[Row]:
    """Compare steps in TF32 with steps in bf16, and with steps that exchange their gradients by NCCL."""
    text = Path(settings.text).read_text(encoding="utf-8")
    tokenizer = build_tokenizer("char", text)
    ids, V, device = tokenizer.encode(text), tokenizer.vocab_size, settings.device
    B, T, H, count = (4, 8, 16, 10) if settings.is_small else (128, 64, 512, 400)
    shapes: tuple[dict[str, object], ...] = (
        {"cell": "gru"},
        {"cell": "mgru", "ensemble_size": 4, "ngrams": 4, "dropout": 0.2},
    )
    for kind in ("TF32", "bf16"):
        for shape in shapes:
            trainer = make_trainer(ids, B, T, device, kind.lower(), vocab_size=V, hidden_size=H, **shape)
            yield from train_some_steps(trainer, count, f"{trainer.network.config}, {kind}", device)
    with one_rank(device) as rank:
        for shape in shapes:
            trainer = make_trainer(ids, B, T, device, ranks=rank, vocab_size=V, hidden_size=H, **shape)
            yield from train_some_steps(trainer, count, f"{trainer.network.config}, TF32, one rank", device)


def train_some_steps(trainer: Trainer, count: int, name: str, device: str) -> Iterator[Row]:
    """Make steps, and report the loss of the last tenth and the time of a step in the second half."""
    for number in range(count // 2):
        trainer.train_step(number / count)
    trainer.recent.pop()
    start = time.perf_counter()
    for number in range(count // 2, count - count // 10):
        trainer.train_step(number / count)
    trainer.recent.pop()
    elapsed_s = time.perf_counter() - start
    for number in range(count - count // 10, count):
        trainer.train_step(number / count)
    memory = f", {torch.cuda.max_memory_allocated() / 1e6:,.0f} MB at most so far" if device == "cuda" else ""
    step_ms = 1e3 * elapsed_s / (count - count // 10 - count // 2)
    loss = trainer.recent.pop()
    yield Row(name, f"{step_ms:.3f} ms a step, loss {loss:.4f} nats after {count} steps{memory}")


@contextmanager
def one_rank(device: str) -> Iterator[OneRank]:
    """Set up a group with a single process, with NCCL for tensors on a GPU."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):  # a machine may have no network
        os.environ.setdefault(name, "lo")
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(os.path.join(folder, "store"), 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            yield OneRank()
        finally:
            dist.destroy_process_group()
