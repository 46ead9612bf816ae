"""Runs with an index of n-grams: what their files contain, how they continue, and which files are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.api import load
from chargen.cells.ngram_index import build_index
from chargen.cells.weights import NGRAM_INDEX, NGRAM_TABLE, NGRAM_WORDS
from chargen.checkpoint import STORAGE_VERSION, load_checkpoint, load_tensors, save_tensors
from chargen.config import DataConfig, ModelConfig
from chargen.config.model import NO_WORD, WORD
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ConfigError, ModelError
from chargen.text.corpus import read_corpus
from chargen.text.long_text import LongText
from chargen.tokenizers.words import word_kinds
from chargen.training.choices import ModelChoices
from chargen.training.init_from import fit_ngrams, init_from_model
from chargen.training.state import load_state
from tests.conftest import VERSE, Result, run_plan
from tests.training.test_run import plan

MODEL, STATE = "checkpoints/run/model.safetensors", "checkpoints/run/training_state.safetensors"
SHAPE: dict[str, Any] = {"cell": "gru", "ngrams": 4, "ngram_rows": 4096, "ngram_dim": 4}
LEARNING = {"learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:320"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_run_writes_the_index_of_its_training_text_and_continues_to_the_byte(
    verse: str, tokenizer: str, direction: str
) -> None:
    settings = {"model": {**SHAPE, "ngram_dropout": 0.3}, "train": LEARNING}
    data = DataConfig(tokenizer=tokenizer, direction=direction)
    run_plan(plan(verse, "run", 12, data=data, **settings))
    files = [Path(name).read_bytes() for name in (MODEL, STATE)]
    model = load_checkpoint(Path(MODEL))
    kinds = word_kinds(model.tokenizer)
    train = verse[: len(verse) * 9 // 10]
    if direction == "backward":
        train = train[::-1]  # the verse is composed, so its letters are its characters
    ids = model.tokenizer.encode(train)
    np.testing.assert_array_equal(model.weights[NGRAM_WORDS], kinds)
    np.testing.assert_array_equal(model.weights[NGRAM_INDEX], build_index(model.config, ids, kinds))
    assert not model.weights[NGRAM_TABLE][model.weights[NGRAM_INDEX] == 0].any()
    run_plan(plan(verse, "cut", 12, data=data, stop_after=5, **settings))
    run_plan(plan(verse, length={}, data=data, resume="cut"))
    resumed, _ = load_tensors(Path("checkpoints/cut/training_state.safetensors"))
    whole, _ = load_tensors(Path(STATE))
    assert Path("checkpoints/cut/model.safetensors").read_bytes() == files[0]
    assert {name: tensor.tobytes() for name, tensor in resumed.items()} == {n: t.tobytes() for n, t in whole.items()}
    assert resumed[f"weights.{NGRAM_INDEX}"].dtype == np.uint16


@pytest.mark.parametrize("words", [0, 1, 2, 4])
def test_a_model_of_any_number_of_words_scores_as_it_was_trained(verse: str, words: int) -> None:
    shape = {**SHAPE, "ngram_words": words, "dropout": 0.0, "ngram_dropout": 0.0}
    _, finished = run_plan(plan(verse, "run", 60, model=shape, train=LEARNING))
    model = load("run")
    assert model.checkpoint.config.ngram_words == words
    loss = model.evaluate(verse[len(verse) * 9 // 10 :]).loss_nats_per_char
    assert loss == pytest.approx(finished.val_loss_nats_per_char, abs=1e-4)
    parts = model.score("The quick ").log_prob_nats + model.score("brown", context="The quick ").log_prob_nats
    assert model.score("The quick brown").log_prob_nats == pytest.approx(parts, abs=1e-4)


@pytest.mark.parametrize("text", ["ab", "a" * 30, "..\n" * 9, "x y z w", "天地玄黃", "👍🏽" * 9, "a\n"])
def test_a_tiny_text_is_trained(text: str) -> None:
    for tokenizer in ("char", "byte"):
        data = DataConfig(tokenizer=tokenizer)
        run_plan(plan(text, "run", 2, data=data, model={"ngrams": 6}, train={"batch_size": 2, "seq_len": 4}))
        assert np.isfinite(load("run").score(text).log_prob_nats)


def test_the_first_ngrams_of_documents_have_rows() -> None:
    Path("names.txt").write_text("".join(f"anna{a}{b}\n" for a in "bcdefg" for b in "hijklm"), encoding="utf-8")
    data = DataConfig(documents="line")
    corpus = read_corpus(["names.txt"], data)
    run_plan(replace(plan("-", "run", 40, data=data, model=SHAPE, train=LEARNING), corpus=corpus))
    model = load_checkpoint(Path(MODEL))
    network_table, index = model.weights[NGRAM_TABLE], model.weights[NGRAM_INDEX]
    config = model.config
    first = np.concatenate([[0], model.tokenizer.encode("anna")])
    documents = build_index(config, np.tile(first, 2), model.weights[NGRAM_WORDS])
    is_owned = documents > 0
    assert is_owned.sum() > 12
    np.testing.assert_array_equal(index[is_owned], documents[is_owned])  # the most frequent ones of each bucket
    assert network_table[is_owned].any(axis=1).mean() > 0.9


def test_a_model_without_an_index_continues_and_has_the_files_of_earlier_versions(verse: str) -> None:
    settings = {"model": {**SHAPE, "ngram_index": False}, "train": LEARNING}
    run_plan(plan(verse, "run", 12, **settings))
    run_plan(plan(verse, "cut", 12, stop_after=5, **settings))
    _, header = load_tensors(Path("checkpoints/cut/training_state.safetensors"))
    assert not {"ngram_index", "ngram_words"} & set(header["model"])
    run_plan(plan(verse, length={}, resume="cut"))
    assert Path("checkpoints/cut/model.safetensors").read_bytes() == Path(MODEL).read_bytes()
    old = load_checkpoint(Path(MODEL))
    assert NGRAM_INDEX not in old.weights
    run_plan(replace(plan(verse, "next", 4, init_from="run"), model=ModelChoices()))
    following = load_checkpoint(Path("checkpoints/next/model.safetensors")).config
    assert (following.ngrams, following.ngram_index, following.ngram_rows) == (4, False, 4096)
    with pytest.raises(ConfigError, match="ngram_words is 2"):
        run_plan(replace(plan(verse, "other", 4, init_from="run"), model=ModelChoices(ngram_words=2)))


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("new", ["", "é€", "\t%"])  # in the alphabet, "é" and "%" come before other letters
def test_a_larger_vocabulary_changes_no_logit_of_known_characters(verse: str, has_index: bool, new: str) -> None:
    """The n-grams of the new text keep their rows, although most token ids get other numbers."""
    shape = {**SHAPE, "ngram_index": has_index, "ngram_rows": 1 << 18}
    run_plan(plan(verse, "run", 60, model=shape, train=LEARNING))
    old = load_checkpoint(Path(MODEL))
    text = verse[: len(verse) * 9 // 10] + new
    initial = init_from_model(old, LongText.from_string(text).span(), "grow", ModelChoices())
    grown = fit_ngrams(initial, initial.tokenizer.encode(text))
    config = ModelConfig(vocab_size=grown.tokenizer.vocab_size, **grown.shape.chosen())
    new_of = grown.tokenizer.encode(old.tokenizer.decode(range(2, old.config.vocab_size)))
    logits = []
    for c, weights, tokenizer in ((old.config, old.weights, old.tokenizer), (config, grown.weights, grown.tokenizer)):
        engine = NumpyEngine(c, weights)
        stream = engine.stream(engine.initial_state(1))
        logits.append(np.stack([stream.step(int(i)).copy() for i in tokenizer.encode(VERSE)]))
    np.testing.assert_allclose(logits[1][:, new_of], logits[0][:, 2:], atol=1e-4)
    without = NumpyEngine(config, {**grown.weights, NGRAM_TABLE: np.zeros_like(grown.weights[NGRAM_TABLE])})
    stream = without.stream(without.initial_state(1))
    plain = np.stack([stream.step(int(i)).copy() for i in grown.tokenizer.encode(VERSE)])
    assert np.abs(plain - logits[1])[:, 2:].max() > 0.1  # the n-grams say something


def test_new_letters_and_the_ngrams_of_the_new_text_are_in_the_index(verse: str) -> None:
    run_plan(plan(verse, "run", 4, model={**SHAPE, "ngram_rows": 1 << 14}))
    old = load_checkpoint(Path(MODEL))
    for text in ("zebra ezarb " * 30, "§ßtraße§ " * 30):  # known and new letters
        initial = init_from_model(old, LongText.from_string(text).span(), "grow", ModelChoices())
        ids = initial.tokenizer.encode(text)
        grown = fit_ngrams(initial, ids)
        config = ModelConfig(vocab_size=grown.tokenizer.vocab_size, **grown.shape.chosen())
        wanted = build_index(config, ids, grown.weights[NGRAM_WORDS])
        assert np.isin(wanted[wanted > 0], grown.weights[NGRAM_INDEX]).all()
    kinds = {grown.tokenizer.token_bytes(i).decode(): kind for i, kind in enumerate(grown.weights[NGRAM_WORDS])}
    assert (kinds["ß"], kinds["§"], kinds["r"], kinds[" "]) == (WORD, NO_WORD, WORD, NO_WORD)
    run_plan(replace(plan("§ßtraße§ " * 60, "next", 6, init_from="run"), model=ModelChoices()))
    assert np.isfinite(load("next").score("§ßtraße§").log_prob_nats)


Change = Callable[[dict[str, np.ndarray]], Any]
CHANGES: dict[str, Change] = {
    "an index of another type": lambda t: t.update({NGRAM_INDEX: t[NGRAM_INDEX].astype(np.int32)}),
    "an index of float numbers": lambda t: t.update({NGRAM_INDEX: t[NGRAM_INDEX].astype(np.float32)}),
    "a short index": lambda t: t.update({NGRAM_INDEX: t[NGRAM_INDEX][:-1]}),
    "an index with two axes": lambda t: t.update({NGRAM_INDEX: t[NGRAM_INDEX].reshape(-1, 8)}),
    "no index": lambda t: t.pop(NGRAM_INDEX),
    "kinds of another type": lambda t: t.update({NGRAM_WORDS: t[NGRAM_WORDS].astype(np.uint16)}),
    "too few kinds": lambda t: t.update({NGRAM_WORDS: t[NGRAM_WORDS][1:]}),
    "no kinds": lambda t: t.pop(NGRAM_WORDS),
    "an unknown kind": lambda t: t[NGRAM_WORDS].__setitem__(5, 7),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("is_state", [False, True])
def test_damaged_index_arrays_are_refused(verse: str, name: str, is_state: bool) -> None:
    run_plan(plan(verse, "run", 4, model=SHAPE, stop_after=2 if is_state else None))
    path = Path(STATE if is_state else MODEL)
    tensors, header = load_tensors(path)
    prefix = "weights." if is_state else ""
    inner = {key.removeprefix(prefix): tensor.copy() for key, tensor in tensors.items() if key.startswith(prefix)}
    CHANGES[name](inner)
    outer = {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}
    save_tensors(path, {**outer, **{prefix + key: tensor for key, tensor in inner.items()}}, header, STORAGE_VERSION)
    with pytest.raises(ModelError) as caught:
        load_state(path) if is_state else load("run")
    assert len(str(caught.value)) < 300


def test_any_tags_and_any_hashes_are_harmless_but_token_ids_are_checked(verse: str) -> None:
    run_plan(plan(verse, "run", 6, model=SHAPE, stop_after=2))
    tensors, header = load_tensors(Path(STATE))
    history = next(name for name, tensor in tensors.items() if tensor.dtype == np.int64)
    ids, hashes = tensors[history][:, :3], tensors[history][:, 3:]
    assert hashes.shape[1] == 2 and hashes.any()
    tensors[f"weights.{NGRAM_INDEX}"][:] = np.random.default_rng(0).integers(0, 1 << 16, 4096)
    hashes[:] = [-(2**63), 2**63 - 1]
    save_tensors(Path(STATE), tensors, header, STORAGE_VERSION)
    run_plan(plan(verse, length={}, resume="run"))
    assert np.isfinite(load("run").score("Chữ").log_prob_nats)
    ids[0, 0] = 10**6
    save_tensors(Path(STATE), tensors, header, STORAGE_VERSION)
    with pytest.raises(ModelError, match="token ids that are not in the vocabulary"):
        load_state(Path(STATE))


def test_info_shows_the_ngrams_that_start_with_a_word(verse: str, chargen: Callable[..., Result]) -> None:
    run_plan(plan(verse, "run", 2, model=SHAPE))
    result = chargen("info", "run")
    assert result.status == 0, result.err
    assert re.search("n-gram words +2 ", result.out)
    described = json.loads(chargen("info", "run", "--json").out)
    assert (described["ngram_words"], described["ngram_index"]) == (2, True)
    run_plan(plan(verse, "plain", 2, model={**SHAPE, "ngram_index": False}))
    assert "n-gram words" not in chargen("info", "plain").out


@pytest.mark.parametrize("options", [("--ngrams", "0", "--ngram-words", "1"), ("--ngram-words", "5")], ids=" ".join)
def test_words_without_ngrams_are_an_error_with_a_remedy(
    options: tuple[str, ...], chargen: Callable[..., Result]
) -> None:
    Path("v.txt").write_text(VERSE * 3, encoding="utf-8")
    result = chargen("train", "v.txt", "--steps", "2", *options)
    assert result.status in (1, 2)
    assert "--ngram" in result.err
    assert not Path("checkpoints").exists()
