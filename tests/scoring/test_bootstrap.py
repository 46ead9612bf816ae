"""Comparing models: losses of lines add up to the loss of the text, and the bootstrap finds real differences."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import save_checkpoint
from chargen.config import DataConfig
from chargen.data.baselines import lzma_text_nats, ngram_line_nats, ngram_nats_per_id, uniform_line_nats
from chargen.data.dataset import encode_lines, split_lines
from chargen.lm import LanguageModel
from chargen.scoring import bootstrap
from chargen.scoring.bootstrap import MAX_UNITS, bits_per_byte, most_different_lines, paired_bootstrap
from chargen.scoring.scorer import utf8_size
from chargen.text.documents import MARK, split_documents
from chargen.tokenizers.tokenizer import build_tokenizer, encoder
from tests.conftest import VERSE, Result, random_model

KINDS = ["none", "line", "blank", "file", "--"]
TEXTS = st.lists(st.sampled_from(["ab", " ", "\n", "\n\n", "--", "chữ", "-", "\t"]), min_size=1, max_size=20).map(
    "".join
)


@given(st.text("ab\n\r"))
def test_joined_lines_are_the_text(text: str) -> None:
    lines = split_lines(text)
    assert "".join(lines) == text
    assert all(line.count("\n") == line.endswith("\n") for line in lines)
    assert "" not in lines


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["char", "byte", "sp:300"]), st.sampled_from(KINDS), TEXTS)
def test_ids_of_lines_are_the_ids_of_the_text(name: str, kind: str, text: str) -> None:
    tokenizer = build_tokenizer(name, VERSE * 20)
    whole = text if kind == "none" else "".join(split_documents([text], kind))
    lines = split_lines(text)
    if not whole:
        return
    ids, numbers = encode_lines(tokenizer, kind, lines)
    assert ids.tolist() == encoder(tokenizer, kind)(whole).tolist()
    assert (np.diff(numbers) >= 0).all()
    assert numbers[-1] < len(lines)
    if kind == "line":  # a document is a line, and its boundary counts with it
        for number, line in enumerate(lines):
            own = tokenizer.encode(line.rstrip("\n")).tolist()
            assert ids[numbers == number].tolist() == (own + [0] if own else [])


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("kind", ["none", "line", "blank"])
@pytest.mark.parametrize("normalize", ["nfc", "none"])
def test_losses_of_lines_add_up_to_the_loss_of_the_text(tokenizer: str, kind: str, normalize: str) -> None:
    model = random_model(VERSE * 20, tokenizer)
    about = {"data": DataConfig(documents=kind, normalize=normalize).to_json()}
    lm = LanguageModel(replace(model, about=about))
    text = "Chữ tài\r\nnhe\u0301, mệnh €\n\n\nlazy dog\nfox"
    nats, unknown = lm.evaluate_lines(split_lines(text))
    assert len(nats) == len(unknown) == 6
    assert unknown.sum() == lm.evaluate(text).unknown_chars
    assert nats.sum() / math.log(2) / utf8_size(text) == pytest.approx(lm.evaluate(text).bits_per_byte, rel=1e-5)


def test_the_interval_contains_the_difference_and_contains_zero_for_noise() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 50, 400).astype(np.float64)
    first = sizes * rng.uniform(1.2, 1.6, 400)
    noise = rng.normal(0, 3, 400)
    noise -= noise.mean()
    same, worse = first + noise, first + 0.1 * sizes + noise
    chance, clear = paired_bootstrap(np.stack([first, same, worse]), sizes, 2000)
    assert chance.low < 0 < chance.high
    assert 0.01 < chance.first_better < 0.99
    assert 0 < clear.low < clear.bits_per_byte < clear.high
    assert clear.first_better == 1.0
    assert clear.bits_per_byte == pytest.approx(bits_per_byte(worse, sizes) - bits_per_byte(first, sizes))


def test_the_interval_width_is_that_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    sizes, difference = np.full(500, 20.0), rng.normal(0, 4, 500)
    (found,) = paired_bootstrap(np.stack([np.zeros(500), difference]), sizes, 4000)
    error = difference.std() / math.sqrt(500) / 20 / math.log(2)  # of a mean, in bits per byte
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)  # 4,000 resamples know it to 3 %


def test_the_same_seed_gives_the_same_interval_and_a_model_against_itself_ties() -> None:
    nats, sizes = np.random.default_rng(2).random((2, 90)), np.ones(90)
    assert paired_bootstrap(nats, sizes, 500, seed=3) == paired_bootstrap(nats, sizes, 500, seed=3)
    (tie,) = paired_bootstrap(np.stack([nats[0], nats[0]]), sizes, 500)
    assert (tie.bits_per_byte, tie.low, tie.high, tie.first_better) == (0.0, 0.0, 0.0, 0.5)


def test_lines_beyond_max_units_are_merged_and_the_difference_stays_exact() -> None:
    count = MAX_UNITS * 2 + 7
    nats = np.random.default_rng(4).random((2, count))
    (found,) = paired_bootstrap(nats, np.ones(count), 100)
    assert found.bits_per_byte == pytest.approx(float(nats[1].mean() - nats[0].mean()) / math.log(2))


def test_more_lines_than_int32_products_allow_are_merged(use_windows_numpy: Callable[[ModuleType], None]) -> None:
    use_windows_numpy(bootstrap)
    count = (1 << 31) // (MAX_UNITS - 1) + 1
    nats = np.random.default_rng(5).random((2, count))
    (found,) = paired_bootstrap(nats, np.ones(count), 10)
    assert found.bits_per_byte == pytest.approx(float(nats[1].mean() - nats[0].mean()) / math.log(2))


def test_most_different_lines_come_first() -> None:
    assert most_different_lines(np.array([1.0, 5.0, 2.0, 2.0]), np.array([2.0, 1.0, 2.0, 0.5]), 3) == [1, 3, 0]


def test_baseline_losses_of_lines_add_up_to_the_loss_of_the_text() -> None:
    lines = split_lines(VERSE)
    tokenizer = build_tokenizer("char", VERSE * 3)
    expected = ngram_nats_per_id(tokenizer.encode(VERSE * 3), tokenizer.encode(VERSE), tokenizer.vocab_size)
    assert ngram_line_nats(lines, VERSE * 3).sum() / len(VERSE) == pytest.approx(expected)
    assert uniform_line_nats(lines).sum() == pytest.approx(len(VERSE) * math.log(len(set(VERSE))))
    assert lzma_text_nats(lines, VERSE * 3) < lzma_text_nats(lines, None)
    halves = ngram_line_nats(lines * 2, None)
    assert halves[:3].tolist() == ngram_line_nats(lines, VERSE).tolist()


def test_an_unknown_character_costs_a_baseline_many_nats() -> None:
    known, unknown = ngram_line_nats(["ab\n", "a€\n"], "abab\n" * 9)
    assert unknown > known + math.log(1e6)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, ...]:
    for name, tokenizer in (("one", "char"), ("two", "byte")):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model(VERSE, tokenizer))
    (tmp_path / "text.txt").write_text(VERSE * 3 + "€\n", encoding="utf-8")
    return ("one", "two")


def test_compare_prints_differences_and_baselines_as_json(
    chargen: Callable[..., Result], models: tuple[str, ...]
) -> None:
    result = chargen("compare", *models, "text.txt", "--resamples", "200", "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert [model["name"] for model in found["models"]] == list(models)
    assert len(found["baselines"]) == 3
    assert found["models"][0]["unknown_chars"] == 1
    second = found["models"][1]
    difference = second["bits_per_byte"] - found["models"][0]["bits_per_byte"]
    assert second["difference_bits_per_byte"] == pytest.approx(difference)
    assert second["interval_low"] <= difference <= second["interval_high"]
    evaluated = json.loads(chargen("eval", "-m", "two", "text.txt", "--json").out)
    assert second["bits_per_byte"] == pytest.approx(evaluated["bits_per_byte"], rel=1e-5)
    assert len(found["lines_apart"]) == 5
    apart = [abs(line["difference_bits"]) for line in found["lines_apart"]]
    assert apart == sorted(apart, reverse=True)
    assert "too few" in result.err


def test_compare_prints_tables_for_several_models(chargen: Callable[..., Result], models: tuple[str, ...]) -> None:
    result = chargen("compare", *models, "one", "text.txt", "--resamples", "100", "--top", "1", "--learn", "text.txt")
    assert result.status == 0, result.err
    assert "5-gram, trained on text.txt" in result.out
    assert "lzma, given text.txt" in result.out
    assert result.out.count("difference ") >= 2
    plain = chargen("compare", *models, "text.txt", "--top", "0", "--resamples", "100")
    assert "the other half of this text" in plain.out


def test_baselines_learn_from_the_training_text_of_the_first_model(
    chargen: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 9, encoding="utf-8")
    train = ("train", "verse.txt", "--steps", "2", "--hidden", "8", "--batch", "2", "--seq-len", "8")
    assert chargen(*train, "--documents", "line", "--name", "lines").status == 0
    found = json.loads(chargen("compare", "lines", "lines", "verse.txt", "--resamples", "100", "--json").out)
    ngram = found["baselines"][0]
    assert ngram["name"] == "5-gram, trained on the training text of lines"
    assert ngram["bits_per_byte"] < 0.5  # newlines included, which that model itself knows as ends of documents
    assert found["models"][0]["unknown_chars"] == 0


def test_compare_needs_two_models(chargen: Callable[..., Result], models: tuple[str, ...]) -> None:
    result = chargen("compare", "one", "text.txt")
    assert result.status == 2
    assert "two models" in result.err
    assert MARK not in result.err
