"""How much a text has to teach a model that a run begins from: it decides the run's learning rate.

    nats = (loss on the new text − loss on the text that the model comes from) · characters to learn from

A little more of what a model knows would be learned by heart at a high rate, and what it knows forgotten; another
language needs that rate. Importing this loads torch.
"""

from __future__ import annotations

from chargen.checkpoint import Tensors
from chargen.config import ModelConfig
from chargen.engine.torch_engine import TorchEngine
from chargen.training.measure import loss_nats_per_char
from chargen.training.prepare import Data, Part

MOST_IDS = 20_000  #: of validation that are read to tell


def new_nats(data: Data, config: ModelConfig, weights: Tensors, device: str, own_loss: float) -> float:
    """Return the nats that a text has to teach.

    Args:
        data: the text; its validation stands for what is learned from.
        config, weights: of the model.
        device: that it is measured on.
        own_loss: on its own validation, in nats per character.
    """
    choice = data.val[0]
    ids = choice.ids[:MOST_IDS]
    part = Part(ids, max(1, choice.num_chars * len(ids) // max(1, len(choice.ids))))
    loss = loss_nats_per_char(TorchEngine.from_weights(config, weights, device), data, part)
    return max(0.0, loss - own_loss) * data.train.num_chars
