"""Classification: probabilities of labels, their temperature, and their quality."""

import itertools
import json
import math
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.checkpoint import save_checkpoint
from chargen.errors import CorpusError, StoppedError
from chargen.lm import LanguageModel
from chargen.tasks.classification.calibration import (
    Quality,
    expected_calibration_error,
    fit_temperature,
    log_posteriors,
    log_priors,
    measure_quality,
    split_labelled,
)
from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
from chargen.tasks.classification.generative import GenerativeClassifier, folder_names, train_generative
from chargen.tasks.classification.reading.labelled_data import read_labelled
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.events import Finished, Progress, Report, Started
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
UNIFORM = log_priors([0, 0])
SCORES = st.lists(st.lists(st.floats(-1e4, 0), min_size=3, max_size=3), min_size=1, max_size=8).map(np.array)


@given(SCORES, st.floats(1.0, 1e6))
def test_posteriors_are_bayes_rule(scores: np.ndarray, temperature: float) -> None:
    priors = log_priors([5, 0, 2])
    found = np.exp(log_posteriors(scores, priors, temperature))
    assert found.sum(axis=1) == pytest.approx(1.0)
    unnormalised = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature + priors)
    assert found == pytest.approx(unnormalised / unnormalised.sum(axis=1, keepdims=True), abs=1e-9)


def test_an_infinite_temperature_gives_the_priors() -> None:
    priors = log_priors([8, 0])
    assert np.exp(log_posteriors(np.array([[-5.0, -900.0]]), priors, math.inf)) == pytest.approx(np.array([[0.9, 0.1]]))


@given(SCORES, st.data())
def test_no_temperature_has_a_lower_log_loss(scores: np.ndarray, data: st.DataObject) -> None:
    labels = np.array([data.draw(st.integers(0, 2)) for _ in scores])
    priors = log_priors([1, 2, 3])

    def loss(temperature: float) -> float:
        return measure_quality(log_posteriors(scores, priors, temperature), labels, priors).log_loss_nats

    found = fit_temperature(scores, labels, priors)
    assert found >= 1
    for other in (1.0, 1.1, 2.0, 10.0, 1e3, 1e5, math.inf, found * 1.01, max(1.0, found / 1.01)):
        assert loss(found) <= loss(other) + 1e-9


def test_the_temperature_of_generated_labels_is_recovered() -> None:
    # For labels drawn from the probabilities at temperature 7, the log loss is lowest at about 7.
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 20, (20_000, 2))
    p = np.exp(log_posteriors(scores, UNIFORM, 7.0))
    labels = (rng.random(len(p)) > p[:, 0]).astype(np.int64)
    temperature = fit_temperature(scores, labels, UNIFORM)
    assert temperature == pytest.approx(7.0, rel=0.05)
    found = measure_quality(log_posteriors(scores, UNIFORM, temperature), labels, UNIFORM)
    assert found.expected_calibration_error < 0.01
    assert measure_quality(log_posteriors(scores, UNIFORM, 1.0), labels, UNIFORM).expected_calibration_error > 0.1


def test_a_log_loss_of_zero_is_not_negative() -> None:
    found = measure_quality(np.array([[0.0, -np.inf]]), np.array([0]), np.array([0.0, -np.inf]))
    assert (f"{found.log_loss_nats:.3f}", f"{found.prior_log_loss_nats:.3f}") == ("0.000", "0.000")


def test_measure_quality_on_an_example() -> None:
    found = measure_quality(np.log([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]), np.array([0, 1, 1]), np.log([0.75, 0.25]))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.log_loss_nats == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7)) / 3)
    assert found.expected_calibration_error == pytest.approx((0.2 + 0.6 + 0.3) / 3)
    assert found.majority_class_accuracy == pytest.approx(1 / 3)
    assert found.prior_log_loss_nats == pytest.approx(-(math.log(0.75) + 2 * math.log(0.25)) / 3)
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.text(max_size=3), min_size=1, max_size=30), min_size=1))
def test_split_parts_are_disjoint_and_complete(texts: dict[str, list[str]]) -> None:
    is_large = all(
        len(set(many).difference(*(texts[other] for other in texts if other != label))) > 2
        for label, many in texts.items()
    )
    try:
        parts = split_labelled(texts, (0.1, 0.1))
    except CorpusError as error:
        assert not is_large
        assert "different text" in error.message
        return
    for one, other in itertools.combinations(parts, 2):
        texts_of = [{text for many in part.values() for text in many} for part in (one, other)]
        assert not texts_of[0] & texts_of[1], "a copy of a text is on both sides of the split"
    assert parts == split_labelled(texts, (0.1, 0.1))
    for label, many in texts.items():
        assert sorted(text for part in parts for text in part[label]) == sorted(set(many))
        assert all(part[label] for part in parts)


def test_labelled_texts_are_read_from_a_file_and_from_folders(tmp_path: Path) -> None:
    (tmp_path / "one.tsv").write_bytes("việt\tchữ tài\nen\tthe fox\r\nen\ta\tb\n".encode())
    assert read_labelled(tmp_path / "one.tsv") == {"en": ["the fox", "a\tb"], "việt": ["chữ tài"]}
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "x").write_text("two\nlines\n")
    (folder / ".hidden").write_text("no")
    (folder / "flat.txt").write_text("one\n\ntwo\n")
    assert read_labelled(folder) == {"deep": ["two\nlines"], "flat": ["one", "two"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\tx\nb y\n", "line 2 is not label<TAB>text"),
        ("a\tx\n", "1 label .'a'., but two"),
        ("", "no text with a label"),
    ],
)
def test_malformed_labelled_texts_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(CorpusError, match=words):
        read_labelled(tmp_path / "x")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_labelled(tmp_path / "none")


def test_folder_names_are_different_for_labels_in_any_script() -> None:
    assert folder_names(["Nguyễn Du", "日本", "a/b", "a b", "A-B", "../", ""]) == [
        "Nguyễn-Du",
        "日本",
        "a-b",
        "a-b-2",
        "A-B-3",
        "label",
        "label-2",
    ]


def test_the_model_with_the_higher_score_wins() -> None:
    models = tuple(LanguageModel(random_model(seed=seed)) for seed in (1, 2))
    classifier = GenerativeClassifier(("a", "b"), models, UNIFORM)
    texts = ["the quick", "chữ tài", "lazy dog; 0123"]
    for row, text in zip(classifier.log_probs(texts), texts, strict=True):
        higher = np.argmax([model.score(text).log_prob_nats for model in models])
        assert row.argmax() == higher
        difference = models[0].score(text).log_prob_nats - models[1].score(text).log_prob_nats
        assert row[0] - row[1] == pytest.approx(difference, abs=1e-4)


def test_classify_with_several_models(chargen: Chargen, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model(seed=seed))
    result = chargen("classify", "-m", "a", "-m", "b", "the fox", "--json")
    assert result.status == 0
    assert "the temperature is not calibrated" in result.err
    found = json.loads(result.out)
    assert found["calibrated"] is False
    assert sum(found["probabilities"].values()) == pytest.approx(1.0)
    assert found["label"] == max(found["probabilities"], key=found["probabilities"].get)
    lines = "".join(f"{'ab'[i % 2]}\t{VERSE[i : i + 9].strip()}x{i}\n" for i in range(40)).replace("\nx", "x")
    (tmp_path / "l.tsv").write_text("".join(f"{line}\n" for line in lines.split("\n") if "\t" in line))
    evaluated = json.loads(
        chargen("classify", "-m", "a", "-m", "b", "--labelled", "l.tsv", "--json").out.split("\n")[0]
    )
    assert evaluated["event"] == "measured"
    assert evaluated["temperature"] is None or evaluated["temperature"] >= 1
    assert "a is a language model, which has no labels" in chargen("classify", "-m", "a", "x").err
    assert chargen("classify", "x").status == 2


def test_train_then_classify(chargen: Chargen, tmp_path: Path) -> None:
    rows = [f"digits\t{n * 7919 % 10**6:06}" for n in range(60)] + [
        f"letters\t{'abcdef'[n % 6] * 3}{'xyz'[n % 3]}{chr(97 + n % 25)}" for n in range(60)
    ]
    (tmp_path / "two.tsv").write_text("\n".join(rows) + "\n")
    result = chargen(
        "classify", "--train", "two.tsv", "--method", "generative", "--steps", "15", "--hidden", "8", "--json"
    )
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found["labels"] == ["digits", "letters"]
    assert found["held_out"]["accuracy"] == 1.0
    assert found["held_out"]["log_loss_nats"] < found["held_out"]["prior_log_loss_nats"]
    used = json.loads(chargen("classify", "-m", "two", "314159", "--json").out)
    assert (used["label"], used["calibrated"]) == ("digits", True)
    again = chargen("classify", "-m", "two", "aaax")
    assert again.out.split("\n")[3].split()[0] == "letters"
    assert again.err == ""
    assert (tmp_path / "checkpoints" / "two" / "digits" / "model.safetensors").is_file()
    assert not (tmp_path / "checkpoints" / "two-digits").exists()
    assert "two is a classifier, which has several models" in chargen("score", "-m", "two", "x").err
    (tmp_path / "checkpoints" / "two" / "classifier.json").write_text("{}")
    assert "is damaged" in chargen("classify", "-m", "two", "x").err


def test_models_that_learned_nothing_are_named_with_their_loss(chargen: Chargen, tmp_path: Path) -> None:
    rows = [f"{label}\t{['apple', 'tree', 'sky', 'book'][n % 4]} {n}" for n in range(40) for label in "ab"]
    (tmp_path / "same.tsv").write_text("\n".join(rows) + "\n")
    trained = chargen("classify", "--train", "same.tsv", "--method", "generative", "--steps", "1", "--hidden", "8").err
    used = chargen("classify", "-m", "same", "apple").err
    for err in (trained, used):
        for label in "ab":
            assert re.search(rf"note: the model of '{label}' learned nothing: \d\.\d\d bits/byte on its held-out", err)
        assert "and 8.01 if all token ids were equally likely" in err
    assert "note: the models do not tell the labels apart" in trained


@pytest.mark.parametrize(
    ("temperature", "accuracy", "words"),
    [
        (math.inf, 0.5, ["the models do not tell the labels apart: the probabilities are the priors of the labels"]),
        (2.0, 0.5, ["the models do not tell the labels apart: accuracy 50.0 % on 1 text, where the most frequent"]),
        (2.0, 0.9, []),
    ],
)
def test_scores_that_do_not_tell_labels_apart_are_noted(temperature: float, accuracy: float, words: list[str]) -> None:
    models = tuple(LanguageModel(random_model(seed=seed)) for seed in range(2))
    classifier = GenerativeClassifier(("a", "b"), models, UNIFORM, temperature, True)
    notes = classifier.notes(Quality(1, accuracy, 0.4, 0.7, 0.1, 0.5, 0.7))
    assert len(notes) == len(words)
    assert all(note.startswith(word) for note, word in zip(notes, words, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify", "--train", "a.tsv", "--steps", "3", "--epochs", "1"], "--steps and --epochs cannot be combined"),
        (["classify", "--train", "a.tsv", "--cell", "gruu"], "no cell named 'gruu'"),
        (["classify", "-m", "a", "-m", "b", "--epochs", "1", "x"], "--epochs needs --train"),
        (["classify", "-m", "a", "-m", "b", "--cell", "gru", "x"], "--cell needs --train"),
        (["train", "a.tsv", "--label"], "chargen classify --train DATA"),
    ],
)
def test_wrong_usage_of_training_options_is_stated(
    chargen: Chargen, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{'ab'[n % 2]}\ttext number {n}\n" for n in range(80)))
    result = chargen(*arguments)
    assert result.status == 2
    assert words in result.err


def test_control_characters_of_classified_texts_are_shown_as_symbols(chargen: Chargen, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model(seed=seed))
    out = chargen("classify", "-m", "a", "-m", "b", "x\x1b[2J\x07").out
    assert "x␛[2J␇" in out


@pytest.mark.parametrize("leave_at", [Started, Progress, Finished])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_stopped_training_leaves_no_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave_at: type[Report], stopped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {"digits": [f"{n * 7919:06}" for n in range(60)], "letters": [f"ab{chr(97 + n)}cd" for n in range(26)]}
    wanted = threading.Event()
    run = train_generative(
        ClassifierPlan(texts, "two", RunLength(steps=12), ModelChoices(hidden_size=8)), wanted.is_set
    )
    for step in run:
        assert not isinstance(step, TrainedClassifier)
        if isinstance(step[1], leave_at):
            assert any((tmp_path / "checkpoints").iterdir())
            break
    if stopped:  # at the second model at the latest
        wanted.set()
        with pytest.raises(StoppedError, match="its training was stopped"):
            list(run)
    else:
        with pytest.raises(KeyboardInterrupt):
            run.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert os.listdir(tmp_path / "checkpoints") == [".locks"]
