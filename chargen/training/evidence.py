"""What is known at the end of a training run, for the diagnosis.

Losses are compared on an equal footing: both without dropout, both of the best model, and the one on the training text
scaled to the difficulty of the validation text. A passage whose characters are rare costs more, whether or not the
model has read it before; the cost by the frequencies of the characters says how much more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from chargen.config import MAX_EPOCHS, ModelConfig, TrainConfig
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.events import Finished
from chargen.training.recipe import RecipeInputs, choose_settings, num_flops
from chargen.training.validation import Baselines

if TYPE_CHECKING:
    from chargen.training.loop import TrainingLoop

MIN_EPOCHS = 1e-6  #: a run of no whole step counts as this many epochs
NOTHING_LEARNED = 0.98  #: share of the loss by character frequencies that a model or a 5-gram must fall below
LAST_PART = 1 / 3  #: share of the run whose fall of the validation loss is measured
MIN_LAST_PART = LAST_PART / 2  #: the same, if the first validation came later


@dataclass(frozen=True)
class Evidence:
    """What is known at the end of a run. Losses are in nats per character."""

    result: Finished
    progress: float  #: completed share of the run, 0 to 1
    overhead_s: float  #: seconds before the first step and after the last one
    history: Sequence[Mapping[str, float]]  #: all validations in order: {"step", "train", "val"}
    val_chars: int  #: characters of the validation text
    baselines: Baselines
    model: ModelConfig
    train: TrainConfig
    recommended_model: ModelConfig  #: by the recipe, for the same text and the same length (`collect_evidence`)
    recommended_train: TrainConfig
    max_hidden_size: int  #: the largest that the recipe chooses for a text of this length, however long the run is
    starts_anew: bool = True  #: False if the weights came, or may have come, from a trained model
    relative_difficulty: float = 1.0  #: loss by character frequencies: validated text / sample of the training text

    @property
    def gap(self) -> float:
        """The validation loss of the best model above its training loss, on an equal footing.

        The loss is that on the part of the validation text that is validated during the run: it follows the training
        text directly, and is as long as the sample of it.
        """
        train_loss = self.result.train_loss_without_dropout_nats_per_char
        return self._min_val_loss() - train_loss * self.relative_difficulty

    @property
    def is_useless(self) -> bool:
        """Whether the model predicts the held-out text no better than the frequencies of the characters do."""
        return self.result.val_loss_nats_per_char >= NOTHING_LEARNED * self.baselines.unigram_nats_per_char

    @property
    def is_unpredictable(self) -> bool:
        """Whether a 5-gram predicts the held-out text no better than the frequencies of the characters do."""
        ngram = self.baselines.ngram_5_nats_per_char
        return ngram is not None and ngram >= NOTHING_LEARNED * self.baselines.unigram_nats_per_char

    @property
    def is_worse_than_ngram(self) -> bool:
        """Whether a 5-gram predicts the held-out text better than the model does."""
        ngram = self.baselines.ngram_5_nats_per_char
        return ngram is not None and ngram < self.result.val_loss_nats_per_char

    @property
    def rise(self) -> float:
        """The last validation loss above the best one; infinite if the last one was not finite."""
        rise = self.history[-1]["val"] - self._min_val_loss()
        return rise if math.isfinite(rise) else math.inf

    @property
    def fall(self) -> float:
        """How much the last third of the run lowered the validation loss.

        The loss at two thirds of the run is interpolated between two validations. If the first one came later, the fall
        since then is scaled up; if it came much later, the run was short, and the fall counts as infinite.
        """
        steps = np.array([v["step"] for v in self.history])
        losses = np.array([v["val"] for v in self.history])
        start = max(self.result.steps * (1 - LAST_PART), float(steps[0]))
        part = 1 - start / self.result.steps
        if part < 0.999 * MIN_LAST_PART:
            return math.inf
        before, last = float(np.interp(start, steps, losses)), float(losses[-1])
        return (before - last) * LAST_PART / part

    def _min_val_loss(self) -> float:
        return min(v["val"] for v in self.history if math.isfinite(v["val"]))


def collect_evidence(
    loop: TrainingLoop, result: Finished, baselines: Baselines, difficulty: float, starts_anew: bool
) -> Evidence:
    """Return what the diagnosis needs to know. `difficulty` is the `relative_difficulty` of the validation text."""
    saver = loop.saver
    recommended_model, recommended_train, max_hidden_size = recommended_settings(
        saver.model, saver.train, len(saver.data.train.ids), result.epochs
    )
    return Evidence(
        result=result,
        progress=loop.budget.progress(result.steps),
        overhead_s=(loop.budget.first_step_s or 0.0) + loop.budget.final_evaluation_s(),
        history=loop.history,
        val_chars=sum(part.num_chars for part in saver.data.val),
        baselines=baselines,
        model=saver.model,
        train=saver.train,
        recommended_model=recommended_model,
        recommended_train=recommended_train,
        max_hidden_size=max_hidden_size,
        starts_anew=starts_anew,
        relative_difficulty=difficulty,
    )


def recommended_settings(
    model: ModelConfig, train: TrainConfig, num_train_ids: int, epochs: float
) -> tuple[ModelConfig, TrainConfig, int]:
    """Return the settings that the recipe would choose for a run that has ended.

    They are for a run of as many epochs. With a time budget, a larger network makes fewer steps. The hidden size is
    then that for a run of as many floating-point operations, which depends little on their number: 16 times as many
    double it. A tiny network makes fewer of them per second, but not that much fewer.

    Args:
        model: The network of the run. The cell, the number of layers and the ensemble size are kept.
        train: The training settings of the run.
        num_train_ids: Number of tokens of the training text.
        epochs: How many times the run read the text.

    Returns:
        The settings of the network and of the training, and the largest hidden size that the recipe chooses for a text
        of this length, however long the run is.
    """
    choices = ModelChoices(cell=model.cell, num_layers=model.num_layers, ensemble_size=model.ensemble_size)
    epochs = max(MIN_EPOCHS, epochs)
    inputs = RecipeInputs(num_train_ids, model.vocab_size, RunLength(epochs=epochs), train.device, choices)
    recommended_model, recommended_train = choose_settings(inputs)
    max_hidden_size = choose_settings(replace(inputs, length=RunLength(epochs=MAX_EPOCHS)))[0].hidden_size
    if train.budget_s is None:
        return recommended_model, recommended_train, max_hidden_size
    timed = replace(
        inputs,
        length=RunLength(budget_s=train.budget_s),
        model=replace(choices, ngrams=None if model.ngrams else 0),
        flops=num_flops(model, epochs * num_train_ids),
    )
    hidden_size = choose_settings(timed)[0].hidden_size
    return replace(recommended_model, hidden_size=hidden_size), recommended_train, max_hidden_size
