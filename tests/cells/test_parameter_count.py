"""The formulas of the parameter count add up to it, for every cell and shape."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from chargen.cells import CELLS
from chargen.cells.parameter_count import PROBES, explain_parameters
from chargen.cells.weights import count_parameters
from chargen.checkpoint import save_checkpoint
from chargen.config import ModelConfig
from tests.conftest import random_model

SHAPES = [{}, {"num_layers": 3}, {"ensemble_size": 2, "num_layers": 2}, {"ngrams": 5, "ngram_rows": 8, "ngram_dim": 3},
          {"ngrams": 5, "ngram_rows": 64, "ngram_dim": 3, "ngram_words": 2, "ngram_index": True}]  # fmt: skip


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", [*CELLS.names(), "mlp:3"])
def test_the_parts_add_up_and_each_formula_has_the_value_of_its_line(
    cell: str, shape: dict[str, Any], tie_weights: bool
) -> None:
    config = ModelConfig(
        11, cell, hidden_size=6, embedding_dim=6 if tie_weights else 5, tie_weights=tie_weights, **shape
    )
    parts = explain_parameters(config)
    assert sum(part.parameters for part in parts) == count_parameters(config)
    sizes = {"V": 11, "H": 6, "E": config.embedding_dim, "R": config.ngram_rows, "D": config.ngram_dim}
    for part in parts:
        terms = part.formula.split(" + ")
        assert sum(math.prod(value(factor, sizes) for factor in term.split("·")) for term in terms) == part.parameters
        numbers = [math.prod(map(int, term.split("·"))) for term in part.numbers.split(" + ")]
        assert sum(numbers) == part.parameters
        assert len(numbers) == len(terms)


def value(factor: str, sizes: dict[str, int]) -> int:
    """Return the value of a factor of a formula: "3H", "V", "7"."""
    if factor[-1] not in sizes:
        return int(factor)
    return int(factor[:-1] or 1) * sizes[factor[-1]]


def test_the_formulas_name_what_each_weight_is() -> None:
    parts = {part.part: part for part in explain_parameters(ModelConfig(65, "gru", 2, 256, 64, ngrams=6))}
    assert parts["embedding"].formula == "V·E"
    assert parts["layers.0"].formula == "3H·E + 3H·H + 3H + 3H"
    assert parts["layers.0"].numbers == "768·64 + 768·256 + 768 + 768"
    assert parts["layers.0"].parameters == 247_296
    assert parts["layers.1"].formula == "3H·H + 3H·H + 3H + 3H"
    assert parts["head"].formula == "V·H + V"
    assert parts["ngrams"].formula == "5R·D + V·D"
    indexed = explain_parameters(ModelConfig(65, "gru", 2, 256, 64, ngrams=6, ngram_index=True))
    assert [part.formula for part in indexed if part.part == "ngrams"] == ["R·D + V·D"]


def test_the_sizes_of_the_network_that_is_asked_cannot_be_confused() -> None:
    for letter, size in PROBES.items():
        for other in PROBES.values():
            assert size == other or all((factor * size) % other for factor in range(1, 300)), letter


def test_info_explains_the_count_of_a_model(chargen: Any) -> None:
    model = random_model(cell="mlp:2", num_layers=2)
    save_checkpoint("checkpoints/m/model.safetensors", model)
    out = chargen("info", "m", "--explain").out
    assert "2H·E + H" in out and "24·8 + 12" in out and "2H·H + H" in out
    assert f"{count_parameters(model.config):,}" in out.rstrip().splitlines()[-1]
    facts = json.loads(chargen("info", "m", "--explain", "--json").out)
    assert sum(part["parameters"] for part in facts["parts"]) == facts["parameters"]
    assert facts["cell"] == "mlp:2"
    assert "parts" not in json.loads(chargen("info", "m", "--json").out)
    result = chargen("info", "--explain")
    assert (result.status, "--explain needs MODEL" in result.err) == (2, True)
