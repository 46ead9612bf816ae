"""Several models as one classifier of texts, and the training of one model a label.

texts by label ─▶ 80 % ─▶ a model each, from an equal share of the budget       checkpoints/NAME/LABEL/
                  10 % ─▶ the temperature                                       checkpoints/NAME/classifier.json
                  10 % ─▶ accuracy, log loss, calibration: nothing else has seen them
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import load_checkpoint
from chargen.config import DataConfig
from chargen.errors import ConfigError, ModelError, StoppedError
from chargen.io import to_json_line, write_atomically
from chargen.lm import LanguageModel, load
from chargen.run_writer import stage_run
from chargen.runs import CHECKPOINTS, CLASSIFIER_FILE, LOCKS_FOLDER, MODEL_FILE
from chargen.schema import ListOf, Nullable, Number, Record, Spec, String, format_value, parse_json
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
from chargen.training.events import Finished, Report
from chargen.training.run import Plan, train

DATA = DataConfig(tokenizer="byte")  #: bytes: every model knows every character, so no label loses for a rare one
HELD_OUT = (0.1, 0.1)  #: of the texts: for the temperature, and for the numbers
MAX_LABELS = 10_000
MAX_CLASSIFIER_BYTES = 1 << 24
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e300  #: what a fit can give, without the infinite one
PRIOR_TOLERANCE = 1e-6  #: of the sum of the priors, which are written with all their digits
CLASSIFIER: Spec = Record(
    {
        "labels": ListOf(String(), 1, MAX_LABELS),
        "folders": ListOf(String(255, 1), 1, MAX_LABELS),
        "log_priors": ListOf(Number(high=0.0), 1, MAX_LABELS),
        "temperature": Nullable(Number(MIN_TEMPERATURE, MAX_TEMPERATURE)),  #: null: infinite
    },
    {"held_out": Record()},
)
Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Classifier:
    """Models, a label each, with priors and a temperature."""

    labels: tuple[str, ...]
    models: tuple[LanguageModel, ...]
    log_priors: NDArray[np.float64]  #: [K], in the labels' order
    temperature: float = 1.0
    is_calibrated: bool = False  #: whether the temperature was fitted to labelled texts

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(text | model), [N, K], in nats."""
        many = list(texts)
        scores = np.empty((len(many), len(self.models)))
        for k, model in enumerate(self.models):
            scores[:, k] = [score.log_prob_nats for score in model.score(many)]
        return scores

    def log_probs(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(label | text), [N, K], in nats."""
        return log_posteriors(self.scores(texts), self.log_priors, self.temperature)

    def calibrate(self, texts: Texts) -> Classifier:
        """Return the classifier with the temperature that suits labelled texts."""
        many, right = self._flat(texts)
        return replace(self, temperature=fit_temperature(self.scores(many), right, self.log_priors), is_calibrated=True)

    def evaluate(self, texts: Texts) -> Quality:
        """Return how good it is on labelled texts."""
        many, right = self._flat(texts)
        return measure_quality(self.log_probs(many), right, self.log_priors)

    def _flat(self, texts: Texts) -> tuple[list[str], NDArray[np.int64]]:
        for label in texts:
            if label not in self.labels:
                raise ConfigError(f"no model has the label {label!r}", f"There are {', '.join(self.labels)}.")
        pairs = [(text, self.labels.index(label)) for label, many in texts.items() for text in many]
        return [text for text, _ in pairs], np.array([place for _, place in pairs], dtype=np.int64)


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier that was just trained."""

    folder: Path
    classifier: Classifier
    quality: Quality  #: on texts that neither the models nor the temperature have seen


def load_classifier(models: Sequence[str], root: Path = CHECKPOINTS) -> Classifier:
    """Open what `train_classifier` wrote, by its name or folder; or several models, whose names are the labels.

    Raises:
        ModelError: there is no such thing, or it is damaged.
    """
    if len(models) > 1:
        if len(set(models)) < len(models):
            raise ConfigError("a model is named twice", "Give each one once.")
        priors = log_priors([0] * len(models))
        return Classifier(tuple(models), tuple(load(model) for model in models), priors)
    places = (Path(models[0]), root / models[0]) if models else ()
    folder = next((place for place in places if os.path.isfile(place / CLASSIFIER_FILE)), None)
    if folder is None:
        raise ModelError(
            f"no classifier named {models[0]!r} under {root}/" if models else "no classifier is named",
            "Give several models (-m a -m b), or train one: chargen classify --train FOLDER --name NAME",
        )
    saved = _read_described(folder / CLASSIFIER_FILE)
    paths = [folder / place / MODEL_FILE for place in saved["folders"]]
    opened = tuple(LanguageModel(load_checkpoint(path), path=path) for path in paths)
    temperature = math.inf if saved["temperature"] is None else float(saved["temperature"])
    return Classifier(tuple(saved["labels"]), opened, np.array(saved["log_priors"], float), temperature, True)


def _read_described(path: Path) -> dict[str, Any]:
    """Read and check a classifier's file.

    Raises:
        ModelError: it cannot be read, or is not as `train_classifier` writes it.
    """
    try:
        if path.stat().st_size > MAX_CLASSIFIER_BYTES:
            raise ConfigError(f"it has more than {MAX_CLASSIFIER_BYTES:,} bytes")
        saved: dict[str, Any] = parse_json(path.read_bytes())
        CLASSIFIER.check(saved, "its content")
        labels, folders, priors = saved["labels"], saved["folders"], saved["log_priors"]
        if not len(labels) == len(folders) == len(priors):
            raise ConfigError(f"it has {len(labels)} labels, {len(folders)} folders and {len(priors)} priors")
        if len(set(labels)) < len(labels) or len(set(folders)) < len(folders):
            raise ConfigError("a label or a folder stands twice in it")
        for name in folders:
            if not re.fullmatch(r"[\w-]+", name):  # as `folder_names` makes them: no path, and nothing hidden
                raise ConfigError(f"its folder {format_value(name)} is not a name of letters, digits, '-' and '_'")
        if abs(sum(map(math.exp, priors)) - 1.0) > PRIOR_TOLERANCE:
            raise ConfigError(f"its priors are probabilities that add up to {sum(map(math.exp, priors)):g}, not to 1")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ConfigError as error:
        raise ModelError(f"{path} is damaged ({error.message})", "Train the classifier again.") from error
    return saved


def train_classifier(
    texts: Texts,
    name: str,
    length: Mapping[str, float],
    model: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    started: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, Report] | TrainedClassifier]:
    """Train a model for each label, yielding (label, report) and last what was made.

    Args:
        texts: by label.
        name: of the folder under checkpoints/; a taken one gets -2, -3, …
        length: {"budget_s": …}, shared out evenly; or {"steps": …} or {"epochs": …}, of each model.
        model: settings of `ModelConfig`; the recipe chooses the others.
        seed: of the split and of the models.
        device: where torch works.
        started: when the budget began, by `time.perf_counter`.
        stop: becomes True when the training is to end; there is no classifier then.

    Raises:
        ChargenError: texts, settings or disk do not allow it, or it was stopped.
    """
    started = time.perf_counter() if started is None else started
    learned, for_temperature, unseen = split_labelled(texts, HELD_OUT, seed)
    labels, places = tuple(learned), folder_names(learned)
    with stage_run(name) as writer:
        folder = writer.run.folder
        yield from _train_all(learned, folder, places, length, model or {}, seed, device, started, stop)
        priors = log_priors([len(learned[label]) for label in labels])
        made = Classifier(labels, tuple(load(folder / place) for place in places), priors).calibrate(for_temperature)
        evaluated = made.evaluate(unseen)
        values = {
            "labels": labels,
            "folders": places,
            "log_priors": priors.tolist(),
            "temperature": made.temperature,
            "held_out": evaluated.to_json(),
        }
        write_atomically(folder / CLASSIFIER_FILE, [to_json_line(values).encode()])
        shutil.rmtree(folder / LOCKS_FOLDER)
        writer.commit()
        yield TrainedClassifier(writer.run.folder, made, evaluated)


def _train_all(
    learned: Texts,
    folder: Path,
    places: Sequence[str],
    length: Mapping[str, float],
    model: Mapping[str, Any],
    seed: int,
    device: str,
    started: float,
    stop: Callable[[], bool],
) -> Iterator[tuple[str, Report]]:
    """Train the models one after the other, in equal shares of what is left of the time."""
    for k, (label, texts) in enumerate(learned.items()):
        share, begun = dict(length), started if k == 0 else time.perf_counter()
        if "budget_s" in length:
            share["budget_s"] = max(1.0, (length["budget_s"] - time.perf_counter() + started) / (len(learned) - k))
            share["budget_s"] += time.perf_counter() - begun
        plan = Plan(
            Corpus(LongText.of("\n".join(texts) + "\n"), label),
            places[k],
            share,
            DATA,
            model,
            train={"seed": seed},
            device=device,
            root=folder,
            started=begun,
        )
        yield from _train_one(plan, label, stop)


def _train_one(plan: Plan, label: str, stop: Callable[[], bool]) -> Iterator[tuple[str, Report]]:
    finished = None
    with closing(cast("Generator[Report]", train(plan, stop))) as reports:
        for report in reports:
            yield label, report
            finished = report if isinstance(report, Finished) else None
    assert finished  # the last report of every run that raises nothing
    if finished.interrupted:
        raise StoppedError("there is no classifier: its training was stopped", "Train it again.")


def folder_names(labels: Iterable[str]) -> list[str]:
    """Return a folder's name for each label: its letters and digits, and a number where two are alike."""
    names: list[str] = []
    for label in labels:
        plain = re.sub(r"[^\w-]+", "-", label).strip("-")[:40] or "label"
        n, taken = 1, {name.casefold() for name in names}
        while (plain if n == 1 else f"{plain}-{n}").casefold() in taken:
            n += 1
        names.append(plain if n == 1 else f"{plain}-{n}")
    return names
