"""`chargen plot`: the loss curves of runs, on the terminal or as a picture.

From Python: `plot_runs(PlotArguments(runs=("small", "large"), output="losses.svg"))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import no_effect
from chargen.config import LN2
from chargen.schema import format_number

if TYPE_CHECKING:
    from chargen.training.logs.loss_curves import LossCurves, LossPoint
    from chargen.ui.chart.chart import Chart
    from chargen.ui.fitted_table import FittedTable

MAX_POINTS = 200  # points of a curve; of a longer one, neighbours are averaged
#: The quantities of the x axis: the field of `LossPoint`, and the label.
X_AXES = {"steps": ("step", "step"), "epochs": ("epoch", "epoch"), "time": ("elapsed_s", "time (s)")}


@dataclass(frozen=True, kw_only=True)
class PlotArguments:
    """The arguments of `chargen plot`, named as on the command line."""

    runs: tuple[str, ...] = ()
    output: str | None = None
    x_axis: str = "steps"
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=[no_effect("--x", beside="--json", unless="--output", why="JSON has steps, epochs and times")],
    epilog="\b\nExamples:\n  chargen plot\n  chargen plot small large --x time\n"
    "  chargen plot small large -o losses.svg",
)
@click.argument("runs", nargs=-1, type=options.RUN_NAME, metavar="[RUN]...")
@options.basic_option(
    "-o", "--output", type=options.FILE_NAME, metavar="FILE",
    help="Also write the picture to a file: .svg, or .png with the extra 'plot'.",
)  # fmt: skip
@options.basic_option(
    "--x", "x_axis", type=click.Choice([*X_AXES]), default="steps", show_default=True,
    help="Quantity of the x axis: steps, epochs, or the time since the start in seconds.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def plot(**values: Any) -> None:
    """Plot the training and validation loss of runs against their steps.

    RUN is a name that `chargen info` lists, or the folder of a run; the default is the newest run. A run that is still
    training can be plotted, too.

    The training loss is measured with dropout, and so is larger than the loss of the same model without it. The
    validation loss is that on the part of the held-out text that chooses the best model.
    """
    plot_runs(PlotArguments(**values))


def plot_runs(args: PlotArguments) -> None:
    """Print the loss curves of runs on stdout, and write them to a file if one is named.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If there is no such run, it has no reports, or the picture cannot be written.
        UsageError: If the picture would replace a file that is read.
    """
    from chargen.folders import checkpoints_folder
    from chargen.runs import Run, find_model, find_run, split_run_path
    from chargen.training.logs.loss_curves import read_loss_curves
    from chargen.ui.chart.files import check_chart_file, write_chart
    from chargen.ui.console import stdout_console
    from chargen.ui.output import print_json

    names = list(dict.fromkeys(args.runs))
    runs = [find_run(name, root) for root, name in (split_run_path(name, checkpoints_folder()) for name in names)]
    if not names:
        newest = find_model(None)
        options.note_newest_model(None, newest)
        runs = [Run(newest.parent, newest.parent.name)]
    if args.output is not None:
        options.check_output_file("--output", args.output, [run.metrics_path for run in runs])
        check_chart_file(args.output)
    curves = [read_loss_curves(run) for run in runs]
    chart = _chart(curves, args.x_axis)
    if args.as_json:
        print_json({"runs": [each.to_json() for each in curves]})
    else:
        from chargen.ui.chart.terminal import chart_text

        console = stdout_console()
        console.print(chart_text(chart, min(console.width, 100)), soft_wrap=True)
        console.print(_table(curves))
    if args.output is not None:
        write_chart(args.output, chart)


def _chart(curves: Sequence[LossCurves], x_axis: str) -> Chart:
    """Return the chart of the curves in bits per character."""
    from chargen.ui.chart.chart import Chart

    attribute, label = X_AXES[x_axis]
    series = []
    for each in curves:
        for kind, points in (("validation", each.validation), ("training", each.training)):  # the first is in front
            if points:
                xs, ys = _thinned([(getattr(point, attribute), point.loss_nats_per_char / LN2) for point in points])
                series.append((f"{each.name}, {kind}" if len(curves) > 1 else kind, xs, ys))
    title = f"Loss of {curves[0].name}" if len(curves) == 1 else f"Loss of {len(curves)} runs"
    return Chart(series, x_label=label, y_label="loss (bits per character)", title=title)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return the xs and ys of a curve; of more than `MAX_POINTS` points, those of means of neighbours."""
    size = -(-len(points) // MAX_POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    means = [[sum(values) / len(group) for values in zip(*group, strict=True)] for group in groups]
    return [x for x, _ in means], [y for _, y in means]


def _table(curves: Sequence[LossCurves]) -> FittedTable:
    """Return a table with the last training loss and the best validation loss of each run."""
    from chargen.ui.tables import plain_table

    numbers = ("steps", "training", "best validation", "at step")
    return plain_table(("run", *numbers), [_row(each) for each in curves], numbers)


def _row(curves: LossCurves) -> tuple[str, ...]:
    steps = max(points[-1].step for points in (curves.training, curves.validation) if points)
    best = min(curves.validation, key=lambda point: point.loss_nats_per_char, default=None)
    last = curves.training[-1] if curves.training else None
    return (curves.name, f"{steps:,}", _bits(last), _bits(best), f"{best.step:,}" if best else "–")


def _bits(point: LossPoint | None) -> str:
    return "–" if point is None else format_number(point.loss_nats_per_char / LN2, 3)
