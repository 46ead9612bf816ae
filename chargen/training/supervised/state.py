"""The training state of a run on examples: everything that a resumed run needs, in one checked file.

The file is `training_state.safetensors` in the folder of the run. Its header states the kind of the run, a hash of the
examples and settings that the task describes, so that a run is never continued on other data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chargen.cells.weights import find_invalid_weight
from chargen.checkpoint import DamagedError, open_tensors
from chargen.config import MAX_SECONDS, MAX_STEPS, TrainConfig, format_duration_s
from chargen.errors import ChargenError, ConfigError, ModelError, WrongKindError
from chargen.runs import Run
from chargen.schema import Integer, ListOf, Nullable, Number, Record, Spec, String, Tuple, format_count
from chargen.storage.stored_weights import Tensors
from chargen.training.choices import RunLength

LOSS = Nullable(Number())  #: null if it was not finite
STATE_SPEC: Spec = Record(
    {
        "kind": String(100),
        "data_sha256": String(64, 64),
        "task": Record(),
        "train": Record(),
        "step": Integer(0, MAX_STEPS),
        "epoch": Integer(0, MAX_STEPS),
        "batch": Integer(0, MAX_STEPS),
        "since_validation": Tuple((Number(), Integer(0, MAX_STEPS), Integer(0, MAX_STEPS))),
        "validated_at": Number(0.0, 1.0),
        "best": Tuple((LOSS, Integer(0, MAX_STEPS))),
        "elapsed_s": Number(0.0, MAX_SECONDS),
        "first_step_s": Nullable(Number(0.0, MAX_SECONDS)),
        "history": ListOf(Record({"step": Integer(0, MAX_STEPS), "train": LOSS, "val": LOSS})),
    }
)


@dataclass(frozen=True)
class SupervisedState:
    """Everything that a resumed run needs."""

    kind: str  #: kind of the model that is trained: "encoder" or "forecaster"
    data_sha256: str  #: hash of the examples
    task: Mapping[str, Any]  #: settings of the task, as JSON
    train: TrainConfig
    step: int
    epoch: int  #: number of whole passes over the examples
    batch: int  #: position of the next batch in its epoch
    since_validation: tuple[float, int, int]  #: sum of the losses, steps and examples since the last validation
    validated_at: float  #: completed share of the run at the last validation
    best_loss: float  #: infinite before the first validation
    best_step: int
    elapsed_s: float
    first_step_s: float | None  #: see `Budget`
    history: tuple[dict[str, float], ...]  #: all validations: {"step", "train", "val"}
    tensors: Tensors = field(repr=False)

    def part(self, prefix: str) -> Tensors:
        """Return the tensors whose names start with a prefix, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def best_weights(self) -> Tensors:
        """Return the weights with the lowest validation loss so far; empty before the first validation."""
        return self.part("best.")

    def to_json(self) -> dict[str, Any]:
        """Return the header of the file; losses that are not finite become null."""
        values = {name: value for name, value in self.__dict__.items() if name not in ("tensors", "train", "task")}
        best = [values.pop("best_loss"), values.pop("best_step")]
        return {**values, "task": dict(self.task), "train": self.train.to_json(), "best": best}


def load_supervised_state(run: Run, kind: str) -> SupervisedState:
    """Read and check the training state of a run.

    Args:
        run: The run.
        kind: The kind of the model that the command trains.

    Raises:
        ModelError: If the run has none, if it is damaged, or if it trains another kind of model.
    """
    if not run.state_path.exists():
        raise ModelError(
            f"the run {run.name!r} has no training state, so it cannot be continued",
            "Start a new run, without --resume.",
        )
    with open_tensors(run.state_path) as file:
        try:
            header = file.metadata
            if header.get("kind") != kind:
                raise WrongKindError.of_run(run.name, header.get("kind", "language model"), kind)
            STATE_SPEC.check(header, "header")
            train = TrainConfig.from_json(header["train"])
            tensors = file.read()
            problem = find_invalid_weight((name, t) for name, t in tensors.items() if name.startswith("weights."))
            if problem:
                raise ModelError(problem)
        except ChargenError as error:
            if isinstance(error, (DamagedError, WrongKindError)):
                raise
            raise ModelError(f"{run.state_path} cannot be used: {error.message}", "Start a new run.") from error
    values = {name: value for name, value in header.items() if name not in ("best", "train", "history")}
    best_loss, best_step = header["best"]
    history = tuple(
        {key: math.nan if value is None else value for key, value in validation.items()}
        for validation in header["history"]
    )
    values["since_validation"] = tuple(values["since_validation"])
    return SupervisedState(
        **values,
        train=train,
        best_loss=math.inf if best_loss is None else float(best_loss),
        best_step=best_step,
        history=history,
        tensors=tensors,
    )


def resumed_config(saved: SupervisedState, length: RunLength, run: str) -> TrainConfig:
    """Return the settings of a resumed run: those it had, with another length if one is given.

    Args:
        saved: The training state of the run.
        length: The length of the whole run; without one, the run keeps its own.
        run: The name of the run.

    Raises:
        ConfigError: If the run already is longer.
    """
    if not length.chosen():
        return saved.train
    train = replace(saved.train, **{"budget_s": None, "steps": None, "epochs": None, **length.chosen()})
    hint = "Give the length of the whole run, with what it has so far."
    if train.steps is not None and saved.step > train.steps:
        raise ConfigError(
            f"the run {run!r} already has {format_count(saved.step, 'step')}, more than --steps {train.steps}", hint
        )
    if train.budget_s is not None and saved.elapsed_s >= train.budget_s:
        taken, given = format_duration_s(saved.elapsed_s), format_duration_s(train.budget_s)
        raise ConfigError(f"the run {run!r} already took {taken}, more than --budget {given}", hint)
    if train.epochs is not None and (saved.epoch, saved.batch) > (train.epochs, 0):
        raise ConfigError(
            f"the run {run!r} has already read its examples {format_count(saved.epoch, 'time')}, so --epochs "
            f"{train.epochs:g} is over",
            hint,
        )
    return train
