"""Open a trained classifier, or make one of several language models."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chargen.api import load
from chargen.checkpoint import load_checkpoint
from chargen.errors import ConfigError, ModelError, WrongKindError
from chargen.folders import checkpoints_folder
from chargen.lm import LanguageModel
from chargen.runs import ENCODER_FILE, MODEL_FILE, find_classifier, find_model
from chargen.schema import (
    Integer,
    ListOf,
    Nullable,
    Number,
    Record,
    Spec,
    String,
    format_count,
    format_value,
    parse_json,
)
from chargen.tasks.classification.calibration import log_priors
from chargen.tasks.classification.classifier import TextClassifier
from chargen.tasks.classification.generative import GenerativeClassifier

METHODS = ("encoder", "generative")  #: the methods of training a classifier
MAX_LABELS = 10_000
MAX_CLASSIFIER_BYTES = 1 << 24
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e300  #: limits of a finite temperature in a file
PRIOR_TOLERANCE = 1e-6  #: tolerance for the sum of the priors, which are written with all their digits
HELD_OUT_SPEC = Record(
    optional={
        "texts": Integer(1),
        **{name: Number(0.0, 1.0) for name in ("accuracy", "macro_f1", "expected_calibration_error")},
        "log_loss_nats": Nullable(Number(0.0)),  #: null if it is infinite
    }
)
CLASSIFIER_SPEC: Spec = Record(
    {
        "labels": ListOf(String(), 1, MAX_LABELS),
        "log_priors": ListOf(Number(high=0.0), 1, MAX_LABELS),
        "temperature": Nullable(Number(MIN_TEMPERATURE, MAX_TEMPERATURE)),  #: null for ∞
    },
    {
        "held_out": HELD_OUT_SPEC,
        "method": String(choices=METHODS),
        "choice_log_loss_nats": Nullable(Number(0.0)),  #: null if it is infinite
        "folders": ListOf(String(255, 1), 1, MAX_LABELS),  #: folders of the language models, one for each label
        "encoder": String(choices=(ENCODER_FILE,)),  #: the file of the encoder that classifies all labels
    },
)


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
        given = tuple(load(model, device) for model in models)
        return GenerativeClassifier(tuple(models), given, priors, has_fitted_priors=False)
    root = root or checkpoints_folder()
    path = find_classifier(models[0], root) if models else None
    if path is None:
        raise _no_classifier(models[0] if models else "", root)
    saved = read_description(path)
    temperature = math.inf if saved["temperature"] is None else float(saved["temperature"])
    labels, priors = tuple(saved["labels"]), np.array(saved["log_priors"], float)
    if "encoder" in saved:
        from chargen.tasks.classification.encoder import EncoderClassifier, load_encoder

        opened = load_encoder(path.with_name(ENCODER_FILE), len(labels), device)
        return EncoderClassifier(
            labels, opened.encoder, opened.text_input, priors, opened.is_balanced, temperature, is_calibrated=True
        )
    paths = [path.parent / name / MODEL_FILE for name in saved["folders"]]
    models_of_labels = tuple(LanguageModel(load_checkpoint(model), device, model) for model in paths)
    return GenerativeClassifier(labels, models_of_labels, priors, temperature, True)


def _no_classifier(name: str, root: Path) -> ModelError:
    """Return the error for a name that is not the name of a classifier; it may be that of another model."""
    if not name:
        return ModelError("no classifier is named", "Name one: chargen classify -m NAME TEXT")
    try:
        find_model(name, root)
    except WrongKindError as error:
        return error
    except ModelError:
        return ModelError(
            f"no classifier named {name!r} under {root}/",
            "Give several models (-m a -m b), or train one: chargen classify --train DATA --name NAME",
        )
    return WrongKindError(
        f"{name} is a language model, which has no labels",
        "Give one for each label: chargen classify -m A -m B TEXT; or train a classifier: chargen classify --train "
        "DATA.",
    )


def read_description(path: Path) -> dict[str, Any]:
    """Read and check the file that describes a classifier, with the fields of `CLASSIFIER_SPEC`.

    Raises:
        ModelError: If it cannot be read, or chargen did not write it like this.
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
