"""How much of a run is done: by steps, or by seconds of a budget.

Of a budget, what comes after the last step (measuring the best model) is kept back, so that the whole process ends in
time. How long that takes is learned from the looks at validation that the run makes anyway.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

FORWARD_SHARE = 0.6  #: of a training step's time, that reading as many ids takes; until a look has measured it
MOST_CLOSING = 0.25  #: of the budget
CLOSING_S = 0.3  #: writing files and leaving


@dataclass
class Clock:
    """A run's clock.

    Args:
        started: when the budget began, by `time.perf_counter`.
        budget_s: how long the run may take; or None and
        total_steps: how many steps it makes.
        closing_ids: ids that are read after the last step.
        earlier_s: seconds that earlier sittings of a resumed run took.
        first_step_s: when the first step was made, by `elapsed_s`.
    """

    started: float
    budget_s: float | None
    total_steps: int | None
    closing_ids: int
    earlier_s: float = 0.0
    first_step_s: float | None = None
    s_per_closing_id: float = 0.0
    has_looked: bool = False

    def elapsed_s(self) -> float:
        """Return the seconds since the run began, earlier sittings counted, pauses between them not."""
        return time.perf_counter() - self.started + self.earlier_s

    def progress(self, step: int) -> float:
        """Return how much of the training is done after `step` steps, 0 to 1."""
        if self.budget_s is None:
            return min(1.0, step / (self.total_steps or 1))
        now = self.elapsed_s()
        begin = now if self.first_step_s is None else self.first_step_s
        self.first_step_s = begin
        end = self.budget_s - self.closing_s()
        return 1.0 if now >= end else (now - begin) / (end - begin)

    def remaining_s(self, step: int, steps_per_s: float) -> float:
        """Return the seconds to the last step, about."""
        if self.budget_s is None:
            return ((self.total_steps or 0) - step) / max(1e-9, steps_per_s)
        return max(0.0, self.budget_s - self.closing_s() - self.elapsed_s())

    def closing_s(self) -> float:
        """Return the seconds that the end of the run will take, about."""
        return CLOSING_S + min(self.closing_ids * self.s_per_closing_id, MOST_CLOSING * (self.budget_s or 0.0))

    def trained(self, ids: int, seconds: float) -> None:
        """Learn from the fastest steps how fast ids are read, until a look says it better; the first ones are slow."""
        guess = FORWARD_SHARE * seconds / max(1, ids)
        if not self.has_looked:
            self.s_per_closing_id = min(guess, self.s_per_closing_id or guess)

    def looked(self, ids: int, seconds: float) -> None:
        """Learn from a look how fast ids are read."""
        self.s_per_closing_id = seconds / max(1, ids)
        self.has_looked = True
