"""Validation: the sample of the training text, and baselines and halves of texts that are too small for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.checkpoint import load_checkpoint
from chargen.config import DataConfig
from chargen.data.dataset import Dataset, prepare_dataset
from chargen.text.corpus import read_corpus
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from chargen.training.validation import MAX_DIFFICULTY, measure_baselines, relative_difficulty, training_sample
from tests.conftest import VERSE, Result, corpus_of


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepare_documents(text: str, val_fraction: float) -> Dataset:
    Path("list.txt").write_text(text, encoding="utf-8")
    config = DataConfig(documents="line", val_fraction=val_fraction)
    return prepare_dataset(read_corpus(["list.txt"], config), None, config)


def test_the_sample_of_a_continuous_text_is_its_end(verse: str) -> None:
    data = prepare_dataset(corpus_of(verse), None, DataConfig())
    sample = training_sample(data)
    assert sample.num_chars == data.val[0].num_chars
    assert data.tokenizer.decode(sample.ids) == data.tokenizer.decode(data.train.ids)[-sample.num_chars :]


@pytest.mark.parametrize("tokenizer", ["byte", "sp:300"])
def test_the_sample_counts_characters_whatever_the_tokenizer(verse: str, tokenizer: str) -> None:
    data = prepare_dataset(corpus_of(verse), None, DataConfig(tokenizer=tokenizer))
    sample = training_sample(data)
    assert sample.num_chars == len(data.tokenizer.decode(sample.ids))
    assert len(sample.ids) == len(data.val[0].ids)


def test_the_sample_of_documents_is_spread_over_the_training_text() -> None:
    names = [f"{letter}{number:03}" for letter in "abcdefghij" for number in range(100)]
    data = prepare_documents("".join(name + "\n" for name in names), 0.1)
    sample = training_sample(data)
    documents = data.tokenizer.decode(sample.ids)
    assert {document for document in "abcdefgh" if document in documents} == set("abcdefgh")
    assert abs(len(sample.ids) - len(data.val[0].ids)) < 0.2 * len(data.val[0].ids)
    assert sample.num_chars == len(documents) + np.count_nonzero(sample.ids == BOUNDARY_ID)


def test_a_sample_is_no_longer_than_the_selection_part_if_documents_are_long() -> None:
    data = prepare_documents("".join(letter * 5000 + "\n" for letter in "abc") + "d" * 10 + "\n", 0.001)
    assert len(training_sample(data).ids) == len(data.val[0].ids)


def test_texts_that_are_too_short_have_no_baselines() -> None:
    found = measure_baselines(prepare_dataset(corpus_of(VERSE), None, DataConfig()))
    assert found.ngram_5_nats_per_char is found.lzma_nats_per_char is None
    long_enough = measure_baselines(prepare_dataset(corpus_of(VERSE * 4), None, DataConfig()))
    assert isinstance(long_enough.ngram_5_nats_per_char, float)
    assert isinstance(long_enough.lzma_nats_per_char, float)


def test_the_frequencies_of_characters_are_a_baseline() -> None:
    data = prepare_dataset(corpus_of("ab" * 5000), None, DataConfig())
    found = measure_baselines(data)
    assert found.unigram_nats_per_char == pytest.approx(np.log(2), abs=1e-3)
    assert found.uniform_nats_per_char == pytest.approx(np.log(data.tokenizer.vocab_size))


def test_what_a_tiny_text_cannot_give_is_null_and_a_dash(chargen: Any) -> None:
    Path("tiny.txt").write_text("ab", encoding="utf-8")
    shown: Result = chargen("train", "tiny.txt", "--steps", "1", "--hidden", "4")
    dashes = [line.split() for line in shown.out.splitlines() if "–" in line]
    assert [line[-1] for line in dashes] == ["–"] * 3  # the second half, the 5-gram, lzma
    assert "0.000" not in shown.out
    found = json.loads(chargen("train", "tiny.txt", "--steps", "1", "--hidden", "4", "--json").out)
    for key in ("val_second_half_nats_per_char", "ngram_5_nats_per_char", "lzma_nats_per_char"):
        assert found[key] is None, key
    assert isinstance(found["train_loss_without_dropout_nats_per_char"], float)
    load_checkpoint(Path(found["model_path"]))  # the numbers in the file pass its checks
    assert chargen("info", "tiny").status == 0


def test_an_empty_half_of_an_evaluated_text_is_null_and_a_dash(chargen: Any) -> None:
    Path("verse.txt").write_text(VERSE, encoding="utf-8")
    Path("one.txt").write_text("a", encoding="utf-8")
    chargen("train", "verse.txt", "--steps", "1", "--hidden", "4", "--name", "m")
    for options in ([], ["--adapt"]):
        found = json.loads(chargen("eval", "-m", "m", "one.txt", *options, "--json").out)
        assert found["second_half_nats_per_char"] is None
        assert found.get("adapted", {}).get("second_half_nats_per_char") is None
        shown = chargen("eval", "-m", "m", "one.txt", *options).out
        assert [line.split()[-1] for line in shown.splitlines() if "second half" in line] == ["–"] * (1 + len(options))


def test_the_difficulty_is_that_of_the_characters(verse: str) -> None:
    alike = prepare_dataset(corpus_of(verse), None, DataConfig())
    assert relative_difficulty(alike, training_sample(alike)) == pytest.approx(1.0, abs=0.1)
    rare_end = prepare_dataset(corpus_of("ab" * 1000 + "xyz" * 100), corpus_of("xyz" * 100), DataConfig())
    assert relative_difficulty(rare_end, training_sample(rare_end)) == pytest.approx(1.0, abs=0.1)
    unlike = prepare_dataset(corpus_of("xyz" * 20 + "ab" * 1000), corpus_of("xyz" * 100), DataConfig())
    assert relative_difficulty(unlike, training_sample(unlike)) == MAX_DIFFICULTY
    unknown = prepare_dataset(corpus_of("ab" * 1000), corpus_of("xyz" * 100), DataConfig())
    assert relative_difficulty(unknown, training_sample(unknown)) == MAX_DIFFICULTY
