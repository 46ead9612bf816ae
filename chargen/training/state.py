"""Read and check the training state of a stopped run, and give a resumed run its settings.

A training state names files and has everything that training continues from, so it is checked as strictly as a model
file. The header is checked first: its JSON against a schema, and the names, types and shapes of the tensors against the
settings in the header. Then the values in the tensors are checked. A state that `load_state` returns can be trained on;
any other file gives a clear error.

A resumed run has the settings of its training state, but for its length, its device and a few others (`CHANGEABLE`).
Without a chosen device it takes its own, if this machine has it. On another device it goes on, but not bit for bit:
products are rounded differently, and the dropout masks start again from the seed, since a random generator cannot
continue from the state of a generator on another device (`TrainingState.for_device`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chargen.cells.weights import count_tensors, find_invalid_weight, get_cells, parameter_shapes
from chargen.checkpoint import FIXED_TYPES, WEIGHT_DTYPE, DamagedError, open_tensors
from chargen.config import MAX_SECONDS, MAX_STEPS, DataConfig, ModelConfig, TrainConfig, format_duration_s
from chargen.errors import ChargenError, ConfigError, ModelError, WrongKindError
from chargen.io import decode_file_name
from chargen.runs import Run
from chargen.schema import Integer, ListOf, Nullable, Number, Record, Spec, String, Tuple, format_count
from chargen.storage.stored_weights import TensorInfo, Tensors
from chargen.tokenizers.tokenizer import Tokenizer, tokenizer_from_json
from chargen.training.choices import RunLength, TrainChoices, format_duration_option

#: settings that may change when a run is resumed, besides its length and its device
CHANGEABLE = ("patience", "weight_storage")
DROPOUT = "dropout"  #: name of the state of the random generator that draws the dropout masks
MAX_GENERATOR_BYTES = 1 << 16  #: size limit of the state of a random generator; torch's on a CPU has 5,056 bytes
LOSS = Nullable(Number())  #: null if it was not finite

FILES = Nullable(ListOf(Tuple((String(), Nullable(Integer())))))  #: (name, size in bytes; null if it is not a file)

STATE_SPEC: Spec = Record(
    {
        "corpus_sha256": String(64, 64),
        "corpus_arguments": ListOf(String()),
        "val_argument": Nullable(String()),
        "tokenizer": Record({"name": String(100)}),
        "data": Record(),
        "model": Record(),
        "train": Record(),
        "trainer": Record(
            {
                "step": Integer(0, MAX_STEPS),
                "epoch": Integer(0, MAX_STEPS),
                "window": Integer(0, MAX_STEPS),
                "losses": Tuple((Number(), Integer(0, MAX_STEPS))),
            }
        ),
        "best": Tuple((LOSS, Integer(0, MAX_STEPS))),
        "elapsed_s": Number(0.0, MAX_SECONDS),
        "first_step_s": Nullable(Number(0.0, MAX_SECONDS)),
        "history": ListOf(Record({"step": Integer(0, MAX_STEPS), "train": LOSS, "val": LOSS})),
    },
    optional={
        "val_sha256": Nullable(String(64, 64)),
        "keep_state": String(20),
        "corpus_files": FILES,
        "val_files": FILES,
        "job": String(),
        "total_steps": Nullable(Integer(0, MAX_STEPS)),
    },  # new since the first version
)


@dataclass(frozen=True)
class TrainingState:
    """Everything that a resumed run needs."""

    corpus_sha256: str
    corpus_arguments: tuple[str, ...]  #: the names of the corpus, as the user gave them
    corpus_files: (
        list[list[Any]] | None
    )  #: the files that were read, as in `Corpus.parts`; None in states of the first version
    val_argument: str | None
    val_files: list[list[Any]] | None
    val_sha256: str | None  #: hash of a separate validation text
    tokenizer: Tokenizer
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    trainer: Mapping[str, Any]  #: `Trainer.counters()`: step, epoch, window, losses
    best_loss: float  #: nats per character; infinite before the first validation
    best_step: int
    total_steps: int | None  #: number of steps after which the run ends; None: only its time ends it, or not recorded
    elapsed_s: float
    first_step_s: float | None  #: see `Budget`
    keep_state: str  #: how long this file stays on disk
    history: tuple[dict[str, float], ...]  #: all validations: {"step", "train", "val"}
    tensors: Tensors = field(repr=False)

    def for_device(self, device: str) -> TrainingState:
        """Return the state that is continued on a device: on another one than its own, without the random state."""
        if device == self.train.device:
            return self
        return replace(self, tensors={name: tensor for name, tensor in self.tensors.items() if name != DROPOUT})


def load_run_state(run: Run) -> TrainingState:
    """Read and check the training state of a run.

    Raises:
        ModelError: If the run has none, or if `load_state` refuses it.
    """
    if not os.path.lexists(run.state_path):
        raise ModelError(
            f"the run {run.name!r} has no training state, so it cannot be continued",
            f"It was removed (--keep-state). To start a new run from its model: --init-from {run.name}.",
        )
    return load_state(run.state_path)


def load_state(path: Path) -> TrainingState:
    """Read and check a training state.

    Raises:
        ModelError: If the file is missing, damaged, inconsistent, or not a training state.
    """
    with open_tensors(path) as file:
        try:
            header = file.metadata
            if "kind" in header:  # only the states of other models have it
                raise WrongKindError.of_run(path.parent.name, header["kind"], "language model")
            STATE_SPEC.check(header, "header")
            model = ModelConfig.from_json(header["model"])
            train = TrainConfig.from_json(header["train"])
            _check_numbers(header)
            _check_header(model, train, header["best"][0] is not None, file.tensors)
            tokenizer = tokenizer_from_json(header["tokenizer"])
            if tokenizer.vocab_size != model.vocab_size:
                raise ModelError(
                    f"its vocabulary has {tokenizer.vocab_size:,} token ids, its network {model.vocab_size:,}"
                )
            tensors = file.read()
            _check_values(model, tensors)
        except ChargenError as error:
            if isinstance(error, (DamagedError, WrongKindError)):
                raise
            raise ModelError(
                f"{path} cannot be used: {error.message}", error.hint or "Start a new run; --init-from uses its model."
            ) from error
        best_loss, best_step = header["best"]
        history = tuple(
            {key: math.nan if value is None else value for key, value in validation.items()}
            for validation in header["history"]
        )
        return TrainingState(
            corpus_sha256=header["corpus_sha256"],
            corpus_arguments=tuple(decode_file_name(name) for name in header["corpus_arguments"]),
            corpus_files=header.get("corpus_files"),
            val_argument=decode_file_name(header["val_argument"]) if header["val_argument"] else None,
            val_files=header.get("val_files"),
            val_sha256=header.get("val_sha256"),
            tokenizer=tokenizer,
            data=DataConfig.from_json(header["data"]),
            model=model,
            train=train,
            trainer=header["trainer"],
            best_loss=math.inf if best_loss is None else float(best_loss),
            best_step=best_step,
            total_steps=header.get("total_steps", train.steps),
            elapsed_s=float(header["elapsed_s"]),
            first_step_s=header["first_step_s"],
            keep_state=header.get("keep_state", "always"),
            history=history,
            tensors=tensors,
        )


def _check_numbers(header: Mapping[str, Any]) -> None:
    """Check that the numbers of a state are consistent."""
    best_loss, best_step = header["best"]
    step = header["trainer"]["step"]
    if best_step > step or (best_step > 0 and (best_loss is None or not header["history"])):
        raise ModelError(f"its best model is from step {best_step:,}, which the state does not have")
    if header["first_step_s"] is not None and header["first_step_s"] > header["elapsed_s"]:
        raise ModelError("its first step is later than its end")


def _check_header(model: ModelConfig, train: TrainConfig, has_best: bool, tensors: Mapping[str, TensorInfo]) -> None:
    """Check the names, types and shapes of the tensors, in time proportional to their number."""
    if count_tensors(model) > len(tensors):  # cheaper than building the names of a huge network
        raise ModelError(f"it has {format_count(len(tensors), 'tensor')}, fewer than its network has weights")
    first_axis = tensors["state.0.0"].shape[:1] if "state.0.0" in tensors else ()
    if not first_axis or not 1 <= first_axis[0] <= train.batch_size:
        raise ModelError("its carried state does not fit its batch size")
    expected = _expected_tensors(model, has_best, first_axis[0])
    for name, wanted in expected.items():
        if name not in tensors:
            raise ModelError(f"the tensor {name!r} is missing")
        tensor = tensors[name]
        if tensor != wanted and not (name == DROPOUT and _is_generator_state(tensor)):
            raise ModelError(
                f"the tensor {name!r} is {tensor.dtype} {list(tensor.shape)}, but its settings need "
                f"{wanted.dtype} {list(wanted.shape)}"
            )
    for name in tensors:
        if name not in expected:
            raise ModelError(f"the tensor {name!r} is not a part of a training state")


def _is_generator_state(tensor: TensorInfo) -> bool:
    """Return whether a tensor can be the state of a random generator; its size depends on the device."""
    return tensor.dtype == "U8" and len(tensor.shape) == 1 and 1 <= tensor.shape[0] <= MAX_GENERATOR_BYTES


def _expected_tensors(model: ModelConfig, has_best: bool, batch_size: int) -> dict[str, TensorInfo]:
    """Return the type and shape of every tensor of a state, by name."""
    expected = {DROPOUT: TensorInfo("U8", (0,))}
    for name, shape in parameter_shapes(model).items():
        dtype = FIXED_TYPES.get(name, WEIGHT_DTYPE)
        expected[f"weights.{name}"] = TensorInfo(dtype, shape)
        if has_best:
            expected[f"best.{name}"] = TensorInfo(dtype, shape)
        if name in FIXED_TYPES:
            continue
        parameter = name.replace(".", "__")
        if name == "ngrams.weight":
            expected[f"squares.{parameter}"] = TensorInfo("F32", shape[:1])
            continue
        expected[f"exp_avg.{parameter}"] = expected[f"exp_avg_sq.{parameter}"] = TensorInfo("F32", shape)
        expected[f"step.{parameter}"] = TensorInfo("F32", (1,))
    cells = get_cells(model)
    for layer in range(model.total_layers):
        for part, _ in enumerate(cells[layer % model.num_layers].state_names):
            expected[f"state.{layer}.{part}"] = TensorInfo("F32", (batch_size, model.hidden_size))
    if model.ngrams:
        expected[f"state.{model.total_layers}.0"] = TensorInfo("I64", (batch_size, model.num_history))
    return expected


def _check_values(model: ModelConfig, tensors: Tensors) -> None:
    """Check the values in the tensors."""
    for kind in ("weights.", "best."):
        weights = ((name.removeprefix(kind), t) for name, t in tensors.items() if name.startswith(kind))
        problem = find_invalid_weight(weights)
        if problem:
            raise ModelError(problem, "Train again with a lower learning rate (--lr), which keeps the weights small.")
    for name, tensor in tensors.items():
        kind = name.partition(".")[0]
        low = float(tensor.min())
        high = float(tensor.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ModelError(f"the tensor {name!r} contains NaN or infinity")
        if kind in ("exp_avg_sq", "squares", "step") and low < 0.0:
            raise ModelError(f"the tensor {name!r} contains {low:g}, but must not be negative")
        if kind == "step" and high > MAX_STEPS:
            raise ModelError(f"the tensor {name!r} contains {high:g}, but must be at most {MAX_STEPS:g}")
        ids = tensor[:, : model.ngrams - 1] if tensor.dtype == np.int64 else tensor[:0]  # the rest are hashes
        if ids.size and not 0 <= ids.min() <= ids.max() < model.vocab_size:
            raise ModelError(f"the tensor {name!r} contains token ids that are not in the vocabulary")


def is_finished(saved: TrainingState) -> bool:
    """Return whether a run was trained for its whole length."""
    if saved.total_steps is not None and saved.trainer["step"] >= saved.total_steps:
        return True
    return saved.train.budget_s is not None and saved.elapsed_s >= saved.train.budget_s


def extendable_budget_s(saved: TrainingState) -> float | None:
    """Return the time that more time is added to: the budget of a run, or what it used of it if it ended early."""
    budget_s = saved.train.budget_s
    return min(budget_s, saved.elapsed_s) if budget_s is not None and is_finished(saved) else budget_s


def check_length(length: RunLength, saved: TrainingState, run: str, extra_budget_s: float = 0.0) -> None:
    """Check that the length that was chosen for a resumed run is not shorter than what the run already has.

    The check needs no torch, which takes seconds to load. Without a chosen length there is nothing to check: a finished
    run may be resumed to evaluate its model again.

    Args:
        length: The length that was chosen.
        saved: The training state of the run.
        run: Name of the run.
        extra_budget_s: Seconds to add to the budget.

    Raises:
        ConfigError: If the length is too short.
    """
    budget_s = length.budget_s
    if extra_budget_s and (budget_s or saved.train.budget_s):
        budget_s = (budget_s or extendable_budget_s(saved) or 0.0) + extra_budget_s
    step, position = saved.trainer["step"], (saved.trainer["epoch"], saved.trainer["window"])
    if budget_s is not None and saved.elapsed_s >= budget_s:
        more = format_duration_option(saved.elapsed_s if extra_budget_s else budget_s)
        raise ConfigError(
            f"the budget of {format_duration_s(budget_s)} is already used up "
            f"({format_duration_s(saved.elapsed_s)} so far); to add time: --more {more}"
        )
    if length.steps is not None and step > length.steps:
        raise ConfigError(
            f"the run {run!r} already has {format_count(step, 'step')}, more than --steps {length.steps}",
            f"Give a larger number, such as --steps {step + length.steps}.",
        )
    if length.epochs is not None and position > (length.epochs, 0):
        raise ConfigError(
            f"the run {run!r} has already read the text {format_count(position[0], 'time')}, so --epochs "
            f"{length.epochs:g} is over",
            f"Give a larger number, such as --epochs {position[0] + length.epochs:.15g}.",
        )


def check_same_settings(chosen: Mapping[str, Any], saved: TrainingState, run: str) -> None:
    """Check that the settings that were chosen do not contradict those of the run to resume.

    Raises:
        ConfigError: If a setting differs that is not `CHANGEABLE`.
    """
    settings = {**asdict(saved.model), **saved.train.to_json()}
    for name, value in chosen.items():
        if name not in CHANGEABLE and settings.get(name, value) != value:
            raise ConfigError(
                f"{name} is {value}, but the run {run!r} has {settings[name]}",
                "Leave it out: a resumed run keeps its settings.",
            )


def resumed_train_config(
    length: RunLength, train: TrainChoices, extra_budget_s: float, saved: TrainingState, device: str
) -> TrainConfig:
    """Return the training settings of a resumed run: its own, except for its length, device and `CHANGEABLE`.

    Args:
        length: The length that was chosen; without one, it is that of the run.
        train: The settings that were chosen.
        extra_budget_s: Seconds to add to the budget.
        saved: The training state of the run.
        device: The device to train on.

    Raises:
        ConfigError: If time is to be added to a run without a time budget.
    """
    own_length = RunLength(budget_s=saved.train.budget_s, steps=saved.train.steps, epochs=saved.train.epochs)
    if extra_budget_s:
        budget_s = length.budget_s if length.chosen() else extendable_budget_s(saved)
        if not budget_s:
            raise ConfigError(
                "only a run with a time budget can be given more time",
                "Give this run a larger number of --steps or --epochs.",
            )
        length = RunLength(budget_s=budget_s + extra_budget_s)
    elif not length.chosen():
        length = own_length
    changed: dict[str, Any] = {name: value for name, value in train.chosen().items() if name in CHANGEABLE}
    if extra_budget_s or length != own_length:  # more time was asked for, or another kind of length
        changed["max_epochs"] = None
    return TrainConfig.from_json({**saved.train.to_json(), **asdict(length), **changed, "device": device})
