"""The probe of memory: its tasks ask for what was `lag` tokens ago; an LSTM learns them where a plain RNN does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.cli.commands.probe.memory import TASK_NAMES
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import NO_TARGET, Position
from chargen.errors import ConfigError
from chargen.probe import memory, memory_tasks
from chargen.probe.memory import MemoryPoint, MemorySettings, find_limit, measure_accuracy, measure_memory
from chargen.probe.memory_tasks import (
    END,
    MAX_DIGIT,
    NUM_COPIED,
    REBER,
    SYMBOLS,
    TASKS,
    TaskBatches,
    find_task,
    reber_odds,
)
from chargen.probe.small_networks import build_network, train_network

RNG = np.random.default_rng(0)


def walk(string: str) -> int | None:
    """Return the node of the Reber grammar after a string; None if the grammar has no such string."""
    node = 0
    for symbol in string:
        following = dict(REBER.get(node, [])).get(symbol)
        if following is None:
            return None
        node = following
    return node


@pytest.mark.parametrize("name", sorted(TASKS))
def test_inputs_and_answers_have_the_type_that_torch_demands(
    name: str, use_windows_numpy: Callable[[ModuleType], None]
) -> None:
    use_windows_numpy(memory_tasks)
    for ids in TASKS[name].sample(np.random.default_rng(0), 10, 3):
        assert ids.dtype == np.int64


@given(st.integers(1, 40), st.integers(0, 9))
def test_the_copy_task_asks_for_its_first_symbols(lag: int, seed: int) -> None:
    inputs, targets, answers = TASKS["copy"].sample(np.random.default_rng(seed), lag, 3)
    assert np.array_equal(targets, answers)
    assert np.array_equal(answers[-NUM_COPIED:], inputs[:NUM_COPIED])
    assert (answers[:-NUM_COPIED] == NO_TARGET).all()
    assert (inputs[NUM_COPIED : NUM_COPIED + lag] == 0).all() and (inputs[NUM_COPIED + lag] == 1).all()


@given(st.integers(2, 40), st.integers(0, 9))
def test_the_adding_task_asks_for_the_sum_of_the_marked_digits(lag: int, seed: int) -> None:
    inputs, _, answers = TASKS["adding"].sample(np.random.default_rng(seed), lag, 5)
    assert len(inputs) == lag + 1 and (inputs[-1] == 0).all()
    for row in range(5):
        marked = np.flatnonzero(inputs[:-1, row] > MAX_DIGIT + 1)
        assert len(marked) == 2 and marked[0] < lag // 2 <= marked[1]
        total = int((inputs[marked, row] - MAX_DIGIT - 2).sum())
        assert answers[-1, row] == 1 + 2 * (MAX_DIGIT + 1) + total
    assert answers.max() < TASKS["adding"].vocab_size


@given(st.integers(5, 60), st.integers(0, 9))
def test_reber_strings_are_in_the_grammar_and_have_the_lag(lag: int, seed: int) -> None:
    inputs, targets, answers = TASKS["reber"].sample(np.random.default_rng(seed), lag, 4)
    for row in range(4):
        string = "".join(SYMBOLS[n] for n in [*inputs[:, row], targets[-1, row]])
        assert len(string) == lag + 4
        assert string[0] == "B" and string[-1] == "E" and string[1] in "TP" and string[-2] == string[1]
        assert walk(string[2:-2]) == END
        (scored,) = np.flatnonzero(answers[:, row] != NO_TARGET)
        assert SYMBOLS[answers[scored, row]] == string[1] and scored == lag + 1
        assert answers[scored, row] == targets[scored, row]


@pytest.mark.parametrize("length", [5, 6, 7])
def test_reber_strings_of_one_length_have_the_probabilities_of_the_grammar(length: int) -> None:
    expected, found = {}, {}
    for symbols in itertools.product(SYMBOLS, repeat=length):
        string = "".join(symbols)
        if string[0] != "B" or string[-1] != "E" or walk(string) != END:
            continue
        nodes = [0, *(walk(string[:n]) or 0 for n in range(1, length))]
        expected[string] = math.prod(1 / len(REBER[node]) for node in nodes)
        choices = [[symbol for symbol, _ in REBER[node]].index(s) for node, s in zip(nodes, string, strict=True)]
        odds = [reber_odds(length)[length - n, node] for n, node in enumerate(nodes)]
        found[string] = math.prod(p if choice else 1 - p for p, choice in zip(odds, choices, strict=True))
    total = sum(expected.values())
    assert len(expected) >= 2
    assert found == pytest.approx({string: p / total for string, p in expected.items()})


def test_a_batch_depends_on_its_position_and_the_seed_alone() -> None:
    batches = TaskBatches(TASKS["copy"], 5, 8, seed=3)
    a, b = (batches.get_batch(Position(0, 7)) for _ in range(2))
    assert np.array_equal(a.inputs, b.inputs) and a.reset.all()
    assert not np.array_equal(a.inputs, batches.get_batch(Position(0, 8)).inputs)
    assert not np.array_equal(a.inputs, TaskBatches(TASKS["copy"], 5, 8, seed=4).get_batch(Position(0, 7)).inputs)
    assert a.inputs.shape == (batches.seq_len, 8)


@pytest.mark.parametrize("name", TASKS)
def test_accuracy_does_not_depend_on_the_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[name]
    network = build_network(ModelConfig(vocab_size=task.vocab_size, cell="gru", hidden_size=8, embedding_dim=4), 0)
    whole = measure_accuracy(network, task, 9, 50, seed=1)
    monkeypatch.setattr(memory, "CHUNK", 4)
    assert measure_accuracy(network, task, 9, 50, seed=1) == whole
    assert 0 <= whole <= 2 * task.chance


@pytest.mark.slow
def test_an_lstm_carries_the_symbol_of_the_reber_grammar_and_a_plain_rnn_does_not() -> None:
    lstm = list(measure_memory("lstm", MemorySettings(task=TASKS["reber"], lags=[5, 10, 20], steps=500)))
    assert all(point.accuracy >= 0.99 for point in lstm) and find_limit(lstm) is None
    assert all(point.steps < 500 for point in lstm)  # it ended when all answers were correct
    rnn = list(measure_memory("rnn", MemorySettings(task=TASKS["reber"], lags=[5, 30], steps=150)))
    assert rnn[-1].accuracy < 0.6 and find_limit(rnn) == 30


def test_the_same_seed_gives_the_same_points() -> None:
    settings = MemorySettings(task=TASKS["copy"], lags=[1, 3], steps=20, hidden_size=8)
    a, b = ([(p.lag, p.accuracy, p.steps) for p in measure_memory("gru", settings)] for _ in range(2))
    assert a == b


def test_the_limit_is_the_first_lag_with_less_than_90_percent() -> None:
    points = [
        MemoryPoint(lag, accuracy, 1, 0.0, False) for lag, accuracy in ((1, 1.0), (5, 0.9), (9, 0.89), (20, 0.95))
    ]
    assert find_limit(points) == 9
    assert find_limit(points[:2]) is None


def test_a_training_that_diverges_ends_and_keeps_its_last_weights() -> None:
    task = TASKS["copy"]
    network = build_network(ModelConfig(vocab_size=task.vocab_size, cell="rnn", hidden_size=8, embedding_dim=4), 0)
    network.weight("head.bias").data[0] = float("inf")
    config = TrainConfig(steps=9, batch_size=4, learning_rate=0.01)
    record = train_network(network, TaskBatches(task, 3, 4, 0), config)
    assert record.has_diverged and record.steps == 0 and math.isnan(record.loss_nats)


@pytest.mark.parametrize(
    ("lags", "what"),
    [([], "not ascending"), ([5, 3], "not ascending"), ([4], "a lag of 4"), ([10**6], "a lag of 1,000")],
)
def test_lags_that_are_not_possible_are_refused(lags: list[int], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        MemorySettings(task=TASKS["reber"], lags=lags, steps=1)


def test_an_unknown_task_is_refused_with_the_most_similar_name() -> None:
    with pytest.raises(ConfigError) as error:
        find_task("rebber")
    assert "Did you mean 'reber'?" in error.value.hint
    assert tuple(TASKS) == TASK_NAMES
