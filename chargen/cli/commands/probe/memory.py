"""`chargen probe memory`: the accuracy of cells in tasks that need memory, against the lag.

From Python: `probe_memory(MemoryArguments(task="copy", cells=("rnn", "lstm")))`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands.probe import options as probe_options

if TYPE_CHECKING:
    from chargen.probe.memory import MemoryPoint, MemorySettings
    from chargen.ui.chart.chart import Chart

TASK_NAMES = ("copy", "adding", "reber")  # those of `probe/memory_tasks.py`, which imports NumPy
DEFAULT_LAGS = (1, 2, 5, 10, 20, 50)  # without those that are too short for the task
DEFAULT_STEPS = 500

task_option = options.option_group("Task")


@dataclass(frozen=True, kw_only=True)
class MemoryArguments(probe_options.NetworkArguments):
    """The arguments of `chargen probe memory`, named as on the command line."""

    task: str = "copy"
    lags: tuple[int, ...] | None = None
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    plot: str | None = None
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=[probe_options.LENGTHS],
    epilog="\b\nExamples:\n  chargen probe memory\n  chargen probe memory --task reber --lags 5,10,20,50,100\n"
    "  chargen probe memory --task adding --cells lstm --budget 20s --plot adding.svg",
)
@task_option(
    "--task", type=click.Choice(TASK_NAMES), default="copy", show_default=True, metavar="TASK",
    help="What is remembered: copy (repeat four symbols), adding (add two marked digits) or reber (the second-to-last "
    "symbol of the embedded Reber grammar).",
)  # fmt: skip
@task_option(
    "--lags", callback=probe_options.split_lags, type=options.NAME, show_default=",".join(map(str, DEFAULT_LAGS)),
    metavar="N,...", help="Lags in tokens. Each network is trained on them one after another, from the shortest one. "
    "The task adding starts at 2, reber at 5.",
)  # fmt: skip
@probe_options.cells("rnn,lstm,gru", "rnn,lstm,gru")
@probe_options.network_shape
@probe_options.training(DEFAULT_STEPS, "at each lag")
@probe_options.plot
@options.as_json
def memory(**values: Any) -> None:
    """Plot how well cells solve a task that needs memory, against the number of tokens they must remember for.

    Each cell gets a fresh network of the same size, which is trained on the first lag, then on the next one, and so on.
    A lag ends early when all answers are correct. Accuracy is the share of correct answers in 1,000 new sequences.
    """
    probe_memory(MemoryArguments(**values))


def probe_memory(args: MemoryArguments) -> None:
    """Train the networks, and print their accuracies on stdout, as a plot and a table or as JSON.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If a task or cell is unknown, a lag or a setting is out of range, or the plot cannot be written.
    """
    probe_options.check_plot(args.plot)
    from chargen.cells import CELLS
    from chargen.probe.memory import GOOD_ACCURACY, MemorySettings, find_limit
    from chargen.probe.memory_tasks import find_task
    from chargen.ui.output import print_json

    task = find_task(args.task)
    lags = args.lags or tuple(lag for lag in DEFAULT_LAGS if lag >= task.min_lag)
    settings = MemorySettings(
        task=task, lags=lags, num_layers=args.num_layers, hidden_size=args.hidden_size,
        steps=args.steps or (None if args.budget_s else DEFAULT_STEPS), budget_s=args.budget_s,
        learning_rate=args.learning_rate, clip_norm=args.clip_norm, seed=args.seed,
    )  # fmt: skip
    for cell in args.cells:
        CELLS.get(cell)  # an unknown name is an error before any time is spent
    found = _measure(args.cells, settings)
    chart = _chart(found, settings)
    if args.as_json:
        about = {"task": args.task, "chance": settings.task.chance, "hidden_size": args.hidden_size}
        more = {"layers": args.num_layers, "seed": args.seed, "good_accuracy": GOOD_ACCURACY}
        cells = [
            {"cell": cell, "first_lag_below": find_limit(points), "points": [asdict(point) for point in points]}
            for cell, points in found.items()
        ]
        print_json({**about, **more, "cells": cells})
    else:
        _print(found, settings, chart)
    probe_options.write_plot(chart, args.plot)


def _measure(cells: tuple[str, ...], settings: MemorySettings) -> dict[str, list[MemoryPoint]]:
    """Train a network of each cell, with the progress on stderr."""
    from chargen.probe.memory import measure_memory
    from chargen.ui.console import ProgressBar, stderr_console

    found: dict[str, list[MemoryPoint]] = {}
    total = len(cells) * len(settings.lags)
    with ProgressBar(stderr_console(), float(total)) as bar:
        for cell in cells:
            found[cell] = []

            def report(lag: int, share: float, cell: str = cell) -> None:
                done = sum(map(len, found.values()))
                bar.show(f"{cell}, lag {lag:,}", done + share)

            for point in measure_memory(cell, settings, report):
                found[cell].append(point)
    return found


def _chart(found: dict[str, list[MemoryPoint]], settings: MemorySettings) -> Chart:
    from chargen.ui.chart.chart import Chart

    lines = [(cell, [p.lag for p in points], [p.accuracy for p in points]) for cell, points in found.items()]
    ends = [settings.lags[0], settings.lags[-1]]
    lines.append(("chance", ends, [settings.task.chance] * 2))
    title = f"Accuracy in the task {settings.task.name} against the lag"
    return Chart(lines, "lag (tokens)", "accuracy (share of correct answers)", title, log_x=True)


def _print(found: dict[str, list[MemoryPoint]], settings: MemorySettings, chart: Chart) -> None:
    """Print the plot, a table of the accuracies, and remarks about what diverged."""
    from chargen.probe.memory import GOOD_ACCURACY, find_limit
    from chargen.ui.chart.terminal import chart_text
    from chargen.ui.console import Paragraph, stdout_console
    from chargen.ui.tables import plain_table

    console = stdout_console()
    console.print(chart_text(chart, min(console.width, 100)))
    console.print()
    lags = tuple(f"lag {lag:,}" for lag in settings.lags)
    limit = f"below {GOOD_ACCURACY:.0%} from lag"
    rows = []
    for cell, points in found.items():
        first = find_limit(points)
        accuracies = (f"{point.accuracy:.1%}" for point in points)
        rows.append((cell, *accuracies, "–" if first is None else f"{first:,}"))
    console.print(plain_table(("cell", *lags, limit), rows, (*lags, limit)))
    for cell, points in found.items():
        for point in points:
            if point.has_diverged:
                console.print(
                    Paragraph(
                        f"{cell}: the training at lag {point.lag:,} diverged at step {point.steps + 1:,}. Use a lower "
                        "--lr or --clip."
                    )
                )
