"""Small networks that a probe builds and trains in memory, without a run on the disk.

A probe compares cells under equal conditions: the same sizes, seed, batches and settings for each cell. The products of
such networks are too small for two threads, so they are computed on one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import BatchSource
from chargen.errors import ConfigError, DivergenceError
from chargen.networks.network import Network
from chargen.networks.torch_runtime import single_thread
from chargen.training.trainer import Trainer

Report = Callable[[float], None]  #: gets the completed share of a training, 0 to 1


CHECK_EVERY = 50  #: steps between two calls of `is_learned`


@dataclass(frozen=True)
class TrainingRecord:
    """What happened in a short training."""

    steps: int
    elapsed_s: float
    loss_nats: float  #: mean training loss of the last tenth of the steps, per target
    largest_gradient_norm: float  #: largest norm of the gradient of all weights, before clipping
    clip_norm: float  #: larger gradients were scaled down to this norm
    clipped_steps: int  #: steps whose gradient was scaled down
    has_diverged: bool = False  #: whether the training ended because the loss or the gradient was not finite


def build_network(config: ModelConfig, seed: int, init_scale: float = 1.0) -> Network:
    """Return a network with random weights.

    Args:
        config: The shape of the network.
        seed: Seed of the weights.
        init_scale: Factor of the initial recurrent weights; above 1, gradients can grow from step to step.

    Raises:
        ConfigError: If there is no cell of this name, or it has no recurrent weights to scale.
    """
    network = Network(config, torch.Generator().manual_seed(seed))
    if init_scale != 1.0:
        names = [name for name, weight in network.named_parameters() if is_recurrent_weight(name) and weight.dim() == 2]
        if not names:
            raise ConfigError(
                f"the cell {config.cell} has no matrix of recurrent weights to scale",
                "Leave out --init-scale, or the cell.",
            )
        with torch.no_grad():
            for name in names:
                network.get_parameter(name).mul_(init_scale)
    return network


def is_recurrent_weight(name: str) -> bool:
    """Return whether a parameter of a network multiplies the state of a layer, or what a cell computes from it."""
    return name.rpartition("__")[2].startswith("weight_h")


@single_thread()
def train_network(
    network: Network,
    batches: BatchSource,
    config: TrainConfig,
    report: Report | None = None,
    is_learned: Callable[[], bool] | None = None,
) -> TrainingRecord:
    """Train a network for a number of steps or a time.

    A training that diverges is a result of a probe and not an error: it ends, and the network keeps its last weights.

    Args:
        network: The network; it is changed in place.
        batches: The source of the batches.
        config: The settings; either `steps` or `budget_s` is set.
        report: Function that gets the completed share; None for none.
        is_learned: Function that is called every `CHECK_EVERY` steps; the training ends when it returns True.
    """
    trainer = Trainer(network, batches, config)
    losses: list[float] = []
    norms: list[float] = []
    has_diverged = False
    started_s = time.monotonic()
    share = 0.0
    while share < 1.0:
        try:
            trainer.train_step(share)
        except DivergenceError:
            has_diverged = True
            break
        losses.append(trainer.recent.pop())
        norms.append(float(trainer.gradient_norm))
        elapsed_s = time.monotonic() - started_s
        share = trainer.step / config.steps if config.steps else elapsed_s / (config.budget_s or math.inf)
        if report is not None:
            report(min(1.0, share))
        if is_learned is not None and trainer.step % CHECK_EVERY == 0 and is_learned():
            break
    last = losses[-max(1, len(losses) // 10) :]
    return TrainingRecord(
        steps=trainer.step,
        elapsed_s=time.monotonic() - started_s,
        loss_nats=sum(last) / len(last) if last else math.nan,
        largest_gradient_norm=max(norms, default=math.nan),
        clip_norm=config.clip_norm,
        clipped_steps=sum(norm > config.clip_norm for norm in norms),
        has_diverged=has_diverged,
    )
