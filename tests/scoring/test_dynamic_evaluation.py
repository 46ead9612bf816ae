"""Dynamic evaluation scores a segment before it learns from it, and does not change the model."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.engines.interface import carried_log_probs, document_log_probs
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError, CorpusError, DivergenceError
from chargen.lm import LanguageModel
from chargen.scoring.dynamic_evaluation import Adaptation, AdaptedEvaluation, adapted_log_probs, evaluate_adapted
from chargen.text.builtin_corpora import markov
from chargen.tokenizers.tokenizer import Ids, start_ids
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
NO_LEARNING = Adaptation(learning_rate=0.0)
RULES = [Adaptation("rms", 0.01), Adaptation("sgd", 0.3)]


def adapted(model: Checkpoint, ids: Ids, adaptation: Adaptation) -> np.ndarray:
    return np.concatenate(list(adapted_log_probs(model, ids, adaptation)))


def plain(model: Checkpoint, ids: Ids) -> np.ndarray:
    return carried_log_probs(NumpyEngine(model.config, model.weights), ids, start_ids(model.tokenizer))


@pytest.mark.parametrize("shape", [{}, {"cell": "lstm", "num_layers": 2}, {"ensemble_size": 2, "cell": "mgru"}])
def test_a_learning_rate_of_zero_gives_the_static_log_probs(shape: dict[str, object]) -> None:
    model = random_model(**shape)
    ids = model.tokenizer.encode(VERSE)
    assert adapted(model, ids, NO_LEARNING) == pytest.approx(plain(model, ids), abs=1e-5)


@pytest.mark.parametrize("adaptation", RULES, ids=lambda adaptation: adaptation.rule)
def test_only_the_first_segment_has_the_static_log_probs(adaptation: Adaptation) -> None:
    model = random_model()
    ids = model.tokenizer.encode(VERSE)
    found, still = adapted(model, ids, adaptation), plain(model, ids)
    assert found[:20] == pytest.approx(still[:20], abs=1e-5)
    assert abs(found[20:40] - still[20:40]).max() > 1e-3


@pytest.mark.parametrize("adaptation", RULES, ids=lambda adaptation: adaptation.rule)
@pytest.mark.parametrize("position", [19, 20, 21, 47])
def test_log_probs_do_not_depend_on_later_ids(adaptation: Adaptation, position: int) -> None:
    model = random_model()
    ids = model.tokenizer.encode(VERSE)
    other = ids.copy()
    other[position + 1 :] = other[position + 1 :][::-1]
    assert np.array_equal(
        adapted(model, ids, adaptation)[: position + 1], adapted(model, other, adaptation)[: position + 1]
    )


@pytest.mark.parametrize(("rule", "rate"), [("rms", 0.003), ("rms", 0.03), ("sgd", 0.5)])
@pytest.mark.parametrize("order", [0, 1])
def test_adapted_loss_is_not_below_the_entropy_of_the_source(order: int, rule: str, rate: float) -> None:
    # A prequential code is a code: it beats the source's by k nats with probability e^-k at most (Barron 1985).
    source = markov(order)
    text = source.generate(1_500, np.random.default_rng(5))
    model = random_model("abcdefgh\n")
    ids = model.tokenizer.encode(text)
    total = adapted(model, ids, Adaptation(rule, rate)).sum()
    assert total <= source.log_prob_nats(text) + 20
    assert total > plain(model, ids).sum()  # and it does learn


def test_the_checkpoint_is_not_changed() -> None:
    model = random_model()
    before = {name: weight.copy() for name, weight in model.weights.items()}
    lm = LanguageModel(model)
    score = lm.score(VERSE).log_prob_nats
    list(evaluate_adapted(lm.checkpoint, VERSE, RULES[0]))
    assert all(np.array_equal(weight, before[name]) for name, weight in model.weights.items())
    assert lm.score(VERSE).log_prob_nats == score


def test_two_evaluations_are_identical() -> None:
    model = random_model()
    ids = model.tokenizer.encode(VERSE)
    assert np.array_equal(adapted(model, ids, RULES[0]), adapted(model, ids, RULES[0]))


def test_a_boundary_resets_the_state() -> None:
    model = random_model(documents="line")
    ids = np.concatenate([np.append(model.tokenizer.encode(line), 0) for line in VERSE.strip().split("\n")])
    found = adapted(model, ids.astype(np.int32), NO_LEARNING)
    assert found == pytest.approx(document_log_probs(NumpyEngine(model.config, model.weights), ids), abs=1e-5)


def test_unknown_characters_cost_as_in_the_static_evaluation() -> None:
    model = random_model("ab\n")
    *_, found = evaluate_adapted(model, "ab€ba\n", NO_LEARNING)
    assert isinstance(found, AdaptedEvaluation)
    expected = LanguageModel(model).evaluate("ab€ba\n")
    assert found.loss_nats_per_char == pytest.approx(expected.loss_nats_per_char, abs=1e-5)
    assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, abs=1e-5)
    assert found.first_half_nats_per_char == pytest.approx(expected.first_half_nats_per_char, abs=1e-5)
    assert found.second_half_nats_per_char == pytest.approx(expected.second_half_nats_per_char, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "adam"}, "no rule 'adam'"),
        ({"learning_rate": math.nan}, "learning rate is nan"),
        ({"learning_rate": -1.0}, "at least 0"),
        ({"decay": 2.0}, "decay is 2.0"),
        ({"segment_ids": 0}, "segment has 0 tokens"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Adaptation(**settings)  # type: ignore[arg-type]


def test_a_learning_rate_that_diverges_is_an_error() -> None:
    model = random_model()
    with pytest.raises(DivergenceError, match="diverged"):
        adapted(model, model.tokenizer.encode(VERSE), Adaptation("sgd", 1e38))
    with pytest.raises(CorpusError, match="empty"):
        list(evaluate_adapted(model, "", NO_LEARNING))


def test_eval_prints_and_labels_both_losses(chargen: Chargen, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints" / "verse" / "model.safetensors", random_model())
    (tmp_path / "verse.txt").write_text(VERSE, encoding="utf-8")
    without, with_ = chargen("eval", "verse.txt"), chargen("eval", "verse.txt", "--adapt")
    assert (without.status, with_.status) == (0, 0)
    assert "adapt" not in without.out
    for row in without.out.splitlines()[3:7]:  # the static losses are printed too
        assert row.split() in [line.split() for line in with_.out.splitlines()]
    assert "adapted while reading (dynamic evaluation)" in with_.out
    assert "rms, learning rate 0.001, decay 0.001, segments of 20" in with_.out
    found = json.loads(chargen("eval", "verse.txt", "--adapt", "--adapt-rule", "sgd", "--json").out)
    assert found["adapted"]["method"] == "dynamic evaluation"
    assert found["adapted"]["rule"] == "sgd"
    assert found["adapted"]["loss_nats_per_char"] < found["loss_nats_per_char"]
    plain_json = json.loads(chargen("eval", "verse.txt", "--json").out)
    assert "adapted" not in plain_json
    assert plain_json["loss_nats_per_char"] == found["loss_nats_per_char"]
    refused = chargen("eval", "verse.txt", "--adapt-rate", "0.1")
    assert refused.status == 2
    assert "needs --adapt" in refused.err
    assert chargen("eval", "verse.txt", "--adapt", "--adapt-rate", "-1").status == 2
