"""Measure the speed of training: each cell beside PyTorch's `nn.GRU` and beside a bare matrix product.

    python -m benchmarks.speed --sizes 64x24x384,64x48x448

A size is batch size × sequence length × hidden units. The default sizes are those that the recipe chooses for
tinyshakespeare in 30 s, in 90 s, and (per ensemble member) from 300 s on. All measured calls take turns in one process.
Each call is made twice and the second one is timed, since a training step always follows another one of its kind. The
medians are printed:

    step        a whole training step of embedding → one layer → head: forward pass, loss, backward pass, gradient
                clipping and the step of the optimizer
    layer       forward and backward pass of the recurrent layer alone, with the gates of its input
    share       6 · weights · ids / time, as a share of the speed of a 2048³ float32 product that is measured in the
                same turns; the weights are the recurrent ones and, for a step, those of the head
    ratio       speed divided by that of `torch.nn.GRU` (and `nn.Linear`, `clip_grad_norm_`, `torch.optim.AdamW`)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import nn

from benchmarks.quality import describe_machine
from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.networks import kernels
from chargen.networks.layers import Lookup, choose_backend
from chargen.networks.network import Network
from chargen.networks.torch_runtime import keep_freed_memory
from chargen.training.recipe import FLOPS_PER_WEIGHT, recurrent_weights
from chargen.training.trainer import Trainer

VOCAB_SIZE, EMBEDDING_DIM = 67, 64
Call = Callable[[], object]


@click.command()
@click.option(
    "--sizes",
    default="64x24x352,64x24x480,64x48x448",
    show_default=True,
    help="Sizes to measure: batch size x sequence length x hidden units.",
)
@click.option("--cells", default="mgru,gru,lstm", show_default=True, help="Cells to measure.")
@click.option("--turns", default=9, show_default=True, help="Number of timed calls for each median.")
@click.option("--plain", is_flag=True, help="Do not use compiled passes, even if numba is installed.")
def main(sizes: str, cells: str, turns: int, plain: bool) -> None:
    """Print a table of times, ratios and shares."""
    if plain:
        kernels.MAX_NUMBA_THREADS = 0
    print(f"{describe_machine()}; {'with' if kernels.use_numba() else 'without'} compiled passes")
    keep_freed_memory()
    print("| batch × length × hidden | cell | step | share | nn.GRU | ratio | layer | share | nn.GRU | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in sizes.split(","):
        B, T, H = (int(n) for n in size.split("x"))
        names = cells.split(",")
        calls: dict[str, Call] = {
            "product": make_product(2048),
            "nn.GRU": make_torch_layer(B, T, H),
            "nn.GRU step": make_torch_step(B, T, H),
        }
        calls |= {f"step {name}": make_step(name, B, T, H) for name in names}
        calls |= {f"layer {name}": make_layer(name, B, T, H) for name in names}
        medians_s = measure_medians(calls, turns)
        product_flops = 2 * 2048**3 / medians_s["product"]
        for name in names:
            recurrent = recurrent_weights(name, 1, H)
            row = [f"{B} × {T} × {H}", name]
            for part, weights, torch_part in (
                ("step", recurrent + VOCAB_SIZE * H, "nn.GRU step"),
                ("layer", recurrent, "nn.GRU"),
            ):
                elapsed_s = medians_s[f"{part} {name}"]
                share = FLOPS_PER_WEIGHT * weights * B * T / elapsed_s / product_flops
                row += [f"{1e3 * elapsed_s:.1f} ms", f"{share:.0%} of {product_flops / 1e9:.0f} GFLOP/s"]
                row += [f"{1e3 * medians_s[torch_part]:.1f} ms", f"{medians_s[torch_part] / elapsed_s:.2f}"]
            print(f"| {' | '.join(row)} |")


def measure_medians(calls: dict[str, Call], turns: int) -> dict[str, float]:
    """Return the median time of each call in seconds. The calls take turns, so a slow moment affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 2):
        for name, call in calls.items():
            call()
            begin = time.perf_counter()
            call()
            if turn >= 2:  # the first two turns are a warm-up
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def make_product(n: int) -> Call:
    """Return a call that multiplies two n × n matrices."""
    a = torch.randn(n, n)
    return lambda: a @ a


def make_step(cell: str, B: int, T: int, H: int, device: str = "cpu") -> Call:
    """Return a call that makes one training step, as `chargen train` does."""
    config = ModelConfig(VOCAB_SIZE, cell, hidden_size=H, embedding_dim=EMBEDDING_DIM)
    ids = torch.randint(VOCAB_SIZE, (B * T * 64,)).numpy()
    settings = TrainConfig(steps=1000, batch_size=B, seq_len=T, learning_rate=1e-4, device=device)
    trainer = Trainer(create_network(config, device), TextBatches(ids, 0, B, T), settings)
    return lambda: trainer.train_step(0.5)


def create_network(config: ModelConfig, device: str) -> Network:
    """Return a network with random weights on a device."""
    return Network(config, torch.Generator().manual_seed(0)).to(device)


def make_layer(cell: str, B: int, T: int, H: int) -> Call:
    """Return a call that makes the forward and the backward pass of a layer, from token ids."""
    network = Network(ModelConfig(VOCAB_SIZE, cell, hidden_size=H, embedding_dim=EMBEDDING_DIM))
    ids, d_outputs = torch.randint(VOCAB_SIZE, (T, B)), torch.randn(T, B, H)
    backend = choose_backend(cell, ids.device)
    params = network.layer(0)
    (state,) = network.initial_state(B).layers
    leaves = [network.weight("embedding.weight"), *params.values()]

    def call() -> object:
        outputs, _ = backend(CELLS.get(cell), params, Lookup(ids, leaves[0]), state)
        return torch.autograd.grad(outputs, leaves, d_outputs)

    return call


def make_torch_layer(B: int, T: int, H: int) -> Call:
    """Return a call that does the same as `make_layer` with `torch.nn.Embedding` and `torch.nn.GRU`."""
    embedding, gru = nn.Embedding(VOCAB_SIZE, EMBEDDING_DIM), nn.GRU(EMBEDDING_DIM, H)
    ids, d_outputs, h = torch.randint(VOCAB_SIZE, (T, B)), torch.randn(T, B, H), torch.zeros(1, B, H)
    leaves = [*embedding.parameters(), *gru.parameters()]

    def call() -> object:
        outputs, _ = gru(embedding(ids), h)
        return torch.autograd.grad(outputs, leaves, d_outputs)

    return call


def make_torch_step(B: int, T: int, H: int, device: str = "cpu", cell: str = "gru", is_recorded: bool = False) -> Call:
    """Return a call that makes one training step with PyTorch's own modules and optimizer.

    `is_recorded`: whether a GPU will record the step as a CUDA graph.
    """
    embedding, head = nn.Embedding(VOCAB_SIZE, EMBEDDING_DIM).to(device), nn.Linear(H, VOCAB_SIZE).to(device)
    layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](EMBEDDING_DIM, H).to(device)
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    on_gpu = device == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=on_gpu, capturable=on_gpu and is_recorded)
    ids = torch.randint(VOCAB_SIZE, (T + 1, B), device=device)

    def call() -> object:
        outputs, _ = layer(embedding(ids[:-1]))
        loss = nn.functional.cross_entropy(head(outputs).flatten(0, 1), ids[1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return None if on_gpu else loss.item()  # on a GPU, item() would wait for the device

    return call


if __name__ == "__main__":
    main()
