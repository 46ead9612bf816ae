"""Which weights a network of a given shape has: what a model file holds, whoever reads it.

embedding.weight [V, E]      layers.{l}.weight_ih [X·H, I] .weight_hh [G·H, H] .bias_ih [X·H] .bias_hh [G·H]
head.weight [V, M·H] (not with tied weights)    head.bias [V]              I is E for layer 0 and H above it
ngrams.weight [(N − 1)·R, D] ngrams.head [V, D] (where there are n-grams: `ngrams.py`)

Of M members, the first has layers 0 … L−1 and the first H columns of the head, the second layers L … 2L−1, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from chargen.cells import CELLS
from chargen.config import ModelConfig
from chargen.errors import ModelError

MAX_WEIGHT = 1e6  #: of the absolute value: a product of three matrices with such weights is still a finite float32
MASKED_LOGIT = -1e30  #: the head's bias for an id that can never come: finite, and its probability is exactly 0
FLOAT32_BYTES = 4


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by its name, in the order of the data's way.

    Raises:
        ConfigError: no cell has the configured name.
    """
    cell = CELLS.get(config.cell)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
    for layer in range(config.total_layers):
        input_size = config.hidden_size if layer % config.num_layers else config.embedding_dim
        for name, shape in cell.parameter_shapes(input_size, config.hidden_size).items():
            shapes[f"layers.{layer}.{name}"] = shape
    if not config.tie_weights:
        shapes["head.weight"] = (config.vocab_size, config.ensemble_size * config.hidden_size)
    shapes["head.bias"] = (config.vocab_size,)
    if config.ngrams:
        shapes["ngrams.weight"] = ((config.ngrams - 1) * config.ngram_rows, config.ngram_dim)
        shapes["ngrams.head"] = (config.vocab_size, config.ngram_dim)
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """Return how many numbers a network of this shape learns, by arithmetic alone.

    Raises:
        ConfigError: no cell has the configured name.
    """
    V, H, M = config.vocab_size, config.hidden_size, config.ensemble_size
    cell = CELLS.get(config.cell)
    first, other = (
        sum(math.prod(shape) for shape in cell.parameter_shapes(size, H).values()) for size in (config.embedding_dim, H)
    )
    total = V * config.embedding_dim + M * (first + (config.num_layers - 1) * other) + V
    if not config.tie_weights:
        total += V * M * H
    if config.ngrams:
        total += ((config.ngrams - 1) * config.ngram_rows + V) * config.ngram_dim
    return total


def count_tensors(config: ModelConfig) -> int:
    """Return how many weights `parameter_shapes` names, by arithmetic alone.

    Raises:
        ConfigError: no cell has the configured name.
    """
    names = len(CELLS.get(config.cell).parameter_shapes(1, 1))
    return config.total_layers * names + 2 + (not config.tie_weights) + 2 * bool(config.ngrams)


def count_table_bytes(config: ModelConfig) -> int:
    """Return the size of what is computed from the weights when a model is opened: input gates and head for each id."""
    gates = CELLS.get(config.cell).num_input_gates
    return config.vocab_size * config.ensemble_size * (gates + 1) * config.hidden_size * FLOAT32_BYTES


def check_shapes(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that names and shapes are those of the weights of a network, in time proportional to their number.

    Raises:
        ConfigError: no cell has the configured name.
        ModelError: one is missing, has another shape, or is one too many.
    """
    wanted = count_tensors(config)
    if wanted > 2 * len(shapes) + 100:  # do not name millions of weights to say which of them is missing
        raise ModelError(f"there are {len(shapes):,} weights, but the config says {wanted:,}")
    expected = parameter_shapes(config)
    for name, shape in expected.items():
        if name not in shapes:
            raise ModelError(f"the weight {name!r} is missing")
        if tuple(shapes[name]) != shape:
            raise ModelError(f"the weight {name!r} is {list(shapes[name])}, but the config says {list(shape)}")
    for name in shapes:
        if name not in expected:
            raise ModelError(f"the weight {name!r} belongs to no part of the network")


def check_weights(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Check that the weights are those of a network of this shape.

    Raises:
        ModelError: one is missing, has another shape, is one too many, holds NaN or is beyond `MAX_WEIGHT`.
    """
    check_shapes(config, {name: weight.shape for name, weight in weights.items()})
    found = find_invalid_weight(weights.items())
    if found:
        raise ModelError(found, "Train again; a lower --lr keeps weights small.")


def find_invalid_weight(weights: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return which weight is NaN or beyond `MAX_WEIGHT`, as a sentence; "" if none is.

    Of the head's bias `MASKED_LOGIT` is allowed, but not for all ids.
    """
    for name, weight in weights:
        values = weight
        if name == "head.bias":
            values = weight[weight != weight.dtype.type(MASKED_LOGIT)]
            if not values.size:
                return f"the weight {name!r} rules out every id"
        low, high = float(values.min()), float(values.max())
        if not (low >= -MAX_WEIGHT and high <= MAX_WEIGHT):  # also of NaN
            value = "NaN" if math.isnan(low) else f"{low if high <= MAX_WEIGHT else high:g}"
            return f"the weight {name!r} holds {value}, but weights must be within ±{MAX_WEIGHT:g}"
    return ""


def mask_bias(bias: np.ndarray, masked: Sequence[int]) -> np.ndarray:
    """Return an output bias, [V], in which these ids and no others are masked.

    A masked id has the bias MASKED_LOGIT. Its probability and its gradient are exactly 0, so that training leaves it
    where it is. An id that was masked before and is not any more becomes as unlikely as the least likely of the others.
    """
    is_masked = np.zeros(len(bias), dtype=np.bool_)
    is_masked[list(masked)] = True
    was_masked = bias <= MASKED_LOGIT / 2
    lowest = bias[~was_masked].min(initial=0.0)
    return np.where(is_masked, MASKED_LOGIT, np.where(was_masked, lowest, bias)).astype(bias.dtype)
