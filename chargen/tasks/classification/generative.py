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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from chargen.api import load
from chargen.errors import StoppedError
from chargen.io import to_json_line, write_atomically
from chargen.lm import LanguageModel
from chargen.run_writer import stage_run
from chargen.runs import CLASSIFIER_FILE, LOCKS_FOLDER
from chargen.tasks.classification.calibration import Quality, log_priors
from chargen.tasks.classification.classifier import (
    TEXT_FORM,
    ClassifierPlan,
    TextClassifier,
    Texts,
    TrainedClassifier,
)
from chargen.text.corpus import Corpus
from chargen.text.long_text import LongText
from chargen.training.choices import RunLength, TrainChoices
from chargen.training.events import Finished, Report
from chargen.training.run import Plan, train

DATA_CONFIG = replace(TEXT_FORM, tokenizer="byte")  #: how the texts of a label are read by its model
LOSS_UNITS = {"byte": "byte", "char": "char"}  #: the unit of which a token of a tokenizer is exactly one
MIN_LEARNED = 0.95  #: a model whose loss is above this share of that of the uniform distribution learned nothing


@dataclass(frozen=True)
class GenerativeClassifier(TextClassifier):
    """One model for each label, with the prior of each label and a temperature."""

    labels: tuple[str, ...]
    models: tuple[LanguageModel, ...]
    log_priors: NDArray[np.float64]
    temperature: float = 1.0
    is_calibrated: bool = False
    has_fitted_priors: bool = True  #: whether the priors are shares of texts; if not, all labels are equally probable
    log_shares: NDArray[np.float64] | None = None  #: without such priors: those of the texts that calibrated it, [K]

    @property
    def log_frequencies(self) -> NDArray[np.float64]:
        """Log of the share of each label in texts, [K]; the priors, until there are any texts."""
        return self.log_priors if self.log_shares is None else self.log_shares

    def calibrate(self, texts: Texts) -> GenerativeClassifier:
        """Return the classifier with the temperature fitted to labelled texts, and with the shares of their labels.

        Raises:
            ConfigError: If the classifier does not have one of the labels.
        """
        _, right = self.flatten(texts)
        shares = None if self.has_fitted_priors else log_priors(np.bincount(right, minlength=len(self.labels)).tolist())
        return replace(super().calibrate(texts), log_shares=shares)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(text | model of label) in nats, [N, K]."""
        scores = np.empty((len(texts), len(self.models)))
        for k, model in enumerate(self.models):
            scores[:, k] = [score.log_prob_nats for score in model.score(list(texts))]
        return scores

    def normalize(self, text: str) -> str:
        """Return a text in the form in which all models read it.

        It is unchanged if the forms of the models differ, for example if only some were trained with --normalize none:
        `scores` brings it to the form of each.
        """
        forms = {model.checkpoint.normalize(text) for model in self.models}
        return forms.pop() if len(forms) == 1 else text

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


def train_generative(
    plan: ClassifierPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Report] | TrainedClassifier]:
    """Train one model for each label. Yield (label, report) during the training, and last the classifier.

    Args:
        plan: Texts and settings.
        stop: Returns True when the training is to end; then there is no classifier.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it, or the training was stopped.
    """
    training, choice, held_out = plan.split()
    labels = tuple(training)
    folders = folder_names(training)
    with stage_run(plan.name, plan.root) as writer:
        root = writer.run.folder
        yield from _train_models(plan, training, folders, root, stop)
        priors = log_priors([len(training[label]) for label in labels])
        models = tuple(load(root / folder) for folder in folders)
        classifier = GenerativeClassifier(labels, models, priors)
        trained = TrainedClassifier.measured(root, "generative", classifier, choice, held_out)
        description = {**trained.description(), "folders": folders}
        write_atomically(root / CLASSIFIER_FILE, [to_json_line(description).encode()])
        shutil.rmtree(root / LOCKS_FOLDER)
        writer.commit()
        yield replace(trained, folder=writer.run.folder.absolute())


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
