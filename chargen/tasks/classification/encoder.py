"""Classify texts with one bidirectional encoder, and train it: `chargen classify --train DATA --method encoder`.

    texts of all labels ─▶ 80 % ─▶ train the encoder, by cross-entropy            checkpoints/NAME/encoder.safetensors
                           10 % ─▶ choose the best weights, fit the temperature   checkpoints/NAME/classifier.json
                           10 % ─▶ measure accuracy, log loss, calibration        (nothing else uses these texts)

The models of `generative.py` learn the texts of each label, and compare labels by Bayes' rule. An encoder learns
only what tells the labels apart, and reads each text from both sides (`networks/encoder.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import STORAGE_VERSION, TensorFile, open_tensors, save_tensors
from chargen.config import FLOAT16
from chargen.errors import ChargenError, ConfigError, ModelError
from chargen.io import to_json_line, write_atomically
from chargen.run_writer import RunWriter, create_run, resume_run
from chargen.runs import CLASSIFIER_FILE, ENCODER_FILE
from chargen.schema import String, format_count, format_value
from chargen.storage.stored_weights import Tensors, describe_weights, pack_weights, round_weights
from chargen.tasks.classification.calibration import fit_temperature, log_priors
from chargen.tasks.classification.classifier import ClassifierPlan, TextClassifier, TrainedClassifier
from chargen.tasks.classification.encoder_recipe import (
    BALANCED,
    CLASS_WEIGHTS,
    MAX_EPOCHS,
    NO_WEIGHTS,
    EncoderSettings,
    choose_settings,
)
from chargen.tasks.classification.text_input import TextInput

if TYPE_CHECKING:
    from chargen.networks.encoder import Encoder, EncoderConfig
    from chargen.tasks.classification.encoder_training import Classification
    from chargen.training.supervised.loop import Fit, FitReport
    from chargen.training.supervised.state import SupervisedState

MIN_TEMPERATURE = 0.5  #: lowest temperature that is fitted
KIND = "encoder"  #: kind of the model in its file and in its training state


@dataclass(frozen=True)
class EncoderClassifier(TextClassifier):
    """An encoder with the priors of its labels and a temperature."""

    labels: tuple[str, ...]
    encoder: Encoder
    text_input: TextInput = field(repr=False)
    log_priors: NDArray[np.float64]  #: log p(label) in the training texts, [K]
    is_balanced: bool = False  #: whether the encoder was trained as if all labels were equally frequent
    temperature: float = 1.0
    is_calibrated: bool = False

    def __str__(self) -> str:
        """Return a short description with the number of parameters."""
        num_parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        return f"encoder {self.encoder.config}, {format_count(num_parameters, 'parameter')}"

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(label | text) − log p(label) up to a constant of each text, [N, K]: what the text says."""
        from chargen.tasks.classification.encoder_training import LabelledTexts, read_logits, trained_log_priors

        if not texts:
            return np.zeros((0, len(self.labels)))
        texts = [self.normalize(text) for text in texts]
        encoded = LabelledTexts.encoded(texts, np.zeros(len(texts), np.int64), self.text_input)
        logits = read_logits(self.encoder, self.text_input, encoded)
        scores: NDArray[np.float64] = logits - trained_log_priors(self.log_priors, self.is_balanced)
        return scores

    def with_temperature(self, scores: NDArray[np.float64], right: NDArray[np.int64]) -> EncoderClassifier:
        """Return the classifier with the temperature fitted to scores, [N, K], and right labels, [N].

        It is at least MIN_TEMPERATURE: a mean of the logits of two parts, trained with dropout, can be too cautious.
        """
        temperature = MIN_TEMPERATURE * fit_temperature(scores / MIN_TEMPERATURE, right, self.log_priors)
        return replace(self, temperature=temperature, is_calibrated=True)


def train_encoder(
    plan: ClassifierPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[FitReport | TrainedClassifier]:
    """Train an encoder. Yield reports during the training, and last the classifier.

    A stopped training ends with the best classifier so far, and can be resumed.

    Args:
        plan: Texts and settings. With a time budget, the training ends after MAX_EPOCHS passes at the latest.
        stop: Returns True when the training is to end.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it, or the training was stopped before its
            first step.
    """
    with _open_run(plan) as writer:
        saved = _load_state(plan, writer)
        if saved:
            plan = _resumed_plan(plan, saved)
        training, choice, held_out = plan.split()
        labels = tuple(training)
        texts, numbers = _flatten(training)
        settings = EncoderSettings.from_json(saved.task) if saved else choose_settings(plan, texts, len(labels))
        priors = log_priors([len(training[label]) for label in labels])
        encoder = _build(plan, settings, () if saved else texts)
        classifier = EncoderClassifier(labels, encoder, settings.text_input, priors, settings.is_balanced)
        objective = _objective(plan, classifier, settings, (texts, numbers), _flatten(choice))
        objective.num_final = sum(map(len, held_out.values())) + sum(map(len, choice.values()))
        fit = _fit(plan, settings, objective, writer, saved)
        yield from fit.reports(stop)
        encoder.import_weights(round_weights(encoder.export_weights(), FLOAT16, encoder.config.table_rows))
        folder = writer.run.folder.absolute()
        trained = TrainedClassifier.measured(folder, KIND, classifier, choice, held_out)
        _save(folder, settings, encoder, trained)
    yield replace(trained, was_stopped=fit.interrupted)


def _open_run(plan: ClassifierPlan) -> RunWriter:
    """Return the writer of a new run, or of the run to resume.

    Raises:
        ConfigError: If settings were chosen for a run that is resumed.
    """
    if not plan.resume:
        return create_run(plan.name, root=plan.root)
    given = [*plan.model.chosen(), *plan.encoder.chosen()]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be changed: the run {plan.resume!r} keeps the settings it was started with",
            "Leave them out, or start a new run.",
        )
    return resume_run(plan.resume, plan.root)


def _load_state(plan: ClassifierPlan, writer: RunWriter) -> SupervisedState | None:
    from chargen.training.supervised.state import load_supervised_state

    return load_supervised_state(writer.run, KIND) if plan.resume else None


def _resumed_plan(plan: ClassifierPlan, saved: SupervisedState) -> ClassifierPlan:
    """Return the plan with the seed of the run to resume, and with its device if the user chose none."""
    from chargen.networks.torch_runtime import resolve_device

    return replace(plan, seed=saved.train.seed, device=resolve_device(plan.device, saved.train.device))


def _flatten(texts: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Return (all texts, [N]; the number of the label of each, [N])."""
    pairs = [(text, number) for number, many in enumerate(texts.values()) for text in many]
    return [text for text, _ in pairs], np.array([number for _, number in pairs], dtype=np.int64)


def _build(plan: ClassifierPlan, settings: EncoderSettings, texts: Sequence[str]) -> Encoder:
    """Return the encoder with its initial weights; the idf of the n-grams is that of the training texts, if given."""
    import torch

    from chargen.networks.encoder import Encoder
    from chargen.networks.ngram_bag import compute_idf
    from chargen.networks.torch_runtime import resolve_device

    encoder = Encoder(settings.config, torch.Generator().manual_seed(plan.seed)).to(resolve_device(plan.device))
    if settings.config.ngrams and texts:
        idf = compute_idf(texts, settings.config.ngrams, settings.config.ngram_rows)
        encoder.ngrams__idf.copy_(torch.from_numpy(idf))
    if settings.initial:
        encoder.import_weights(settings.initial.replace_in(encoder.export_weights()))
    return encoder


def _objective(
    plan: ClassifierPlan,
    classifier: EncoderClassifier,
    settings: EncoderSettings,
    training: tuple[list[str], NDArray[np.int64]],
    choice: tuple[list[str], NDArray[np.int64]],
) -> Classification:
    from chargen.tasks.classification.encoder_training import Classification, LabelledTexts

    return Classification(
        classifier.encoder,
        settings.text_input,
        LabelledTexts.encoded(*training, settings.text_input),
        LabelledTexts.encoded(*choice, settings.text_input),
        classifier.log_priors,
        settings.is_balanced,
        settings.batch_size,
        plan.seed,
    )


def _fit(
    plan: ClassifierPlan,
    settings: EncoderSettings,
    objective: Classification,
    writer: RunWriter,
    saved: SupervisedState | None,
) -> Fit:
    from chargen.networks.torch_runtime import resolve_device
    from chargen.training.supervised.loop import Fit, FitPlan
    from chargen.training.supervised.state import resumed_config

    device = resolve_device(plan.device)
    if saved:
        train = replace(resumed_config(saved, plan.length, plan.resume), device=device)
    else:
        train = settings.train_config(plan.length, plan.seed, device)
    fit_plan = FitPlan(
        kind=KIND,
        task=settings.to_json(),
        data_sha256=_hash_texts(plan),
        train=train,
        started=plan.started,
        max_epochs=MAX_EPOCHS,
        stop_after=plan.stop_after,
    )
    return Fit(objective, fit_plan, writer, saved)


def _hash_texts(plan: ClassifierPlan) -> str:
    """Return the SHA-256 of all labels and texts."""
    digest = hashlib.sha256()
    for label, texts in plan.texts.items():
        for part in (label, *texts):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(b"\xff")
    return digest.hexdigest()


def _save(folder: Path, settings: EncoderSettings, encoder: Encoder, trained: TrainedClassifier) -> None:
    """Write the files of a classifier."""
    metadata = {
        "kind": KIND,
        "encoder": encoder.config.to_json(),
        "input": settings.text_input.to_json(),
        "class_weights": settings.class_weights,
    }
    tensors = pack_weights(encoder.export_weights(), FLOAT16, encoder.config.table_rows)
    save_tensors(folder / ENCODER_FILE, tensors, metadata, STORAGE_VERSION)
    description = {**trained.description(), "encoder": ENCODER_FILE}
    write_atomically(folder / CLASSIFIER_FILE, [to_json_line(description).encode()])


@dataclass(frozen=True)
class OpenedEncoder:
    """The content of the file of an encoder."""

    encoder: Encoder
    text_input: TextInput
    is_balanced: bool  #: whether it was trained as if all labels were equally frequent


def load_encoder(path: Path, num_labels: int, device: str = "auto") -> OpenedEncoder:
    """Open the file of an encoder.

    Args:
        path: The file.
        num_labels: Number of labels that it must have.
        device: Device for torch, as for `chargen.load`.

    Raises:
        ModelError: If it is missing, damaged or not an encoder.
    """
    from chargen.checkpoint import DamagedError

    with open_tensors(path) as file:
        try:
            config, weights = _read_encoder(file)
            if config.num_labels != num_labels:
                raise ConfigError(f"it has {config.num_labels:,} labels, but its classifier has {num_labels:,}")
            text_input = TextInput.from_json(file.metadata.get("input", {}))
            if text_input.tokenizer.vocab_size != config.vocab_size:
                raise ConfigError("its tokenizer and its network have vocabularies of different sizes")
            class_weights = file.metadata.get("class_weights", NO_WEIGHTS)
            String(choices=CLASS_WEIGHTS).check(class_weights, "class_weights")
        except ChargenError as error:
            if isinstance(error, DamagedError):
                raise
            raise ModelError(f"{path} cannot be used: {error.message}", "Train the classifier again.") from error
    from chargen.networks.encoder import Encoder
    from chargen.networks.torch_runtime import resolve_device

    encoder = Encoder(config).to(resolve_device(device))
    encoder.import_weights(weights)
    return OpenedEncoder(encoder, text_input, class_weights == BALANCED)


def _read_encoder(file: TensorFile) -> tuple[EncoderConfig, Tensors]:
    """Check the header of a file before anything is built from it, and read it."""
    from chargen.networks.encoder import EncoderConfig, encoder_shapes

    config = EncoderConfig.from_json(file.metadata.get("encoder", {}))
    if len(file.tensors) > 6 + 200 * config.num_layers or len(file.tensors) < 3 + 2 * config.num_layers:
        raise ConfigError(f"it has {len(file.tensors):,} weights, which do not fit {config}")
    expected = {name: ("F32", shape) for name, shape in encoder_shapes(config).items()}
    found = describe_weights(file.tensors, config.table_rows)
    for name in {*expected, *found}:
        if expected.get(name) != found.get(name):
            raise ConfigError(f"the weight {format_value(name)} does not fit {config}")
    return config, dict(file.read_weights(config.table_rows))
