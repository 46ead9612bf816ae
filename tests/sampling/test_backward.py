"""Backward models: each is a forward model of the reversed text, with the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.api import load
from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.config import DataConfig
from chargen.data.dataset import prepare_dataset, split_lines
from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.probe.gradient_comparison import GradientSettings, measure_model
from chargen.probe.neurons import read_activations
from chargen.sampling.backward import BackwardGenerator
from chargen.text.corpus import Corpus
from chargen.text.documents import MARK
from chargen.tokenizers.direction import reverse, reverse_pieces, text_before
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
NFD = "a\u0301b\u0323\u0302c \n"  # letters with one and with two marks
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
texts = st.text(st.sampled_from(NFD), max_size=12)
laws = settings(deadline=None, max_examples=50)


def twins(text: str = VERSE + NFD, tokenizer: str = "char", documents: str = "none") -> list[LanguageModel]:
    """Return a forward and a backward model with the same weights; neither changes the form of a text."""
    model = random_model(text, tokenizer, seed=1, documents=documents)
    return [
        LanguageModel(
            Checkpoint(
                model.config,
                model.tokenizer,
                model.weights,
                {"data": DataConfig(documents=documents, normalize="none", direction=direction).to_json()},
            )
        )
        for direction in ("forward", "backward")
    ]


KINDS = [("char", "none"), ("char", "line"), ("byte", "none"), ("byte", "line")]


@pytest.mark.parametrize(("tokenizer", "documents"), KINDS)
@laws
@given(text=texts, context=texts)
def test_a_backward_model_scores_the_reversed_text(tokenizer: str, documents: str, text: str, context: str) -> None:
    forward, backward = twins(tokenizer=tokenizer, documents=documents)
    expected = forward.score(reverse(text), context=reverse(context), pieces=True)
    found = backward.score(text, context=context, pieces=True)
    assert found.log_prob_nats == expected.log_prob_nats
    assert found.text == text
    assert found.pieces is not None
    assert expected.pieces is not None
    assert "".join(piece for piece, _ in found.pieces) == text
    assert sorted(found.pieces) == sorted(expected.pieces)
    *_, prefix = backward.read_prefix(text)
    assert prefix.bits_per_char == pytest.approx(forward.score(reverse(text), end=False).bits_per_char, abs=1e-6)
    chars = list(backward.char_surprisals(text, context=context, end=documents == "line"))
    assert [(char.text, char.log_prob_nats) for char in chars[: len(text)]] == list(found.pieces)
    for char in chars:
        for guess in char.guesses:
            assert guess.text != char.text or guess.prob == pytest.approx(math.exp(char.log_prob_nats), rel=1e-4)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_the_probabilities_of_all_texts_of_a_length_are_those_of_a_forward_model(length: int) -> None:
    """Reversing is a bijection, so a backward model is a distribution over texts, as a forward model is."""
    forward, backward = twins("ab\u0301\u200d\n", documents="line")
    strings = list(map("".join, product("ab\u0301\u200d\n", repeat=length)))
    found, expected = (sorted(each.log_prob_nats for each in lm.score(strings, end=True)) for lm in (backward, forward))
    assert found == expected


@pytest.mark.parametrize("pieces", ["sp:264"])
def test_pieces_of_several_characters_are_in_reading_order(pieces: str) -> None:
    text = "the cat sat on the mat\n" * 40
    forward, backward = twins(text, pieces)
    score = backward.score("tam ta sat", pieces=True)
    assert score.log_prob_nats == forward.score("tas at mat").log_prob_nats
    assert "".join(piece for piece, _ in score.pieces or ()) == "tam ta sat"
    assert any(len(piece) > 1 for piece, _ in score.pieces or ())
    assert math.fsum(nats for _, nats in score.pieces or ()) == score.log_prob_nats


@pytest.mark.parametrize(("tokenizer", "documents"), KINDS)
def test_a_whole_text_is_evaluated_from_its_end(tokenizer: str, documents: str) -> None:
    text = VERSE * 3 + "ba\u0301\n\nc"
    forward, backward = twins(tokenizer=tokenizer, documents=documents)
    lines = split_lines(text)
    reordered = "\n".join(map(reverse, text.split("\n"))) if documents == "line" else reverse(text)
    expected, found = forward.evaluate(reordered), backward.evaluate(text)
    assert replace(found, bytes=0) == replace(expected, bytes=0)
    nats, unknown = backward.evaluate_lines(lines)
    assert nats.sum() == pytest.approx(found.loss_nats_per_char * found.chars)
    assert unknown.sum() == found.unknown_chars
    other, _ = forward.evaluate_lines(split_lines(reordered))
    if documents == "line":
        assert nats == pytest.approx(other)


@pytest.mark.parametrize(("tokenizer", "documents"), KINDS)
@laws
@given(prompt=texts, seed=st.integers(0, 99))
def test_a_text_ends_with_the_prompt(tokenizer: str, documents: str, prompt: str, seed: int) -> None:
    forward, backward = twins(tokenizer=tokenizer, documents=documents)
    options = {"length": 20, "seed": seed}
    if prompt[:1] in ("\u0301", "\u0302", "\u0323"):
        with pytest.raises(ConfigError, match="whole letters"):
            backward.sample(prompt, **options)
        return
    text = backward.sample(prompt, **options)
    assert text.endswith(prompt)
    read = forward.sample(reverse(prompt), **options)
    assert text == text_before(prompt, read[len(prompt) :]) + prompt
    assert [each.text for each in backward.samples(2, prompt, **options)][0] + prompt == text
    generator = backward.generator(prompt, **options)
    for sample in (generator.beam(2), generator.particles(0, 2)):
        assert reverse(sample.text + prompt).startswith(reverse(prompt))


def test_stops_bans_and_lines_are_those_of_the_text() -> None:
    _, backward = twins()
    text = backward.sample("x", length=300, seed=1, ban=["ab", "th"])
    assert "ab" not in text
    assert "th" not in text
    (stopped,) = backward.samples(1, "x", length=300, seed=1, ban=["ab", "th"], stop=[text[100:102]])
    assert stopped.ended == "stop"
    assert text[100:102] not in stopped.text
    assert text.endswith(stopped.text + "x")
    (line,) = backward.samples(1, "x", length=5000, seed=1, until="newline")
    assert line.ended == "newline"
    assert "\n" not in line.text


def test_a_prefix_cache_counts_as_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    _, backward = twins()
    *_, cache = backward.read_prefix("bog")
    generator = backward.generator(prefix_cache=cache, ban=["ab"], length=4)
    assert isinstance(generator, BackwardGenerator)
    mask = generator._generator.new_sequence().forbidden_mask()
    assert mask is not None
    assert backward.tokenizer.decode(np.flatnonzero(mask)) == "a"
    monkeypatch.setattr(generator._generator, "stream", lambda number: iter(["\u0301cba"]))
    assert list(generator.stream()) == [text_before("bog", "\u0301cba")] == ["abc"]  # the mark would change the "b"
    *_, cache = backward.read_prefix("\u0301a")
    with pytest.raises(ConfigError, match="whole letters"):
        backward.generator(prefix_cache=cache)


@pytest.mark.parametrize("settings", [{"regex": "[ab]+"}, {"prompt": "\u0301a"}, {"prompt": "a\u200d"}])
def test_what_a_backward_model_cannot_do_is_refused_with_the_reason(settings: dict[str, str]) -> None:
    _, backward = twins()
    with pytest.raises(ConfigError, match=r"backward model|whole letters"):
        backward.sample(**settings)
    with pytest.raises(ConfigError, match="ends? with the prompt"):
        backward.infill(1, "a", "b")


def test_suggestions_are_those_of_the_reversed_text() -> None:
    forward, backward = twins()
    expected = forward.suggest(reverse("the fox jmups"), num_suggestions=8)
    found = backward.suggest("the fox jmups", num_suggestions=8)
    assert [(s.text, s.gain_nats) for s in found] == [(reverse(s.text), s.gain_nats) for s in expected]
    for suggestion in found:
        assert suggestion.edit.apply("the fox jmups") == suggestion.text


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_probes_read_the_reversed_text_and_show_it_in_reading_order(tokenizer: str) -> None:
    forward, backward = twins(tokenizer=tokenizer)
    text = "cha\u0301t nhau"
    expected = read_activations(forward.checkpoint, forward._numpy, reverse(text))
    found = read_activations(backward.checkpoint, backward._numpy, text)
    assert "".join(found.pieces) == text
    order = [i for group in reverse_pieces(expected.pieces) for i in group]
    assert np.array_equal(found.values, expected.values[:, order])
    gradients = GradientSettings(max_lag=3, num_positions=2)
    curves = [
        measure_model("m", lm.checkpoint, each, gradients).gradients.norms
        for lm, each in ((forward, text[::-1]), (backward, text))
    ]
    assert curves[0] != curves[1]  # the mark is after its letter in both texts
    assert measure_model("m", forward.checkpoint, reverse(text), gradients).gradients.norms == curves[1]


@pytest.mark.parametrize("documents", ["none", "line"])
def test_a_backward_run_holds_out_the_same_text(documents: str) -> None:
    corpus = Corpus.from_text(VERSE * 30, config=DataConfig(documents=documents))
    forward, backward = (
        prepare_dataset(corpus, None, DataConfig(documents=documents, direction=direction))
        for direction in ("forward", "backward")
    )
    assert backward.val_text.read() == reverse(forward.val_text.read())
    assert backward.train_text.num_chars == forward.train_text.num_chars

    def read(data: np.ndarray) -> str:
        return "".join(MARK if i == BOUNDARY_ID else forward.tokenizer.decode([i]) for i in data)

    assert read(backward.train.ids) == reverse(read(forward.train.ids))


def train(chargen: Chargen, name: str, *options: str) -> None:
    small = ("--steps", "4", "--hidden", "8", "--batch", "4", "--seq-len", "8", "--name", name)
    result = chargen("train", "verse.txt", *small, *options)
    assert result.status == 0, result.err


def test_the_direction_is_stored_and_shown(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 20, encoding="utf-8")
    train(chargen, "back", "--direction", "backward")
    train(chargen, "fore")
    for name, direction in (("back", "backward"), ("fore", "forward")):
        assert json.loads(chargen("info", name, "--json").out)["direction"] == direction
        assert direction in chargen("info", name).out
        assert json.loads(chargen("eval", "-m", name, "verse.txt", "--json").out)["direction"] == direction
    assert "backward" in chargen("eval", "-m", "back", "verse.txt").out
    compared = json.loads(chargen("compare", "fore", "back", "verse.txt", "--json").out)["models"]
    assert [row["direction"] for row in compared] == ["forward", "backward"]
    evaluated = json.loads(chargen("eval", "-m", "back", "verse.txt", "--json").out)
    assert compared[1]["bits_per_byte"] == pytest.approx(evaluated["bits_per_byte"])
    assert "back (backward)" in chargen("compare", "fore", "back", "verse.txt").out


def test_a_sample_of_a_backward_model_is_printed_before_its_prompt(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 20, encoding="utf-8")
    train(chargen, "back", "--direction", "backward")
    one = chargen("sample", "-m", "back", "--prompt", "dog", "--length", "20", "--seed", "1")
    assert "when it is complete" in one.err
    assert one.out.endswith("dog\n")
    assert len(one.out) == 24
    plain = chargen("sample", "-m", "back", "--prompt", "dog", "--length", "20", "--seed", "1", "--no-prompt")
    assert plain.out.removesuffix("\n") + "dog\n" == one.out
    as_json = json.loads(
        chargen("sample", "-m", "back", "--prompt", "dog", "--length", "20", "--seed", "1", "--json").out
    )
    assert as_json["text"] + "\n" == one.out
    for option in (["--suffix", "x"], ["--regex", "a+"]):
        refused = chargen("sample", "-m", "back", *option)
        assert refused.status == 2
        assert "backward model" in refused.err
    copied = chargen("sample", "-m", "back", "--max-copy", "3", "--length", "200", "--seed", "2", "--report")
    assert copied.status == 0, copied.err
    assert any(f"longest copy: {n} character" in copied.err for n in (1, 2, 3))
    (tmp_path / "verse.txt").unlink()  # the token ids in the cache are of the reversed text
    assert "longest copy" in chargen("sample", "-m", "back", "--length", "50", "--seed", "1", "--report").err


def test_a_backward_run_is_resumed_and_continued_in_its_direction(chargen: Chargen, tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 20, encoding="utf-8")
    small = ("--hidden", "8", "--batch", "4", "--seq-len", "8", "--direction", "backward")
    assert chargen("train", "verse.txt", "--steps", "6", "--name", "whole", *small).status == 0
    assert chargen("train", "verse.txt", "--steps", "6", "--stop-after", "3", "--name", "part", *small).status == 130
    refused = chargen("train", "--resume", "part", "--direction", "forward")
    assert refused.status == 2
    assert "--direction forward contradicts --resume" in refused.err
    assert chargen("train", "--resume", "part").status == 0
    whole, part = (load_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors") for name in ("whole", "part"))
    assert all(np.array_equal(whole.weights[name], part.weights[name]) for name in whole.weights)
    assert part.data.direction == "backward"
    mixed = chargen("train", "verse.txt", "--steps", "1", "--init-from", "whole", "--name", "x")
    assert mixed.status == 2
    assert "Give --direction backward" in mixed.err
    same = chargen(
        "train", "verse.txt", "--steps", "1", "--init-from", "whole", "--name", "x", "--direction", "backward"
    )
    assert same.status == 0, same.err


def test_a_model_of_an_earlier_version_reads_forward(tmp_path: Path) -> None:
    model = random_model()
    data = {key: value for key, value in DataConfig().to_json().items() if key != "direction"}
    save_checkpoint(tmp_path / "model.safetensors", replace(model, about={"data": data}))
    assert load(tmp_path / "model.safetensors").checkpoint.data.direction == "forward"


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_alphabet_is_recited_from_f_in_both_directions(chargen: Chargen, tmp_path: Path, direction: str) -> None:
    (tmp_path / "alphabet.txt").write_text(ALPHABET * 400)
    small = ("--steps", "100", "--hidden", "24", "--ensemble", "1", "--batch", "16", "--seq-len", "16", "--lr", "0.02")
    trained = chargen("train", "alphabet.txt", "--name", "abc", "--direction", direction, *small)
    assert trained.status == 0, trained.err
    text = chargen("sample", "-m", "abc", "--prompt", "f", "--length", "1000", "--temp", "0").out.strip()
    start = ALPHABET.index(text[0])
    assert text == (ALPHABET * 41)[start : start + 1001]
    assert (text[0] if direction == "forward" else text[-1]) == "f"
