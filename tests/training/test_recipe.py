"""The recipe: settings that are valid for any run, keep the choices of the user, and follow from the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import CELLS
from chargen.cells.weights import count_parameters
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.recipe import (
    MIN_STEPS_OF_LARGE_BATCH,
    RecipeInputs,
    choose_settings,
    ngram_settings,
    recommended_settings,
    recurrent_weights,
)
from chargen.training.regularization import (
    MAX_USEFUL_EPOCHS,
    MIN_CAPPED_STEPS,
    limit_epochs,
    max_useful_epochs,
    weight_decay,
)

SPEED = 6e10  #: floating-point operations per second, those of two cores
IDS = st.integers(0, 9 * 64).map(lambda n: round(10 ** (n / 64)))  #: text lengths, 1 to 10⁹, evenly on a log scale
SHORT_IDS = st.integers(3 * 64, 7 * 64).map(lambda n: round(10 ** (n / 64)))
SECONDS = st.floats(-1.0, 6.0).map(lambda exponent: 10.0**exponent)  #: 0.1 s to 10⁶ s
EPOCHS = st.floats(-2.0, 3.0).map(lambda exponent: 10.0**exponent)
LENGTHS = st.one_of(
    SECONDS.map(lambda seconds: RunLength(budget_s=seconds)),
    EPOCHS.map(lambda epochs: RunLength(epochs=epochs)),
    st.integers(1, 10**7).map(lambda steps: RunLength(steps=steps)),
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return some of these fields, each with a value."""
    return st.fixed_dictionaries({}, optional=fields)


MODEL_CHOICES = optional(
    hidden_size=st.integers(1, 600),
    ensemble_size=st.integers(1, 9),
    dropout=st.floats(0.0, 0.9),
    ngrams=st.sampled_from([0, 2, 6]),
    ngram_dropout=st.floats(0.0, 0.9),
    tie_weights=st.booleans(),
).map(lambda fields: ModelChoices(**fields))
MODEL_CHOICES = MODEL_CHOICES.filter(lambda given: given.ngrams != 0 or not given.ngram_dropout)  # others are refused
TRAIN_CHOICES = optional(
    batch_size=st.integers(1, 1024),
    seq_len=st.integers(1, 1024),
    learning_rate=st.floats(1e-5, 1.0),
    weight_decay=st.floats(0.0, 1.0),
    patience=st.floats(0.1, 1.0),
).map(lambda fields: TrainChoices(**fields))
RUNS = st.builds(
    RecipeInputs,
    num_train_ids=IDS,
    vocab_size=st.integers(2, 50_000),
    length=LENGTHS,
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    model=MODEL_CHOICES,
    train=TRAIN_CHOICES,
    flops=st.floats(0.0, 20.0).map(lambda exponent: 10.0**exponent),
    excess_loss_nats=st.none() | st.floats(0.0, 1e7),
    has_words=st.booleans(),
    num_processes=st.integers(1, 64),
)


def chosen(length: dict[str, Any], num_ids: int = 10**6, **more: Any) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings that the recipe chooses on a CPU, for a vocabulary of 67."""
    choices = {"model": ModelChoices(**more.pop("model", {})), "train": TrainChoices(**more.pop("train", {}))}
    return choose_settings(RecipeInputs(num_ids, 67, RunLength(**length), "cpu", **choices, **more))


def timed(seconds: float, num_ids: int = 10**6, **more: Any) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings for a time budget on two cores."""
    return chosen({"budget_s": seconds}, num_ids, flops=SPEED * seconds, **more)


def assert_rises(values: Sequence[float]) -> None:
    """Check that no value is lower than the one before."""
    assert list(values) == sorted(values)


# ── any run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(RUNS)
@settings(max_examples=200, deadline=None)
def test_the_settings_of_any_run_are_valid_and_have_the_choices_of_the_user(inputs: RecipeInputs) -> None:
    model, train = choose_settings(inputs)  # both are checked when they are made
    for choices, config in ((inputs.model, model), (inputs.train, train), (inputs.length, train)):
        for name, value in choices.chosen().items():
            assert getattr(config, name) == value
    assert (model.vocab_size, train.device) == (inputs.vocab_size, inputs.device)
    of_ngrams = ngram_settings(inputs.model, inputs.num_train_ids, inputs.has_words)  # known before the others
    assert of_ngrams == {name: getattr(model, name) for name in of_ngrams}
    assert model.ngrams == 0 or model.ngram_rows & (model.ngram_rows - 1) == 0
    assert (train.max_epochs is not None) == (inputs.length.budget_s is not None)


@given(st.sampled_from(CELLS.names()), IDS, LENGTHS, st.floats(0.0, 18.0))
@settings(max_examples=60, deadline=None)
def test_every_cell_has_valid_settings_and_no_dropout_of_matrices_that_it_lacks(
    cell: str, num_ids: int, length: RunLength, exponent: float
) -> None:
    inputs = RecipeInputs(num_ids, 67, length, "cpu", ModelChoices(cell=cell), flops=10.0**exponent)
    model, _ = choose_settings(inputs)
    assert model.cell == cell
    assert model.weight_dropout in (0.0, model.dropout)
    assert CELLS.get(cell).recurrent_names or model.weight_dropout == 0.0


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--ngram-dropout", {"ngrams": 0, "ngram_dropout": 0.1}),
        ("--weight-dropout", {"cell": "mingru", "weight_dropout": 0.1}),
    ],
)
def test_a_dropout_rate_without_effect_is_refused(option: str, choices: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{option} .* has no effect"):
        chosen({"steps": 100}, model=choices)


def test_the_recipe_never_changes_the_choices_of_the_user() -> None:
    model, train = chosen({"steps": 100}, model={"cell": "rnn", "hidden_size": 48}, train={"learning_rate": 0.5})
    assert (model.cell, model.hidden_size, train.learning_rate, train.steps) == ("rnn", 48, 0.5, 100)


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_time_and_more_text_get_a_larger_network() -> None:
    sizes = [count_parameters(timed(seconds, model={"ngrams": 0})[0]) for seconds in (20, 90, 600)]
    assert sizes[0] < sizes[1] < sizes[2]
    by_text = [count_parameters(timed(300, n, model={"ngrams": 0})[0]) for n in (10**4, 10**6)]
    assert by_text[0] < by_text[1]


@given(SHORT_IDS, st.integers(1, 8), st.floats(8.0, 16.0), st.floats(0.0, 2.0))
@settings(max_examples=60, deadline=None)
def test_a_network_never_shrinks_with_the_time(num_ids: int, members: int, exponent: float, more: float) -> None:
    lengths = (10.0**exponent, 10.0 ** (exponent + more))
    sizes = [
        chosen({"budget_s": 60.0}, num_ids, model={"ensemble_size": members}, flops=flops)[0].hidden_size
        for flops in lengths
    ]
    assert_rises(sizes)


def test_a_text_that_is_read_more_often_gets_more_members_up_to_a_limit() -> None:
    members = [timed(seconds)[0].ensemble_size for seconds in (20, 90, 300, 1200, 5000, 50_000, 10**6)]
    assert_rises(members)
    assert members[0] == 1 < members[2] < members[-1] == members[-2]


def test_a_short_text_gets_fewer_members_for_as_many_epochs_of_a_single_one() -> None:
    def members(num_ids: int) -> int:
        single = recurrent_weights("mgru", 1, 64) + 67 * 64  # the head has a row for each token id
        flops = 6.0 * single * 60 * num_ids
        return chosen({"budget_s": 60.0}, num_ids, model={"hidden_size": 64}, flops=flops)[0].ensemble_size

    counts = [members(num_ids) for num_ids in (10**4, 2 * 10**5, 5 * 10**5, 10**6, 10**7)]
    assert_rises(counts)
    assert counts[0] == counts[1] < counts[2] < counts[3] == counts[4]


def test_the_layers_of_a_stack_are_counted_by_the_names_of_its_cells() -> None:
    both = recurrent_weights("gru,lstm", 1, 64)
    assert both == recurrent_weights("gru,lstm", 2, 64)
    assert both > recurrent_weights("gru", 1, 64)


# ── regularization ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(IDS, EPOCHS, st.floats(1.0, 100.0))
@settings(max_examples=100, deadline=None)
def test_a_text_that_is_read_more_often_gets_no_less_regularization(num_ids: int, epochs: float, factor: float) -> None:
    (less, less_decay), (more, more_decay) = (
        (model, train.weight_decay)
        for model, train in (chosen({"epochs": e}, num_ids) for e in (epochs, factor * epochs))
    )
    assert_rises([less.dropout, more.dropout])
    assert_rises([less.weight_dropout, more.weight_dropout])
    assert_rises([less.ngram_dropout, more.ngram_dropout])
    assert_rises([less_decay, more_decay])


@given(IDS, EPOCHS, st.floats(1.0, 1000.0))
@settings(max_examples=100, deadline=None)
def test_a_longer_text_that_is_read_as_often_gets_no_more_dropout(num_ids: int, epochs: float, factor: float) -> None:
    length = {"epochs": epochs}
    short, long = (chosen(length, n)[0] for n in (num_ids, min(10**9, round(factor * num_ids))))
    assert_rises([long.dropout, short.dropout])
    assert_rises([short.ngram_dropout, long.ngram_dropout])  # the limit rises with the length
    assert_rises([short.ngrams, long.ngrams])
    assert_rises([short.ngram_rows, long.ngram_rows])


@given(EPOCHS, SHORT_IDS, st.integers(2, 10**4), st.integers(0, 10**4), st.integers(0, 10**6))
def test_the_rarer_the_token_ids_of_a_text_the_higher_is_its_weight_decay(
    epochs: float, num_ids: int, vocab_size: int, more_ids: int, longer: int
) -> None:
    rates = [weight_decay(epochs, n, v) for n, v in ((num_ids + longer, vocab_size), (num_ids, vocab_size))]
    assert_rises([*rates, weight_decay(epochs, num_ids, vocab_size + more_ids)])
    assert TrainConfig.weight_decay <= rates[0] <= rates[1] <= 0.8


def test_weight_decay_is_high_for_a_short_text_in_chinese_and_not_for_a_long_one() -> None:
    assert weight_decay(10, 10**4, 1000) > weight_decay(10, 10**5, 1500) > weight_decay(10, 10**5, 100)
    assert weight_decay(10, 10**4, 100) > weight_decay(10, 10**5, 100) > weight_decay(10, 10**6, 100) == 0.3
    assert weight_decay(10, 10**7, 4000) == 0.3
    assert weight_decay(1, 10**4, 1000) == TrainConfig.weight_decay  # read once


def test_a_text_that_is_read_once_is_hardly_regularized_and_one_that_is_read_often_is() -> None:
    once, once_train = chosen({"epochs": 1})
    often, often_train = chosen({"epochs": 20}, 10**5)
    assert (once.dropout, once.weight_dropout) == (0.0, 0.0)
    assert 0.05 <= often.dropout == often.weight_dropout <= 0.3
    assert once.ngram_dropout < 0.25 < 0.5 < often.ngram_dropout < 1.0
    assert often.ngram_dropout < chosen({"epochs": 20}, 10**6)[0].ngram_dropout
    assert once_train.weight_decay < often_train.weight_decay
    tiny, _ = chosen({"epochs": 1000}, 500)
    assert tiny.dropout <= 0.3 and tiny.ngram_dropout < 1.0  # some n-grams are left


def test_a_text_has_a_row_for_a_part_of_its_ngrams() -> None:
    for num_ids in (10**4, 10**5, 10**6):
        rows = chosen({"epochs": 1}, num_ids)[0].ngram_rows
        assert num_ids / 4 < rows <= num_ids / 2
    assert chosen({"epochs": 1}, 1)[0].ngram_rows == 256
    assert chosen({"epochs": 1}, 10**9)[0].ngram_rows == 1 << 18


def test_a_long_text_has_longer_ngrams_and_only_texts_with_words_have_ngrams_of_words() -> None:
    short, long = (chosen({"epochs": 3}, n)[0] for n in (10**4, 10**7))
    assert 2 <= short.ngrams < long.ngrams
    assert short.ngram_index and long.ngram_index and long.ngram_words > 0
    assert chosen({"epochs": 1}, has_words=False)[0].ngram_words == 0  # a series of numbers
    plain, _ = chosen({"epochs": 1}, model={"ngram_index": False})
    assert (plain.ngrams, plain.ngram_words, plain.ngram_index) == (6, 0, False)
    without, _ = chosen({"epochs": 1}, model={"ngrams": 0})
    assert (without.ngrams, without.ngram_words, without.ngram_index) == (0, 0, False)


# ── the end of a run with a time budget ───────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_a_text_is_read_as_often_as_helps_or_as_enough_steps_need(windows: int, more: int) -> None:
    epochs = max_useful_epochs(windows)
    assert epochs >= MAX_USEFUL_EPOCHS
    assert epochs == round(epochs)
    assert max_useful_epochs(windows + more) <= epochs
    assert epochs * windows >= MIN_CAPPED_STEPS
    assert (epochs - 1) * windows < MIN_CAPPED_STEPS or epochs == MAX_USEFUL_EPOCHS


@given(RUNS)
@settings(max_examples=200, deadline=None)
def test_a_run_that_its_epochs_end_has_enough_steps(inputs: RecipeInputs) -> None:
    _, train = choose_settings(replace(inputs, length=RunLength(budget_s=60.0)))
    windows = max(1.0, inputs.num_train_ids / (train.batch_size * train.seq_len))
    assert train.max_epochs is not None
    assert train.max_epochs * windows >= MIN_CAPPED_STEPS
    of_documents = math.ceil(10 * windows)  # a text of short documents has more windows
    in_fact = limit_epochs(train, of_documents).max_epochs
    assert in_fact is not None
    assert MAX_USEFUL_EPOCHS <= in_fact <= train.max_epochs


def test_only_a_run_with_a_time_budget_has_a_limit_of_epochs() -> None:
    for length in ({"steps": 10}, {"epochs": 100.0}):
        _, train = chosen(length)
        assert limit_epochs(train, 1) == train


@given(SHORT_IDS, st.floats(1.0, 1000.0))
@settings(max_examples=60, deadline=None)
def test_time_beyond_the_last_useful_epoch_changes_no_regularization(num_ids: int, factor: float) -> None:
    shape = {"hidden_size": 64, "ensemble_size": 2}
    enough = 2000.0 * num_ids * 6 * 2 * (recurrent_weights("mgru", 1, 64) + 67 * 64)  # far more than the limit
    runs = [chosen({"budget_s": 60.0}, num_ids, model=shape, flops=flops) for flops in (enough, factor * enough)]
    assert runs[0] == runs[1]
    epochs = runs[0][1].max_epochs
    assert epochs is not None
    by_epochs, _ = chosen({"epochs": epochs}, num_ids, model=shape)
    assert by_epochs == runs[0][0]


def test_a_long_text_is_not_read_more_often_than_the_limit_and_a_tiny_one_is() -> None:
    assert timed(300, 10**6)[1].max_epochs == MAX_USEFUL_EPOCHS
    assert timed(300, 500)[1].max_epochs > 5 * MAX_USEFUL_EPOCHS
    assert all(chosen(length)[1].max_epochs is None for length in ({"steps": 10}, {"epochs": 100}))


# ── batches and learning rates ────────────────────────────────────────────────────────────────────────────────────────


def test_the_batch_of_a_time_budget_grows_with_the_processes_while_enough_steps_remain() -> None:
    long = RecipeInputs(10**8, 100, RunLength(budget_s=3600), "cpu", flops=1e15)
    one, four, many = (choose_settings(replace(long, num_processes=n))[1] for n in (1, 4, 100))
    assert (one.batch_size, four.batch_size, many.batch_size) == (64, 256, 512)
    assert four.learning_rate == pytest.approx(2 * one.learning_rate)
    short = replace(long, flops=1e12, num_processes=4)
    assert choose_settings(short)[1] == choose_settings(replace(short, num_processes=1))[1]
    for kept in ({"length": RunLength(steps=10**5)}, {"train": TrainChoices(batch_size=32)}):
        inputs = replace(long, **kept)
        assert choose_settings(replace(inputs, num_processes=4)) == choose_settings(inputs)


@given(SHORT_IDS, st.integers(2, 64), st.floats(10.0, 18.0))
@settings(max_examples=100, deadline=None)
def test_a_batch_that_has_grown_leaves_enough_steps_until_the_text_is_used_up(
    num_ids: int, num_processes: int, exponent: float
) -> None:
    inputs = RecipeInputs(num_ids, 67, RunLength(budget_s=60.0), "cpu", flops=10.0**exponent)
    one, several = (choose_settings(replace(inputs, num_processes=n))[1] for n in (1, num_processes))
    assert several.batch_size % one.batch_size == 0
    if several.batch_size > one.batch_size:
        num_steps = MAX_USEFUL_EPOCHS * num_ids / (several.batch_size * several.seq_len)
        assert num_steps >= MIN_STEPS_OF_LARGE_BATCH
        assert several.learning_rate > one.learning_rate


def test_a_run_of_few_epochs_over_a_short_text_has_small_batches_and_enough_steps() -> None:
    for num_ids in (20_000, 50_000, 200_000):
        _, train = chosen({"epochs": 20}, num_ids)
        steps = 20 * num_ids / (train.batch_size * train.seq_len)
        assert train.batch_size == 16 or steps >= 1000


# ── what is recommended after a run ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("num_ids", [50_000, 10**6])
def test_a_run_that_followed_the_recipe_to_its_end_is_recommended_the_same_size(num_ids: int) -> None:
    seconds = 20_000.0
    model, train = timed(seconds, num_ids)
    assert train.max_epochs is not None
    epochs = train.max_epochs
    weights = recurrent_weights("mgru", 1, model.hidden_size) + 67 * model.hidden_size
    share = 6 * weights * model.ensemble_size * epochs * num_ids / (SPEED * seconds)
    assert share < 0.9  # the run ends before its time
    found, _, _ = recommended_settings(model, train, num_ids, epochs, share)
    assert math.isclose(found.hidden_size, model.hidden_size, rel_tol=0.15)
    small = replace(model, hidden_size=32)
    assert recommended_settings(small, train, num_ids, epochs, share / 20)[0].hidden_size > 64


def test_the_share_of_the_time_that_was_used_decides_how_large_a_network_is_recommended() -> None:
    small = ModelConfig(67, "mgru", hidden_size=32)
    train = TrainConfig(budget_s=300.0, max_epochs=24.0)
    sizes = [recommended_settings(small, train, 10**6, 24.0, share)[0].hidden_size for share in (1.0, 0.3, 0.05)]
    assert sizes[0] < sizes[1] < sizes[2]
