"""Train an encoder on texts with labels: the loss, the validation, and class weights.

    L = Σ_parts Σ_i w(y_i) · (−log softmax(logits_i)[y_i]) / B          w: class weights, 1 without them

The parts are the recurrent layers and the n-grams; each learns to classify alone. A validation chooses the share of the
recurrent layers in the logits: the one with the lowest log loss.

Class weights. With "balanced", each label counts the same: w(k) = N / (K · n_k), where n_k of the N training texts have
the label k. The network then learns the probabilities of labels that are equally frequent. So its logits are corrected
by the logarithm of the priors that it was trained with (`trained_log_priors`), and the probabilities of the classifier
use the real priors again: they stay calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from chargen.networks.draws import Draws
from chargen.networks.encoder import Encoder, EncoderBatch
from chargen.networks.torch_runtime import single_thread
from chargen.tasks.classification.encoder_recipe import NGRAM_DAMPING, ngram_rate_factor
from chargen.tasks.classification.text_input import Ids, TextInput
from chargen.training.supervised.objective import Indices, NgramRule, Objective

POOL_BATCHES = 16  #: batches whose texts are sorted by length, so that little padding is computed
MAX_CHOICE_TEXTS = 4000  #: texts by which the best weights are chosen
SHARES = tuple(share / 20 for share in range(21))  #: shares of the recurrent layers that a validation compares
#: A pass of the n-grams takes a tenth of the time of the recurrent layers. So a run of a few epochs is enough for both.
EXTRA_TEXTS = 2
READ_BATCH_SIZE = 128  #: texts that are read together without a gradient


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the numbers of their labels."""

    texts: Sequence[str]
    ids: Sequence[Ids]  #: token ids of each text
    labels: NDArray[np.int64]  #: [N]

    @classmethod
    def encoded(cls, texts: Sequence[str], labels: NDArray[np.int64], text_input: TextInput) -> LabelledTexts:
        """Return texts with their token ids."""
        return cls(texts, [text_input.encode(text) for text in texts], labels)


class Classification(Objective):
    """Learn the labels of texts.

    Args:
        encoder: The network.
        text_input: How texts are encoded.
        training: The texts to learn.
        choice: The texts that choose the best weights.
        log_priors: log p(label) in the training texts, [K].
        is_balanced: Whether each label counts the same in the loss.
        batch_size: Texts of a step.
        seed: Seed of the order of the texts.
    """

    def __init__(
        self,
        encoder: Encoder,
        text_input: TextInput,
        training: LabelledTexts,
        choice: LabelledTexts,
        log_priors: NDArray[np.float64],
        is_balanced: bool,
        batch_size: int,
        seed: int,
    ) -> None:
        self.network = self._encoder = encoder
        self._input, self._training = text_input, training
        self._batch_size, self._seed = batch_size, seed
        order = np.random.default_rng(seed).permutation(len(choice.texts))[:MAX_CHOICE_TEXTS].tolist()
        self._choice = LabelledTexts(
            [choice.texts[i] for i in order], [choice.ids[i] for i in order], choice.labels[order]
        )
        self.num_examples, self.num_validated = len(training.texts), len(order)
        counts = np.bincount(training.labels, minlength=encoder.config.num_labels)
        weights = len(training.texts) / (len(counts) * np.maximum(1, counts)) if is_balanced else np.ones(len(counts))
        self.ngram_rule = NgramRule(ngram_rate_factor(len(counts)), NGRAM_DAMPING)
        self._weights = torch.tensor(weights, dtype=torch.float32)
        self._log_priors = log_priors
        self._trained_log_priors = trained_log_priors(log_priors, is_balanced)
        self._epoch = 0
        self._lengths = np.array([len(ids) for ids in training.ids])

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Return the indices of the texts of each batch: all texts once, those of similar length together."""
        self._epoch = epoch
        rng, size = np.random.default_rng([self._seed, epoch]), self._batch_size
        order = rng.permutation(self.num_examples)
        batches: list[Indices] = []
        for start in range(0, len(order), POOL_BATCHES * size):
            pool = order[start : start + POOL_BATCHES * size]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def loss(self, batch: Indices, generator: torch.Generator) -> Tensor:
        """Return the mean weighted loss of a batch by the recurrent layers, plus that by the n-grams.

        In the first epoch, the n-grams also read EXTRA_TEXTS random texts for each text of the batch.
        """
        draws = Draws(generator)
        loss = self._weighted_losses(self._encoder.recurrent_logits(self._inputs(batch), draws), batch).mean()
        if not self._encoder.config.ngrams:
            return loss
        num_extra = EXTRA_TEXTS * len(batch) if self._epoch == 0 else 0
        extra = torch.randint(self.num_examples, (num_extra,), generator=generator, device=generator.device)
        texts = np.concatenate([batch, extra.cpu().numpy()])
        losses = self._weighted_losses(self._encoder.ngram_logits(self._inputs(texts), draws), texts)
        return loss + losses.sum() / len(batch)

    def _inputs(self, indices: Indices) -> EncoderBatch:
        ids, texts = [self._training.ids[i] for i in indices], [self._training.texts[i] for i in indices]
        return self._input.batch(ids, texts, self._encoder)

    def _weighted_losses(self, logits: Tensor, indices: Indices) -> Tensor:
        labels = torch.from_numpy(self._training.labels[indices]).to(logits.device)
        return F.cross_entropy(logits, labels, reduction="none") * self._weights.to(logits.device)[labels]

    def validation_loss(self) -> float:
        """Choose the share of the recurrent layers, and return the mean −log p(right label) in nats, real priors."""
        parts = read_part_logits(self._encoder, self._input, self._choice)
        shift = self._log_priors - self._trained_log_priors
        if len(parts) == 1:
            return log_loss(parts[0] + shift, self._choice.labels)
        losses = [
            log_loss(share * parts[0] + (1.0 - share) * parts[1] + shift, self._choice.labels) for share in SHARES
        ]
        best = int(np.argmin(losses))
        self._encoder.mix.fill_(SHARES[best])
        return losses[best]


def log_loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean −log p(right label), in nats."""
    log_probs = logits - logits.max(axis=1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    return -float(log_probs[np.arange(len(logits)), labels].mean())


def trained_log_priors(log_priors: NDArray[np.float64], is_balanced: bool) -> NDArray[np.float64]:
    """Return log p(label) as the loss weighs the labels, [K]: the priors, or equal ones with balanced class weights."""
    return np.full(len(log_priors), -math.log(len(log_priors))) if is_balanced else log_priors


def read_logits(encoder: Encoder, text_input: TextInput, texts: LabelledTexts) -> NDArray[np.float64]:
    """Return the logits of the labels of texts, [N, K]."""
    parts = [torch.from_numpy(part) for part in read_part_logits(encoder, text_input, texts)]
    combined: NDArray[np.float64] = encoder.combine(parts).numpy()
    return combined


def read_part_logits(encoder: Encoder, text_input: TextInput, texts: LabelledTexts) -> list[NDArray[np.float64]]:
    """Return the logits of the labels of texts by each part of an encoder, [N, K] each."""
    order = np.argsort([len(ids) for ids in texts.ids], kind="stable")
    num_parts = 2 if encoder.config.ngrams else 1
    logits = np.empty((num_parts, len(order), encoder.config.num_labels))
    with single_thread(), torch.no_grad():
        for start in range(0, len(order), READ_BATCH_SIZE):
            batch = order[start : start + READ_BATCH_SIZE]
            ids, strings = [texts.ids[i] for i in batch], [texts.texts[i] for i in batch]
            inputs = text_input.batch(ids, strings, encoder)
            for part, values in zip(logits, encoder.part_logits(inputs), strict=True):
                part[batch] = values.double().cpu().numpy()
    return list(logits)
