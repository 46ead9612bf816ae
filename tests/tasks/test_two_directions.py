"""Scores by a forward and a backward model together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.config import DataConfig
from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.tasks.two_directions import TwoDirections
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
TEXTS = ["the fox", "Chữ tài", "", "z€"]


def model(direction: str, seed: int, documents: str = "none", **shape: str) -> Checkpoint:
    made = random_model(seed=seed, documents=documents, **shape)
    return replace(made, about={"data": DataConfig(documents=documents, direction=direction).to_json()})


def both(weight: float = 0.5, documents: str = "none") -> TwoDirections:
    forward, backward = (model(d, seed, documents) for seed, d in enumerate(("forward", "backward")))
    return TwoDirections(LanguageModel(forward), LanguageModel(backward), weight)


@pytest.mark.parametrize("documents", ["none", "line"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_the_score_is_the_weighted_mean_of_the_log_probabilities(weight: float, documents: str) -> None:
    pair = both(weight, documents)
    found = list(pair.score_batches([TEXTS[:2], TEXTS[2:]], pieces=True))
    forward, backward = pair.forward.score(TEXTS, pieces=True), pair.backward.score(TEXTS, pieces=True)
    assert [score.text for score in found] == TEXTS
    for score, one, other in zip(found, forward, backward, strict=True):
        assert score.directions == pytest.approx((one.log_prob_nats, other.log_prob_nats), abs=1e-5)
        assert score.log_prob_nats == pytest.approx(
            (1 - weight) * one.log_prob_nats + weight * other.log_prob_nats, abs=1e-5
        )
        assert score.pieces is not None
        assert "".join(text for text, _ in score.pieces) == score.text
        total = sum(nats for _, nats in score.pieces) + (score.end_log_prob_nats or 0.0)
        assert total == pytest.approx(score.log_prob_nats)
        for (_, nats), (_, p), (_, q) in zip(score.pieces, one.pieces or (), other.pieces or (), strict=True):
            assert np.exp(nats) == pytest.approx(np.exp(p) ** (1 - weight) * np.exp(q) ** weight, rel=1e-4)
        assert (score.unknown, score.unknown_chars) == (one.unknown, one.unknown_chars)


def test_the_scores_of_all_texts_of_a_length_add_up_to_at_most_one() -> None:
    forward, backward = (
        LanguageModel(replace(random_model("ab\n", seed=seed), about={"data": DataConfig(direction=d).to_json()}))
        for seed, d in enumerate(("forward", "backward"))
    )
    texts = list(map("".join, product("ab\n", repeat=3)))
    known = [sum(np.exp(score.log_prob_nats) for score in lm.score(texts)) for lm in (forward, backward)]
    mean = sum(np.exp(score.log_prob_nats) for score in TwoDirections(forward, backward).score_batches([texts]))
    assert max(known) < 1.0
    assert mean < np.sqrt(known[0] * known[1]) < 1.0


def test_models_that_do_not_belong_together_are_refused() -> None:
    pair = both()
    with pytest.raises(ConfigError, match="given as the backward one"):
        TwoDirections(pair.forward, pair.forward)
    with pytest.raises(ConfigError, match="given as the forward one"):
        TwoDirections(pair.backward, pair.backward)
    with pytest.raises(ConfigError, match="model of documents"):
        TwoDirections(pair.forward, both(documents="line").backward)
    with pytest.raises(ConfigError, match="weight"):
        both(1.5)
    pieces = LanguageModel(model("backward", 1, tokenizer="sp:280", text="the cat sat on the mat\n" * 40))
    with pytest.raises(ConfigError, match="different pieces"):
        list(TwoDirections(pair.forward, pieces).score_batches([["ta ta"]], pieces=True))


def test_score_with_a_backward_model(chargen: Chargen, tmp_path: Path) -> None:
    for seed, name in enumerate(("forward", "backward")):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", model(name, seed))
    words = ("score", "-m", "forward", "--backward", "backward", "the fox", "xof eht")
    found = json.loads(chargen(*words, "--json").out)
    assert (found["backward"], found["weight"]) == ("backward", 0.5)
    for sentence in found["sentences"]:
        mean = (sentence["forward_log_prob_nats"] + sentence["backward_log_prob_nats"]) / 2
        assert sentence["log_prob_nats"] == pytest.approx(mean)
    rows = [json.loads(line) for line in chargen(*words, "--json", "--chars", "--weight", "1").out.splitlines()]
    for row in rows:
        alone = json.loads(chargen("score", "-m", "backward", row["text"], "--json", "--chars").out)
        for char, other in zip(row["characters"], alone["characters"], strict=True):
            assert char == pytest.approx(other)
    assert "chars" in chargen(*words, "--tsv").out
    assert chargen("score", "-m", "backward", "--backward", "forward", "x").status == 2
    refused = chargen(*words, "--context", "a")
    assert "--context cannot be combined with --backward" in refused.err
    assert "-m MODEL" not in refused.err


def test_play_refuses_a_backward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.cli.commands import play
    from chargen.errors import ChargenError

    save_checkpoint(tmp_path / "model.safetensors", model("backward", 0))

    class Terminal:
        is_dumb_terminal = False

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("chargen.ui.console.stderr_console", Terminal)
    with pytest.raises(ChargenError, match="backward model, which writes the text before a prompt"):
        play.play_in_terminal(play.PlayArguments(model=str(tmp_path / "model.safetensors")))
