"""Classification by an encoder: training, files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chargen.checkpoint import load_tensors, save_tensors
from chargen.errors import ConfigError, ModelError, StoppedError, WrongKindError
from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
from chargen.tasks.classification.saved import load_classifier
from chargen.tasks.classification.encoder import (
    MAX_TOKENS,
    EncoderProgress,
    _epoch_batches,
    encode_texts,
    load_encoder,
    train_encoder,
)
from chargen.training.choices import ModelChoices, RunLength
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


def test_a_relation_between_both_ends_of_a_text_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelChoices(hidden_size=24, embedding_dim=16, dropout=0.0)
    *reports, trained = train_encoder(plan(length=RunLength(epochs=80), model=model))
    assert all(isinstance(report, EncoderProgress) for report in reports)
    assert isinstance(trained, TrainedClassifier)
    assert trained.quality.accuracy >= 0.9
    opened = load_classifier(["pair"])
    texts = [*TEXTS["same"][:3], *TEXTS["other"][:3], "", "é" * 3000]
    assert opened.log_probs(texts) == pytest.approx(trained.classifier.log_probs(texts))
    assert np.exp(opened.log_probs(texts)).sum(axis=1) == pytest.approx(1.0)
    alone = np.concatenate([opened.log_probs([text]) for text in texts])
    assert alone == pytest.approx(opened.log_probs(texts), abs=1e-4)


def test_the_same_seed_gives_the_same_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, again, other = ([*train_encoder(plan(seed=seed))][-1] for seed in (0, 0, 1))
    weights = [load_tensors(Path(run.folder) / "encoder.safetensors")[0] for run in (first, again, other)]  # type: ignore[union-attr]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not np.array_equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_an_encoder_cannot_be_sampled_and_says_why(chargen: Chargen, tmp_path: Path) -> None:
    labelled(tmp_path / "pair.tsv")
    trained = chargen("classify", "--train", "pair.tsv", "--encoder", "--epochs", "1", "--hidden", "8", "--json")
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


@pytest.mark.parametrize(
    "option", ["--ensemble=2", "--ngrams=3", "--tie-weights", "--weight-dropout=0.1", "--layer-norm"]
)
def test_options_of_language_models_are_refused(chargen: Chargen, tmp_path: Path, option: str) -> None:
    labelled(tmp_path / "pair.tsv")
    refused = chargen("classify", "--train", "pair.tsv", "--encoder", "--epochs", "1", option)
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
    ]
    for change, tensors in changes:
        save_tensors(path, tensors, {"encoder": {**config, **change}})
        with pytest.raises(ModelError):
            load_encoder(path, 2)
    save_tensors(path, weights, {"encoder": config})
    with pytest.raises(ModelError, match="its classifier has 4"):
        load_encoder(path, 4)
    assert load_encoder(path, 2).config.num_labels == 2


def test_texts_are_cut_and_never_empty() -> None:
    short, long = encode_texts(["", "é" * MAX_TOKENS])
    assert len(short) == 2
    assert len(long) == MAX_TOKENS + 2


def test_an_epoch_has_each_text_once() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 31, 32, 33, 1200):
        batches = list(_epoch_batches(list(range(size)), rng))
        assert sorted(np.concatenate(batches).tolist()) == list(range(size))
        assert all(1 <= len(batch) <= 32 for batch in batches)


def test_the_error_is_a_model_error() -> None:
    assert issubclass(WrongKindError, ModelError)
