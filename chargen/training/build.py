"""A run's network, trainer and loop: new, or as a stopped run left them. Importing this loads torch."""

from __future__ import annotations

from typing import Any

import torch

from chargen.data.streams import LaneStream
from chargen.nets.network import Network
from chargen.training.clock import Clock
from chargen.training.keeper import Keeper
from chargen.training.loop import Loop
from chargen.training.memory import keep_freed_memory
from chargen.training.trainer import Trainer


def build_loop(
    stream: LaneStream, keeper: Keeper, clock: Clock, saved: tuple[dict[str, Any], dict[str, Any]] | None
) -> Loop:
    """Make the loop of a run, before its next step.

    Raises:
        ModelError: the saved state is of another network or text.
    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(keeper.train.seed)
    network = Network(keeper.model, generator).to(keeper.train.device)
    if keeper.train.device == "cuda":
        network.pack()
        torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's kernels compute anyway
    trainer = Trainer(network, stream, keeper.train)
    history: list[dict[str, float]] = []
    if saved:
        trainer.restore(saved[0], saved[1]["trainer"])
        keeper.restore(*saved)
        clock.earlier_s, clock.first_step_s = float(saved[1]["elapsed_s"]), saved[1]["first_step_s"]
        history = list(saved[1]["history"])
    return Loop(trainer, keeper, clock, history)
