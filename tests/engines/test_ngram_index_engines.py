"""A network with an index of n-grams: every engine gives the same numbers for the same text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chargen.cells.ngram_index import build_index
from chargen.cells.weights import NGRAM_INDEX, NGRAM_WORDS
from chargen.checkpoint import Checkpoint
from chargen.engines import torch_engine
from chargen.engines.interface import document_log_probs, log_softmax
from chargen.engines.numpy_engine import NumpyEngine
from chargen.engines.torch_engine import TorchEngine
from chargen.tokenizers.words import word_kinds
from tests.conftest import VERSE, random_model
from tests.engines.test_engines import one_by_one

SHAPES = [
    {"ngrams": 4, "ngram_words": 0},
    {"ngrams": 4, "ngram_words": 1},
    {"ngrams": 2, "ngram_words": 2, "ensemble_size": 2},
    {"ngrams": 5, "ngram_words": 4},
]


def indexed_model(text: str = VERSE, tokenizer: str = "char", **shape: int) -> Checkpoint:
    """Return a model with random weights whose index is that of a text."""
    shape = {"ngram_rows": 1 << 12, "ngram_dim": 5, "ngram_index": True, **shape}
    model = random_model(text, tokenizer, cell="mgru", **shape)
    words = word_kinds(model.tokenizer)
    index = build_index(model.config, model.tokenizer.encode(text), words)
    model.weights.update({NGRAM_INDEX: index, NGRAM_WORDS: words})  # type: ignore[attr-defined]
    return model


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_streams_batches_and_windows_of_both_engines_agree(shape: dict[str, int], tokenizer: str) -> None:
    model = indexed_model(tokenizer=tokenizer, **shape)
    ours = NumpyEngine(model.config, model.weights)
    theirs = TorchEngine.from_weights(model.config, model.weights)
    ids = model.tokenizer.encode(VERSE)
    start, text = ids[:1], ids[1:]
    expected = one_by_one(ours, start, text)

    without = dict(model.weights)
    without[NGRAM_INDEX] = np.zeros_like(without[NGRAM_INDEX])
    assert np.abs(one_by_one(NumpyEngine(model.config, without), start, text) - expected).max() > 0.1

    stream = ours.stream(ours.initial_state(1))
    logits = [log_softmax(stream.step(int(i))[None])[0] for i in ids[:-1]]
    np.testing.assert_allclose([p[i] for p, i in zip(logits, text, strict=True)], expected, atol=2e-5)

    for engine in (ours, theirs):
        found = []
        state = engine.initial_state(2)
        for begin, end in ((0, 1), (1, 2), (2, 40), (40, len(text))):  # windows of one token id and of many
            inputs, targets = (np.stack([part[begin:end]] * 2, 1) for part in (ids, text))
            log_probs, state = engine.read(inputs, targets, state)
            found.append(log_probs[:, 1])
        np.testing.assert_allclose(np.concatenate(found), expected, atol=5e-5)

    network = theirs.network
    windows, _ = network(torch.from_numpy(ids[:-1, None].astype(np.int64)), network.initial_state(1))
    log_probs = torch.log_softmax(windows[:, 0], -1).detach().numpy()
    np.testing.assert_allclose(log_probs[np.arange(len(text)), text], expected, atol=5e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_state_continues_on_another_engine_and_in_another_row(shape: dict[str, int]) -> None:
    model = indexed_model(**shape)
    ours = NumpyEngine(model.config, model.weights)
    theirs = TorchEngine.from_weights(model.config, model.weights)
    ids = model.tokenizer.encode(VERSE)
    cut = VERSE.index("m năm") + 1  # between two words
    expected = one_by_one(ours, ids[:cut], ids[cut : cut + 30])

    stream = ours.stream(ours.initial_state(1))
    for i in ids[:cut]:
        stream.step(int(i))
    batch = ours.stream_batch(ours.select(stream.state(), np.array([0, 0, 0])))
    batch.reset(np.array([1]))
    batch = batch.select(np.array([1, 2]))
    history = theirs.read(ids[:cut, None], ids[:cut, None], theirs.initial_state(1))[1].ngram_history
    np.testing.assert_array_equal(history.numpy(), stream.state().ngram_history)
    found = []
    for i, target in zip(ids[cut : cut + 29], ids[cut + 1 : cut + 30], strict=True):
        found.append(log_softmax(batch.step(np.array([i, i])))[:, target])
    afresh = one_by_one(ours, ids[cut : cut + 1], ids[cut + 1 : cut + 30])
    np.testing.assert_allclose(found, np.stack([afresh, expected[1:]], 1), atol=2e-5)


@pytest.mark.parametrize("min_steps", [4, 1000])
def test_each_document_of_a_batch_starts_with_an_empty_history(min_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "MIN_STEPS_ONE_BY_ONE", min_steps)
    model = indexed_model(ngrams=4, ngram_words=2)
    documents = [model.tokenizer.encode(part) for part in ("Chữ tài", "quick brown fox", "m", "in cõi người ta,")]
    ids = np.concatenate([[*document, 0] for document in documents])
    engine = TorchEngine.from_weights(model.config, model.weights)
    reference = NumpyEngine(model.config, model.weights)
    expected = [one_by_one(reference, np.array([0]), np.array([*document, 0])) for document in documents]
    np.testing.assert_allclose(document_log_probs(engine, ids, batch_size=2), np.concatenate(expected), atol=5e-5)
