"""Classification by an encoder: training, files, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.checkpoint import STORAGE_VERSION, load_tensors, save_tensors
from chargen.errors import ConfigError, ModelError, StoppedError, WrongKindError
from chargen.storage.stored_weights import StoredWeights
from chargen.tasks.classification.classifier import ClassifierPlan, EncoderChoices, TrainedClassifier
from chargen.tasks.classification.encoder import EncoderClassifier, load_encoder, train_encoder
from chargen.tasks.classification.saved import load_classifier
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.supervised.loop import FitEvaluated, FitProgress
from tests.conftest import Result

Chargen = Callable[..., Result]
#: The label is told only by whether a text's first and last letter are equal: both ends have to be read.
TEXTS = {
    "same": [f"{a}{n * 7919 % 997:03}{a}" for n in range(25) for a in "xyz"],
    "other": [f"{a}{n * 7919 % 997:03}{b}" for n in range(13) for a in "xyz" for b in "xyz" if a != b],
}


def plan(**changes: object) -> ClassifierPlan:
    settings = {"length": RunLength(epochs=1), "model": ModelChoices(hidden_size=8, embedding_dim=8), **changes}
    return ClassifierPlan(TEXTS, "pair", **settings)  # type: ignore[arg-type]


def labelled(path: Path) -> None:
    rows = [f"{label}\t{text}" for label, texts in TEXTS.items() for text in texts]
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_a_relation_between_both_ends_of_a_text_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelChoices(hidden_size=24, embedding_dim=16, dropout=0.0)
    *reports, trained = train_encoder(plan(length=RunLength(epochs=80), model=model))
    assert all(isinstance(report, FitProgress | FitEvaluated) for report in reports)
    assert isinstance(trained, TrainedClassifier)
    assert trained.quality.accuracy >= 0.9
    opened = load_classifier(["pair"])
    texts = [*TEXTS["same"][:3], *TEXTS["other"][:3], "", "é" * 3000]
    assert opened.log_probs(texts) == pytest.approx(trained.classifier.log_probs(texts))
    assert np.exp(opened.log_probs(texts)).sum(axis=1) == pytest.approx(1.0)
    alone = np.concatenate([opened.log_probs([text]) for text in texts])
    assert alone == pytest.approx(opened.log_probs(texts), abs=1e-5)


def test_the_same_seed_gives_the_same_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, again, other = ([*train_encoder(plan(seed=seed))][-1] for seed in (0, 0, 1))
    weights = [load_tensors(Path(run.folder) / "encoder.safetensors")[0] for run in (first, again, other)]  # type: ignore[union-attr]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not np.array_equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_the_file_has_the_weights_that_were_measured_and_may_be_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    *_, trained = train_encoder(plan())
    assert isinstance(trained, TrainedClassifier)
    path = tmp_path / "checkpoints" / "pair" / "encoder.safetensors"
    tensors, metadata = load_tensors(path)
    assert tensors["ngrams.weight"].dtype == np.int8 and tensors["head.weight"].dtype == np.float16
    num_rows = metadata["encoder"]["ngram_rows"]
    assert 0 < len(tensors["ngrams.weight"]) < num_rows
    texts = [*TEXTS["same"][:3], *TEXTS["other"][:3]]
    np.testing.assert_array_equal(load_classifier(["pair"]).log_probs(texts), trained.classifier.log_probs(texts))
    save_tensors(path, dict(StoredWeights(tensors, {"ngrams.weight": num_rows})), metadata, 1)
    np.testing.assert_array_equal(load_classifier(["pair"]).log_probs(texts), trained.classifier.log_probs(texts))


def test_an_encoder_cannot_be_sampled_and_says_why(chargen: Chargen, tmp_path: Path) -> None:
    labelled(tmp_path / "pair.tsv")
    trained = chargen(
        "classify", "--train", "pair.tsv", "--method", "encoder", "--epochs", "1", "--hidden", "8", "--json"
    )
    assert trained.status == 0, trained.err
    assert json.loads(trained.out)["labels"] == ["other", "same"]
    assert json.loads(chargen("classify", "-m", "pair", "x1x", "--json").out)["label"] in ("same", "other")
    assert json.loads(chargen("info", "pair", "--json").out)["method"] == "encoder"
    for command in (("sample",), ("score", "a"), ("eval", "pair.tsv"), ("play",), ("train", "pair.tsv", "--init-from")):
        for name in ("pair", "checkpoints/pair", "checkpoints/pair/encoder.safetensors"):
            words = (*command, name) if command[-1] == "--init-from" else (*command, "-m", name)
            refused = chargen(*words)
            assert refused.status in (1, 2)
            assert "it has already read the text after it" in refused.err or command == ("play",)
    assert chargen("rm", "pair", "--yes").status == 0
    assert not (tmp_path / "checkpoints" / "pair").exists()


@pytest.mark.parametrize("option", ["--ensemble=2", "--tie-weights", "--weight-dropout=0.1", "--layer-norm"])
def test_options_of_language_models_are_refused(chargen: Chargen, tmp_path: Path, option: str) -> None:
    labelled(tmp_path / "pair.tsv")
    refused = chargen("classify", "--train", "pair.tsv", "--method", "encoder", "--epochs", "1", option)
    assert refused.status == 2
    assert "an encoder has no such part" in refused.err
    with pytest.raises(ConfigError, match="no such part"):
        list(train_encoder(plan(model=ModelChoices(ensemble_size=2))))


def test_a_stopped_training_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoppedError):
        list(train_encoder(plan(), stop=lambda: True))
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if not path.name.startswith(".")]
    last = None
    for last in train_encoder(plan()):
        if isinstance(last, TrainedClassifier):
            break  # the reader stops at the result, as `next` does
    assert isinstance(last, TrainedClassifier)
    assert last.folder.exists()


def test_damaged_encoders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *_, trained = train_encoder(plan())
    path = tmp_path / "checkpoints" / "pair" / "encoder.safetensors"
    weights, metadata = load_tensors(path)
    config = metadata["encoder"]
    changes = [
        ({"num_layers": 256}, weights),
        ({"hidden_size": 65536}, weights),
        ({"cell": "none"}, weights),
        ({"num_labels": 3}, weights),
        ({"dropout": 2}, weights),
        ({"more": 1}, weights),
        ({}, {name: weight for name, weight in weights.items() if name != "head.bias"}),
        ({}, {**weights, "more": weights["head.bias"]}),
        ({}, {**weights, "head.bias": np.full(2, np.nan, dtype=np.float32)}),
        ({}, {**weights, "head.bias": np.zeros(2)}),
        ({"pooling": "sum"}, weights),
        ({"ngram_rows": 1 << 24}, weights),
    ]
    for change, tensors in changes:
        save_tensors(path, tensors, {**metadata, "encoder": {**config, **change}}, STORAGE_VERSION)
        with pytest.raises(ModelError):
            load_encoder(path, 2)
    for values in ({"input": {}}, {"input": {"tokenizer": {"name": "byte"}, "max_length": 3}}, {"class_weights": "x"}):
        save_tensors(path, weights, {**metadata, **values}, STORAGE_VERSION)
        with pytest.raises(ModelError, match="Train|cannot be used"):
            load_encoder(path, 2)
    save_tensors(path, weights, metadata, STORAGE_VERSION)
    with pytest.raises(ModelError, match="its classifier has 4"):
        load_encoder(path, 4)
    assert load_encoder(path, 2).encoder.config.num_labels == 2


@pytest.mark.parametrize("tokenizer", ["char", "byte", "words:50", "sp:280"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_padding_order_and_batch_change_no_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str, pooling: str
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {label: [f"{label} {text} film" for text in many] for label, many in TEXTS.items()}
    choices = EncoderChoices(tokenizer=tokenizer, pooling=pooling, max_length=30)
    classifier = finished(replace(plan(encoder=choices), texts=texts)).classifier
    several = ["x1x film", "", "y" * 500, "y 12 z", "x1x film", "好电影", "a b c d e f g"]
    together = classifier.log_probs(several)
    alone = np.concatenate([classifier.log_probs([text]) for text in several])
    assert alone == pytest.approx(together, abs=1e-5)
    assert classifier.log_probs(several[::-1])[::-1] == pytest.approx(together, abs=1e-5)
    assert classifier.log_probs(several * 40)[:7] == pytest.approx(together, abs=1e-5)


def finished(the_plan: ClassifierPlan) -> TrainedClassifier:
    *_, trained = train_encoder(the_plan)
    assert isinstance(trained, TrainedClassifier)
    return trained


@pytest.mark.parametrize("stop_after", [1, 13, 14])
def test_a_resumed_training_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = finished(plan(length=RunLength(steps=40)))
    part = finished(plan(length=RunLength(steps=40), stop_after=stop_after))
    assert part.was_stopped
    assert part.folder.name == "pair-2"
    resumed = finished(plan(length=RunLength(), model=ModelChoices(), seed=7, resume="pair-2"))
    assert not resumed.was_stopped
    for name in ("encoder.safetensors", "classifier.json"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()


def test_a_training_is_resumed_on_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(plan(length=RunLength(steps=10), stop_after=3, device="cpu"))
    monkeypatch.setattr("chargen.networks.torch_runtime.list_devices", lambda: ["cpu", "cuda"])
    resumed = finished(plan(length=RunLength(), model=ModelChoices(), resume="pair"))
    assert not resumed.was_stopped
    assert isinstance(resumed.classifier, EncoderClassifier)
    assert next(resumed.classifier.encoder.parameters()).device.type == "cpu"


def test_what_a_resumed_training_cannot_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(plan(stop_after=2))
    with pytest.raises(ConfigError, match="pooling cannot be changed"):
        finished(plan(resume="pair", model=ModelChoices(), encoder=EncoderChoices(pooling="mean")))
    with pytest.raises(ModelError, match="other data"):
        finished(replace(plan(resume="pair", model=ModelChoices()), texts={**TEXTS, "same": TEXTS["same"][1:]}))
    with pytest.raises(ModelError, match="no run named 'none'"):
        finished(plan(resume="none", model=ModelChoices()))


@pytest.mark.parametrize("cell", CELLS.names())
def test_every_cell_is_trained_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelChoices(hidden_size=8, embedding_dim=8, cell=cell, num_layers=2)
    trained = finished(plan(length=RunLength(steps=3), model=model))
    assert load_classifier(["pair"]).log_probs(["x1y"]) == pytest.approx(trained.classifier.log_probs(["x1y"]))


def test_balanced_class_weights_keep_the_probabilities_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    numbers = [f"a{n}" for n in rng.permutation(np.arange(1000, 10_000))[:1000]]  # they say nothing about the label
    texts = {"often": numbers[:900], "rarely": numbers[900:]}
    for name in ("none", "balanced"):
        choices = EncoderChoices(class_weights=name)
        length = RunLength(epochs=2)
        trained = finished(
            replace(plan(encoder=choices, length=length, model=ModelChoices(ngrams=0, hidden_size=8)), texts=texts)
        )
        mean = np.exp(trained.predictions.log_probs[:, 1]).mean()
        assert mean == pytest.approx(0.1, abs=0.03)
    opened = load_classifier(["pair-2"])
    assert opened.log_probs(["a1x"]) == pytest.approx(trained.classifier.log_probs(["a1x"]))
    with pytest.raises(ConfigError, match="class_weights"):
        finished(plan(encoder=EncoderChoices(class_weights="equal")))


def test_probabilities_that_are_too_cautious_get_a_temperature_below_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = finished(plan()).classifier
    right = np.array([0, 1] * 50)
    for size in (0.05, 2.0, 10.0):  # score of the chosen label; 0 for the other
        scores = np.zeros((100, 2))
        scores[np.arange(100), np.where(np.arange(100) < 95, right, 1 - right)] = size  # 95 % are right
        fitted = replace(classifier, log_priors=np.log([0.5, 0.5])).with_temperature(scores, right)
        assert fitted.temperature == pytest.approx(max(0.5, size / math.log(19)), rel=1e-6)


def test_shuffled_labels_give_chance_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    labels = rng.permutation(["a", "b"] * 1000)
    texts = {k: [f"text {n * 7919 % 10007} of {n % 13}" for n in range(2000) if labels[n] == k] for k in "ab"}
    quality = finished(replace(plan(length=RunLength(epochs=3)), texts=texts)).quality
    assert quality.accuracy == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(quality.texts))  # four standard errors
    assert quality.log_loss_nats == pytest.approx(math.log(2), abs=0.03)


def test_the_error_is_a_model_error() -> None:
    assert issubclass(WrongKindError, ModelError)
