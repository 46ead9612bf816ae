"""How a training run looks: a live display on a terminal, plain lines elsewhere, and the words at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.training.events import Evaluated, Finished, Progress, Report, Started
from chargen.ui.console import abandon_output, bits, live, seconds
from chargen.ui.terminal_text import visible, visible_text

PLAIN_EVERY_S = 10.0  #: between two plain lines
REFRESH_S = 0.25  #: between two pictures of the live display, at least
SAMPLE_EVERY_S = 5.0  #: between two samples on the live display, at least

Sampler = Callable[[Checkpoint], str]  #: a model as it is now → a few lines that it writes


class Display(Protocol):
    """Something that shows reports while it is entered."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, report: Report) -> None: ...


def display(console: Console, sampler: Sampler) -> Display:
    """Return the display that fits the console; a run goes on without it where it cannot be written any more."""
    return LastingDisplay(LiveDisplay(console, sampler) if console.is_terminal else PlainDisplay(console))


class LastingDisplay:
    """Another display, until it cannot be written: its pipe or terminal was closed, or its disk is full.

    A run of hours is not to end because nobody looks at it.
    """

    def __init__(self, display: Display) -> None:
        self._display: Display | None = display

    def __enter__(self) -> LastingDisplay:
        self._try(lambda shown: shown.__enter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._try(lambda shown: shown.__exit__(kind, error, trace))

    def show(self, report: Report) -> None:
        self._try(lambda shown: shown.show(report))

    def _try(self, call: Callable[[Display], object]) -> None:
        if self._display is None:
            return
        try:
            call(self._display)
        except OSError:
            self._display = None
            abandon_output()


class PlainDisplay:
    """A line now and then: for files, pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0
        self._chars_per_s = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, report: Report) -> None:
        if isinstance(report, Started):
            for line in describe(report):
                self._line(line)
        elif isinstance(report, Progress) and report.elapsed_s - self._last >= PLAIN_EVERY_S:
            self._last = report.elapsed_s
            self._line(
                f"{report.progress:4.0%}  step {report.step:,}  train {bits(report.loss_nats_per_char)} bits/char  "
                f"{report.chars_per_s:,.0f} chars/s  {seconds(report.remaining_s)} left"
            )
        elif isinstance(report, Evaluated):
            mark = "  best so far, saved" if report.best else ""
            losses = (
                f"train {bits(report.train_loss_nats_per_char)}  val {bits(report.val_loss_nats_per_char)} bits/char"
            )
            self._line(f"      step {report.step:,}  {losses}{mark}")

    def _line(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class LiveDisplay:
    """A bar, the losses, the speed and the newest sample, redrawn in place."""

    def __init__(self, console: Console, sampler: Sampler) -> None:
        self._console, self._sampler = console, sampler
        self._live = live(console)
        self._progress: Progress | None = None
        self._look: Evaluated | None = None
        self._best = math.inf
        self._sample = ""
        self._sampled = self._drawn = -math.inf

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        self._live.update(Text("reading the text, loading torch …", style="dim"), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, report: Report) -> None:
        if isinstance(report, Started):
            for line in describe(report):
                self._console.print(line)
        elif isinstance(report, Progress):
            self._progress = report
        elif isinstance(report, Evaluated):
            self._look = report
            self._best = min(self._best, report.val_loss_nats_per_char)
            if report.elapsed_s - self._sampled >= SAMPLE_EVERY_S:
                self._sample, self._sampled = self._sampler(report.checkpoint), report.elapsed_s
        if self._progress is not None:
            refresh = time.monotonic() - self._drawn >= REFRESH_S
            self._drawn = time.monotonic() if refresh else self._drawn
            self._live.update(self._picture(self._progress), refresh=refresh)

    def _picture(self, now: Progress) -> Group:
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right")
        bar.add_row(
            ProgressBar(total=1.0, completed=now.progress),
            f"{now.progress:.0%}  {seconds(now.elapsed_s)} gone, {seconds(now.remaining_s)} left",
        )
        losses = Table.grid(padding=(0, 2))
        losses.add_row("step", f"{now.step:,}", "epoch", f"{now.epoch:.2f}", "speed", f"{now.chars_per_s:,.0f} chars/s")
        val = bits(self._look.val_loss_nats_per_char) if self._look else "–"
        losses.add_row(
            "train", f"{bits(now.loss_nats_per_char)} bits/char", "val", f"{val} bits/char", "best", bits(self._best)
        )
        parts: list[Table | Panel] = [bar, losses]
        if self._sample and self._look:
            panel = Panel(
                Text(visible_text(self._sample)), title=Text(f"a sample at step {self._look.step:,}"),
                title_align="left", border_style="dim",
            )  # fmt: skip
            parts.append(panel)
        return Group(*parts)


def describe(report: Started) -> list[str]:
    """Return the lines that say what is going to be trained on what."""
    model, train = report.model, report.train
    if report.total_steps is None:
        length = f"a budget of {seconds(train.budget_s or 0)}"
    else:
        length = f"{report.total_steps:,} steps" + (f", from {report.first_step:,}" if report.first_step else "")
    of_ngrams = f", of n-grams {model.ngram_dropout:g}" if model.ngrams else ""
    lines = [
        *(f"note: {note}" for note in report.notes),
        f"{report.corpus}: {report.train_chars:,} characters to learn from, {report.val_chars:,} held out",
        f"{model}, {report.parameters:,} parameters, vocabulary {model.vocab_size:,}, "
        f"dropout {model.dropout:g}, of weights {model.weight_dropout:g}{of_ngrams}; "
        f"{train.batch_size} lanes × {train.seq_len}; "
        f"{length} on {train.device}, seed {train.seed}",
    ]
    return [visible(line) for line in lines]


def summary(report: Finished) -> Group:
    """Return what a run says at its end: the number, its yardsticks, what it means, where the model is."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in ("", "bits/char", "nats/char"):
        table.add_column(column, justify="left" if not column else "right")
    rows = [
        ("this model, on the held-out text", report.val_loss_nats_per_char),
        ("  its second half, which no choice looked at", report.val_second_half_nats_per_char),
        ("an interpolated 5-gram", report.ngram_5_nats_per_char),
        ("lzma", report.lzma_nats_per_char),
    ]
    if report.entropy_nats_per_char is not None:
        rows.append(("the source's entropy", report.entropy_nats_per_char))
    for name, nats in rows:
        table.add_row(name, f"{nats / LN2:.3f}", f"{nats:.3f}")
    ended = "Stopped early" if report.interrupted else "Done"
    lines = [
        "",
        f"{ended} after {seconds(report.elapsed_s)}: {report.steps:,} steps, {report.epochs:.1f} epochs, "
        f"{report.chars_per_s:,.0f} chars/s; perplexity {report.val_perplexity_per_char:.2f} per character.",
        report.diagnosis,
        *report.advice,
        f"The best model (step {report.best_step:,}) is {report.model_path}",
    ]
    return Group(table, Text("\n".join(map(visible, lines))))
