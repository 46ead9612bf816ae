"""Settings are checked on construction, are frozen, and convert to JSON and back without loss."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import MAX_LAYER_SIZE, MAX_LAYERS, MAX_SEED, Config, DataConfig, ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.sampling.settings import MAX_TEMPERATURE, MIN_TEMPERATURE, SampleConfig
from chargen.training.choices import ModelChoices

NOT_FINITE = [math.nan, math.inf, -math.inf]
laws = settings(deadline=None, max_examples=60)

positive = st.floats(min_value=0, max_value=10, exclude_min=True)
share = st.floats(min_value=0, max_value=1)
beta = st.floats(min_value=0, max_value=0.99999)
count = st.integers(1, 10**6)

models = st.builds(
    ModelConfig,
    vocab_size=count,
    cell=st.text(st.characters(exclude_characters=",")),
    num_layers=st.integers(1, MAX_LAYERS),
    hidden_size=st.integers(2, MAX_LAYER_SIZE),
    embedding_dim=st.integers(1, MAX_LAYER_SIZE),
    dropout=st.floats(0, 0.95),
    weight_dropout=st.floats(0, 0.95),
    ngram_dropout=st.floats(0, 0.95),
    layer_norm=st.booleans(),
)
stacks = st.builds(
    ModelConfig,
    vocab_size=count,
    cell=st.lists(st.text(st.characters(exclude_characters=",")), min_size=2, max_size=9).map(",".join),
    residual=st.booleans(),
    skip=st.booleans(),
)
data = st.builds(
    DataConfig,
    tokenizer=st.text(),
    encoding=st.text(),
    newline=st.sampled_from(["lf", "keep"]),
    normalize=st.sampled_from(["nfc", "none"]),
    val_fraction=st.floats(0, 0.5, exclude_min=True),
)
lengths = st.one_of(
    st.fixed_dictionaries({"budget_s": positive}),
    st.fixed_dictionaries({"steps": count}),
    st.fixed_dictionaries({"epochs": positive}),
)
trains = st.builds(
    lambda length, rest: TrainConfig(**length, **rest),
    lengths,
    st.fixed_dictionaries(
        {
            "batch_size": count,
            "seq_len": count,
            "learning_rate": positive,
            "final_learning_rate": share,
            "warmup": share,
            "beta1": beta,
            "beta2": beta,
            "weight_decay": st.floats(0, 100),
            "clip_norm": positive,
            "seed": st.integers(0, MAX_SEED),
            "device": st.text(),
        }
    ),
)
samples = st.builds(
    SampleConfig,
    temperature=st.just(0.0) | st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE),
    length=st.integers(0, 10**9),
    seed=st.integers(0, MAX_SEED),
)


@laws
@given(st.one_of(models, stacks, data, trains, samples))
def test_settings_convert_to_json_and_back_without_loss(config: Config):
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("config", "name", "bad"),
    [
        (ModelConfig, "vocab_size", [0, -1, 2.0, True, "5", None]),
        (ModelConfig, "num_layers", [0, -3, 1.5]),
        (ModelConfig, "hidden_size", [0, -1]),
        (ModelConfig, "embedding_dim", [0, -1]),
        (ModelConfig, "weight_dropout", [-0.1, 0.96, 1.0, True, "0.1", None, *NOT_FINITE]),
        (ModelConfig, "ngram_dropout", [-0.1, 0.96, 1.0, True, "0.1", None, *NOT_FINITE]),
        (ModelConfig, "dropout", [-0.1, 0.96, 1.0, True, "0.1", None, *NOT_FINITE]),
        (DataConfig, "newline", ["crlf", "LF", ""]),
        (DataConfig, "normalize", ["nfd", "NFC", ""]),
        (DataConfig, "val_fraction", [0, -0.1, 0.51, 1, "0.1", *NOT_FINITE]),
        (TrainConfig, "steps", [0, -1, 1.5, True, math.nan]),
        (TrainConfig, "budget_s", [0, -1.0, *NOT_FINITE]),
        (TrainConfig, "epochs", [0, -0.5, *NOT_FINITE]),
        (TrainConfig, "batch_size", [0, -1, 2.0]),
        (TrainConfig, "seq_len", [0, -1, 2.0]),
        (TrainConfig, "seed", [-1, 0.5, None]),
        (TrainConfig, "learning_rate", [0, -1e-3, *NOT_FINITE]),
        (TrainConfig, "clip_norm", [0, -1, *NOT_FINITE]),
        (TrainConfig, "weight_decay", [-1e-9, *NOT_FINITE]),
        (TrainConfig, "warmup", [-0.1, 1.1, *NOT_FINITE]),
        (TrainConfig, "final_learning_rate", [-0.1, 1.1, *NOT_FINITE]),
        (TrainConfig, "beta1", [-0.1, 1.0, *NOT_FINITE]),
        (TrainConfig, "beta2", [-0.1, 1.0, *NOT_FINITE]),
        (SampleConfig, "temperature", [-0.1, "1", *NOT_FINITE]),
        (SampleConfig, "length", [-1, 1.5]),
        (SampleConfig, "seed", [-1, 1.5]),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name_and_value(config, name, bad):
    needed = {ModelConfig: {"vocab_size": 5}, TrainConfig: {"steps": 5}}.get(config, {})
    if name in ("budget_s", "epochs"):
        needed = {}
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            config(**{**needed, name: value})
        assert caught.value.message.startswith(f"{name} is "), caught.value.message
        assert str(value) in caught.value.message


def test_the_limits_of_a_range_are_valid():
    assert ModelConfig(1, dropout=0.95).dropout == 0.95
    assert DataConfig(val_fraction=0.5).val_fraction == 0.5
    assert TrainConfig(steps=1, warmup=1, final_learning_rate=0, weight_decay=0, seed=0, beta1=0).steps == 1
    assert SampleConfig(temperature=0, length=0).length == 0


def test_an_integer_too_large_for_a_float_is_refused():
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainConfig(steps=1, learning_rate=10**400)


@pytest.mark.parametrize(
    "lengths",
    [
        {},
        {"steps": 5, "epochs": 1.0},
        {"budget_s": 5.0, "steps": 5},
        {"budget_s": 5.0, "epochs": 1.0},
        {"budget_s": 5.0, "steps": 5, "epochs": 1.0},
    ],
)
def test_exactly_one_of_budget_steps_and_epochs_is_required(lengths):
    with pytest.raises(ConfigError, match="exactly one of budget_s, steps and epochs") as caught:
        TrainConfig(**lengths)
    assert caught.value.message.endswith(f"not {list(lengths) or 'none'}")


def test_tied_weights_need_equal_sizes():
    assert ModelConfig(5, hidden_size=8, embedding_dim=8, tie_weights=True).tie_weights
    with pytest.raises(ConfigError, match="not 4 and 8"):
        ModelConfig(5, hidden_size=8, embedding_dim=4, tie_weights=True)


@pytest.mark.parametrize("make", [lambda **fields: ModelConfig(5, **fields), ModelChoices])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cell": "lstm,gru", "num_layers": 3}, ["'lstm,gru'", "names 2 layers", "is 3"]),
        ({"cell": "lstm,gru", "num_layers": 1}, ["names 2 layers", "is 1"]),
        ({"num_layers": 1, "residual": True}, ["--residual", "has no effect", "a single one"]),
        ({"num_layers": 1, "skip": True}, ["--skip", "has no effect", "a single one"]),
        ({"num_layers": 2, "skip": True, "tie_weights": True}, ["--tie-weights", "--skip"]),
    ],
)
def test_a_stack_that_contradicts_itself_is_refused_by_name(
    make: Callable[..., Any], fields: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.hint


def test_a_stack_has_as_many_layers_as_its_cells_have_names() -> None:
    assert ModelConfig(5, "lstm,gru,rnn").num_layers == ModelChoices(cell="lstm,gru,rnn").num_layers == 3
    assert ModelConfig(5, "lstm,gru,rnn").cell_names == ("lstm", "gru", "rnn")
    assert ModelConfig(5, "lstm").num_layers == 1
    assert ModelConfig(5, "lstm", 2).cell_names == ("lstm", "lstm")
    assert ModelChoices(cell="lstm").num_layers is None
    assert ModelConfig(5, "lstm,gru", 2, 8, skip=True).head_size == 16


def test_a_single_unit_cannot_be_normalized() -> None:
    with pytest.raises(ConfigError, match="layer_norm needs a hidden_size of at least 2"):
        ModelConfig(5, hidden_size=1, layer_norm=True)


def test_settings_that_are_off_are_not_written_so_that_earlier_versions_read_the_file() -> None:
    assert not {"residual", "skip", "layer_norm"} & set(ModelConfig(5, num_layers=2).to_json())
    assert ModelConfig(5, num_layers=2, skip=True).to_json()["skip"] is True


def test_the_error_for_an_unknown_key_suggests_the_most_similar_one():
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_json({"vocab_size": 5, "hiden_size": 8})
    assert caught.value.message == "unknown setting 'hiden_size' in ModelConfig"
    assert caught.value.hint == "Did you mean 'hidden_size'?"


def test_the_earlier_key_members_is_read_as_ensemble_size():
    config = ModelConfig(5, ensemble_size=3)
    earlier = {"members" if key == "ensemble_size" else key: value for key, value in config.to_json().items()}
    assert ModelConfig.from_json(earlier) == config
    assert "members" not in config.to_json()
    with pytest.raises(ConfigError, match="unknown setting 'members'"):
        ModelConfig.from_json({**config.to_json(), "members": 3})


def test_a_missing_key_is_refused():
    with pytest.raises(ConfigError, match="vocab_size"):
        ModelConfig.from_json({"hidden_size": 8})


def test_values_from_json_are_checked():
    with pytest.raises(ConfigError, match="hidden_size is 0"):
        ModelConfig.from_json({"vocab_size": 5, "hidden_size": 0})


@pytest.mark.parametrize("config", [ModelConfig(5), DataConfig(), TrainConfig(steps=1), SampleConfig()])
def test_settings_are_frozen(config):
    first = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, first, 1)
