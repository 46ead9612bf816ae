"""How much of a run is done: by steps, or by seconds of a budget.

Of a budget, what comes after the last step (measuring the best model) is kept back, so that the whole process ends in
time. How long that takes is learned from the looks at validation that the run makes anyway.

How fast this machine trains: a few steps of a throwaway network, timed, before the recipe chooses the real one.

How much a text has to teach a model that a run begins from: it decides the run's learning rate.

    nats = (loss on the new text − loss on the text that the model comes from) · characters to learn from

A little more of what a model knows would be learned by heart at a high rate, and what it knows forgotten; another
language needs that rate. Importing this loads torch.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from chargen.checkpoint import Tensors
from chargen.config import ModelConfig
from chargen.data.dataset import Dataset, Part
from chargen.engines.torch_engine import TorchEngine
from chargen.networks.network import Network
from chargen.training.recipe import FLOPS_PER_WEIGHT, lanes, recurrent_weights
from chargen.training.validation import loss_nats_per_char

FORWARD_SHARE = 0.6  #: of a training step's time, that reading as many ids takes; until a look has measured it
MAX_CLOSING = 0.25  #: of the budget
CLOSING_S = 0.3  #: writing files and leaving


@dataclass
class Budget:
    """A run's clock.

    Args:
        started: when the budget began, by `time.perf_counter`.
        budget_s: how long the run may take; or None and
        total_steps: how many steps it makes.
        closing_ids: ids that are read after the last step.
        earlier_s: seconds that earlier sittings of a resumed run took.
        first_step_s: when the first step was made, by `elapsed_s`.
    """

    started: float
    budget_s: float | None
    total_steps: int | None
    closing_ids: int
    earlier_s: float = 0.0
    first_step_s: float | None = None
    s_per_closing_id: float = 0.0
    has_looked: bool = False

    def elapsed_s(self) -> float:
        """Return the seconds since the run began, earlier sittings counted, pauses between them not."""
        return time.perf_counter() - self.started + self.earlier_s

    def progress(self, step: int) -> float:
        """Return how much of the training is done after `step` steps, 0 to 1."""
        if self.budget_s is None:
            return min(1.0, step / (self.total_steps or 1))
        now = self.elapsed_s()
        begin = now if self.first_step_s is None else self.first_step_s
        self.first_step_s = begin
        end = self.budget_s - self.closing_s()
        return 1.0 if now >= end else (now - begin) / (end - begin)

    def remaining_s(self, step: int, steps_per_s: float) -> float:
        """Return the seconds to the last step, about."""
        if self.budget_s is None:
            return ((self.total_steps or 0) - step) / max(1e-9, steps_per_s)
        return max(0.0, self.budget_s - self.closing_s() - self.elapsed_s())

    def closing_s(self) -> float:
        """Return the seconds that the end of the run will take, about."""
        return CLOSING_S + min(self.closing_ids * self.s_per_closing_id, MAX_CLOSING * (self.budget_s or 0.0))

    def trained(self, ids: int, seconds: float) -> None:
        """Learn from the fastest steps how fast ids are read, until a look says it better; the first ones are slow."""
        guess = FORWARD_SHARE * seconds / max(1, ids)
        if not self.has_looked:
            self.s_per_closing_id = min(guess, self.s_per_closing_id or guess)

    def looked(self, ids: int, seconds: float) -> None:
        """Learn from a look how fast ids are read."""
        self.s_per_closing_id = seconds / max(1, ids)
        self.has_looked = True


HIDDEN, VOCABULARY = 512, 64
SECONDS = 0.4  #: that the steps take, and never under FEWEST steps
MIN_RUNS = 4
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
    while len(took) < MIN_RUNS or sum(took) < SECONDS:
        begin = time.perf_counter()
        loss, _ = network.loss(ids, ids, network.initial_state(B))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        float(gradients[0].sum())  # a device that runs ahead of Python is waited for
        took.append(time.perf_counter() - begin)
    flops = FLOPS_PER_WEIGHT * (recurrent_weights(cell, 1, HIDDEN) + VOCABULARY * HIDDEN) * T * B
    return TRAINING_SHARE * flops / statistics.median(took)


MAX_IDS = 20_000  #: of validation that are read to tell


def new_nats(data: Dataset, config: ModelConfig, weights: Tensors, device: str, own_loss: float) -> float:
    """Return the nats that a text has to teach.

    Args:
        data: the text; its validation stands for what is learned from.
        config, weights: of the model.
        device: that it is measured on.
        own_loss: on its own validation, in nats per character.
    """
    choice = data.val[0]
    ids = choice.ids[:MAX_IDS]
    part = Part(ids, max(1, choice.num_chars * len(ids) // max(1, len(choice.ids))))
    loss = loss_nats_per_char(TorchEngine.from_weights(config, weights, device), data, part)
    return max(0.0, loss - own_loss) * data.train.num_chars
