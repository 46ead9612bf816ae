"""The loss of a run against its steps, read from the reports in its `metrics.jsonl`.

A run that was killed and resumed repeats the steps after its last saved state. Their reports replace the earlier ones:

    step   10  20  30  40 ✗ resumed at 25:  30  40  50
    curve  10  20                           30  40  50
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chargen.errors import ModelError
from chargen.runs import Run

LOSS_KEYS = {"progress": "loss_nats_per_char", "evaluated": "val_loss_nats_per_char"}  # by the event of a report


class LossPoint(NamedTuple):
    """The loss at a step."""

    step: int
    epoch: float
    elapsed_s: float  #: seconds of the run, those before it was resumed included
    loss_nats_per_char: float


@dataclass(frozen=True)
class LossCurves:
    """The losses of a run, in the order of the steps.

    Attributes:
        name: Name of the run.
        training: Mean loss since the report before, with dropout.
        validation: Loss on the part of the held-out text that chooses the best model.
    """

    name: str
    training: list[LossPoint] = field(default_factory=list)
    validation: list[LossPoint] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the curves as JSON values."""
        curves = {"training": self.training, "validation": self.validation}
        return {"run": self.name, **{name: [point._asdict() for point in points] for name, points in curves.items()}}


def read_loss_curves(run: Run) -> LossCurves:
    """Read the reports of a run, which may still be training.

    Raises:
        ModelError: If there are no reports, or the file is damaged.
    """
    path = run.metrics_path
    if not os.path.isfile(path):
        raise ModelError(f"the run {run.name!r} has no {path.name}", "It is written while a run trains.")
    curves = LossCurves(run.name)
    by_event = {"progress": curves.training, "evaluated": curves.validation}
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    complete, newline, _ = data.rpartition(b"\n")  # another process may be writing the last line
    for number, line in enumerate(complete.split(b"\n") if newline else [], start=1):
        event, point = _parse(line, path, number)
        if point is None:
            continue
        points = by_event[event]
        while points and points[-1].step >= point.step:
            points.pop()
        points.append(point)
    if not (curves.training or curves.validation):
        raise ModelError(
            f"the run {run.name!r} has no reports yet", "Wait for its first one, half a second after its start."
        )
    return curves


def _parse(line: bytes, path: Path, number: int) -> tuple[str, LossPoint | None]:
    """Return the event of a line and its point; None for an event without a loss, or a loss that is not finite."""
    try:
        values = json.loads(line)
        event = str(values["event"])
        if event not in LOSS_KEYS:
            return event, None
        if "val_loss" in values:  # a report of `training/supervised`
            raise ModelError(
                f"{path} has the losses of a classifier or a forecaster, which are not losses per character",
                "chargen plot draws the losses of language models.",
            )
        loss = values[LOSS_KEYS[event]]
        loss = math.nan if loss is None else float(loss)
        point = LossPoint(int(values["step"]), float(values["epoch"]), float(values["elapsed_s"]), loss)
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"{path}: line {number:,} is no report of a training", "Restore the file, or train the run again."
        ) from error
    return event, point if all(map(math.isfinite, point)) else None
