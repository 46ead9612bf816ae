"""The choices of the user: the fields of the settings, all of which can be left open, checked on construction."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from chargen.config import Config, ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.training.choices import Choices, ModelChoices, RunLength, TrainChoices
from chargen.training.run import Plan
from tests.conftest import corpus_of

KINDS: list[type[Choices]] = [RunLength, ModelChoices, TrainChoices]


@pytest.mark.parametrize(
    ("config", "kinds", "others"),
    [(ModelConfig, [ModelChoices], {"vocab_size"}), (TrainConfig, [RunLength, TrainChoices], {"device", "max_epochs"})],
)
def test_every_setting_of_a_run_can_be_chosen(
    config: type[Config], kinds: list[type[Choices]], others: set[str]
) -> None:
    names = [field.name for kind in kinds for field in fields(kind)]
    assert sorted([*names, *others]) == sorted(field.name for field in fields(config))
    expected = get_type_hints(config)
    for kind in kinds:
        found = get_type_hints(kind)
        assert all(found[field.name] == expected[field.name] | None for field in fields(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_open_is_not_chosen(kind: type[Choices]) -> None:
    assert kind().chosen() == {}


def test_zero_and_false_are_choices() -> None:
    assert ModelChoices(ngrams=0, tie_weights=False).chosen() == {"ngrams": 0, "tie_weights": False}
    assert TrainChoices(weight_decay=0.0, seed=0).chosen() == {"weight_decay": 0.0, "seed": 0}


def test_values_out_of_range_are_errors() -> None:
    with pytest.raises(ConfigError, match="hidden_size is 0"):
        ModelChoices(hidden_size=0)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        TrainChoices(batch_size=0)
    with pytest.raises(ConfigError, match="budget_s is -1"):
        RunLength(budget_s=-1.0)


def test_a_length_has_one_unit() -> None:
    with pytest.raises(ConfigError, match="only one of budget, steps and epochs, not steps and epochs"):
        RunLength(steps=1, epochs=1.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("length", "RunLength"), ("model", "ModelChoices"), ("train", "TrainChoices")]
)
def test_a_plan_refuses_a_dict_and_names_the_type_that_it_takes(name: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} of the plan is .*, but must be a {kind}") as caught:
        Plan(corpus_of("ab"), **{name: {"steps": 1}})  # type: ignore[arg-type]
    assert "RunLength(steps=100)" in caught.value.hint
