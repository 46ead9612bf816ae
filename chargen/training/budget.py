"""Measure how much of a run is done, by steps or by seconds of a time budget.

A time budget covers the whole process, including start-up and the final evaluation of the best model. So the time that
the final evaluation will take is reserved at the end. It is estimated from the validations during training, which run
the same code.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from chargen.config import TrainConfig
from chargen.data.batches import BatchSource

FORWARD_SHARE = 0.6  #: estimated time to evaluate tokens, as a share of a training step on as many; used until measured
MAX_FINAL_SHARE = 0.25  #: maximum share of the budget that is reserved for the final evaluation
EXIT_S = 0.3  #: seconds to write the files and end the process


@dataclass
class Budget:
    """The clock of a run. With both `budget_s` and `total_steps`, the run ends with the first that is used up.

    Args:
        started: When the budget started, by `time.perf_counter`.
        budget_s: Maximum duration of the run in seconds, or None.
        total_steps: Number of steps of the run, or None.
        num_final_ids: Number of tokens that are evaluated after the last step.
        previous_s: Seconds that the run took before it was resumed.
        first_step_s: When the first step was made, by `elapsed_s`; None before it.
        s_per_eval_id: Estimated seconds to evaluate one token.
        has_validated: Whether `s_per_eval_id` was measured by a validation.
    """

    started: float
    budget_s: float | None
    total_steps: int | None
    num_final_ids: int
    previous_s: float = 0.0
    first_step_s: float | None = None
    s_per_eval_id: float = 0.0
    has_validated: bool = False

    def elapsed_s(self) -> float:
        """Return the seconds that the run took so far, without the pauses before it was resumed."""
        return time.perf_counter() - self.started + self.previous_s

    def is_used_up(self) -> bool:
        """Return whether a time budget has no time left for a step."""
        return self.budget_s is not None and self.elapsed_s() >= self.budget_s - self.final_evaluation_s()

    def has_reached_max_steps(self, step: int) -> bool:
        """Return whether a run with a time budget has made as many steps as it may."""
        return self.budget_s is not None and self.total_steps is not None and step >= self.total_steps

    def progress(self, step: int) -> float:
        """Return the completed share of the training after `step` steps, 0 to 1."""
        now = self.elapsed_s()
        if self.first_step_s is None:  # states of earlier versions do not have it if the length was a number of steps
            self.first_step_s = 0.0 if step else now
        if self.budget_s is None:
            return min(1.0, step / (self.total_steps or 1))
        end = self.budget_s - self.final_evaluation_s()
        share = 1.0 if now >= end else (now - self.first_step_s) / (end - self.first_step_s)
        return max(share, min(1.0, step / self.total_steps)) if self.total_steps else share

    def remaining_s(self, step: int, steps_per_s: float) -> float:
        """Return the estimated seconds until the last step, or, with a time budget, the rest of it if that is less.

        The rest includes the final evaluation, so that elapsed and remaining time add up to the budget.
        """
        of_steps = math.inf if self.total_steps is None else (self.total_steps - step) / max(1e-9, steps_per_s)
        if self.budget_s is None:
            return of_steps
        return max(0.0, min(of_steps + self.final_evaluation_s(), self.budget_s - self.elapsed_s()))

    def final_evaluation_s(self) -> float:
        """Return the estimated seconds from the last step to the end of the process."""
        return EXIT_S + min(self.num_final_ids * self.s_per_eval_id, MAX_FINAL_SHARE * (self.budget_s or 0.0))

    def record_training(self, num_ids: int, seconds: float) -> None:
        """Estimate the evaluation time from the fastest training steps; the first steps are slow.

        The first validation replaces this estimate.
        """
        estimate = FORWARD_SHARE * seconds / max(1, num_ids)
        if not self.has_validated:
            self.s_per_eval_id = min(estimate, self.s_per_eval_id or estimate)

    def record_validation(self, num_ids: int, seconds: float) -> None:
        """Take the evaluation time from a validation."""
        self.s_per_eval_id = seconds / max(1, num_ids)
        self.has_validated = True


def total_steps(config: TrainConfig, batches: BatchSource) -> int | None:
    """Return the maximum number of steps of a run, or None for a run that only its time budget ends."""
    epochs = config.max_epochs if config.epochs is None else config.epochs
    return config.steps if epochs is None else max(1, round(epochs * batches.windows_per_epoch))


class MovingRate:
    """A rate per second, averaged over about the last `window_s` seconds; each older part counts less."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._count = 0.0
        self._seconds = 0.0

    def add(self, count: float, seconds: float) -> float:
        """Add what was counted in the newest part, and return the rate."""
        weight = math.exp(-seconds / self._window_s)
        self._count = self._count * weight + count
        self._seconds = self._seconds * weight + seconds
        return self._count / max(1e-9, self._seconds)
