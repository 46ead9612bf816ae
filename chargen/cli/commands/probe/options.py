"""The options that the probes share: which cells are compared, how their networks are trained, and the plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chargen.cells import CELLS
from chargen.cli import options
from chargen.cli.effects import Effect, only_one
from chargen.config import TrainConfig

if TYPE_CHECKING:
    from chargen.ui.chart.chart import Chart

F = TypeVar("F", bound=Callable[..., Any])

MAX_PROBE_LAYERS, MAX_PROBE_HIDDEN, MAX_PROBE_STEPS = 16, 4096, 1_000_000  # a probe compares small networks

TRAIN = options.numbers(TrainConfig)  # the types of the settings of a training

compared_option = options.option_group("Cells that are compared")
training_option = options.option_group("Training")

TRAINING = "--steps --budget --lr --clip"  # for tables of `effects.py`
LENGTHS: Effect | list[Effect] = only_one("--steps --budget")


@dataclass(frozen=True, kw_only=True)
class NetworkArguments:
    """The arguments that set the shape of the compared networks and their training, named as on the command line."""

    num_layers: int = 1
    hidden_size: int = 64
    steps: int | None = None
    budget_s: float | None = None
    learning_rate: float = 1e-2
    clip_norm: float = 1.0
    seed: int = 0


def split_lags(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a list "5,10,20" in ascending order, each of them once."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            raise click.BadParameter(f"{part!r} is not a whole number. Example: 5,10,20.", ctx, param)
    return tuple(sorted(set(map(int, parts))))


def cells(default: str | None, shown_default: str) -> Callable[[F], F]:
    """Return the option that lists the cells."""
    return compared_option(
        "--cells", "--cell", "cells", type=options.CELL_NAMES, callback=options.split_names, metavar="CELL,...",
        default=default, show_default=shown_default,
        help=f"Cells whose networks are trained and compared: {', '.join(CELLS.names())}.",
    )  # fmt: skip


def network_shape(command: F) -> F:
    """Add the options that set the shape of each network."""
    hidden = compared_option(
        "--hidden", "hidden_size", type=options.whole(1, MAX_PROBE_HIDDEN), default=64, show_default=True, metavar="N",
        help="Hidden size of each layer.",
    )  # fmt: skip
    layers = compared_option(
        "--layers", "num_layers", type=options.whole(1, MAX_PROBE_LAYERS), default=1, show_default=True, metavar="N",
        help="Number of recurrent layers.",
    )  # fmt: skip
    return layers(hidden(command))


def training(steps: int, unit: str) -> Callable[[F], F]:
    """Return a decorator that adds the options of the training.

    Args:
        steps: The default number of steps.
        unit: What is trained for this long: "of each cell".
    """
    declarations = [
        training_option("--steps", type=options.whole(1, MAX_PROBE_STEPS), show_default=str(steps),
                        metavar="N", help=f"Number of training steps {unit}."),
        training_option("--budget", "budget_s", callback=options.parse_duration, metavar="TIME",
                        help=f"Training time {unit}, instead of a number of steps: 30s, 5m."),
        training_option("--lr", "learning_rate", type=TRAIN["learning_rate"], default=1e-2, show_default=True,
                        metavar="RATE", help="Peak learning rate."),
        training_option("--clip", "clip_norm", type=TRAIN["clip_norm"], default=1.0, show_default=True, metavar="NORM",
                        help="Maximum norm of the gradient of all weights; a larger one is scaled down to it."),
        training_option("--seed", type=TRAIN["seed"], default=0, show_default=True, metavar="N",
                        help="Random seed of the weights and of the training."),
    ]  # fmt: skip

    def add_options(command: F) -> F:
        for declare in reversed(declarations):
            command = declare(command)
        return command

    return add_options


plot = partial(
    options.output_option, "--plot", type=options.FILE_NAME, metavar="FILE",
    help="Write the plot to a file: .svg, or .png with the extra 'plot'.",
)()  # fmt: skip


def check_plot(path: str | None, inputs: tuple[str, ...] = ()) -> None:
    """Check, before anything is measured, that a plot can be written to a file.

    Raises:
        UsageError: If its folder does not exist, it is a folder, or it is one of the inputs.
        ChargenError: If its name has another ending, or needs a package that is not installed.
    """
    from chargen.ui.chart.files import check_chart_file

    if path is not None:
        options.check_output_file("--plot", path, inputs)
        check_chart_file(path)


def write_plot(chart: Chart, plot: str | None) -> None:
    """Write a chart to a file, if one was named."""
    if plot is not None:
        from chargen.ui.chart.files import write_chart

        write_chart(plot, chart)
