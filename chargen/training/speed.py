"""How fast this machine trains: a few steps of a throwaway network, timed, before the recipe chooses the real one."""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.nets.network import Network
from chargen.training.recipe import FLOPS_PER_WEIGHT, recurrent_weights

LANES, WINDOW, HIDDEN, VOCABULARY = 64, 24, 384, 64
SECONDS = 0.4  #: on a CPU; and never under FEWEST steps
FEWEST = 4


def measure_flops_per_s(cell: str, device: str) -> float:
    """Return the floating-point operations a second in the recurrent products of the fastest of some training steps.

    Args:
        cell: the kind of network.
        device: where it is trained.
    """
    generator = torch.Generator().manual_seed(0)
    config = ModelConfig(VOCABULARY, cell, hidden_size=HIDDEN, embedding_dim=64)
    network = Network(config, generator).to(device)
    ids = torch.randint(VOCABULARY, (WINDOW, LANES), generator=generator).to(device)
    fastest, steps, begin = float("inf"), 0, time.perf_counter()
    while steps < FEWEST or time.perf_counter() - begin < SECONDS:
        step_begin = time.perf_counter()
        logits, _ = network(ids, network.initial_state(LANES))
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        float(gradients[0].sum())  # a device that runs ahead of Python is waited for
        fastest = min(fastest, time.perf_counter() - step_begin)
        steps += 1
    return FLOPS_PER_WEIGHT * recurrent_weights(cell, 1, HIDDEN) * WINDOW * LANES / fastest
