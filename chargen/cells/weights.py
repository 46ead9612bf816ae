"""Which weights a network of a given shape has: what a model file holds, whoever reads it.

embedding.weight [V, E]      layers.{l}.weight_ih [X·H, I] .weight_hh [G·H, H] .bias_ih [X·H] .bias_hh [G·H]
head.weight [V, M·H] (not with tied weights)    head.bias [V]              I is E for layer 0 and H above it
ngrams.weight [(N − 1)·R, D] ngrams.head [V, D] (where there are n-grams: `ngrams.py`)

Of M members, the first has layers 0 … L−1 and the first H columns of the head, the second layers L … 2L−1, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from chargen.cells import CELLS
from chargen.config import ModelConfig
from chargen.errors import ModelError

MASKED_LOGIT = -1e30  #: output bias of an id that can never come: finite, and its probability is exactly 0


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by its name, in the order of the data's way.

    Raises:
        ConfigError: no cell has the configured name.
    """
    cell = CELLS.get(config.cell)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
    for layer in range(config.all_layers):
        input_size = config.hidden_size if layer % config.num_layers else config.embedding_dim
        for name, shape in cell.parameter_shapes(input_size, config.hidden_size).items():
            shapes[f"layers.{layer}.{name}"] = shape
    if not config.tie_weights:
        shapes["head.weight"] = (config.vocab_size, config.members * config.hidden_size)
    shapes["head.bias"] = (config.vocab_size,)
    if config.ngrams:
        shapes["ngrams.weight"] = ((config.ngrams - 1) * config.ngram_rows, config.ngram_dim)
        shapes["ngrams.head"] = (config.vocab_size, config.ngram_dim)
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """Return how many numbers a network of this shape learns."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())


def check_weights(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Check that the weights are those of a network of this shape.

    Raises:
        ModelError: one is missing, has another shape, is one too many, or holds NaN or infinity.
    """
    shapes = parameter_shapes(config)
    for name, shape in shapes.items():
        if name not in weights:
            raise ModelError(f"the weight {name!r} is missing")
        if tuple(weights[name].shape) != shape:
            raise ModelError(f"the weight {name!r} is {list(weights[name].shape)}, but the config says {list(shape)}")
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"the weight {name!r} holds NaN or infinity", "Train again; a lower --lr keeps it finite.")
    for name in weights:
        if name not in shapes:
            raise ModelError(f"the weight {name!r} belongs to no part of the network")


def masked_bias(bias: np.ndarray, masked: Sequence[int]) -> np.ndarray:
    """Return an output bias, [V], in which these ids and no others are masked.

    A masked id has the bias MASKED_LOGIT. Its probability and its gradient are exactly 0, so that training leaves it
    where it is. An id that was masked before and is not any more becomes as unlikely as the least likely of the others.
    """
    is_masked = np.zeros(len(bias), dtype=np.bool_)
    is_masked[list(masked)] = True
    was_masked = bias <= MASKED_LOGIT / 2
    lowest = bias[~was_masked].min(initial=0.0)
    return np.where(is_masked, MASKED_LOGIT, np.where(was_masked, lowest, bias)).astype(bias.dtype)
