"""The library as its users call it: training and loading models, named parameters, errors that name them."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import chargen
from chargen.checkpoint import save_checkpoint
from chargen.cli.main import run
from chargen.config import parse_duration_s
from chargen.runs import find_run
from chargen.sampling.settings import SampleConfig
from chargen.training.events import Evaluated, Finished, Started
from chargen.training.state import load_run_state
from tests.conftest import VERSE, random_model

SMALL = chargen.ModelChoices(hidden_size=8)


@pytest.fixture
def poems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "poems.txt"
    path.write_text(VERSE * 4, encoding="utf-8")
    return path


def test_train_returns_the_model_of_the_new_run(poems: Path) -> None:
    events: list[object] = []
    model = chargen.train("poems.txt", steps=2, model=SMALL, on_event=events.append)
    assert isinstance(model, chargen.LanguageModel)
    assert model.path == Path("checkpoints/poems/model.safetensors")
    assert model.checkpoint.config.hidden_size == 8
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert model.score("người").bits_per_char == chargen.load("poems").score("người").bits_per_char


def test_the_budget_is_a_duration_as_on_the_command_line(poems: Path) -> None:
    *_, finished = chargen.train_events(poems, budget="1.5s", model=SMALL)
    assert isinstance(finished, Finished)
    for value, seconds in (("90s", 90.0), ("1h30m", 5400.0), (2.5, 2.5), ("7", 7.0), (np.float32(4), 4.0)):
        assert parse_duration_s(value) == seconds
    for wrong in ("", "5x", 0, -1, float("nan"), float("inf"), "1e3", None, [1]):
        with pytest.raises(chargen.ChargenError, match="is not a duration"):
            parse_duration_s(wrong)  # type: ignore[arg-type]


def test_a_corpus_can_be_several_files_or_a_string(poems: Path) -> None:
    one = chargen.read_corpus("poems.txt")
    assert one.text == chargen.read_corpus(poems).text == chargen.read_corpus([poems]).text
    assert chargen.read_corpus([poems, "poems.txt"]).num_chars == 2 * one.num_chars
    assert chargen.Corpus.from_text(VERSE.replace("\n", "\r\n") * 4, "poems").sha256 == one.sha256
    lines = chargen.Corpus.from_text("a\nb\n", config=chargen.DataConfig(documents="line"))
    assert lines.sha256 == chargen.Corpus.from_text("a\n\nb", config=chargen.DataConfig(documents="line")).sha256
    model = chargen.train(chargen.Corpus.from_text(VERSE * 4), steps=1, model=SMALL, checkpoints="models")
    assert model.path == Path("models/text/model.safetensors")


def test_the_signatures_of_the_sampling_methods_name_every_setting() -> None:
    for name in ("sample", "stream", "samples", "infill", "generator"):
        method = getattr(chargen.LanguageModel, name)
        parameters = inspect.signature(method).parameters
        for setting in fields(SampleConfig):
            default = parameters[setting.name].default
            assert default == (None if setting.name in ("seed", "until") else setting.default)  # both are chosen
            assert f"    {setting.name}: " in method.__doc__
        assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def test_wrong_names_and_types_are_named(poems: Path) -> None:
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model())
    model = chargen.load()
    with pytest.raises(chargen.ChargenError, match="'temp'.*\n.*'temperature'"):
        model.sample(temp=0.5)
    with pytest.raises(chargen.ChargenError, match="temperature is 'hot'"):
        model.sample(temperature="hot")
    with pytest.raises(TypeError, match="prompt must be a string, not int"):
        model.sample(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="texts must be a string or an iterable of strings, not int"):
        model.score(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="texts must be strings, not bytes"):
        model.score([b"a"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="context must be a string, not int"):
        model.score("a", context=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="model must be a path or a name, not int"):
        chargen.load(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="corpus: .* not int"):
        chargen.train(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="val: .* not float"):
        chargen.train(poems, val=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'budgets'"):
        chargen.train(poems, budgets="5m")  # type: ignore[call-arg]


def test_numpy_numbers_are_numbers(poems: Path) -> None:
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model())
    model = chargen.load()
    numbers = {"length": np.int64(9), "seed": np.int32(3), "temperature": np.float32(0.5), "top_k": np.uint8(4)}
    assert model.sample("a", **numbers) == model.sample("a", length=9, seed=3, temperature=0.5, top_k=4)
    choices = chargen.ModelChoices(hidden_size=np.int64(8), dropout=np.float64(0))  # type: ignore[arg-type]
    assert chargen.train(poems, steps=np.int64(1), model=choices).checkpoint.config.hidden_size == 8  # type: ignore[arg-type]


def test_a_model_and_a_score_describe_themselves(poems: Path) -> None:
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model())
    model = chargen.load("verse")
    assert repr(model).startswith("<LanguageModel gru 1×12, ")
    assert repr(model).endswith("checkpoints/verse/model.safetensors>")
    values = model.score("người", pieces=True).to_dict()
    assert values["bits_per_char"] == model.score("người").bits_per_char
    assert [character for character, _ in values["char_log_probs_nats"]] == list("người")


def test_the_errors_are_an_attribute_of_the_package() -> None:
    assert chargen.errors.ChargenError is chargen.ChargenError
    for name in chargen.__all__:
        assert getattr(chargen, name) is not None


def test_a_validation_text_can_be_a_string(poems: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val = chargen.Corpus.from_text(VERSE * 2, "held-out")
    *_, finished = chargen.train_events(poems, val=val, steps=2, model=SMALL)
    assert isinstance(finished, Finished)
    state = load_run_state(find_run("poems"))
    assert state.val_argument is None
    assert state.val_sha256 == val.sha256
    assert run(["train", "--resume", "poems", "--steps", "3"]) == 1
    assert "was not read from a file\nName a file with it: --val FILE" in capsys.readouterr().err.replace("  ", "")
    Path("held-out.txt").write_text(VERSE * 2, encoding="utf-8")
    assert run(["train", "--resume", "poems", "--steps", "3", "--val", "held-out.txt"]) == 0


def test_a_run_that_is_left_keeps_the_best_model_so_far_if_there_is_one(poems: Path) -> None:
    for event in chargen.train_events(poems, steps=40, name="early", model=SMALL):
        if isinstance(event, Started):
            break
    assert not Path("checkpoints/early").exists()
    for event in chargen.train_events(poems, steps=40, name="late", model=SMALL):
        if isinstance(event, Evaluated):
            break
    assert chargen.load("late").sample("a", length=3)


def test_a_corpus_is_trained_on_as_it_was_read(poems: Path) -> None:
    lines = chargen.DataConfig(documents="line")
    for corpus in (chargen.read_corpus(poems, lines), chargen.Corpus.from_text(VERSE * 4, config=lines)):
        model = chargen.train(corpus, steps=1, model=SMALL)
        assert model.checkpoint.data.documents == "line"
        message = r"corpus was read with documents='line', but the run has documents='none'\n.*config=.*data="
        with pytest.raises(chargen.ChargenError, match=message):
            chargen.train(corpus, data=chargen.DataConfig(), steps=1, model=SMALL)
    kept = chargen.Corpus.from_text(VERSE, config=chargen.DataConfig(newline="keep"))
    with pytest.raises(chargen.ChargenError, match="val was read with newline='keep', but the run has newline='lf'"):
        chargen.train(poems, val=kept, steps=1, model=SMALL)
    chargen.train(
        chargen.read_corpus(poems, lines), data=chargen.DataConfig(documents="line", tokenizer="byte"), steps=1
    )


def test_types_of_training_arguments_are_checked(poems: Path) -> None:
    wrong = {
        "model": {"hidden_size": 8}, "training": chargen.ModelChoices(), "data": "line", "name": 5, "checkpoints": 5,
        "init_from": 5, "device": 0, "on_event": "print",
    }  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(TypeError, match=f"^{name} must be a .*, not {type(value).__name__}$") as caught:
            chargen.train(poems, **{"steps": 1, name: value})  # type: ignore[arg-type]
        assert "Plan" not in str(caught.value)
    for call in (chargen.read_corpus, chargen.Corpus.from_text):
        with pytest.raises(TypeError, match="config must be a DataConfig, not dict"):
            call("poems.txt", config={})  # type: ignore[operator]


def test_the_initial_model_and_the_folder_of_runs_can_be_paths(poems: Path) -> None:
    first = chargen.train(poems, steps=1, model=SMALL, checkpoints=Path("models"))
    assert first.path is not None
    assert chargen.train(poems, steps=1, init_from=first.path.parent).checkpoint.config.hidden_size == 8


def test_a_text_in_place_of_a_name_is_shortened(poems: Path) -> None:
    for text in (VERSE * 50, "word " * 2000):
        with pytest.raises(chargen.ChargenError, match=r"chargen\.Corpus\.from_text") as caught:
            chargen.train(text, steps=1)
        assert len(str(caught.value)) < 300
        with pytest.raises(chargen.ChargenError) as caught:
            chargen.load(text)
        assert len(str(caught.value)) < 300


def test_representations_are_short(poems: Path) -> None:
    events = list(chargen.train_events(poems, steps=2, model=SMALL))
    evaluated = next(event for event in events if isinstance(event, Evaluated))
    model = chargen.load("poems")
    *_, cache = model.read_prefix("a" * 200)
    for value in (evaluated, evaluated.checkpoint, cache, chargen.read_corpus(poems)):
        assert "array" not in repr(value)
        assert "object at" not in repr(value)
        assert len(repr(value)) < 1500
