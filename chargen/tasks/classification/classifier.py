"""The interface of a classifier of texts, what it is trained on, and the result of its training.

    texts of all labels ─▶ 80 % ─▶ train a model, by one of the methods
                           10 % ─▶ fit the temperature
                           10 % ─▶ measure accuracy, log loss, calibration      (nothing else uses these texts)

The methods are `generative.py` and `encoder.py`; `saved.py` opens what they have written.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.schema import format_count
from chargen.tasks.classification.calibration import Quality, fit_temperature, log_posteriors, measure_quality
from chargen.training.choices import ModelChoices, RunLength

HELD_OUT_FRACTIONS = (0.1, 0.1)  #: fractions of the texts for the temperature and for the evaluation
Texts = Mapping[str, Sequence[str]]
C = TypeVar("C", bound="TextClassifier")


class TextClassifier(ABC):
    """The interface of a classifier: what a text says about each label, the prior of each label, and a temperature."""

    labels: tuple[str, ...]
    log_priors: NDArray[np.float64]  #: log p(label), [K], in the order of the labels
    temperature: float
    is_calibrated: bool  #: whether the temperature was fitted to labelled texts

    @abstractmethod
    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(text | label) in nats, [N, K], up to a constant of each text."""

    def log_probs(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(label | text) in nats, [N, K]."""
        return log_posteriors(self.scores(texts), self.log_priors, self.temperature)

    def calibrate(self: C, texts: Texts) -> C:
        """Return the classifier with the temperature fitted to labelled texts.

        Args:
            texts: Texts of each label, which the classifier was not trained on.

        Raises:
            ConfigError: If the classifier does not have one of the labels.
        """
        text_list, labels = self._flatten(texts)
        temperature = fit_temperature(self.scores(text_list), labels, self.log_priors)
        return replace(self, temperature=temperature, is_calibrated=True)  # type: ignore[type-var]

    def evaluate(self, texts: Texts) -> Quality:
        """Return how good the probabilities are on labelled texts.

        Args:
            texts: Texts of each label, which neither the classifier nor the temperature were fitted to.

        Raises:
            ConfigError: If the classifier does not have one of the labels.
        """
        text_list, labels = self._flatten(texts)
        return measure_quality(self.log_probs(text_list), labels, self.log_priors)

    def notes(self, quality: Quality | None = None) -> list[str]:
        """Return messages about a classifier that does not tell the labels apart.

        Args:
            quality: Quality of the classifier on labelled texts, if it was measured.
        """
        if math.isinf(self.temperature):
            return ["the models do not tell the labels apart: the probabilities are the priors of the labels"]
        if quality and quality.accuracy <= quality.majority_class_accuracy:
            return [
                f"the models do not tell the labels apart: accuracy {100 * quality.accuracy:.1f} % on "
                f"{format_count(quality.texts, 'text')}, where the most frequent label alone has "
                f"{100 * quality.majority_class_accuracy:.1f} %"
            ]
        return []

    def _flatten(self, texts: Texts) -> tuple[list[str], NDArray[np.int64]]:
        """Return (all texts, [N]; the number of the label of each, [N])."""
        for label in texts:
            if label not in self.labels:
                raise ConfigError(f"no model has the label {label!r}", f"There are {', '.join(self.labels)}.")
        pairs = [(text, self.labels.index(label)) for label, label_texts in texts.items() for text in label_texts]
        return [text for text, _ in pairs], np.array([number for _, number in pairs], dtype=np.int64)


@dataclass(frozen=True)
class ClassifierPlan:
    """What to train a classifier on, and how."""

    texts: Texts  #: texts of each label
    name: str  #: name of the folder under checkpoints/; if it is taken, -2, -3, … is appended
    length: RunLength  #: the budget of all models together, or the steps or epochs of each
    model: ModelChoices = field(default_factory=ModelChoices)  #: settings of the models
    seed: int = 0  #: seed of the split and of the models
    device: str = "auto"  #: device for torch
    started: float = field(default_factory=time.perf_counter)  #: when the budget started, by `time.perf_counter`


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier that was just trained."""

    folder: Path  #: its absolute path
    classifier: TextClassifier
    quality: Quality  #: measured on texts to which neither the models nor the temperature were fitted
