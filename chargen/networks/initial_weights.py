"""The initial weights of a language model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chargen.cells import Cell
from chargen.cells.stack import NORM_WEIGHT
from chargen.config import ModelConfig


def draw_weight(
    cell: Cell | None, name: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator | None
) -> Tensor:
    """Draw one weight: as its cell wants it, or else normal for the embedding, uniform in ±1/√(inputs) for matrices,
    and zero for vectors and n-grams.

    Layer normalization starts with the factors 1 and the summands 0.
    """

    def uniform(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=generator)

    own: Tensor | None = None
    if cell is not None:
        own = cell.initial_weight(torch, name.rpartition(".")[2], shape, uniform)
    if own is not None:
        return own
    if name.endswith(NORM_WEIGHT):
        return torch.ones(shape)
    if len(shape) == 1 or name == "ngrams.weight":
        return torch.zeros(shape)
    if name == "embedding.weight":
        scale = 1.0 / math.sqrt(config.embedding_dim) if config.tie_weights else 1.0
        return torch.randn(shape, generator=generator) * scale
    inputs = config.head_size if name == "head.weight" else shape[1]
    return (2.0 * uniform(shape) - 1.0) / math.sqrt(inputs)
