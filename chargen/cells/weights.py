"""The weights of a network: their names, shapes and valid values. This is the content of a model file.

    embedding.weight [V, E]
    layers.{l}.weight_ih [X·H, I]   layers.{l}.weight_hh [G·H, H]   layers.{l}.bias_ih [X·H]   layers.{l}.bias_hh [G·H]
    layers.{l}.norm_weight [H]      layers.{l}.norm_bias [H]        (only with layer normalization, see `stack.py`)
    head.weight [V, M·H] (missing with tied weights)                head.bias [V]
    ngrams.weight [(N − 1)·R, D]    ngrams.head [V, D]              (only with n-grams, see `ngram_features.py`)
    ngrams.weight [R, D]    ngrams.index [R]    ngrams.words [V]    (with an index, see `ngram_index.py`)

    V vocabulary size, E embedding size, H hidden size, L layers per ensemble member, M ensemble size
    I input size of a layer: E for the first layer of a member, H for the others
    G and X: number of recurrent and input gates of the cell of the layer (`cell.py`)
    N longest n-gram, R rows of the n-gram table for each n or in all, D size of an n-gram embedding

The index and the kinds of token ids in words are whole numbers, which training does not change. All other arrays are
float32.

The first ensemble member has the layers 0 … L−1 and the first H columns of the head, the second member the layers
L … 2L−1 and the next H columns, and so on. With skip connections, each member has L·H columns, H for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from chargen.cells import CELLS, Cell
from chargen.cells.stack import NORM_BIAS, NORM_WEIGHT
from chargen.config import ModelConfig
from chargen.config.model import WORD_START
from chargen.errors import ModelError
from chargen.schema import format_count

MAX_WEIGHT = 1e6  #: absolute value; a product of three matrices with such weights is still a finite float32
MASKED_LOGIT = -1e30  #: bias of a token id that can never occur: it is finite, and the probability is exactly 0
FLOAT32_BYTES = 4
NGRAM_INDEX, NGRAM_WORDS = "ngrams.index", "ngrams.words"  #: arrays of whole numbers
FIXED_DTYPES = {NGRAM_INDEX: "uint16", NGRAM_WORDS: "uint8"}  #: dtypes of the arrays that training does not change
NGRAM_TABLE = "ngrams.weight"  #: the array of which most rows may be zero: those that training never met


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by name, in the order of the forward pass.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
    of_member = [layer_shapes(config, level, cell) for level, cell in enumerate(get_cells(config))]
    for layer in range(config.total_layers):
        for name, shape in of_member[layer % config.num_layers].items():
            shapes[f"layers.{layer}.{name}"] = shape
    if not config.tie_weights:
        shapes["head.weight"] = (config.vocab_size, config.ensemble_size * config.head_size)
    shapes["head.bias"] = (config.vocab_size,)
    if config.ngrams:
        shapes[NGRAM_TABLE] = (config.num_table_rows, config.ngram_dim)
        shapes["ngrams.head"] = (config.vocab_size, config.ngram_dim)
    if config.ngrams and config.ngram_index:
        shapes[NGRAM_INDEX] = (config.ngram_rows,)
        shapes[NGRAM_WORDS] = (config.vocab_size,)
    return shapes


def table_rows(config: ModelConfig) -> dict[str, int]:
    """Return the number of rows of each array of which a file may leave out the rows of zeros (`storage/`)."""
    return {NGRAM_TABLE: config.num_table_rows} if config.ngrams else {}


def get_cells(config: ModelConfig) -> list[Cell]:
    """Return the cell of each layer of an ensemble member, from the first layer to the last.

    Raises:
        ConfigError: If no cell has a configured name.
    """
    by_name = {name: CELLS.get(name) for name in dict.fromkeys(config.cell_names)}
    return [by_name[name] for name in config.cell_names]


def layer_shapes(config: ModelConfig, level: int, cell: Cell) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of a layer, by its short name ("weight_hh").

    Args:
        config: The settings of the network.
        level: The number of the layer in its ensemble member, from 0.
        cell: The cell of the layer.
    """
    H = config.hidden_size
    shapes = dict(cell.parameter_shapes(H if level else config.embedding_dim, H))
    if config.layer_norm:
        shapes |= {NORM_WEIGHT: (H,), NORM_BIAS: (H,)}
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """Return the number of trainable numbers of a network, without building the table of shapes.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    V, E, M = config.vocab_size, config.embedding_dim, config.ensemble_size
    of_member = (layer_shapes(config, level, cell) for level, cell in enumerate(get_cells(config)))
    total = V * E + M * sum(math.prod(shape) for shapes in of_member for shape in shapes.values()) + V
    if not config.tie_weights:
        total += V * M * config.head_size
    if config.ngrams:
        total += (config.num_table_rows + V) * config.ngram_dim
    return total


def count_tensors(config: ModelConfig) -> int:
    """Return the number of weights in `parameter_shapes`, without building that table.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    per_member = sum(len(layer_shapes(config, level, cell)) for level, cell in enumerate(get_cells(config)))
    num_ngram_arrays = (4 if config.ngram_index else 2) if config.ngrams else 0
    return config.ensemble_size * per_member + 2 + (not config.tie_weights) + num_ngram_arrays


def count_table_bytes(config: ModelConfig) -> int:
    """Return the size of the tables that an engine computes when it opens a model: input gates and head, for each token
    id.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    gates = get_cells(config)[0].num_input_gates
    per_id = config.ensemble_size * (gates * config.hidden_size + config.head_size)
    return config.vocab_size * per_id * FLOAT32_BYTES


def check_shapes(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the names and shapes of some tensors are those of the weights of a network.

    The time is proportional to the number of tensors, for any numbers in the settings.

    Args:
        config: The settings of the network.
        shapes: The shape of each tensor by name.

    Raises:
        ConfigError: If no cell has the configured name.
        ModelError: If a weight is missing or has another shape, or if there is an unknown tensor.
    """
    num_expected = count_tensors(config)
    if num_expected > 2 * len(shapes) + 100:  # avoids building millions of names only to report a missing one
        raise ModelError(
            f"there {'is' if len(shapes) == 1 else 'are'} {format_count(len(shapes), 'weight')}, but the "
            f"config requires {num_expected:,}"
        )
    expected = parameter_shapes(config)
    for name, shape in expected.items():
        if name not in shapes:
            raise ModelError(f"the weight {name!r} is missing")
        if tuple(shapes[name]) != shape:
            raise ModelError(f"the weight {name!r} is {list(shapes[name])}, but the config requires {list(shape)}")
    for name in shapes:
        if name not in expected:
            raise ModelError(f"the weight {name!r} belongs to no part of the network")


def check_weights(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Check the names, shapes and values of the weights of a network.

    Raises:
        ConfigError: If no cell has the configured name.
        ModelError: If a weight is missing or unknown, has another shape, or contains NaN or an absolute value above
            `MAX_WEIGHT`.
    """
    check_shapes(config, {name: weight.shape for name, weight in weights.items()})
    problem = find_invalid_weight(weights.items())
    if problem:
        raise ModelError(problem, "Train again with a lower --lr, which keeps weights small.")


def find_invalid_weight(weights: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return a sentence that names a weight with NaN or an absolute value above `MAX_WEIGHT`, or "" if there is none.

    The bias of the head may contain `MASKED_LOGIT`, but not for all token ids. The kinds of token ids in words are at
    most `WORD_START`.
    """
    for name, weight in weights:
        values = weight
        if name == "head.bias":
            values = weight[weight != weight.dtype.type(MASKED_LOGIT)]
            if not values.size:
                return f"the weight {name!r} rules out every token id"
        low, high = float(values.min()), float(values.max())
        if name == NGRAM_WORDS and high > WORD_START:
            return f"the weight {name!r} holds {high:g}, but kinds of token ids must be at most {WORD_START}"
        if not (low >= -MAX_WEIGHT and high <= MAX_WEIGHT):  # true for NaN, too
            value = "NaN" if math.isnan(low) else f"{low if high <= MAX_WEIGHT else high:g}"
            return f"the weight {name!r} holds {value}, but weights must be within ±{MAX_WEIGHT:g}"
    return ""


def mask_bias(bias: np.ndarray, masked_ids: Sequence[int]) -> np.ndarray:
    """Return a copy of an output bias in which exactly the given token ids are masked.

    A masked id has the bias MASKED_LOGIT. Its probability and its gradient are exactly 0, so training does not change
    its bias. A token id that is no longer masked gets the lowest bias of the unmasked token ids, at most 0.

    Args:
        bias: Output bias [V].
        masked_ids: The token ids to mask.
    """
    is_masked = np.zeros(len(bias), dtype=np.bool_)
    is_masked[list(masked_ids)] = True
    was_masked = bias <= MASKED_LOGIT / 2
    lowest = bias[~was_masked].min(initial=0.0)
    return np.where(is_masked, MASKED_LOGIT, np.where(was_masked, lowest, bias)).astype(bias.dtype)
