"""Start an encoder from a language model: `chargen classify --train DATA --init-from MODEL`.

    language model                      encoder
    tokenizer, embedding.weight   ─▶    tokenizer, embedding.weight
    layers.L.NAME                 ─▶    layers.L.forward.NAME      (layers.L.backward.NAME from a backward model)

The other direction, the n-grams and the head start at random. A layer above the first reads the outputs of both
directions, [2H], where that of the language model reads H: its input weights are taken for its own direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chargen.checkpoint import Checkpoint, load_checkpoint
from chargen.errors import ConfigError
from chargen.runs import find_model
from chargen.tokenizers.tokenizer import Tokenizer

SHARED_SETTINGS = ("cell", "num_layers", "hidden_size", "embedding_dim")  #: settings that the weights determine
OTHER_PARTS = ("residual", "skip", "layer_norm")  #: parts of a language model that an encoder does not have


@dataclass(frozen=True)
class InitialEncoder:
    """What an encoder takes from a language model."""

    name: str  #: the model, as the user named it
    tokenizer: Tokenizer = field(repr=False)
    settings: Mapping[str, Any]  #: values of SHARED_SETTINGS
    direction: str
    weights: Mapping[str, np.ndarray] = field(repr=False)

    @classmethod
    def load(cls, name: str, tokenizer: str | None, chosen: Mapping[str, Any]) -> InitialEncoder:
        """Open a language model, and check that it fits what the user chose.

        Args:
            name: Name or path of the model.
            tokenizer: The tokenizer that the user chose, or None.
            chosen: The settings that the user chose, by their names.

        Raises:
            ModelError: If there is no such model, or it is no language model.
            ConfigError: If a choice differs from the model, or the model has a part that an encoder does not have.
        """
        checkpoint = load_checkpoint(find_model(name))
        config = checkpoint.config
        settings = {key: getattr(config, key) for key in SHARED_SETTINGS}
        settings["cell"] = _single_cell(name, checkpoint)
        of_model = {"tokenizer": checkpoint.tokenizer.name, **settings}
        wanted = {**chosen, **({} if tokenizer is None else {"tokenizer": tokenizer.partition(":")[0]})}
        for key, value in of_model.items():
            if wanted.get(key, value) != value:
                raise ConfigError(
                    f"{key} is {wanted[key]}, but the model {name} has {value}",
                    "Leave it out, or train without --init-from.",
                )
        return cls(name, checkpoint.tokenizer, settings, checkpoint.data.direction, checkpoint.weights)

    def replace_in(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the weights of an encoder with those of the language model in place of random ones."""
        result = {name: weight.copy() for name, weight in weights.items()}
        result["embedding.weight"] = self.weights["embedding.weight"]
        H = self.settings["hidden_size"]
        for layer in range(self.settings["num_layers"]):  # the layers of the first network of an ensemble
            prefix = f"layers.{layer}."
            for full_name, weight in self.weights.items():
                if not full_name.startswith(prefix):
                    continue
                name = full_name.removeprefix(prefix)
                target = result[f"{prefix}{self.direction}.{name}"]
                if target.shape == weight.shape:
                    target[...] = weight
                elif name == "weight_ih" and target.shape == (len(weight), 2 * H):
                    target[:, :H] = weight if self.direction == "forward" else target[:, :H]
                    target[:, H:] = weight if self.direction == "backward" else target[:, H:]
                else:
                    raise ConfigError(
                        f"{name} of layer {layer + 1} of {self.name} cannot be split between the directions of an "
                        f"encoder: the cell is {self.settings['cell']}",
                        "Use a model with one layer, or train without --init-from.",
                    )
        return result


def _single_cell(name: str, checkpoint: Checkpoint) -> str:
    """Return the cell of all layers.

    Raises:
        ConfigError: If the layers have several cells, or connections that an encoder does not have.
    """
    config = checkpoint.config
    parts = [part for part in OTHER_PARTS if getattr(config, part)]
    cells = list(dict.fromkeys(config.cell_names))
    if parts or len(cells) > 1:
        found = f"layers of several cells ({config.cell})" if len(cells) > 1 else " and ".join(parts)
        raise ConfigError(
            f"the model {name} has {found}, which an encoder does not have",
            "Train a model with one cell and without these parts, or train without --init-from.",
        )
    return cells[0]
