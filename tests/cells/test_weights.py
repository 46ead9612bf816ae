"""Masked ids have the probability 0 in every engine, in training and in scores."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.cells.weights import MASKED_LOGIT, mask_bias
from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.engines.interface import Engine, log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.streams import TracedStream
from chargen.engines.torch_engine import TorchEngine
from chargen.lm import LanguageModel
from chargen.scoring.dynamic_evaluation import Adaptation, DynamicModel
from chargen.text.documents import MARK
from chargen.text.long_text import LongText
from chargen.tokenizers.sentencepiece import SentencePieceTokenizer
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.init_from import init_from_model
from chargen.training.run import Plan
from tests.conftest import VERSE, Result, corpus_of, random_model, random_weights, run_plan

Chargen = Callable[..., Result]
SHAPES = [{"cell": "gru"}, {"cell": "lstm", "ensemble_size": 2}, {"cell": "mgru", "ngrams": 3}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def masked_ids(model: Checkpoint, documents: str) -> list[int]:
    """Return the ids that can never occur, by definition: those without bytes, except the boundary of documents."""
    ids = [i for i in range(model.tokenizer.vocab_size) if not model.tokenizer.token_bytes(i)]
    return [i for i in ids if i != BOUNDARY_ID or documents == "none"]


def compiled_logits(engine: NumpyEngine, token_id: int) -> np.ndarray:
    stream = engine.stream(engine.initial_state(1))
    assert isinstance(stream, TracedStream)
    stream.compile()
    return stream.step(token_id)[None]


def step_logits(engine: Engine, token_id: int) -> np.ndarray:
    return engine.step(np.array([token_id]), engine.initial_state(1))[0]


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
@pytest.mark.parametrize("documents", ["none", "line"])
@pytest.mark.parametrize(
    "shape", [{"cell": "gru"}, {"cell": "lstm", "ensemble_size": 2}, {"cell": "mgru", "ngrams": 3}], ids=str
)
def test_probabilities_of_next_ids_sum_to_one_and_masked_ids_have_none(
    tokenizer: str, documents: str, shape: dict[str, Any]
) -> None:
    model = random_model(VERSE, tokenizer, documents=documents, **shape)
    masked = masked_ids(model, documents)
    numpy = NumpyEngine(model.config, model.weights)
    torch = TorchEngine.from_weights(model.config, model.weights)
    newline = int(model.tokenizer.encode("\n")[-1])
    for logits in (step_logits(numpy, newline), step_logits(torch, newline), compiled_logits(numpy, newline)):
        p = np.exp(log_softmax(logits)[0])
        assert abs(math.fsum(p) - 1.0) < 1e-12
        assert not p[masked].any()
    assert tokenizer != "sp:300" or masked[-1:] == [1] or documents == "none"  # id 1 is sentencepiece's <unk>


@pytest.mark.parametrize("documents", ["none", "line"])
def test_probabilities_of_next_characters_sum_to_one(documents: str) -> None:
    model = LanguageModel(random_model("abc\n", documents=documents))
    total = sum(math.exp(score.log_prob_nats) for score in model.score(["a", "b", "c", "\n"], context="ab", end=False))
    num_unknown = 0x110000 - 0x800 - 4  # characters outside the vocabulary; each has the same probability
    total += num_unknown * math.exp(model.score("é", context="ab", end=False).log_prob_nats)
    total += math.exp(model.score("", context="ab", end=True).log_prob_nats) if documents == "line" else 0.0
    assert total == pytest.approx(1.0, abs=1e-7)


def test_opening_a_file_adds_a_missing_mask_and_removes_a_wrong_one() -> None:
    model = random_model("abc\n")
    bias = model.weights["head.bias"].copy()
    bias[:] = MASKED_LOGIT
    bias[0] = 3.0
    opened = dataclasses.replace(model, weights={**model.weights, "head.bias": bias})
    save_checkpoint(Path("m"), opened)
    assert load_checkpoint(Path("m")).weights["head.bias"].tolist() == [np.float32(MASKED_LOGIT), 0, 0, 0, 0, 0]
    assert mask_bias(np.array([1.0, MASKED_LOGIT, -2.0, 4.0]), [3]).tolist() == [1.0, -2.0, -2.0, MASKED_LOGIT]


@pytest.mark.parametrize("documents", ["none", "line"])
@pytest.mark.parametrize("tokenizer", ["char", "sp:300"])
def test_training_keeps_the_mask_and_resumes_to_the_same_bits(documents: str, tokenizer: str, verse: str) -> None:
    data = DataConfig(tokenizer=tokenizer, documents=documents)
    more: dict[str, Any] = {"data": data, "model": ModelChoices(hidden_size=8, embedding_dim=8)}
    more["train"] = TrainChoices(batch_size=4, seq_len=8, learning_rate=0.1)
    text = LongText(documents != "none")
    text.write(verse.replace("\n", MARK) if documents != "none" else verse)
    corpus = dataclasses.replace(corpus_of("ab"), content=text)
    run_plan(Plan(corpus, "whole", RunLength(steps=9), **more))
    run_plan(Plan(corpus, "stopped", RunLength(steps=9), stop_after=4, **more))
    run_plan(Plan(corpus, "stopped", RunLength(steps=9), resume="stopped", **more))
    whole, resumed = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == resumed
    model = load_checkpoint(Path("checkpoints/whole/model.safetensors"))
    masked = np.flatnonzero(model.weights["head.bias"] == np.float32(MASKED_LOGIT))
    assert masked.tolist() == masked_ids(model, documents)


def test_init_from_masks_the_boundary_only_for_continuous_text() -> None:
    running, lines = random_model("abc\n"), random_model("abc\n", documents="line")
    text = LongText.from_string("abc\n€").span()
    unmasked = init_from_model(running, text, "grow", ModelChoices(), has_documents=True).weights["head.bias"]
    assert unmasked[0] == min(0.0, *running.weights["head.bias"][1:])
    assert (unmasked > -1e3).all()
    masked = init_from_model(lines, text, "grow", ModelChoices(), has_documents=False).weights["head.bias"]
    assert masked[0] == np.float32(MASKED_LOGIT)
    assert (
        init_from_model(lines, text, "unknown", ModelChoices()).weights["head.bias"][0] == lines.weights["head.bias"][0]
    )


@pytest.mark.parametrize("rule", ["rms", "sgd"])
def test_dynamic_evaluation_keeps_the_mask(rule: str) -> None:
    model = random_model("abc\n")
    ids = model.tokenizer.encode("abcab\nbca" * 10)
    learner = DynamicModel(model, ids[:1], Adaptation(rule, 0.05, segment_ids=5))
    state = learner.initial_state()
    for start in range(0, len(ids) - 6, 5):
        _, state = learner.read(ids[start : start + 5], ids[start + 1 : start + 6], state)
    bias = learner.network.export_weights()["head.bias"]
    assert bias[0] == np.float32(MASKED_LOGIT)
    assert np.abs(bias[1:] - model.weights["head.bias"][1:]).min() > 1e-4  # the other biases have changed


# ── models without a newline in their vocabulary, which cannot predict the end of a line ──


def test_a_model_without_newline_refuses_to_score_the_end(chargen: Chargen) -> None:
    save_checkpoint(Path("m"), random_model("abc"))
    result = chargen("score", "-m", "m", "--end", "ab")
    assert (result.status, "has no newline" in result.err) == (2, True)
    Path("list").write_text("0 ||| ab ||| f ||| -1\n")
    assert "has no newline" in chargen("rescore", "-m", "m", "--end", "--file", "list").err
    assert chargen("score", "-m", "m", "ab").status == 0


def test_suggestions_of_a_model_without_newline_exclude_the_end() -> None:
    model = LanguageModel(random_model("abc", seed=3))
    text = "abca"
    found = model.suggest(text, num_suggestions=9)
    assert found and not any(text.startswith(each.text) for each in found)
    before = model.score(text).log_prob_nats
    for each in found:
        after = model.score(each.text).log_prob_nats
        assert each.log_prob_nats == pytest.approx(after, abs=1e-4)
        assert each.gain_nats == pytest.approx(after - before, abs=1e-4)


# ── sentencepiece models from other programs ──


def field(number: int, value: bytes | int) -> bytes:
    """Return an encoded field of a protocol buffer: bytes, or a number below 128."""
    if isinstance(value, int):
        return bytes([*varint(number << 3), value])
    return bytes([*varint(number << 3 | 2), *varint(len(value))]) + value


def varint(number: int) -> list[int]:
    return [number] if number < 128 else [number & 127 | 128, *varint(number >> 7)]


def with_pieces(*extra: tuple[str, int]) -> SentencePieceTokenizer:
    """Return a tokenizer with <unk>, the 256 bytes, a newline, "ab" and more pieces, each with its type."""
    pieces = [("<unk>", 2), *((f"<0x{b:02X}>", 6) for b in range(256)), ("\n", 4), ("ab", 1), *extra]
    made = [field(1, text.encode()) + b"\x15" + struct.pack("<f", 0.0) + field(3, kind) for text, kind in pieces]
    normalizer = field(1, b"identity") + field(3, 0) + field(4, 0)
    whole = b"".join(field(1, piece) for piece in made) + field(2, field(35, 1) + field(3, 1))
    return SentencePieceTokenizer(whole + field(3, normalizer))


def test_control_pieces_are_masked_and_never_sampled() -> None:
    tokenizer = with_pieces(("<s>", 3), ("</s>", 3), ("<mask>", 3))
    config = ModelConfig(tokenizer.vocab_size, hidden_size=8, embedding_dim=8)
    weights = random_weights(config)
    empty = [i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i)]
    assert len(empty) == 5
    weights["head.bias"][empty] = 60.0  # without the mask, the model would sample nothing else
    model = LanguageModel(Checkpoint(config, tokenizer, weights))
    assert len(model.sample(length=10, seed=0)) == 10
    p = np.exp(log_softmax(step_logits(NumpyEngine(config, model.checkpoint.weights), 5))[0])
    assert not p[empty].any() and abs(math.fsum(p) - 1.0) < 1e-12
