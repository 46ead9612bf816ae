"""Train a network on examples until its time, its steps or its epochs are used up, and keep the best weights.

    epoch      examples in random order ─▶ batch ─▶ loss ─▶ optimizers ─▶ …  (objective.py)
    now and then   validation loss ─▶ best weights so far
    once a minute  training state ─▶ training_state.safetensors              (state.py)

The loop yields reports and prints nothing. As in `training/loop.py`, a stopped run validates once more and ends as
usual, and a resumed run makes the same steps as a run that was never stopped, bit for bit. That holds for lengths in
steps and epochs: with a time budget, the learning rate follows the clock. On another device, a resumed run starts its
dropout masks again from the seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from chargen.checkpoint import save_tensors
from chargen.config import TrainConfig
from chargen.errors import STOPPED_EARLY, DivergenceError, ModelError, StoppedError
from chargen.io import make_storage_error, to_json_line
from chargen.networks.torch_runtime import ThreadTuner
from chargen.run_writer import RunWriter
from chargen.storage.stored_weights import Tensors
from chargen.training.budget import Budget, MovingRate
from chargen.training.optimizers import AdamW, SparseAdagrad, learning_rate_factor
from chargen.training.supervised.objective import Indices, Objective
from chargen.training.supervised.state import SupervisedState

REPORT_EVERY_S = 0.25  #: time between two reports of the progress
SAVE_EVERY_S = 60.0  #: maximum time between two saves of the training state
SPEED_WINDOW_S = 10.0
VALIDATION_COST = 4  #: examples that are trained on, at least, for each one that a validation reads
MAX_VALIDATION_SHARE = 0.05  #: a validation is due after this share of a run, even within the first epoch
DIVERGED = "Search the data for extreme values, or try another --seed."  #: hint of an error: the tasks have no --lr


@dataclass(frozen=True)
class FitProgress:
    """Some steps were made."""

    step: int
    progress: float  #: completed share of the run, 0 to 1
    epoch: float
    elapsed_s: float
    remaining_s: float
    examples_per_s: float  #: moving average
    train_loss: float  #: mean since the last validation, with dropout
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "progress", **asdict(self)}


@dataclass(frozen=True)
class FitEvaluated:
    """The current weights were evaluated."""

    step: int
    epoch: float
    elapsed_s: float
    train_loss: float  #: mean since the last validation, with dropout
    val_loss: float  #: loss on the examples that choose the best weights
    best: bool  #: whether this is the lowest loss so far

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "evaluated", **asdict(self)}


FitReport = FitProgress | FitEvaluated


@dataclass(frozen=True)
class FitPlan:
    """How a network is trained on examples.

    Raises:
        ConfigError: If a setting is out of range.
    """

    kind: str  #: kind of the model, for the training state
    task: Mapping[str, Any]  #: settings of the task as JSON, from which a resumed run builds its objective
    data_sha256: str  #: hash of the examples
    train: TrainConfig
    started: float  #: start of the budget, by `time.perf_counter`
    max_epochs: float = math.inf  #: limit of the passes over the examples of a run with a time budget
    stop_after: int | None = None  #: the step after which the run is interrupted
    save_every_s: float = SAVE_EVERY_S


class Fit:
    """A training run on examples.

    Args:
        objective: The examples and the network.
        plan: How it is trained.
        writer: The folder of the run.
        saved: The training state of the run to resume, or None.

    Raises:
        ModelError: If the state belongs to other data or another network.
    """

    def __init__(
        self, objective: Objective, plan: FitPlan, writer: RunWriter, saved: SupervisedState | None = None
    ) -> None:
        self.objective, self.plan, self._writer = objective, plan, writer
        train = plan.train
        self._batches_per_epoch = len(objective.batches(0))
        total = train.steps
        if train.epochs is not None:
            total = max(1, round(train.epochs * self._batches_per_epoch))
        num_final = objective.num_validated + objective.num_final
        self._budget = Budget(plan.started, train.budget_s, total, num_final)
        self._optimizer = AdamW(objective.network, train)
        rule = objective.ngram_rule
        self._ngram_optimizer = SparseAdagrad(objective.network, train.batch_size, rule.rate_factor, rule.damping)
        self._generator = torch.Generator(device=_generator_device(train))
        self._generator.manual_seed(train.seed)
        self.step, self._epoch, self._batch = 0, 0, 0
        self._loss_sum, self._loss_steps, self._examples = 0.0, 0, 0  # since the last validation
        self._validated_at = 0.0
        self.best_loss, self.best_step = math.inf, 0
        self.best_weights: Tensors = {}
        self.history: list[dict[str, float]] = []
        self.interrupted = False
        self.first_step = 0  #: number of steps before the run was resumed
        self._order: Sequence[Indices] = ()
        self._rate = MovingRate(SPEED_WINDOW_S)
        if saved:
            self._restore(saved)

    @property
    def epoch(self) -> float:
        """The number of times that the examples were read so far."""
        return self._epoch + self._batch / self._batches_per_epoch

    def reports(self, stop: Callable[[], bool] = lambda: False) -> Iterator[FitReport]:
        """Train, yield reports, and give the network the best weights at the end.

        Args:
            stop: Called after each step; the run ends early if it returns True.

        Raises:
            StoppedError: If the run was stopped before its first step.
            DivergenceError: If a training loss, or every validation loss, is not a finite number.
            StorageError: If a file cannot be written.
        """
        reported_s = saved_s = time.perf_counter()
        num_reported = 0
        with ThreadTuner(self.plan.train.device == "cpu" and self.plan.train.budget_s is not None) as threads:
            while not self.step or self._progress() < 1.0:  # a short budget makes a step, too
                if stop() or self.step == self.plan.stop_after:
                    self.interrupted = True
                    break
                num_reported += self._train_step()
                now = time.perf_counter()
                if now - reported_s >= REPORT_EVERY_S:
                    threads.observe(num_reported / (now - reported_s))
                    yield self._report(num_reported, now - reported_s)
                    reported_s, num_reported = now, 0
                if self._is_validation_due():
                    yield self._validate()
                    reported_s, num_reported = time.perf_counter(), 0
                if now - saved_s >= self.plan.save_every_s:
                    self.save_state()
                    saved_s = now
            if not self.step:
                raise StoppedError(STOPPED_EARLY)
            self.save_state()  # before the last validation, which a run that is continued does not make
            if self._loss_steps:
                yield self._validate()
        if not self.best_weights:
            raise DivergenceError(
                f"the run {self._writer.run.name!r} has no model: none of its validation losses was a finite number",
                DIVERGED,
            )
        self.objective.network.import_weights(self.best_weights)

    def _progress(self) -> float:
        share = self._budget.progress(self.step)
        if self._budget.budget_s is not None:
            share = max(share, self.step / (self.plan.max_epochs * self._batches_per_epoch))
        return min(1.0, share)

    def _train_step(self) -> int:
        """Make a step, and return the number of its examples."""
        if not self._order:
            self._order = self.objective.batches(self._epoch)
        batch = self._order[self._batch]
        train = self.plan.train
        factor = learning_rate_factor(self._progress(), train.warmup, train.final_learning_rate)
        self._optimizer.clear_gradients()
        loss = self.objective.loss(batch, self._generator)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._optimizer.parameters(), train.clip_norm)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise DivergenceError(
                f"the loss is {value:g} and the gradient norm is {float(norm):g} at step {self.step + 1:,}",
                DIVERGED,
            )
        self._learning_rate = train.learning_rate * factor
        self._optimizer.step(self._learning_rate)
        self._ngram_optimizer.step(self._learning_rate)
        self.step += 1
        self._loss_sum, self._loss_steps = self._loss_sum + value, self._loss_steps + 1
        self._examples += len(batch)
        self._batch += 1
        if self._batch == len(self._order):
            self._epoch, self._batch, self._order = self._epoch + 1, 0, ()
        return len(batch)

    def _is_validation_due(self) -> bool:
        """Return whether it is time for a validation: after an epoch, or a share of the run, but not too often."""
        if self._examples < VALIDATION_COST * self.objective.num_validated:
            return False
        is_late = self._progress() - self._validated_at >= MAX_VALIDATION_SHARE
        return is_late or self._examples >= self.objective.num_examples

    def _validate(self) -> FitEvaluated:
        started = time.perf_counter()
        loss = self.objective.validation_loss()
        self._budget.record_validation(self.objective.num_validated, time.perf_counter() - started)
        is_best = loss < self.best_loss  # never true for NaN
        if is_best:
            self.best_loss, self.best_step = loss, self.step
            self.best_weights = self.objective.network.export_weights()
        train_loss = self._mean_loss()
        self.history.append({"step": self.step, "train": train_loss, "val": loss})
        self._loss_sum, self._loss_steps, self._examples = 0.0, 0, 0
        self._validated_at = self._progress()
        report = FitEvaluated(self.step, self.epoch, self._budget.elapsed_s(), train_loss, loss, is_best)
        self._log(report)
        return report

    def _mean_loss(self) -> float:
        return self._loss_sum / self._loss_steps if self._loss_steps else math.nan

    def _report(self, num_examples: int, seconds: float) -> FitProgress:
        examples_per_s = self._rate.add(num_examples, seconds)
        steps_per_s = examples_per_s * self._batches_per_epoch / self.objective.num_examples
        remaining_s = self._budget.remaining_s(self.step, steps_per_s)
        if math.isfinite(self.plan.max_epochs) and self._budget.budget_s is not None:
            num_left = self.plan.max_epochs * self._batches_per_epoch - self.step
            remaining_s = min(remaining_s, num_left / max(1e-9, steps_per_s))
        return FitProgress(
            step=self.step,
            progress=self._progress(),
            epoch=self.epoch,
            elapsed_s=self._budget.elapsed_s(),
            remaining_s=remaining_s,
            examples_per_s=examples_per_s,
            train_loss=self._mean_loss(),
            learning_rate=self._learning_rate,
        )

    def state(self) -> SupervisedState:
        """Return everything that a resumed run needs."""
        weights = {f"weights.{name}": value for name, value in self.objective.network.export_weights().items()}
        best = {f"best.{name}": value for name, value in self.best_weights.items()}
        generator = {"generator": self._generator.get_state().cpu().numpy()}
        return SupervisedState(
            kind=self.plan.kind,
            data_sha256=self.plan.data_sha256,
            task=self.plan.task,
            train=self.plan.train,
            step=self.step,
            epoch=self._epoch,
            batch=self._batch,
            since_validation=(self._loss_sum, self._loss_steps, self._examples),
            validated_at=self._validated_at,
            best_loss=self.best_loss,
            best_step=self.best_step,
            elapsed_s=self._budget.elapsed_s(),
            first_step_s=self._budget.first_step_s,
            history=tuple(self.history),
            tensors={**weights, **best, **generator, **self._optimizer.tensors(), **self._ngram_optimizer.tensors()},
        )

    def save_state(self) -> None:
        """Write the training state.

        Raises:
            StorageError: If it cannot be written. The last complete state is then unchanged.
        """
        self._writer.is_worth_keeping = True
        state = self.state()
        save_tensors(self._writer.run.state_path, state.tensors, state.to_json())

    def _restore(self, saved: SupervisedState) -> None:
        """Continue from a training state."""
        if saved.data_sha256 != self.plan.data_sha256:
            raise ModelError(
                f"the run {self._writer.run.name!r} was trained on other data than this",
                "Resume it with its own data, or start a new run.",
            )
        network, best = self.objective.network, saved.best_weights()
        try:
            network.import_weights(saved.part("weights."))
            if best:
                network_shapes = {name: value.shape for name, value in network.export_weights().items()}
                if {name: value.shape for name, value in best.items()} != network_shapes:
                    raise KeyError("best weights of this network")
            self._optimizer.restore(saved.tensors)
            self._ngram_optimizer.restore(saved.tensors)
            if _generator_device(saved.train) == _generator_device(self.plan.train):
                self._generator.set_state(torch.from_numpy(saved.tensors["generator"].copy()))
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"the training state of {self._writer.run.name!r} does not fit its network: {error}", "Train again."
            ) from error
        self.step = self.first_step = saved.step
        self._epoch, self._batch = saved.epoch, saved.batch
        if self._batch >= self._batches_per_epoch:
            raise ModelError(f"the training state is at batch {self._batch:,}, which its data does not have")
        self._loss_sum, self._loss_steps, self._examples = saved.since_validation
        self._validated_at = saved.validated_at
        self.best_loss, self.best_step, self.best_weights = saved.best_loss, saved.best_step, best
        self.history = list(saved.history)
        self._budget.previous_s, self._budget.first_step_s = saved.elapsed_s, saved.first_step_s

    def _log(self, report: FitReport) -> None:
        path = self._writer.run.metrics_path
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(to_json_line(report.to_json()) + "\n")
        except OSError as error:
            raise make_storage_error(path, error) from error


def _generator_device(train: TrainConfig) -> str:
    """Return the device of the random generator of the dropout masks."""
    return train.device if train.device == "cuda" else "cpu"
