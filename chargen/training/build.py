"""A run's network, trainer and loop: new, or as a stopped run left them. Importing this loads torch."""

from __future__ import annotations

from typing import Any

import torch

from chargen.data.streams import LaneStream
from chargen.errors import DeviceError
from chargen.nets.network import Network
from chargen.training.clock import Clock
from chargen.training.keeper import Keeper
from chargen.training.loop import Loop
from chargen.training.trainer import Trainer


def resolve_device(name: str) -> str:
    """Return the device to train on; "auto" is a CUDA GPU where there is one, else the CPU.

    MPS is never chosen unasked: it has not been measured.

    Raises:
        DeviceError: this machine, or this build of torch, has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if has["cuda"] else "cpu"
    if not has.get(name, False):
        raise DeviceError(
            f"this machine has no device {name!r} that torch {torch.__version__} can use", "Say --device auto."
        )
    return name


def build_loop(
    stream: LaneStream, keeper: Keeper, clock: Clock, saved: tuple[dict[str, Any], dict[str, Any]] | None
) -> Loop:
    """Make the loop of a run, before its next step.

    Raises:
        DeviceError: the device does not take the network.
        ModelError: the saved state is of another network or text.
    """
    generator = torch.Generator().manual_seed(keeper.train.seed)
    try:
        network = Network(keeper.model, generator).to(keeper.train.device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"the network cannot be put on {keeper.train.device!r}: {error}", "Try --device cpu."
        ) from error
    trainer = Trainer(network, stream, keeper.train)
    history: list[dict[str, float]] = []
    if saved:
        trainer.restore(saved[0], saved[1]["trainer"])
        keeper.restore(*saved)
        clock.earlier_s, clock.first_step_s = float(saved[1]["elapsed_s"]), saved[1]["first_step_s"]
        history = list(saved[1]["history"])
    return Loop(trainer, keeper, clock, history)
