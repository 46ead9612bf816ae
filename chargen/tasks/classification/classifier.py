"""The interface of a classifier of texts, what it is trained on, and the result of its training.

    texts of all labels ─▶ 80 % ─▶ train a model, by one of the methods
                           10 % ─▶ fit the temperature
                           10 % ─▶ measure accuracy, log loss, calibration      (nothing else uses these texts)

A text is learned and read in one form: composed characters (NFC), and LF newlines. So the same text in two forms is one
text, of which no copy is on the other side of the split, and both forms get the same answer.

The methods are `generative.py` and `encoder.py`; `saved.py` opens what they have written.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chargen.config import DataConfig
from chargen.errors import ConfigError
from chargen.schema import format_count
from chargen.tasks.classification.calibration import (
    Quality,
    fit_temperature,
    log_posteriors,
    measure_quality,
    split_labelled,
)
from chargen.text.cleaning import normalize_text, to_nfc
from chargen.training.choices import ModelChoices, RunLength

HELD_OUT_FRACTIONS = (0.1, 0.1)  #: fractions of the texts for the temperature and for the evaluation
TEXT_FORM = DataConfig()  #: its newlines and its Unicode form are those of the texts that a classifier is trained on
Texts = Mapping[str, Sequence[str]]
C = TypeVar("C", bound="TextClassifier")


class TextClassifier(ABC):
    """The interface of a classifier: what a text says about each label, the prior of each label, and a temperature."""

    labels: tuple[str, ...]
    log_priors: NDArray[np.float64]  #: log p(label), [K], in the order of the labels
    temperature: float
    is_calibrated: bool  #: whether the temperature was fitted to labelled texts

    @property
    def log_frequencies(self) -> NDArray[np.float64]:
        """Log of the share of each label in texts, [K]: what the baseline of the most frequent label knows."""
        return self.log_priors

    @abstractmethod
    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(text | label) in nats, [N, K], up to a constant of each text."""

    def normalize(self, text: str) -> str:
        """Return a text in the form in which it is read; `scores` is the same for both."""
        return normalize_text(text, TEXT_FORM)

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
        text_list, right = self.flatten(texts)
        return self.with_temperature(self.scores(text_list), right)

    def with_temperature(self: C, scores: NDArray[np.float64], right: NDArray[np.int64]) -> C:
        """Return the classifier with the temperature fitted to scores of texts, [N, K], and their right labels, [N]."""
        temperature = fit_temperature(scores, right, self.log_priors)
        return replace(self, temperature=temperature, is_calibrated=True)  # type: ignore[type-var]

    def predict(self, texts: Texts) -> Predictions:
        """Return what the classifier predicts for labelled texts, and the right labels.

        Raises:
            ConfigError: If the classifier does not have one of the labels.
        """
        text_list, right = self.flatten(texts)
        return Predictions(self.labels, tuple(text_list), right, self.log_probs(text_list), self.log_frequencies)

    def evaluate(self, texts: Texts) -> Quality:
        """Return how good the probabilities are on labelled texts.

        Args:
            texts: Texts of each label, which neither the classifier nor the temperature were fitted to.

        Raises:
            ConfigError: If the classifier does not have one of the labels.
        """
        return self.predict(texts).quality()

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

    def flatten(self, texts: Texts) -> tuple[list[str], NDArray[np.int64]]:
        """Return (all texts, [N]; the number of the label of each, [N]). A label may be in another Unicode form."""
        numbers = {to_nfc(label): number for number, label in enumerate(self.labels)}
        all_texts: list[str] = []
        right: list[int] = []
        for label, label_texts in texts.items():
            number = numbers.get(to_nfc(label))
            if number is None:
                raise ConfigError(f"no model has the label {label!r}", f"There are {', '.join(self.labels)}.")
            all_texts += label_texts
            right += [number] * len(label_texts)
        return all_texts, np.array(right, dtype=np.int64)


@dataclass(frozen=True)
class Predictions:
    """What a classifier predicts for labelled texts."""

    labels: tuple[str, ...]  #: names of the labels
    texts: tuple[str, ...]
    right: NDArray[np.int64]  #: number of the right label of each text, [N]
    log_probs: NDArray[np.float64]  #: log p(label | text) in nats, [N, K]
    log_priors: NDArray[np.float64]  #: log of the share of each label, [K], for the baseline that ignores the texts

    def quality(self) -> Quality:
        """Return how good the probabilities are."""
        return measure_quality(self.log_probs, self.right, self.log_priors)


@dataclass(frozen=True, kw_only=True)
class EncoderChoices:
    """What the user chose for an encoder; None leaves a setting to the recipe of `encoder.py`."""

    tokenizer: str | None = None  #: "char", "byte", "sp:SIZE" or "words:N"
    pooling: str | None = None  #: how the outputs of all positions become one vector: "last", "mean", "attention", …
    max_length: int | None = None  #: tokens of a text that are read; a longer text is cut
    class_weights: str | None = None  #: "none", or "balanced": each label counts the same in the loss
    init_from: str | None = None  #: name or path of a language model that gives the initial weights

    def chosen(self) -> dict[str, str | int]:
        """Return the fields that are not left open, by their names."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ClassifierPlan:
    """What to train a classifier on, and how."""

    texts: Texts  #: texts of each label; they are brought to the form in which a classifier reads them, `TEXT_FORM`
    name: str  #: name of the folder under checkpoints/; if it is taken, -2, -3, … is appended
    length: RunLength  #: the budget of all models together, or the steps or epochs of each
    model: ModelChoices = field(default_factory=ModelChoices)  #: settings of the models
    seed: int = 0  #: seed of the split and of the models
    device: str = "auto"  #: device for torch
    started: float = field(default_factory=time.perf_counter)  #: when the budget started, by `time.perf_counter`
    encoder: EncoderChoices = field(default_factory=EncoderChoices)  #: settings that only an encoder has
    resume: str = ""  #: name or folder of an encoder whose training is continued; "" for a new one
    stop_after: int | None = None  #: the step after which the training of an encoder is interrupted, for tests
    root: Path | None = None  #: folder of the runs; None for `checkpoints_folder()`

    def __post_init__(self) -> None:
        texts = {label: [normalize_text(text, TEXT_FORM) for text in many] for label, many in self.texts.items()}
        object.__setattr__(self, "texts", texts)

    def split(self) -> tuple[Texts, Texts, Texts]:
        """Return the texts for training, those for the choice (of the weights, the temperature and the method), and
        those that only measure.

        Raises:
            CorpusError: If a label has too few texts.
        """
        training, choice, held_out = split_labelled(self.texts, HELD_OUT_FRACTIONS, self.seed)
        return training, choice, held_out


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier that was just trained."""

    folder: Path  #: its absolute path
    method: str  #: "encoder" or "generative"
    classifier: TextClassifier
    predictions: Predictions  #: for the texts to which nothing was fitted
    choice_log_loss_nats: float  #: log loss on the texts for the choice, to which the temperature was fitted
    was_stopped: bool = False  #: whether the training was stopped before its end

    @property
    def quality(self) -> Quality:
        """How good the classifier is on the texts to which nothing was fitted."""
        return self.predictions.quality()

    @classmethod
    def measured(
        cls, folder: Path, method: str, classifier: TextClassifier, choice: Texts, held_out: Texts
    ) -> TrainedClassifier:
        """Return a trained classifier with its temperature fitted, and with its quality.

        Args:
            folder: Where it is or will be.
            method: "encoder" or "generative".
            classifier: The classifier without a temperature.
            choice, held_out: Parts of the texts, from `ClassifierPlan.split`.
        """
        texts, right = classifier.flatten(choice)
        scores = classifier.scores(texts)
        calibrated = classifier.with_temperature(scores, right)
        log_probs = log_posteriors(scores, calibrated.log_priors, calibrated.temperature)
        choice_loss = measure_quality(log_probs, right, calibrated.log_priors).log_loss_nats
        return cls(folder, method, calibrated, calibrated.predict(held_out), choice_loss)

    def description(self) -> dict[str, Any]:
        """Return what CLASSIFIER_FILE says of a classifier of any method."""
        return {
            "labels": self.classifier.labels,
            "method": self.method,
            "log_priors": self.classifier.log_priors.tolist(),
            "temperature": self.classifier.temperature,
            "choice_log_loss_nats": self.choice_log_loss_nats,
            "held_out": self.quality.to_json(),
        }
