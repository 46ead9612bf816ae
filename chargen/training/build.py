"""A run's network, trainer and loop: new, or as a stopped run left them. Importing this loads torch."""

from __future__ import annotations

import torch

from chargen.cells.weights import masked_bias
from chargen.checkpoint import Tensors
from chargen.data.streams import Stream
from chargen.nets.network import Network
from chargen.text.documents import NONE
from chargen.training.clock import Clock
from chargen.training.keeper import Keeper
from chargen.training.loop import Loop
from chargen.training.memory import keep_freed_memory
from chargen.training.state import State
from chargen.training.trainer import Trainer


def build_loop(
    stream: Stream,
    keeper: Keeper,
    clock: Clock,
    saved: State | None,
    weights: Tensors | None,
    save_every_s: float,
) -> Loop:
    """Make the loop of a run, before its next step.

    Args:
        stream: what it reads.
        keeper: where it puts things.
        clock: how long it takes.
        saved: the state of the stopped run that it goes on with.
        weights: what it begins from instead of random ones.
        save_every_s: how often its state is put on disk, at least.

    Raises:
        ModelError: the saved state is of another network or text.
    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(keeper.train.seed)
    network = Network(keeper.model, generator).to(keeper.train.device)
    if weights:
        network.import_weights(weights)
    if keeper.train.device == "cuda":
        network.pack()
        torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's kernels compute anyway
    trainer = Trainer(network, stream, keeper.train)
    history: list[dict[str, float]] = []
    if saved:
        trainer.restore(saved.tensors, saved.trainer)
        keeper.restore(saved)
        clock.earlier_s, clock.first_step_s = saved.elapsed_s, saved.first_step_s
        history = list(saved.history)
    _mask(network, keeper)
    return Loop(trainer, keeper, clock, history, save_every_s, keeps_beginning=weights is not None)


@torch.no_grad()
def _mask(network: Network, keeper: Keeper) -> None:
    """Mask the ids that can never come, in the network and in the best weights so far.

    A saved state of an earlier version has no mask. A state that has one is not changed.
    """
    masked = keeper.data.tokenizer.masked_ids(keeper.data.config.documents != NONE)
    bias = network.weight("head.bias")
    bias.copy_(torch.from_numpy(masked_bias(bias.detach().cpu().numpy(), masked)))
    if keeper.best_weights:
        best = masked_bias(keeper.best_weights["head.bias"], masked)
        keeper.best_weights = {**keeper.best_weights, "head.bias": best}
