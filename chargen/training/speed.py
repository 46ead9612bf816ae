"""How fast this machine trains: a few steps of a throwaway network, timed, before the recipe chooses the real one."""

from __future__ import annotations

import statistics
import time

import torch

from chargen.config import ModelConfig
from chargen.nets.network import Network
from chargen.training.recipe import FLOPS_PER_WEIGHT, lanes, recurrent_weights

HIDDEN, VOCABULARY = 512, 64
SECONDS = 0.4  #: that the steps take, and never under FEWEST steps
FEWEST = 4
TRAINING_SHARE = 0.9  #: of a run's time that such steps take; the rest is the optimizer, looks at validation, files


def measure_flops_per_s(cell: str, device: str) -> float:
    """Return the floating-point operations a second that training makes in its matrix products.

    Args:
        cell: the kind of network.
        device: where it is trained.
    """
    generator = torch.Generator().manual_seed(0)
    config = ModelConfig(VOCABULARY, cell, hidden_size=HIDDEN, embedding_dim=64)
    network = Network(config, generator).to(device)
    shape = lanes(0.0, 0.0, device)
    T, B = shape["seq_len"], shape["batch_size"]
    ids = torch.randint(VOCABULARY, (T, B), generator=generator).to(device)
    took: list[float] = []
    while len(took) < FEWEST or sum(took) < SECONDS:
        begin = time.perf_counter()
        loss, _ = network.loss(ids, ids, network.initial_state(B))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        float(gradients[0].sum())  # a device that runs ahead of Python is waited for
        took.append(time.perf_counter() - begin)
    flops = FLOPS_PER_WEIGHT * (recurrent_weights(cell, 1, HIDDEN) + VOCABULARY * HIDDEN) * T * B
    return TRAINING_SHARE * flops / statistics.median(took)
