"""How a training run on examples is shown: a progress bar with the losses on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from types import TracebackType

from rich.console import Console

from chargen.schema import format_number, format_significant
from chargen.training.supervised.loop import FitEvaluated, FitProgress, FitReport
from chargen.ui.console import PLAIN_EVERY_S, ProgressBar, format_duration, print_line


class FitDisplay:
    """Shows the reports of a run on examples; used as a context manager.

    Args:
        console: The console on stderr.
        loss_name: What the loss is, with its unit: "log loss in nats".
    """

    def __init__(self, console: Console, loss_name: str) -> None:
        self._console, self._loss_name = console, loss_name
        self._bar = ProgressBar(console, 1.0)
        self._best = math.nan
        self._last_line_s = 0.0

    def __enter__(self) -> FitDisplay:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def show(self, report: FitReport) -> None:
        """Show a report: on a terminal in the bar, elsewhere as a line from time to time."""
        if isinstance(report, FitEvaluated):
            self._best = report.val_loss if report.best else self._best
            return
        losses = f"train {format_number(report.train_loss, 3)}"
        if not math.isnan(self._best):
            losses += f", held-out {format_number(self._best, 3)}"
        if self._console.is_terminal:
            self._bar.show(f"epoch {format_number(report.epoch, 1)}, {self._loss_name}: {losses}", report.progress)
        elif report.elapsed_s - self._last_line_s >= PLAIN_EVERY_S:
            self._last_line_s = report.elapsed_s
            print_line(self._console, self._line(report, losses))

    def _line(self, report: FitProgress, losses: str) -> str:
        return (
            f"{report.progress:4.0%}  epoch {format_number(report.epoch, 1)}  {self._loss_name}: {losses}  "
            f"{format_significant(report.examples_per_s)} examples/s  {format_duration(report.remaining_s)} left"
        )
