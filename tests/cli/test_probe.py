"""`chargen probe`: plots, tables and JSON of its probes; and what they refuse, before any time is spent."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargen.cells import CELLS
from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, Result, random_model
from tests.probe.test_gradients import Bag

Chargen = Callable[..., Result]
GRADIENTS = ("probe", "gradients", "--lag", "12", "--positions", "4", "--hidden", "8", "--steps", "3")
MEMORY = ("probe", "memory", "--cells", "rnn,gru", "--lags", "2,4", "--hidden", "8", "--steps", "3")


@pytest.fixture(autouse=True)
def files(chargen: Chargen) -> Iterator[None]:
    CELLS.register("bag", Bag())
    Path("verse.txt").write_text(VERSE * 20, encoding="utf-8")
    Path("short.txt").write_text("short", encoding="utf-8")
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    save_checkpoint(Path("checkpoints/bag/model.safetensors"), random_model(cell="bag"))
    yield
    del CELLS._loaded["bag"]


def test_gradients_are_shown_as_plots_and_a_table(chargen: Chargen) -> None:
    result = chargen(*GRADIENTS, "--cells", "rnn,lstm", "verse.txt")
    assert result.status == 0
    assert "Gradient against lag, before training: verse" in result.out
    assert "Gradient against lag, after training: verse" in result.out
    assert result.out.count("● rnn  ○ lstm") == 2
    assert "rnn, before training" in result.out and "lstm, after training" in result.out
    assert max(map(len, result.out.splitlines())) <= 130


def test_gradients_as_json_have_units_and_every_lag(chargen: Chargen) -> None:
    values = json.loads(chargen(*GRADIENTS, "--cells", "lstm", "m", "verse.txt", "--json").out)
    assert values["lags"] == list(range(13))
    assert [network["stage"] for network in values["networks"]] == ["model", "before training", "after training"]
    for network in values["networks"]:
        assert len(network["gradient_norms"]) == 13 and network["loss_nats_per_token"] > 0
    assert set(values["networks"][1]["gradient_norms_of_parts"]) == {"h", "c"}
    assert values["networks"][2]["training"]["steps"] == 3 and values["networks"][1]["training"] is None


def test_a_model_alone_is_not_trained(chargen: Chargen) -> None:
    result = chargen("probe", "gradients", "--lag", "12", "--positions", "4", "m", "verse.txt")
    assert "Gradient against lag, models: verse" in result.out and "before training" not in result.out
    refused = chargen("probe", "gradients", "--steps", "5", "m", "verse.txt")
    assert refused.status == 2 and "--steps" in refused.err and "--cells" in refused.err


def test_an_exploding_gradient_is_reported_with_what_clipping_did(chargen: Chargen) -> None:
    words = ("probe", "gradients", "--cells", "rnn", "--init-scale", "6", "--lag", "40", "--steps", "3", "verse.txt")
    out = chargen(*words).out
    assert "rnn, before training: the gradient explodes" in out
    assert "steps it was clipped to 1." in out


def test_memory_is_shown_as_a_plot_and_a_table(chargen: Chargen) -> None:
    out = chargen(*MEMORY).out
    assert "Accuracy in the task copy against the lag" in out
    assert "● rnn  ○ gru  ■ chance" in out
    assert "below 90% from lag" in out


def test_memory_as_json(chargen: Chargen) -> None:
    values = json.loads(chargen(*MEMORY, "--task", "adding", "--json").out)
    assert values["task"] == "adding" and values["chance"] == 0.2
    assert [cell["cell"] for cell in values["cells"]] == ["rnn", "gru"]
    assert [point["lag"] for point in values["cells"][0]["points"]] == [2, 4]
    assert all(0 <= point["accuracy"] <= 1 for cell in values["cells"] for point in cell["points"])


@pytest.mark.parametrize("words", [(*GRADIENTS, "--cells", "rnn", "verse.txt"), MEMORY], ids=lambda words: words[1])
def test_the_plot_is_a_file_beside_any_other_output(words: tuple[str, ...], chargen: Chargen) -> None:
    for more in ((), ("--json",)):
        assert chargen(*words, "--plot", "plot.svg", *more).status == 0
        root = ElementTree.fromstring(Path("plot.svg").read_text(encoding="utf-8"))
        labels = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert any("(tokens)" in label for label in labels)
        Path("plot.svg").unlink()


@pytest.mark.parametrize("words", [(*GRADIENTS, "verse.txt"), MEMORY], ids=lambda words: words[1])
@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("plot.png", 1, "pip install 'chargen[plot]'"),
        ("plot.pdf", 2, "Charts are written as .svg or .png."),
        ("nowhere/plot.svg", 2, "there is no folder nowhere"),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_at_once(
    words: tuple[str, ...], name: str, status: int, message: str, chargen: Chargen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.setattr("chargen.cli.commands.probe.gradients._measure", pytest.fail)
    monkeypatch.setattr("chargen.cli.commands.probe.memory._measure", pytest.fail)
    result = chargen(*words, "--plot", name)
    assert result.status == status and message in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gradients", "--cells", "lstn", "verse.txt"), "Did you mean 'lstm'?"),
        (("gradients", "--cells", "bag", "verse.txt"), "the cell bag has no hidden state"),
        (("gradients", "bag", "verse.txt"), "the cell bag has no hidden state"),
        (("gradients", "--cells", "rnn", "short.txt"), "needs a text of at least 66 tokens, but this one has 5"),
        (("gradients", "m", "short.txt"), "needs a text of at least 66 tokens, but this one has 5"),
        (("gradients", "--cells", "rnn,", "verse.txt"), "has an empty name"),
        (("gradients", "--cells", "rnn,rnn", "verse.txt"), "has a name twice"),
        (("gradients", "nothing", "verse.txt"), "nothing"),
        (("gradients", "--init-scale", "2", "--cells", "bag", "verse.txt"), "bag"),
        (("memory", "--cells", "rnn,grru"), "Did you mean 'gru'?"),
        (("memory", "--lags", "5,x"), "'x' is not a whole number"),
        (("memory", "--lags", "0"), "a lag of 0 is not possible in the task copy"),
        (("memory", "--task", "reber", "--lags", "4"), "Use lags from 5"),
        (("memory", "--task", "coppy"), "copy"),
        (("memory", "--steps", "3", "--budget", "3s"), "cannot be combined"),
        (("memori",), "Did you mean 'memory'?"),
    ],
    ids=" ".join,
)
def test_bad_input_is_an_error_message(words: tuple[str, ...], message: str, chargen: Chargen) -> None:
    result = chargen("probe", *words)
    assert result.status in (1, 2) and not result.out
    assert message in " ".join(result.err.split())
