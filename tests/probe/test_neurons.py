"""Units and properties: AUC and correlation against their definitions, activations against the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.engines.interface import read_context, step_through
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError
from chargen.probe import neurons
from chargen.probe.text_properties import TextProperty
from tests.conftest import VERSE, Result, random_model

TEXT = 'He said "the quick brown fox" (and "the lazy dog"), ' * 4


def engine_of(model: Checkpoint) -> NumpyEngine:
    return NumpyEngine(model.config, model.weights)


def test_figures_are_the_definitions_of_auc_and_correlation() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=(3, 40)), 1).astype(np.float32)  # with ties
    values[2] = 0.1
    has, number = (rng.random(40) < 0.4).astype(float), rng.normal(size=40)
    properties = [TextProperty("number", False, number), TextProperty("has", True, has)]
    figures = neurons.track_properties(values, properties)
    for unit in range(2):
        pairs = [(a > b) + (a == b) / 2 for a in values[unit][has == 1] for b in values[unit][has == 0]]
        assert figures[unit, 1] == pytest.approx(np.mean(pairs))
        assert figures[unit, 0] == pytest.approx(np.corrcoef(values[unit], number)[0, 1])
    assert figures[2].tolist() == [0.0, 0.5]  # a unit that does not change


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_activations_are_the_state_after_each_character(cell: str, tokenizer: str) -> None:
    model = random_model(tokenizer=tokenizer, cell=cell, num_layers=2, hidden_size=5)
    engine, text = engine_of(model), "cõi người ☃"
    found = neurons.read_activations(model, engine, text)
    assert "".join(found.pieces) == text and len(found.pieces) == len(text)
    assert len(found.units) == len(found.values) == len(set(map(str, found.units)))
    state = read_context(engine, model.encode_context(None)).state
    *_, last = step_through(engine, model.tokenizer.encode(text), state)
    whole = np.concatenate([part[0] for layer in last.state.layers for part in layer])
    assert np.array_equal(found.values[:, -1], whole)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_a_backward_model_reads_from_the_end_and_its_pieces_are_in_reading_order(tokenizer: str) -> None:
    text = "q\u0302a cõi người q\u0323\u0302"
    forward = random_model(text * 9 + VERSE * 20, tokenizer=tokenizer, hidden_size=5)
    about = {**forward.about, "data": {**forward.about["data"], "direction": "backward"}}
    backward = Checkpoint(forward.config, forward.tokenizer, forward.weights, about)
    assert backward.data.is_backward
    found = neurons.read_activations(backward, engine_of(backward), text)
    assert "".join(found.pieces) == backward.normalize(text)
    reversed_text = backward.reorder(backward.normalize(text))
    as_forward = neurons.read_activations(forward, engine_of(forward), reversed_text)
    same_ends = found.pieces[0] == as_forward.pieces[-1]
    assert not same_ends or np.allclose(found.values[:, 0], as_forward.values[:, -1], atol=1e-6)
    forward_rows = as_forward.values.T
    assert all(np.isclose(forward_rows, row, atol=1e-6).all(1).any() for row in found.values.T)


def test_a_stack_has_the_parts_of_the_state_of_each_cell() -> None:
    model = random_model(cell="lstm,gru", hidden_size=3, ensemble_size=2)
    units = neurons.read_activations(model, engine_of(model), VERSE).units
    assert [(unit.layer, unit.part) for unit in units if not unit.number] == [
        (0, "h"), (0, "c"), (1, "h"), (2, "h"), (2, "c"), (3, "h")
    ]  # fmt: skip


def test_the_sums_of_a_window_are_no_units() -> None:
    model = random_model(cell="mlp:3,lstm", hidden_size=3)
    found = neurons.read_activations(model, engine_of(model), VERSE)
    assert [(unit.layer, unit.part) for unit in found.units if not unit.number] == [(0, "h"), (1, "h"), (1, "c")]
    assert found.values.shape == (9, len(found.pieces))


def test_units_are_ranked_by_the_property_that_they_track_best() -> None:
    model = random_model(VERSE, cell="rnn", hidden_size=4)
    report = neurons.probe_neurons(model, engine_of(model), VERSE * 3)
    ranked = report.ranked()
    strengths = [best.strength for _, best in ranked if best]
    assert strengths == sorted(strengths, reverse=True) and len(ranked) == 4
    best = {each.name: each.strength for _, each in report.best_units()}
    assert set(best) == {each.name for each in report.properties}
    assert all(best[each.name] <= max(strengths) for each in report.properties)


@pytest.mark.parametrize("text", ["a", "ab", "abcdefg", "\n"])
def test_a_text_in_which_few_properties_vary_is_read(text: str) -> None:
    model = random_model(hidden_size=4)
    report = neurons.probe_neurons(model, engine_of(model), text)
    assert not any(each.is_binary for each in report.properties)
    assert len(report.ranked()) == 4 and len(list(report.best_units())) == len(report.properties)


def test_an_empty_text_and_too_many_activations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(hidden_size=4)
    with pytest.raises(ConfigError, match="empty"):
        neurons.read_activations(model, engine_of(model), "")
    monkeypatch.setattr(neurons, "MAX_VALUES", 100)
    with pytest.raises(ConfigError, match="too many") as caught:
        neurons.read_activations(model, engine_of(model), "a" * 99)
    assert "--max-chars" in str(caught.value.hint)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model(TEXT, cell="lstm", hidden_size=6))
    Path("text.txt").write_text(TEXT)
    return tmp_path


def test_the_command_prints_tables_json_and_writes_the_page(chargen: Callable[..., Result], folder: Path) -> None:
    printed = chargen("probe", "neurons", "m", "text.txt", "-o", "page.html", "--top", "3")
    assert (printed.status, printed.err.splitlines()[0]) == (0, "note: the page is page.html")
    assert "inside quotes" in printed.out and "AUC" in printed.out
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    values = json.loads(chargen("probe", "neurons", "m", "text.txt", "--json").out)
    assert len(values["units"]) == 12
    assert {unit["part"] for unit in values["units"]} == {"h", "c"}
    assert values["characters"] == len(TEXT)
    assert "position in the line" in values["properties"] and "indentation" in values["missing_properties"]


def test_a_long_text_is_cut_with_a_note(chargen: Callable[..., Result], folder: Path) -> None:
    result = chargen("probe", "neurons", "m", "text.txt", "--max-chars", "100", "--json")
    assert f"note: the first 100 of {len(TEXT)} characters are read" in result.err
    assert json.loads(result.out)["characters"] == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m", "nothing.txt"], "nothing.txt"),
        (["n", "text.txt"], "no model named 'n'"),
        (["m", "empty.txt"], "empty"),
        (["m", "text.txt", "-o", "text.txt"], "would overwrite text.txt"),
        (["m", "text.txt", "-o", "checkpoints/m/model.safetensors"], "would overwrite"),
        (["m", "text.txt", "-o", "none/page.html"], "there is no folder none"),
    ],
)
def test_bad_input_is_refused(chargen: Callable[..., Result], folder: Path, words: list[str], message: str) -> None:
    Path("empty.txt").write_text("")
    result = chargen("probe", "neurons", *words)
    assert result.status in (1, 2) and result.out == ""
    assert message in " ".join(result.err.split())
