"""An encoder that starts from a language model: which weights it takes, and what has to agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chargen
from chargen.errors import ConfigError, ModelError
from chargen.networks.encoder import Encoder
from chargen.tasks.classification.classifier import ClassifierPlan, EncoderChoices, TrainedClassifier
from chargen.tasks.classification.encoder import train_encoder
from chargen.tasks.classification.encoder_recipe import choose_settings
from chargen.training.choices import ModelChoices, RunLength

TEXT = "a good film\nmy bad film\n" * 60
TEXTS = {"good": [f"a good film {n}" for n in range(20)], "bad": [f"my bad film {n}" for n in range(20)]}
SIZES = {"hidden_size": 8, "embedding_dim": 4}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train_model(name: str, data: dict[str, object] | None = None, **choices: object) -> dict[str, np.ndarray]:
    model = chargen.train(
        chargen.Corpus.from_text(TEXT, name),
        steps=2,
        model=chargen.ModelChoices(**{**SIZES, **choices}),  # type: ignore[arg-type]
        data=chargen.DataConfig(**(data or {})),  # type: ignore[arg-type]
        force=True,
    )
    return dict(model.checkpoint.weights)


def plan(model: str = "lm", choices: dict[str, object] | None = None, **settings: object) -> ClassifierPlan:
    encoder = EncoderChoices(init_from=model, **(choices or {}))  # type: ignore[arg-type]
    return ClassifierPlan(TEXTS, "c", RunLength(steps=2), ModelChoices(**settings), encoder=encoder)  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_layers_of_its_direction_are_taken(direction: str) -> None:
    weights = train_model("lm", {"direction": direction}, num_layers=2, cell="lstm")
    settings = choose_settings(plan(), TEXT.splitlines(), 2)
    assert settings.config.cell == "lstm"
    assert settings.initial is not None
    random = Encoder(settings.config).export_weights()
    started = settings.initial.replace_in(random)
    assert np.array_equal(started["embedding.weight"], weights["embedding.weight"])
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        assert np.array_equal(started[f"layers.0.{direction}.{name}"], weights[f"layers.0.{name}"])
    own, other = (slice(0, 8), slice(8, 16)) if direction == "forward" else (slice(8, 16), slice(0, 8))
    upper = started[f"layers.1.{direction}.weight_ih"]
    assert np.array_equal(upper[:, own], weights["layers.1.weight_ih"])
    assert np.array_equal(upper[:, other], random[f"layers.1.{direction}.weight_ih"][:, other])
    assert np.array_equal(started["head.weight"], random["head.weight"])


def test_it_trains_and_classifies() -> None:
    train_model("lm")
    *_, trained = train_encoder(plan())
    assert isinstance(trained, TrainedClassifier)
    assert trained.classifier.log_probs(["a good film"]).shape == (1, 2)


@pytest.mark.parametrize(
    ("choices", "settings", "message"),
    [
        ({"tokenizer": "byte"}, {}, "tokenizer is byte, but the model lm has char"),
        ({}, {"cell": "lstm"}, "cell is lstm, but the model lm has mgru"),
        ({}, {"hidden_size": 9}, "hidden_size is 9, but the model lm has 8"),
    ],
)
def test_what_differs_is_named(choices: dict[str, object], settings: dict[str, object], message: str) -> None:
    train_model("lm")
    with pytest.raises(ConfigError, match=message):
        choose_settings(plan("lm", choices, **settings), TEXT.splitlines(), 2)


def test_models_with_other_parts_are_refused() -> None:
    train_model("norm", layer_norm=True)
    train_model("two", cell="lstm,gru")
    for name, message in (("norm", "layer_norm"), ("two", "several cells")):
        with pytest.raises(ConfigError, match=message):
            choose_settings(plan(name), TEXT.splitlines(), 2)
    with pytest.raises(ModelError):
        choose_settings(plan("missing"), TEXT.splitlines(), 2)
