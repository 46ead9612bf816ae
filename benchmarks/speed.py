"""Speed of training: each cell's whole training step beside the library's, and beside a bare matrix product.

    python -m benchmarks.speed --sizes 64x24x384,64x48x448

A size is lanes × ids × hidden units; those asked for at first are what the recipe chooses for tinyshakespeare in 30 s,
90 s and (of a member) from 300 s on. All that is compared takes turns in one process, each made twice and the second
timed, as a step of training follows one of its kind. The medians are printed:

    step        forward, loss, backward, clipping and the optimizer's step, of embedding → one layer → head
    layer       forward and backward of the recurrent layer and what makes its input gates, alone
    share       6 · weights · ids / time, of the speed of a 2048³ float32 product, measured in the same turns;
                the weights are the recurrent ones and, of a step, the head's
    ratio       to the same with `torch.nn.GRU` (and `nn.Linear`, `clip_grad_norm_`, `torch.optim.AdamW`)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import nn

from benchmarks.quality import machine
from chargen.cells import CELLS
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.networks import kernels
from chargen.networks.layers import Lookup, choose_backend
from chargen.networks.network import Network
from chargen.networks.torch_runtime import keep_freed_memory
from chargen.training.recipe import FLOPS_PER_WEIGHT, recurrent_weights
from chargen.training.trainer import Trainer

VOCABULARY, EMBEDDING = 67, 64
Call = Callable[[], object]


@click.command()
@click.option("--sizes", default="64x24x352,64x24x480,64x48x448", show_default=True)
@click.option("--cells", default="mgru,gru,lstm", show_default=True)
@click.option("--turns", default=9, show_default=True)
@click.option("--plain", is_flag=True, help="Without compiled passes, also where numba is installed.")
def main(sizes: str, cells: str, turns: int, plain: bool) -> None:
    """Print a table of times, ratios and shares."""
    if plain:
        kernels.MAX_NUMBA_THREADS = 0
    print(f"{machine()}; {'with' if kernels.use_numba() else 'without'} compiled passes")
    keep_freed_memory()
    print("| lanes × ids × hidden | cell | step | share | nn.GRU's | ratio | layer | share | nn.GRU's | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in sizes.split(","):
        B, T, H = (int(n) for n in size.split("x"))
        names = cells.split(",")
        calls: dict[str, Call] = {
            "ceiling": product(2048),
            "nn.GRU": library_layer(B, T, H),
            "nn.GRU step": library_step(B, T, H),
        }
        calls |= {f"step {name}": step(name, B, T, H) for name in names}
        calls |= {f"layer {name}": layer(name, B, T, H) for name in names}
        took = medians(calls, turns)
        ceiling = 2 * 2048**3 / took["ceiling"]
        for name in names:
            recurrent = recurrent_weights(name, 1, H)
            cells_of_row = [f"{B} × {T} × {H}", name]
            for part, weights, library in (
                ("step", recurrent + VOCABULARY * H, "nn.GRU step"),
                ("layer", recurrent, "nn.GRU"),
            ):
                seconds = took[f"{part} {name}"]
                share = FLOPS_PER_WEIGHT * weights * B * T / seconds / ceiling
                cells_of_row += [f"{1e3 * seconds:.1f} ms", f"{share:.0%} of {ceiling / 1e9:.0f} GFLOP/s"]
                cells_of_row += [f"{1e3 * took[library]:.1f} ms", f"{took[library] / seconds:.2f}"]
            print(f"| {' | '.join(cells_of_row)} |")


def medians(calls: dict[str, Call], turns: int) -> dict[str, float]:
    """Return the median seconds of each call; they take turns, so that a slow moment falls on all of them."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 2):
        for name, call in calls.items():
            call()
            begin = time.perf_counter()
            call()
            if turn >= 2:  # the first ones warm up
                took[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def product(n: int) -> Call:
    """Return a call that multiplies two matrices of n × n."""
    a = torch.randn(n, n)
    return lambda: a @ a


def step(cell: str, B: int, T: int, H: int, device: str = "cpu") -> Call:
    """Return a call that makes one step of training, as `chargen train` makes it."""
    config = ModelConfig(VOCABULARY, cell, hidden_size=H, embedding_dim=EMBEDDING)
    ids = torch.randint(VOCABULARY, (B * T * 64,)).numpy()
    settings = TrainConfig(steps=1000, batch_size=B, seq_len=T, learning_rate=1e-4, device=device)
    trainer = Trainer(placed(config, device), TextBatches(ids, 0, B, T), settings)
    return lambda: trainer.train_step(0.5)


def placed(config: ModelConfig, device: str) -> Network:
    """Return a network on a device, as a run has it there."""
    network = Network(config, torch.Generator().manual_seed(0)).to(device)
    if device == "cuda":
        network.pack()
    return network


def layer(cell: str, B: int, T: int, H: int) -> Call:
    """Return a call that runs one layer forward and backward, from ids."""
    network = Network(ModelConfig(VOCABULARY, cell, hidden_size=H, embedding_dim=EMBEDDING))
    ids, d_outputs = torch.randint(VOCABULARY, (T, B)), torch.randn(T, B, H)
    path, params, (state,) = choose_backend(cell, ids.device), network.layer(0), network.initial_state(B).layers
    leaves = [network.weight("embedding.weight"), *params.values()]

    def call() -> object:
        outputs, _ = path(CELLS.get(cell), params, Lookup(ids, leaves[0]), state)
        return torch.autograd.grad(outputs, leaves, d_outputs)

    return call


def library_layer(B: int, T: int, H: int) -> Call:
    """Return a call that does the same with `torch.nn.Embedding` and `torch.nn.GRU`."""
    embedding, gru = nn.Embedding(VOCABULARY, EMBEDDING), nn.GRU(EMBEDDING, H)
    ids, d_outputs, h = torch.randint(VOCABULARY, (T, B)), torch.randn(T, B, H), torch.zeros(1, B, H)
    leaves = [*embedding.parameters(), *gru.parameters()]

    def call() -> object:
        outputs, _ = gru(embedding(ids), h)
        return torch.autograd.grad(outputs, leaves, d_outputs)

    return call


def library_step(B: int, T: int, H: int, device: str = "cpu", cell: str = "gru") -> Call:
    """Return a call that makes one step of training with what the library has for each part."""
    embedding, head = nn.Embedding(VOCABULARY, EMBEDDING).to(device), nn.Linear(H, VOCABULARY).to(device)
    layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](EMBEDDING, H).to(device)
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    on_gpu = device == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=on_gpu)
    ids = torch.randint(VOCABULARY, (T + 1, B), device=device)

    def call() -> object:
        outputs, _ = layer(embedding(ids[:-1]))
        loss = nn.functional.cross_entropy(head(outputs).flatten(0, 1), ids[1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return None if on_gpu else loss.item()  # which would wait for it

    return call


if __name__ == "__main__":
    main()
