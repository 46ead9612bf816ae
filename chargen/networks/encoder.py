"""A bidirectional encoder: token ids [T, B] → logits of labels [B, K], for tasks that see the whole text.

    token ids ─▶ embedding ─┬▶ layer 0, forward  ─┬▶ layer 1, forward  ─┬▶ … ─▶ mean and maximum ─▶ head ─▶ logits
                            └▶ layer 0, backward ─┴▶ layer 1, backward ─┘        over the text

Each layer is two layers of the same cell (Schuster & Paliwal 1997): one reads its input from the start, the other from
the end. The outputs of both, [T, B, 2H], are the input of the next layer. So each output knows the whole text.

That is why an encoder is not a language model. At each position it has already seen the characters that follow, so it
cannot say how probable they are, and nothing can be sampled from it: `WrongKindError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.config import DROPOUT_RATE, MAX_LAYER_SIZE, MAX_LAYERS, MAX_VOCAB_SIZE, Config
from chargen.networks.layers import Dense, Lookup, Params, choose_backend
from chargen.networks.network import locked_dropout
from chargen.schema import Integer, Spec, String

DIRECTIONS = ("forward", "backward")  #: the two halves of each layer
MAX_LABELS = 10_000


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The architecture of an encoder."""

    vocab_size: int  #: number of token ids V
    num_labels: int  #: number of labels K
    cell: str = "gru"  #: name of the recurrent cell in the registry `cells.CELLS`
    num_layers: int = 1  #: layers, each in both directions
    hidden_size: int = 96  #: units of a layer in each direction H
    embedding_dim: int = 64  #: size of a token embedding E
    dropout: float = 0.3  #: dropout rate in training, for the input of each layer and of the head

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "vocab_size": Integer(1, MAX_VOCAB_SIZE),
        "num_labels": Integer(1, MAX_LABELS),
        "cell": String(100),
        "num_layers": Integer(1, MAX_LAYERS),
        "hidden_size": Integer(1, MAX_LAYER_SIZE),
        "embedding_dim": Integer(1, MAX_LAYER_SIZE),
        "dropout": DROPOUT_RATE,
    }

    def __str__(self) -> str:
        """Return a short description: "gru 2×128 in both directions"."""
        return f"{self.cell} {self.num_layers}×{self.hidden_size} in both directions"


def encoder_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name: embedding.weight, layers.L.DIRECTION.NAME, head.weight and head.bias.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    H, cell = config.hidden_size, CELLS.get(config.cell)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
    for layer in range(config.num_layers):
        for direction in DIRECTIONS:
            for name, shape in cell.parameter_shapes(2 * H if layer else config.embedding_dim, H).items():
                shapes[f"layers.{layer}.{direction}.{name}"] = shape
    return {**shapes, "head.weight": (config.num_labels, 4 * H), "head.bias": (config.num_labels,)}


class Encoder(nn.Module):
    """The network.

    Args:
        config: Its shape.
        generator: The random generator of the initial weights, on the CPU.
    """

    def __init__(self, config: EncoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.cell = config, CELLS.get(config.cell)
        for name, shape in encoder_shapes(config).items():
            self.register_parameter(name.replace(".", "__"), nn.Parameter(_initial(name, shape, generator)))

    def forward(self, ids: Tensor, lengths: Tensor, dropout_generator: torch.Generator | None = None) -> Tensor:
        """Read whole texts.

        Args:
            ids: The token ids of the texts, [T, B]; what is after the end of a text is not used.
            lengths: The number of token ids of each text, [B], from 1 to T.
            dropout_generator: The random generator of the dropout masks; without it nothing is dropped.

        Returns:
            The logits of the labels, [B, K].
        """
        T, rate = ids.shape[0], self.config.dropout
        steps = torch.arange(T, device=ids.device)[:, None]  # [T, 1]
        is_inside = steps < lengths  # [T, B]
        mirror = torch.where(is_inside, lengths - 1 - steps, steps)  # the same step, counted from the end of the text
        embedding = self._weight("embedding.weight")
        inputs: list[Dense | Lookup] = [Lookup(each, embedding) for each in (ids, ids.gather(0, mirror))]
        for layer in range(self.config.num_layers):
            forward, backward = (self._run(layer, d, x) for d, x in zip(DIRECTIONS, inputs, strict=True))
            outputs = torch.cat([forward, _take(backward, mirror)], dim=-1)  # [T, B, 2H]
            outputs = locked_dropout(outputs, rate, dropout_generator)
            inputs = [Dense(outputs), Dense(_take(outputs, mirror))]
        inside = is_inside[:, :, None]
        mean = (outputs * inside).sum(0) / lengths[:, None]
        largest = outputs.masked_fill(~inside, -math.inf).amax(0)
        return F.linear(torch.cat([mean, largest], dim=-1), self._weight("head.weight"), self._weight("head.bias"))

    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights by name, float32."""
        return {name: self._weight(name).detach().cpu().numpy().copy() for name in encoder_shapes(self.config)}

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights with the names and shapes of `encoder_shapes` into the network."""
        for name in encoder_shapes(self.config):
            self._weight(name).copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))

    def _run(self, layer: int, direction: str, inputs: Dense | Lookup) -> Tensor:
        """Run one direction of a layer from zeros: → outputs [T, B, H]."""
        names = self.cell.parameter_shapes(1, 1)
        params: Params = {name: self._weight(f"layers.{layer}.{direction}.{name}") for name in names}
        x = inputs.values()
        state = self.cell.initial_state(torch, (x.shape[1], self.config.hidden_size), dtype=x.dtype, device=x.device)
        return choose_backend(self.config.cell, x.device)(self.cell, params, inputs, state)[0]

    def _weight(self, name: str) -> Tensor:
        return self.get_parameter(name.replace(".", "__"))


def _take(values: Tensor, steps: Tensor) -> Tensor:
    """Return values [T, B, D] at the given steps of each row, [T, B]."""
    return values.gather(0, steps[:, :, None].expand_as(values))


def _initial(name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Draw one weight: normal for the embedding, uniform in ±1/√(inputs) for matrices, zero for biases."""
    if len(shape) == 1:
        return torch.zeros(shape)
    if name == "embedding.weight":
        return torch.randn(shape, generator=generator)
    return (2.0 * torch.rand(shape, generator=generator) - 1.0) / math.sqrt(shape[-1])
