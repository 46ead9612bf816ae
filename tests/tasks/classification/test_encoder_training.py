"""The loss and the validation of an encoder, and the order of its texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chargen.networks.encoder import Encoder, EncoderConfig
from chargen.tasks.classification.encoder_training import (
    Classification,
    LabelledTexts,
    log_loss,
    read_logits,
    read_part_logits,
    trained_log_priors,
)
from chargen.tasks.classification.text_input import TextInput

TEXTS = [f"the film {n * 7919 % 97} was {'good' if n % 3 else 'bad'}" + " indeed" * (n % 5) for n in range(70)]
LABELS = np.array([int(n % 3 == 0) for n in range(70)])


def objective(is_balanced: bool = False, batch_size: int = 8) -> Classification:
    text_input = TextInput.build("words", TEXTS, 20)
    config = EncoderConfig(
        text_input.tokenizer.vocab_size, 2, hidden_size=4, embedding_dim=4, ngrams=3, ngram_rows=64, ngram_dim=4,
        dropout=0.0, ngram_dropout=0.0,
    )  # fmt: skip
    encoder = Encoder(config, torch.Generator().manual_seed(0))
    encoder.get_parameter("ngrams__weight").data.normal_(generator=torch.Generator().manual_seed(1))
    texts = LabelledTexts.encoded(TEXTS, LABELS, text_input)
    priors = np.log(np.bincount(LABELS) / len(LABELS))
    return Classification(encoder, text_input, texts, texts, priors, is_balanced, batch_size, seed=3)


@pytest.mark.parametrize("batch_size", [1, 8, 64, 100])
def test_an_epoch_has_each_text_once_and_every_epoch_as_many_batches(batch_size: int) -> None:
    task = objective(batch_size=batch_size)
    for epoch in range(3):
        batches = task.batches(epoch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(70))
        assert len(batches) == -(-70 // batch_size)
        assert all(np.array_equal(a, b) for a, b in zip(batches, task.batches(epoch), strict=True))


def test_the_loss_is_that_of_both_parts_with_class_weights() -> None:
    batch = np.arange(6)
    for is_balanced in (False, True):
        task = objective(is_balanced)
        task.batches(1)  # not the first epoch, in which the n-grams read more texts
        texts = LabelledTexts.encoded(TEXTS[:6], LABELS[:6], task._input)
        counts = np.bincount(LABELS)
        weights = 70 / (2 * counts) if is_balanced else np.ones(2)
        expected = 0.0
        for part in read_part_logits(task._encoder, task._input, texts):
            losses = F.cross_entropy(torch.from_numpy(part), torch.from_numpy(LABELS[:6]), reduction="none").numpy()
            expected += float((losses * weights[LABELS[:6]]).mean())
        assert task.loss(batch, torch.Generator()).item() == pytest.approx(expected, rel=1e-5)


def test_in_the_first_epoch_the_ngrams_read_more_texts() -> None:
    task, batch = objective(), np.arange(6)
    gradients = []
    for epoch in (0, 1):
        task.batches(epoch)
        task._encoder.zero_grad()
        task.loss(batch, torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
        names = ("ngrams__weight", "layers__0__forward__weight_hh")
        gradients.append([task._encoder.get_parameter(name).grad for name in names])
    (first_rows, first_layer), (rows, layer) = gradients
    assert first_rows is not None
    assert rows is not None
    assert first_rows._values().shape[0] > 2 * rows._values().shape[0]
    torch.testing.assert_close(first_layer, layer)


def test_a_validation_chooses_the_share_with_the_lowest_loss() -> None:
    task = objective()
    loss = task.validation_loss()
    texts = LabelledTexts.encoded(TEXTS, LABELS, task._input)
    assert log_loss(read_logits(task._encoder, task._input, texts), LABELS) == pytest.approx(loss, rel=1e-6)
    for share in (0.0, 0.3, 1.0):
        task._encoder.mix.fill_(share)
        assert log_loss(read_logits(task._encoder, task._input, texts), LABELS) >= loss - 1e-7


def test_balanced_weights_mean_equal_priors() -> None:
    priors = np.log([0.9, 0.1])
    assert trained_log_priors(priors, False) is priors
    assert trained_log_priors(priors, True) == pytest.approx([math.log(0.5)] * 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_an_encoder_on_a_gpu_has_the_loss_and_the_logits_of_one_on_a_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        task = objective()
        task.batches(1)
        task._encoder.to(device)
        loss = task.loss(np.arange(6), torch.Generator(device).manual_seed(0))
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((float(loss.detach()), read_logits(task._encoder, task._input, task._training)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)
