"""How a training run is shown: a live display on a terminal, plain lines elsewhere, and a summary at the end.

Losses are shown in bits per character; in JSON they are in nats, and the names of the keys say so.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chargen.checkpoint import Checkpoint
from chargen.config import format_duration_s
from chargen.folders import chosen_checkpoints
from chargen.schema import format_count, format_number
from chargen.text.series.quantizer import Quantizer
from chargen.training.events import Evaluated, Finished, Progress, Report, Started
from chargen.ui.console import (
    PLAIN_EVERY_S,
    Paragraph,
    can_redraw,
    format_bits,
    format_duration,
    live,
    print_line,
)
from chargen.ui.fitted_table import FittedTable
from chargen.ui.output import abandon_output
from chargen.ui.terminal_text import visible, visible_text

WIDE = 76  # columns of a terminal on which rows have several facts
PANEL_ROWS, PANEL_COLUMNS = 4, 4  # of the frame around the sample, the empty row below it, and a newline at the end
REFRESH_S = 0.25  # minimum time between two updates of the live display
SAMPLE_EVERY_S = 5.0  # minimum time between two samples in the live display
STOPPED_EARLY = (
    "The validation loss had not improved for the share of the run that --patience allows. To continue all the same:"
)
NO_TIME_LEFT = "the start of the program took all the time that was left."
TEXT_READ = "the run has read the text as often as a run with a time budget does."
NO_STEP_LEFT = "the run already has all of its steps."

Sampler = Callable[[Checkpoint], str]  #: returns a few lines that the model generates


class Display(Protocol):
    """Shows the reports of a run; used as a context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, report: Report) -> None:
        """Show one report."""


def make_display(console: Console, sampler: Sampler) -> Display:
    """Return the display that fits the console. Errors while writing it do not stop the run."""
    return FailSafeDisplay(LiveDisplay(console, sampler) if can_redraw(console) else PlainDisplay(console))


class FailSafeDisplay:
    """Forwards to another display until that cannot be written: its pipe or terminal was closed, or the disk is full.

    A run of hours must not end because its output was closed.
    """

    def __init__(self, display: Display) -> None:
        self._display: Display | None = display

    def __enter__(self) -> FailSafeDisplay:
        self._try(lambda display: display.__enter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._try(lambda display: display.__exit__(kind, error, trace))

    def show(self, report: Report) -> None:
        """Show one report, if the display can still be written."""
        self._try(lambda display: display.show(report))

    def _try(self, call: Callable[[Display], object]) -> None:
        if self._display is None:
            return
        try:
            call(self._display)
        except OSError:
            self._display = None
            abandon_output()


class PlainDisplay:
    """Prints a line from time to time: for files, pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_line_s = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, report: Report) -> None:
        """Print a report as a line; progress at most every `PLAIN_EVERY_S` seconds."""
        if isinstance(report, Started):
            for line in describe(report):
                self._print(line)
        elif isinstance(report, Progress) and report.elapsed_s - self._last_line_s >= PLAIN_EVERY_S:
            self._last_line_s = report.elapsed_s
            self._print(
                f"{report.progress:4.0%}  step {report.step:,}  train {format_bits(report.loss_nats_per_char)} "
                f"bits/char  {report.chars_per_s:,.0f} chars/s  {format_duration(report.remaining_s)} left"
            )
        elif isinstance(report, Evaluated):
            mark = "  best, saved" if report.best else ""
            train_bits = format_bits(report.train_loss_nats_per_char)
            val_bits = format_bits(report.val_loss_nats_per_char)
            self._print(f"      step {report.step:,}  train {train_bits}  held-out part {val_bits} bits/char{mark}")

    def _print(self, line: str) -> None:
        print_line(self._console, line)


class LiveDisplay:
    """Shows a progress bar, the losses, the speed and the newest sample, redrawn in place."""

    def __init__(self, console: Console, sampler: Sampler) -> None:
        self._console = console
        self._sampler = sampler
        self._area = live(console)
        self._progress: Progress | None = None
        self._validation: Evaluated | None = None
        self._best_nats = math.inf
        self._sample = ""
        self._sample_step = 0
        self._sampled_s = -math.inf
        self._drawn_s = -math.inf

    def __enter__(self) -> LiveDisplay:
        self._area.__enter__()
        self._area.show(Text("reading the text, loading torch …", style="dim"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._area.__exit__(kind, error, trace)

    def show(self, report: Report) -> None:
        """Update the display; it is redrawn at most every `REFRESH_S` seconds."""
        if isinstance(report, Started):
            for line in describe(report):
                print_line(self._console, line)
        elif isinstance(report, Progress):
            self._progress = report
        elif isinstance(report, Evaluated):
            self._validation = report
            self._best_nats = min(self._best_nats, report.val_loss_nats_per_char)
            if report.elapsed_s - self._sampled_s >= SAMPLE_EVERY_S:
                self._sample = self._sampler(report.checkpoint)
                self._sample_step, self._sampled_s = report.step, report.elapsed_s
        if self._progress is not None:
            refresh = time.monotonic() - self._drawn_s >= REFRESH_S
            self._drawn_s = time.monotonic() if refresh else self._drawn_s
            self._area.show(self._render(self._progress), refresh)

    def _render(self, progress: Progress) -> Group:
        """Return the display, in at most the rows and columns of the terminal."""
        width, height = self._console.size
        rows, facts = _progress_rows(progress, width), self._facts(progress, 3 if width >= WIDE else 1)
        parts: list[RenderableType] = [*rows, facts]
        if self._sample:
            num_rows = height - PANEL_ROWS - len(rows) - facts.row_count
            text = Text(visible_text(self._sample), overflow="fold")
            lines = text.wrap(self._console, max(1, width - PANEL_COLUMNS), tab_size=8)[: max(0, num_rows)]
            panel = Panel(
                Text("\n").join(lines), title=Text(f"sample at step {self._sample_step:,}"),
                title_align="left", border_style="dim",
            )  # fmt: skip
            parts += [panel] if lines else []
        return Group(*parts)

    def _facts(self, progress: Progress, pairs_per_row: int) -> Table:
        """Return the losses and the speed, in rows of several names with their values."""
        val_nats = self._validation.val_loss_nats_per_char if self._validation else math.inf
        facts = [
            ("step", f"{progress.step:,}"),
            ("epoch", format_number(progress.epoch, 2)),
            ("speed", f"{progress.chars_per_s:,.0f} chars/s"),
            ("train", f"{format_bits(progress.loss_nats_per_char)} bits/char"),
            ("held-out part", f"{format_bits(val_nats)} bits"),
            ("best", f"{format_bits(self._best_nats)} bits"),
        ]
        table = Table.grid(padding=(0, 2))
        for first in range(0, len(facts), pairs_per_row):
            table.add_row(*(text for pair in facts[first : first + pairs_per_row] for text in pair))
        return table


def _progress_rows(progress: Progress, width: int) -> list[RenderableType]:
    """Return the bar with the times, in one row, or in two on a narrow terminal."""
    elapsed, remaining = format_duration(progress.elapsed_s), format_duration(progress.remaining_s)
    times = f"{progress.progress:.0%}  {elapsed} elapsed, {remaining} left"
    bar = ProgressBar(total=1.0, completed=progress.progress)
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    if width < WIDE:
        row.add_row(bar)
        return [row, Text(times)]
    row.add_column(justify="right")
    row.add_row(bar, times)
    return [row]


def describe(report: Started) -> list[str]:
    """Return lines that describe the run at its start: notes, corpus, network, length and device."""
    model, train = report.model, report.train
    if report.total_steps is None:
        length = f"a budget of {format_duration_s(train.budget_s or 0)}"
        if train.max_epochs is not None:
            length += f" (at most {format_count(round(train.max_epochs), 'epoch')})"
        if report.first_step:
            length += f", {format_duration_s(max(0.0, (train.budget_s or 0) - report.elapsed_s))} of it left"
    else:
        length = format_count(report.total_steps, "step") + (
            f", from {report.first_step:,}" if report.first_step else ""
        )
    processes = f", {format_count(report.num_processes, 'process', 'processes')}" if report.num_processes > 1 else ""
    ngram_dropout = f", n-gram dropout {model.ngram_dropout:g}" if model.ngrams else ""
    noun = "value" if report.data.is_series else "character"
    lines = [
        *(f"note: {note}" for note in report.notes),
        f"{report.corpus}: {format_count(report.train_chars, noun)} for training, {report.val_chars:,} held out "
        f"({report.selection_chars:,} of them choose the best model)",
        f"{model}, {report.parameters:,} parameters, vocabulary {model.vocab_size:,}, "
        f"dropout {model.dropout:g}, weight dropout {model.weight_dropout:g}{ngram_dropout}; "
        f"batch size {train.batch_size} × {format_count(train.seq_len, 'token')}; "
        f"{length} on {train.device}{processes}, seed {train.seed}",
    ]
    return [visible(line) for line in lines]


def summary(report: Finished, has_documents: bool, has_budget: bool, quantizer: Quantizer | None = None) -> Group:
    """Return the summary of a run.

    It has the loss compared with the baselines, what that means, where the model is, and what to do with it.

    Args:
        report: The result of the run.
        has_documents: Whether the model is a model of documents.
        has_budget: Whether the length of the run is a time.
        quantizer: That of a model of a series.
    """
    from chargen.training.diagnosis.rules import continue_run

    rows: list[tuple[str, float | None]] = [
        ("this model, on the held-out text, all of it", report.val_loss_nats_per_char),
        ("  its second half, not used to choose the model", report.val_second_half_nats_per_char),
        ("an interpolated 5-gram", report.ngram_5_nats_per_char),
        ("lzma", report.lzma_nats_per_char),
    ]
    if report.entropy_nats_per_char is not None:
        rows.append(("the source's entropy", report.entropy_nats_per_char))
    cells = [(name, format_bits(nats)) for name, nats in rows]
    table = FittedTable(("", "bits/char"), cells, ("bits/char",), has_rule=False, labels=("",))
    # The diagnosis says that a run was interrupted, and `chargen train` prints the command that continues it.
    outcome = "Trained for" if report.interrupted else "Stopped early after" if report.stopped_early else "Done after"
    advice = [line for line in report.advice if not report.interrupted or line != continue_run(report.run)]
    resumed = ""
    if report.first_step:
        resumed = f" ({report.steps - report.first_step:,} since the run was resumed)"
    parts: list[RenderableType] = [
        table,
        Text(),
        Paragraph(
            f"{outcome} {format_duration(report.elapsed_s)}: {format_count(report.steps, 'step')}{resumed}, "
            f"{format_number(report.epochs, 1)} epochs, "
            f"{report.chars_per_s:,.0f} chars/s; "
            f"perplexity {format_number(report.val_perplexity_per_char, 2)} per character."
        ),
    ]
    if report.stopped_early:
        to_continue = command_line("train", "--resume", report.run, "--patience", "1")
        parts += [Paragraph(STOPPED_EARLY), _unwrapped([to_continue])]
    if report.steps == report.first_step:
        longer = ("--more", "5m") if has_budget else ("--steps", str(2 * report.steps))
        reason = TEXT_READ if report.reached_max_epochs else NO_TIME_LEFT if has_budget else NO_STEP_LEFT
        parts += [
            Paragraph(f"No step was made: {reason} To continue the training:"),
            _unwrapped([command_line("train", "--resume", report.run, *longer)]),
        ]
    parts += map(Paragraph, (report.diagnosis, *advice))
    to_copy = [
        f"The best model (step {report.best_step:,}) is {report.model_path}",
        *commands_after_training(report.run, has_documents, quantizer),
    ]
    return Group(*parts, _unwrapped(to_copy))


def _unwrapped(lines: Iterable[str]) -> Text:
    """Return lines to copy. They are not wrapped here: the terminal wraps them without a newline."""
    return Text("\n".join(map(visible, lines)), no_wrap=True, overflow="ignore")


def command_line(*words: str) -> str:
    """Return a command with its arguments quoted, and with --checkpoints if this command was called with it.

    >>> command_line("sample", "-m", "my verse")
    "chargen sample -m 'my verse'"
    """
    folder = chosen_checkpoints()
    return visible(shlex.join(["chargen", *words, *(["--checkpoints", str(folder)] if folder else [])]))


def proposal(*commands: str) -> list[str]:
    """Return lines that propose commands.

    >>> proposal("chargen sample", "chargen score x")
    ['Try: chargen sample', '     chargen score x']
    """
    return [("     " if number else "Try: ") + command for number, command in enumerate(commands)]


def commands_after_training(run: str, has_documents: bool, quantizer: Quantizer | None) -> list[str]:
    """Return the lines that propose what to do with a new model.

    Args:
        run: Name of the run.
        has_documents: Whether it is a model of documents, whose samples are short.
        quantizer: That of a model of a series.
    """
    if quantizer is not None:
        output = ("--numbers",) if quantizer.rate_hz is None else ("--output", "out.wav")
        return proposal(
            command_line("sample", "-m", run, "--length", str(2 * (quantizer.rate_hz or 100)), *output),
            command_line("score", "-m", run, "--file", "FILE"),
        )
    count = ("-n", "10") if has_documents else ()
    return proposal(
        command_line("sample", "-m", run, "--temp", "0.8", *count),
        command_line("score", "-m", run, "a text"),
    )
