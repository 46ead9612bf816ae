"""The ONNX file of a model: its metadata, and its comparison with the NumPy engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.cells.weights import MASKED_LOGIT
from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.errors import ChargenError
from chargen.export.onnx_file import OnnxStepper, compare_with_engine, make_metadata, make_onnx
from chargen.lm import LanguageModel
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.mulaw import MuLawTokenizer
from tests.conftest import VERSE, random_model, random_weights
from tests.graph.small_engines import CustomCell

onnx = pytest.importorskip("onnx", reason="the extra chargen[onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra chargen[onnx] is not installed")


def backward() -> Checkpoint:
    model = random_model()
    return replace(model, about={"data": DataConfig(direction="backward").to_json()})


def series() -> Checkpoint:
    tokenizer = MuLawTokenizer(Quantizer(16, 8000))
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=8, embedding_dim=8)
    about = {"data": DataConfig(tokenizer="mulaw:16").to_json()}
    return Checkpoint(config, tokenizer, random_weights(config), about)


MODELS = {
    "characters": random_model,
    "bytes": lambda: random_model(tokenizer="byte"),
    "sentencepiece": lambda: random_model(VERSE * 9, tokenizer="sp:300"),
    "documents": lambda: random_model(documents="line"),
    "backward": backward,
    "series": series,
    "n-grams with an index": lambda: random_model(ngrams=4, ngram_rows=512, ngram_words=2, ngram_index=True),
    "ensemble of stacks": lambda: random_model(cell="lstm,gru", ensemble_size=2, ngrams=3, ngram_rows=64, skip=True),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_language_model_gives_the_logits_of_the_engine(kind: str) -> None:
    model = MODELS[kind]()
    data = make_onnx(model)
    result = compare_with_engine(data, model, num_steps=100)
    assert result.tokens == 200
    assert result.relative_difference <= 1e-5
    assert 0 < result.largest_logit < -MASKED_LOGIT / 2  # masked token ids do not count
    assert data == make_onnx(model)  # the same model gives the same bytes


@pytest.mark.parametrize("kind", MODELS)
def test_a_program_that_knows_the_metadata_alone_writes_the_greedy_text(kind: str) -> None:
    """It reads the start ids, takes the likeliest token 40 times, and joins the texts of the vocabulary."""
    model = MODELS[kind]()
    data = make_onnx(model)
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load_from_string(data).metadata_props}
    stepper = OnnxStepper(data, 1)
    for token_id in properties["start_ids"]:
        logits = stepper.step(np.array([token_id]))[0]
    ids = []
    for _ in range(40):
        logits[properties["masked_ids"]] = -np.inf
        ids.append(int(logits.argmax()))
        logits = stepper.step(np.array(ids[-1:]))[0]
    vocabulary = [v.encode() if isinstance(v, str) else bytes(v) for v in properties["vocabulary"]]
    assert b"".join(vocabulary[token_id] for token_id in ids) == b"".join(map(model.tokenizer.token_bytes, ids))
    if kind in ("characters", "n-grams with an index", "ensemble of stacks") and properties["unknown_id"] not in ids:
        text = "".join(properties["vocabulary"][token_id] for token_id in ids)
        assert LanguageModel(model).sample(temperature=0, length=40) == text


def test_the_metadata_describe_model_and_training() -> None:
    about = {"corpus": "làng", "corpus_sha256": "a" * 64, "result": {"val_bits_per_char": 2.5}}
    model = replace(random_model("làng\n"), about=about)
    metadata = {name: json.loads(text) for name, text in make_metadata(model).items()}
    assert metadata["vocabulary"] == ["", "\ufffd", "\n", "g", "l", "n", "à"]
    assert (metadata["start_ids"], metadata["end_ids"], metadata["unknown_id"]) == ([2], [2], 1)
    assert metadata["masked_ids"] == [0]
    assert ModelConfig.from_json(metadata["config"]) == model.config
    assert (metadata["corpus"], metadata["corpus_sha256"]) == ("làng", "a" * 64)
    assert metadata["val_bits_per_char"] == 2.5
    assert metadata["text_form"]["normalize"] == "nfc"


def test_bytes_of_a_part_of_a_character_are_numbers() -> None:
    vocabulary = json.loads(make_metadata(random_model(tokenizer="byte"))["vocabulary"])
    assert (vocabulary[0], vocabulary[1 + ord("a")], vocabulary[1 + 0xE2]) == ("", "a", [0xE2])


def test_other_logits_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    changed = {**model.weights, "head.bias": model.weights["head.bias"] + 0.01}
    with pytest.raises(ChargenError, match="the ONNX file gives other logits than chargen: at token 1 they differ"):
        compare_with_engine(make_onnx(replace(model, weights=changed)), model)


def test_a_file_that_is_not_onnx_is_an_error() -> None:
    with pytest.raises(ChargenError, match="cannot read the file"):
        OnnxStepper(b"no model", 1)


def test_a_cell_that_cannot_be_traced_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(xp: Any, params: Any, x_gates: Any, state: Any) -> Any:
        return (xp.flip(state[0] + x_gates, axis=-1), state[1] + 1)

    model = random_model()
    monkeypatch.setattr(CELLS, "get", lambda _: CustomCell(step))
    with pytest.raises(ChargenError, match="the cell 'gru' cannot be written as ONNX"):
        make_onnx(model)
