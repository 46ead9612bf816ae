"""Classify texts with one language model for each label, and train such a classifier.

    texts of each label ─▶ 80 % ─▶ train one model for each label           checkpoints/NAME/LABEL/
                           10 % ─▶ fit the temperature                       checkpoints/NAME/classifier.json
                           10 % ─▶ measure accuracy, log loss, calibration   (nothing else uses these texts)

Every model is a model of bytes, which knows all characters, so that no label loses because of a rare character. The
models get equal parts of the time budget.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from chargen.api import load
from chargen.checkpoint import load_checkpoint
from chargen.config import DataConfig
from chargen.errors import ConfigError, ModelError, StoppedError
from chargen.folders import checkpoints_folder
from chargen.io import to_json_line, write_atomically
from chargen.lm import LanguageModel
from chargen.run_writer import stage_run
from chargen.runs import CLASSIFIER_FILE, ENCODER_FILE, LOCKS_FOLDER, MODEL_FILE, find_classifier
from chargen.schema import ListOf, Nullable, Number, Record, Spec, String, format_count, format_value, parse_json
from chargen.tasks.calibration import (
    Quality,
    fit_temperature,
    log_posteriors,
    log_priors,
    measure_quality,
    split_labelled,
)
from chargen.text.corpus import Corpus
from chargen.text.long_text import LongText
from chargen.training.choices import ModelChoices, RunLength, TrainChoices
from chargen.training.events import Finished, Report
from chargen.training.run import Plan, train

DATA_CONFIG = DataConfig(tokenizer="byte")
HELD_OUT_FRACTIONS = (0.1, 0.1)  #: fractions of the texts for the temperature and for the evaluation
MAX_LABELS = 10_000
LOSS_UNITS = {"byte": "byte", "char": "char"}  #: the unit of which a token of a tokenizer is exactly one
MIN_LEARNED = 0.95  #: a model whose loss is above this share of that of the uniform distribution learned nothing
MAX_CLASSIFIER_BYTES = 1 << 24
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e300  #: limits of a finite temperature in a file
PRIOR_TOLERANCE = 1e-6  #: tolerance for the sum of the priors, which are written with all their digits
CLASSIFIER_SPEC: Spec = Record(
    {
        "labels": ListOf(String(), 1, MAX_LABELS),
        "log_priors": ListOf(Number(high=0.0), 1, MAX_LABELS),
        "temperature": Nullable(Number(MIN_TEMPERATURE, MAX_TEMPERATURE)),  #: null for ∞
    },
    {
        "held_out": Record(optional={"accuracy": Number(0.0, 1.0)}),
        "folders": ListOf(String(255, 1), 1, MAX_LABELS),  #: folders of the language models, one for each label
        "encoder": String(choices=(ENCODER_FILE,)),  #: the file of the encoder that classifies all labels
    },
)
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
class Classifier(TextClassifier):
    """One model for each label, with the prior of each label and a temperature."""

    labels: tuple[str, ...]
    models: tuple[LanguageModel, ...]
    log_priors: NDArray[np.float64]
    temperature: float = 1.0
    is_calibrated: bool = False

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(text | model of label) in nats, [N, K]."""
        scores = np.empty((len(texts), len(self.models)))
        for k, model in enumerate(self.models):
            scores[:, k] = [score.log_prob_nats for score in model.score(list(texts))]
        return scores

    def notes(self, quality: Quality | None = None) -> list[str]:
        """Return messages about models that learned nothing, and about scores that do not tell the labels apart.

        Args:
            quality: Quality of the classifier on labelled texts, if it was measured.
        """
        notes = []
        for label, model in zip(self.labels, self.models, strict=True):
            tokenizer = model.checkpoint.tokenizer
            unit = LOSS_UNITS.get(tokenizer.name)
            loss_bits = model.checkpoint.about.get("result", {}).get(f"val_bits_per_{unit}")
            uniform_bits = math.log2(tokenizer.vocab_size)
            if loss_bits is not None and loss_bits > MIN_LEARNED * uniform_bits:
                notes.append(
                    f"the model of {label!r} learned nothing: {loss_bits:.2f} bits/{unit} on its held-out text, and "
                    f"{uniform_bits:.2f} if all token ids were equally likely; train it longer"
                )
        return [*notes, *super().notes(quality)]


def load_classifier(models: Sequence[str], root: Path | None = None, device: str = "auto") -> TextClassifier:
    """Open a trained classifier, or combine several models into one.

    Args:
        models: The name or folder of a trained classifier, or several models, whose names become the labels.
        root: Folder of the runs; None for `checkpoints_folder()`.
        device: Device for torch, as for `chargen.load`.

    Raises:
        ModelError: If there is no such classifier or model, or a file is damaged.
        ConfigError: If a model is named twice.
        DeviceError: If this machine has no such device.
    """
    if len(models) > 1:
        if len(set(models)) < len(models):
            raise ConfigError("a model is named twice", "Give each one once.")
        priors = log_priors([0] * len(models))
        return Classifier(tuple(models), tuple(load(model, device) for model in models), priors)
    root = root or checkpoints_folder()
    path = find_classifier(models[0], root) if models else None
    if path is None:
        raise ModelError(
            f"no classifier named {models[0]!r} under {root}/" if models else "no classifier is named",
            "Give several models (-m a -m b), or train one: chargen classify --train FOLDER --name NAME",
        )
    saved = read_description(path)
    temperature = math.inf if saved["temperature"] is None else float(saved["temperature"])
    labels, priors = tuple(saved["labels"]), np.array(saved["log_priors"], float)
    if "encoder" in saved:
        from chargen.tasks.encoder_classifier import EncoderClassifier, load_encoder

        encoder = load_encoder(path.with_name(ENCODER_FILE), len(labels), device)
        return EncoderClassifier(labels, encoder, priors, temperature, True)
    paths = [path.parent / name / MODEL_FILE for name in saved["folders"]]
    opened = tuple(LanguageModel(load_checkpoint(model), device, model) for model in paths)
    return Classifier(labels, opened, priors, temperature, True)


def read_description(path: Path) -> dict[str, Any]:
    """Read and check the file that describes a classifier, with the fields of `CLASSIFIER_SPEC`.

    Raises:
        ModelError: If it cannot be read, or `train_classifier` did not write it like this.
    """
    try:
        if path.stat().st_size > MAX_CLASSIFIER_BYTES:
            raise ConfigError(f"it has more than {MAX_CLASSIFIER_BYTES:,} bytes")
        saved: dict[str, Any] = parse_json(path.read_bytes())
        CLASSIFIER_SPEC.check(saved, "its content")
        if ("folders" in saved) == ("encoder" in saved):
            raise ConfigError("it names neither the folders of models nor an encoder, or both")
        labels, priors = saved["labels"], saved["log_priors"]
        folders = saved.get("folders", labels)
        if not len(labels) == len(folders) == len(priors):
            raise ConfigError(
                f"it has {format_count(len(labels), 'label')}, {format_count(len(folders), 'folder')} and "
                f"{format_count(len(priors), 'prior')}"
            )
        if len(set(labels)) < len(labels) or len(set(folders)) < len(folders):
            raise ConfigError("it contains a label or a folder twice")
        for name in saved.get("folders", ()):
            if not re.fullmatch(r"[\w-]+", name):  # as `folder_names` makes them: not a path, and not hidden
                raise ConfigError(f"its folder {format_value(name)} is not a name of letters, digits, '-' and '_'")
        if abs(sum(map(math.exp, priors)) - 1.0) > PRIOR_TOLERANCE:
            raise ConfigError(f"its priors are probabilities that add up to {sum(map(math.exp, priors)):g}, not to 1")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ConfigError as error:
        raise ModelError(f"{path} is damaged ({error.message})", "Train the classifier again.") from error
    return saved


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


def train_classifier(
    plan: ClassifierPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Report] | TrainedClassifier]:
    """Train one model for each label. Yield (label, report) during the training, and last the classifier.

    Args:
        plan: Texts and settings.
        stop: Returns True when the training is to end; then there is no classifier.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it, or the training was stopped.
    """
    training, calibration, held_out = split_labelled(plan.texts, HELD_OUT_FRACTIONS, plan.seed)
    labels = tuple(training)
    folders = folder_names(training)
    with stage_run(plan.name) as writer:
        root = writer.run.folder
        yield from _train_models(plan, training, folders, root, stop)
        priors = log_priors([len(training[label]) for label in labels])
        models = tuple(load(root / folder) for folder in folders)
        classifier = Classifier(labels, models, priors).calibrate(calibration)
        quality = classifier.evaluate(held_out)
        description = {
            "labels": labels,
            "folders": folders,
            "log_priors": priors.tolist(),
            "temperature": classifier.temperature,
            "held_out": quality.to_json(),
        }
        write_atomically(root / CLASSIFIER_FILE, [to_json_line(description).encode()])
        shutil.rmtree(root / LOCKS_FOLDER)
        writer.commit()
        yield TrainedClassifier(writer.run.folder.absolute(), classifier, quality)


def _train_models(
    plan: ClassifierPlan, texts: Texts, folders: Sequence[str], root: Path, stop: Callable[[], bool]
) -> Iterator[tuple[str, Report]]:
    """Train the models one after the other; each gets an equal part of the remaining time."""
    for k, (label, label_texts) in enumerate(texts.items()):
        started = plan.started if k == 0 else time.perf_counter()
        length = plan.length
        if length.budget_s is not None:
            share_s = max(1.0, (length.budget_s - time.perf_counter() + plan.started) / (len(texts) - k))
            length = RunLength(budget_s=share_s + time.perf_counter() - started)
        run_plan = Plan(
            Corpus(LongText.from_string("\n".join(label_texts) + "\n"), label),
            folders[k],
            length,
            DATA_CONFIG,
            plan.model,
            train=TrainChoices(seed=plan.seed),
            device=plan.device,
            root=root,
            started=started,
        )
        yield from _train_one(run_plan, label, stop)


def _train_one(plan: Plan, label: str, stop: Callable[[], bool]) -> Iterator[tuple[str, Report]]:
    finished = None
    with closing(cast("Generator[Report]", train(plan, stop))) as reports:
        try:
            for report in reports:
                yield label, report
                finished = report if isinstance(report, Finished) else None
        except StoppedError:
            finished = None
    if finished is None or finished.interrupted:
        raise StoppedError("there is no classifier: its training was stopped", "Train it again.")


def folder_names(labels: Iterable[str]) -> list[str]:
    """Return a folder name for each label: its letters and digits, with -2, -3, … if two would be equal.

    Names that differ only in case count as equal, as they do on some file systems.
    """
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        plain = re.sub(r"[^\w-]+", "-", label).strip("-")[:40] or "label"
        name, n = plain, 1
        while name.casefold() in taken:
            n += 1
            name = f"{plain}-{n}"
        names.append(name)
        taken.add(name.casefold())
    return names
