"""Stacks of layers from the command line: they train, resume, sample and score; what has no effect is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import chargen as library
from chargen import checkpoint
from chargen.checkpoint import load_checkpoint, load_tensors
from chargen.errors import ConfigError, ModelError
from chargen.training.choices import ModelChoices, TrainChoices
from chargen.training.run import Plan
from tests.conftest import Result, corpus_of, run_plan

Chargen = Callable[..., Result]
SMALL = ("--hidden", "8", "--batch", "2", "--seq-len", "8", "--ngrams", "3", "--steps", "6")
STACK = ("--cell", "lstm,gru", "--residual", "--skip", "--layer-norm", "--ensemble", "2", "--dropout", "0.2")
MODEL, STATE = "model.safetensors", "training_state.safetensors"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verse: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("verse.txt").write_text(verse, encoding="utf-8")
    return tmp_path


def format_version(path: str) -> int:
    with safe_open(path, framework="numpy") as file:
        return int(json.loads(file.metadata()["chargen"])["format_version"])


def test_a_stack_trains_resumes_to_the_same_bytes_samples_and_scores(chargen: Chargen) -> None:
    for name, more in (("whole", ()), ("cut", ("--stop-after", "3"))):
        trained = chargen("train", "verse.txt", "--name", name, "--threads", "1", *SMALL, *STACK, *more)
        assert trained.status == (130 if more else 0), trained.err
    assert "lstm,gru 2×8, residual, skip, layer norm, ensemble of 2, 3-grams" in trained.err
    assert chargen("train", "--resume", "cut", "--residual", "--layers", "2").status == 0
    whole, cut = (Path(f"checkpoints/{name}/{MODEL}").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert len(chargen("sample", "-m", "cut", "--length", "20", "--seed", "1").out.strip("\n")) > 0
    assert chargen("score", "-m", "cut", "Trăm năm", "--json").status == 0
    described = json.loads(chargen("info", "cut", "--json").out)
    assert described["cell"] == "lstm,gru"
    assert described["num_layers"] == 2
    assert described["residual"] and described["skip"] and described["layer_norm"]
    assert "lstm,gru 2×8, residual, skip, layer norm" in chargen("info", "cut").out


def test_a_resumed_run_keeps_its_stack(chargen: Chargen) -> None:
    chargen("train", "verse.txt", "--name", "cut", "--stop-after", "3", *SMALL, "--layers", "2", "--skip")
    for option in (["--residual"], ["--layer-norm"], ["--cell", "lstm,gru"]):
        refused = chargen("train", "--resume", "cut", *option)
        assert refused.status != 0
        assert f"{option[0]} {option[-1] if len(option) > 1 else True} contradicts --resume" in refused.err
    with pytest.raises(ConfigError, match="residual is True, but the run 'cut' has False"):
        run_plan(Plan(corpus_of("ab"), resume="cut", model=ModelChoices(residual=True)))


def test_a_model_with_a_stack_can_be_the_start_of_a_run(chargen: Chargen) -> None:
    chargen("train", "verse.txt", "--name", "first", *SMALL, *STACK)
    quick = ("--batch", "2", "--seq-len", "8", "--steps", "4")
    assert chargen("train", "verse.txt", "--init-from", "first", "--name", "second", *quick).status == 0
    first, second = (load_checkpoint(Path(f"checkpoints/{name}/{MODEL}")).config for name in ("first", "second"))
    assert (first.cell, first.residual, first.skip, first.layer_norm) == ("lstm,gru", True, True, True)
    assert first.to_json() | {"dropout": 0, "weight_dropout": 0, "ngram_dropout": 0} == second.to_json() | {
        "dropout": 0, "weight_dropout": 0, "ngram_dropout": 0
    }  # fmt: skip
    refused = chargen("train", "verse.txt", "--init-from", "first", "--layer-norm")
    assert refused.status == 2
    assert "--layer-norm cannot be combined with --init-from: the model's weights determine it." in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cell", "lstm,gru", "--layers", "3"], ["names 2 layers", "num_layers (--layers) is 3"]),
        (["--cell", "lstm,grru"], ["no cell named 'grru'", "Did you mean 'gru'?"]),
        (["--cell", "lstm,"], ["no cell named ''"]),
        (["--cell", "lstm,gru", "--skip", "--tie-weights"], ["--tie-weights", "--skip"]),
        (["--residual"], ["--residual needs --layers or --cell."]),
        (["--skip"], ["--skip needs --layers or --cell."]),
        (["--residual", "--layers", "1"], ["--residual) has no effect", "a single one"]),
        (["--skip", "--cell", "gru"], ["--skip) has no effect", "a single one"]),
        (["--layer-norm", "--hidden", "1"], ["layer_norm needs a hidden_size of at least 2"]),
    ],
)
def test_a_stack_that_cannot_be_or_has_no_effect_is_refused(
    options: list[str], words: list[str], chargen: Chargen
) -> None:
    refused = chargen("train", "verse.txt", "--steps", "2", *options)
    assert refused.status == 2, refused.err
    shown = " ".join(refused.err.split())
    assert all(word in shown for word in words), shown
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("shape", "version"),
    [({"num_layers": 2}, 1), ({"cell": "lstm,gru"}, 2), ({"num_layers": 2, "residual": True}, 2),
     ({"num_layers": 2, "skip": True}, 2), ({"layer_norm": True}, 2), ({"ngrams": 3}, 3)],
)  # fmt: skip
def test_only_files_of_networks_that_need_it_have_the_new_version(
    shape: dict[str, Any], version: int, chargen: Chargen
) -> None:
    choices = ModelChoices(**{"hidden_size": 4, "ngrams": 0, **shape})
    library.train("verse.txt", steps=2, model=choices, name="run")
    library.train("verse.txt", steps=2, model=choices, training=TrainChoices(weight_storage="float32"), name="exact")
    for file in (f"exact/{MODEL}", f"exact/{STATE}", f"run/{STATE}"):
        assert format_version(f"checkpoints/{file}") == version
    assert format_version(f"checkpoints/run/{MODEL}") == 3  # its weights are float16
    new = {"residual", "skip", "layer_norm"} & set(load_tensors(Path(f"checkpoints/run/{MODEL}"))[1]["config"])
    assert new == {name for name in shape if shape[name] is True}


def test_an_earlier_version_refuses_the_new_files_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    library.train("verse.txt", steps=2, model=ModelChoices(hidden_size=4, ngrams=0, layer_norm=True), name="run")
    monkeypatch.setattr(checkpoint, "FORMAT_VERSIONS", (1,))
    for name, version in ((MODEL, 3), (STATE, 2)):
        with pytest.raises(ModelError, match=f"has format {version}, but this version reads 1") as caught:
            load_tensors(Path(f"checkpoints/run/{name}"))
        assert caught.value.hint.startswith("Update chargen")
