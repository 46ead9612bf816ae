"""The number of parameters of a network as formulas: one line for each part, and the lines add up.

    part        formula                     numbers                              parameters
    embedding   V·E                         65·64                                     4,160
    layers.0    3H·E + 3H·H + 3H + 3H       768·64 + 768·256 + 768 + 768            247,296

The formulas are found by asking `parameter_shapes` for a network of the same kind with unusual sizes: a dimension that
is a multiple of such a number is a multiple of this size. So a new cell needs no formula of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chargen.cells.weights import FIXED_DTYPES, parameter_shapes
from chargen.config import ModelConfig

# Sizes of the network that is asked. No small multiple of a size is a multiple of another size.
PROBES = {"V": 1_000_003, "H": 65_521, "E": 65_519, "R": 1 << 20, "D": 4_093}
LEGEND = {
    "V": "vocabulary", "E": "embedding", "H": "hidden size", "R": "rows of the n-gram table for each n",
    "D": "n-gram embedding",
}  # fmt: skip


@dataclass(frozen=True)
class PartCount:
    """The parameters of a part of a network."""

    part: str  #: "embedding", "layers.0", …, "head" or "ngrams", as in the names of a model file
    formula: str  #: one product for each weight: "V·E"
    numbers: str  #: the formula with the numbers of the network: "65·64"
    parameters: int  #: their number


def explain_parameters(config: ModelConfig) -> list[PartCount]:
    """Return the parameter count of each part of a network, in the order of the forward pass.

    Raises:
        ConfigError: If there is no cell of the configured name.
    """
    embedding_dim = PROBES["H"] if config.tie_weights else PROBES["E"]
    probe = replace(
        config, vocab_size=PROBES["V"], hidden_size=PROBES["H"], embedding_dim=embedding_dim, ngram_rows=PROBES["R"],
        ngram_dim=PROBES["D"],
    )  # fmt: skip
    symbolic = parameter_shapes(probe)
    parts: dict[str, list[str]] = {}
    shapes = parameter_shapes(config)
    for name in shapes:
        if name in FIXED_DTYPES:  # the index is not trained
            continue
        parts.setdefault(name.rpartition(".")[0], []).append(name)
    return [
        PartCount(
            part,
            " + ".join("·".join(map(_symbol, symbolic[name])) for name in names),
            " + ".join("·".join(map(str, shapes[name])) for name in names),
            sum(math.prod(shapes[name]) for name in names),
        )
        for part, names in parts.items()
    ]


def _symbol(dimension: int) -> str:
    """Return a dimension of the network that is asked as a multiple of a size: "3H"."""
    for letter, probe in PROBES.items():
        if dimension % probe == 0:
            factor = dimension // probe
            return letter if factor == 1 else f"{factor}{letter}"
    return str(dimension)
