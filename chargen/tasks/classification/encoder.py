"""Classify texts with one bidirectional encoder, and train it: `chargen classify --train DATA --method encoder`.

    texts of all labels ─▶ 80 % ─▶ train the encoder, by cross-entropy          checkpoints/NAME/encoder.safetensors
                           10 % ─▶ choose the best epoch, fit the temperature   checkpoints/NAME/classifier.json
                           10 % ─▶ measure accuracy, log loss, calibration      (nothing else uses these texts)

The models of `generative.py` learn the texts of each label, and compare labels by Bayes' rule. An encoder learns
only what tells the labels apart, and reads each text from both sides (`networks/encoder.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.weights import find_invalid_weight
from chargen.checkpoint import TensorFile, Tensors, open_tensors, save_tensors
from chargen.config import TrainConfig
from chargen.errors import ConfigError, DivergenceError, ModelError, StoppedError
from chargen.io import to_json_line, write_atomically
from chargen.run_writer import stage_run
from chargen.runs import CLASSIFIER_FILE, ENCODER_FILE
from chargen.schema import format_count, format_value
from chargen.tasks.classification.calibration import log_priors
from chargen.tasks.classification.classifier import ClassifierPlan, TextClassifier, TrainedClassifier
from chargen.tokenizers.byte import ByteTokenizer
from chargen.tokenizers.tokenizer import BOUNDARY_ID
from chargen.training.choices import ModelChoices, RunLength

if TYPE_CHECKING:
    from chargen.networks.encoder import Encoder, EncoderConfig

MAX_TOKENS = 1000  #: bytes of a text that are read; a longer text is cut
BATCH_SIZE = 32  #: texts of a training step
POOL_BATCHES = 16  #: batches whose texts are sorted by length, so that little padding is computed
MAX_CHOICE_TEXTS = 2000  #: texts by which the best epoch is chosen
LEARNING_RATE = 4e-3  #: peak learning rate
WARMUP, CLIP_NORM = 0.05, 1.0
MAX_EPOCHS = 60  #: a time budget trains for at most this number of passes over the texts
#: settings of a language model that an encoder has, too
ENCODER_SETTINGS = ("cell", "num_layers", "hidden_size", "embedding_dim", "dropout")
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EncoderClassifier(TextClassifier):
    """An encoder with the priors of its labels and a temperature."""

    labels: tuple[str, ...]
    encoder: Encoder
    log_priors: NDArray[np.float64]  #: log p(label) in the training texts, [K]
    temperature: float = 1.0
    is_calibrated: bool = False

    def __str__(self) -> str:
        """Return a short description with the number of parameters."""
        num_parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        return f"encoder {self.encoder.config}, {format_count(num_parameters, 'parameter')}"

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log p(label | text) − log p(label) up to a constant of each text, [N, K]: what the text says."""
        scores: NDArray[np.float64] = encoder_logits(self.encoder, encode_texts(texts)) - self.log_priors
        return scores


@dataclass(frozen=True)
class EncoderProgress:
    """A report of the training: after each epoch, and at the end of the run."""

    progress: float  #: completed share of the run, 0 to 1
    epoch: int  #: passes over the texts so far
    log_loss_nats: float  #: mean −log p(right label) of the texts that choose the best epoch


def encode_texts(texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """Return the token ids of each text: its first MAX_TOKENS bytes between two boundaries."""
    tokenizer, edge = ByteTokenizer(), np.array([BOUNDARY_ID], dtype=np.int32)
    return [np.concatenate([edge, tokenizer.encode(text[:MAX_TOKENS])[:MAX_TOKENS], edge]) for text in texts]


def encoder_logits(encoder: Encoder, texts: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
    """Return the logits of the labels of encoded texts, [N, K]."""
    import torch

    from chargen.networks.torch_runtime import single_thread

    order = np.argsort([len(text) for text in texts], kind="stable")
    logits = np.empty((len(texts), encoder.config.num_labels))
    with single_thread(), torch.no_grad():
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            logits[batch] = encoder(*_batch(encoder, [texts[i] for i in batch])).double().cpu().numpy()
    return logits


def _batch(encoder: Encoder, texts: Sequence[NDArray[np.int32]]) -> tuple[Any, Any]:
    """Return (token ids [T, B], lengths [B]) on the device of an encoder."""
    import torch

    lengths = np.array([len(text) for text in texts])
    ids = np.zeros((int(lengths.max()), len(texts)), dtype=np.int64)
    for b, text in enumerate(texts):
        ids[: len(text), b] = text
    device = next(encoder.parameters()).device
    return torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)


def train_encoder(
    plan: ClassifierPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[EncoderProgress | TrainedClassifier]:
    """Train an encoder. Yield reports during the training, and last the classifier.

    Args:
        plan: Texts and settings. With a time budget, the training ends after MAX_EPOCHS passes at the latest.
        stop: Returns True when the training is to end; then there is no classifier.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it, or the training was stopped.
    """
    training, choice, held_out = plan.split()
    labels = tuple(training)
    settings = encoder_settings(plan.model)
    with stage_run(plan.name, plan.root) as writer:
        root = writer.run.folder
        run = _EncoderRun(plan, settings, labels)
        yield from run.reports(training, choice, stop)
        priors = log_priors([len(training[label]) for label in labels])
        classifier = EncoderClassifier(labels, run.encoder, priors)
        trained = TrainedClassifier.measured(root, "encoder", classifier, choice, held_out)
        description = {**trained.description(), "encoder": ENCODER_FILE}
        save_tensors(
            root / ENCODER_FILE,
            run.encoder.export_weights(),
            {"kind": "encoder", "encoder": run.encoder.config.to_json()},
        )
        write_atomically(root / CLASSIFIER_FILE, [to_json_line(description).encode()])
        writer.commit()
    yield replace(trained, folder=writer.run.folder.absolute())


def encoder_settings(choices: ModelChoices) -> dict[str, Any]:
    """Return the fields of `EncoderConfig` that a user chose.

    Raises:
        ConfigError: If a setting that only a language model has was chosen.
    """
    for name in choices.chosen():
        if name not in ENCODER_SETTINGS:
            raise ConfigError(
                f"{name} cannot be set: an encoder has no such part",
                f"It has {', '.join(ENCODER_SETTINGS)}.",
            )
    return choices.chosen()


class _EncoderRun:
    """The training of an encoder; `encoder` is the best one so far."""

    def __init__(self, plan: ClassifierPlan, settings: dict[str, Any], labels: tuple[str, ...]) -> None:
        import torch

        from chargen.networks.encoder import Encoder, EncoderConfig
        from chargen.networks.torch_runtime import resolve_device
        from chargen.training.optimizers import AdamW

        self._plan, self._labels = plan, labels
        device = resolve_device(plan.device)
        config = EncoderConfig(vocab_size=ByteTokenizer().vocab_size, num_labels=len(labels), **settings)
        self._generator = torch.Generator().manual_seed(plan.seed)
        self.encoder = Encoder(config, self._generator).to(device)
        self._optimizer = AdamW(self.encoder, TrainConfig(steps=1, beta1=0.9, weight_decay=0.05, device=device))
        self._step = 0

    def reports(self, training: Any, choice: Any, stop: Callable[[], bool]) -> Iterator[EncoderProgress]:
        """Train, and yield a report after each epoch; then give `encoder` the weights of the best one."""
        texts, labels = self._flatten(training)
        choice_texts, choice_labels = self._flatten(choice)
        rng = np.random.default_rng(self._plan.seed)
        chosen = rng.permutation(len(choice_texts))[:MAX_CHOICE_TEXTS]
        choice_texts, choice_labels = [choice_texts[i] for i in chosen], choice_labels[chosen]
        num_batches = -(-len(texts) // BATCH_SIZE)
        length, started = self._plan.length, time.perf_counter()
        best_loss, best, epoch, progress = math.inf, self.encoder.export_weights(), 0, 0.0
        while progress < 1.0:
            for batch in _epoch_batches([len(text) for text in texts], rng):
                if stop():
                    raise StoppedError("there is no classifier: its training was stopped", "Train it again.")
                progress = _progress(length, self._step, num_batches, started, self._plan.started)
                if progress >= 1.0:
                    break
                self._train_step([texts[i] for i in batch], labels[batch], progress)
            epoch += 1
            loss = self._log_loss(choice_texts, choice_labels)
            if loss < best_loss:
                best_loss, best = loss, self.encoder.export_weights()
            yield EncoderProgress(min(1.0, progress), epoch, loss)
        self.encoder.import_weights(best)

    def _train_step(self, texts: list[NDArray[np.int32]], labels: Indices, progress: float) -> None:
        import torch
        from torch.nn import functional as F

        from chargen.networks.torch_runtime import single_thread
        from chargen.training.optimizers import learning_rate_factor

        with single_thread():
            ids, lengths = _batch(self.encoder, texts)
            self._optimizer.clear_gradients()
            loss = F.cross_entropy(self.encoder(ids, lengths, self._generator), torch.from_numpy(labels).to(ids.device))
            if not math.isfinite(loss.item()):
                raise DivergenceError("the encoder diverged: its loss is no finite number", "Give more texts.")
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._optimizer.parameters(), CLIP_NORM)
            self._optimizer.step(LEARNING_RATE * learning_rate_factor(progress, WARMUP, 0.0))
        self._step += 1

    def _log_loss(self, texts: list[NDArray[np.int32]], labels: Indices) -> float:
        logits = encoder_logits(self.encoder, texts)
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -float(log_probs[np.arange(len(labels)), labels].mean())

    def _flatten(self, texts: Any) -> tuple[list[NDArray[np.int32]], Indices]:
        """Return (all texts, encoded; the number of the label of each, [N])."""
        pairs = [(text, self._labels.index(label)) for label, many in texts.items() for text in many]
        return encode_texts([text for text, _ in pairs]), np.array([label for _, label in pairs], dtype=np.int64)


def _epoch_batches(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[Indices]:
    """Yield the indices of the texts of each batch: all texts once, those of similar length together."""
    order, sizes = rng.permutation(len(lengths)), np.array(lengths)
    batches: list[Indices] = []
    for start in range(0, len(order), POOL_BATCHES * BATCH_SIZE):
        pool = order[start : start + POOL_BATCHES * BATCH_SIZE]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        batches += [pool[i : i + BATCH_SIZE] for i in range(0, len(pool), BATCH_SIZE)]
    for k in rng.permutation(len(batches)):
        yield batches[k]


def _progress(length: RunLength, step: int, num_batches: int, started: float, budget_started: float) -> float:
    """Return the completed share of a run, 0 to 1; a time budget includes the time before the first step."""
    if length.budget_s is None:
        total = length.steps if length.steps is not None else (length.epochs or 1.0) * num_batches
        return step / max(1.0, total)
    share = (time.perf_counter() - started) / max(1e-3, length.budget_s - (started - budget_started))
    return max(share, step / (MAX_EPOCHS * num_batches))


def load_encoder(path: Path, num_labels: int, device: str = "auto") -> Encoder:
    """Open the file of an encoder.

    Args:
        path: The file.
        num_labels: Number of labels that it must have.
        device: Device for torch, as for `chargen.load`.

    Raises:
        ModelError: If it is missing, damaged or not an encoder.
    """
    with open_tensors(path) as file:
        try:
            config, weights = _read_encoder(file)
            if config.num_labels != num_labels:
                raise ConfigError(f"it has {config.num_labels:,} labels, but its classifier has {num_labels:,}")
        except ConfigError as error:
            raise ModelError(f"{path} cannot be used: {error.message}", "Train the classifier again.") from error
    from chargen.networks.encoder import Encoder
    from chargen.networks.torch_runtime import resolve_device

    encoder = Encoder(config).to(resolve_device(device))
    encoder.import_weights(weights)
    return encoder


def _read_encoder(file: TensorFile) -> tuple[EncoderConfig, Tensors]:
    """Check the header of a file before anything is built from it, and read it."""
    from chargen.networks.encoder import EncoderConfig, encoder_shapes

    config = EncoderConfig.from_json(file.metadata.get("encoder", {}))
    if len(file.tensors) > 3 + 100 * config.num_layers or len(file.tensors) < 3 + 2 * config.num_layers:
        raise ConfigError(f"it has {len(file.tensors):,} weights, which do not fit {config}")
    expected = {name: ("F32", shape) for name, shape in encoder_shapes(config).items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in file.tensors.items()}
    for name in {*expected, *found}:
        if expected.get(name) != found.get(name):
            raise ConfigError(f"the weight {format_value(name)} does not fit {config}")
    weights = file.read()
    problem = find_invalid_weight(weights.items())
    if problem:
        raise ConfigError(problem)
    return config, weights
