"""What is known at the end of a training run: its result, its validations, its settings and those of the recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chargen.config import ModelConfig, TrainConfig
from chargen.training.events import Finished
from chargen.training.recipe import recommended_settings
from chargen.training.validation import Baselines

if TYPE_CHECKING:
    from chargen.training.loop import TrainingLoop

#: share of the loss by character frequencies that a model or a 5-gram must fall below
NOTHING_LEARNED = 0.98


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
    is_new_network: bool = True  #: False if the weights came, or may have come, from a trained model
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

    def fall(self, part: float) -> float:
        """Return by how much this last part of the run lowered the validation loss, from 0 to 1.

        The loss at the start of the part is interpolated between two validations. If the first validation came later,
        the fall since then is scaled up; if it came much later, the run was short, and the fall counts as infinite.
        """
        steps = np.array([v["step"] for v in self.history])
        losses = np.array([v["val"] for v in self.history])
        start = max(self.result.steps * (1 - part), float(steps[0]))
        known = 1 - start / self.result.steps
        if known < 0.499 * part:
            return math.inf
        before, last = float(np.interp(start, steps, losses)), float(losses[-1])
        return (before - last) * part / known

    def _min_val_loss(self) -> float:
        return min(v["val"] for v in self.history if math.isfinite(v["val"]))


def collect_evidence(
    loop: TrainingLoop, result: Finished, baselines: Baselines, difficulty: float, is_new_network: bool
) -> Evidence:
    """Return what the diagnosis needs to know. `difficulty` is the `relative_difficulty` of the validation text."""
    saver = loop.saver
    overhead_s = (loop.budget.first_step_s or 0.0) + loop.budget.final_evaluation_s()
    share = share_of_budget(result, saver.train, overhead_s)
    recommended_model, recommended_train, max_hidden_size = recommended_settings(
        saver.model, saver.train, len(saver.data.train.ids), result.epochs, share
    )
    return Evidence(
        result=result,
        progress=loop.budget.progress(result.steps),
        overhead_s=overhead_s,
        history=loop.history,
        val_chars=sum(part.num_chars for part in saver.data.val),
        baselines=baselines,
        model=saver.model,
        train=saver.train,
        recommended_model=recommended_model,
        recommended_train=recommended_train,
        max_hidden_size=max_hidden_size,
        is_new_network=is_new_network,
        relative_difficulty=difficulty,
    )


def share_of_budget(result: Finished, train: TrainConfig, overhead_s: float) -> float:
    """Return the share of its training time that a run used which ended because it had read its text often enough.

    It is 1 for other runs.
    """
    if not result.reached_max_epochs or train.budget_s is None:
        return 1.0
    available_s = train.budget_s - overhead_s
    return min(1.0, max(result.elapsed_s - overhead_s, 1.0) / available_s) if available_s > 0.0 else 1.0
