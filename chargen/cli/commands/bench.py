"""`chargen bench cells`: compare all cells at equal parameters and equal training time.

From Python: `bench_cells(BenchArguments(corpus=("shakespeare",), cells=("lstm", "gru")))`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cells import CELLS
from chargen.cli import options
from chargen.cli.command_table import CommandTable
from chargen.cli.main import EarlyStopError, stop_on_signals
from chargen.config import LN2, format_duration_s
from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.tasks.cell_benchmark import CellBenchmark, CellResult
    from chargen.ui.chart.chart import Chart
    from chargen.ui.fitted_table import FittedTable

DEFAULT_PARAMETERS = 250_000
MAX_PARAMETERS = 100_000_000
MAX_SHOWN_LOSS = 2.5  #: training losses up to this multiple of the lowest one are in the chart
START_UP_S = 15.0  # of the process of a cell, with the evaluation at its end; only an estimate for the user

comparison_option = options.option_group("Comparison")


@dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """The arguments of `chargen bench cells`, named as on the command line; sizes in bytes."""

    corpus: tuple[str, ...]
    budget: float = 60.0
    cells: tuple[str, ...] | None = None
    num_parameters: int = DEFAULT_PARAMETERS
    num_layers: int = 1
    seed: int = 0
    encoding: str = "utf-8"
    errors: str = "strict"
    newline: str = "lf"
    normalize: str = "nfc"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 10**9
    device: str = "auto"
    threads: int | None = None
    plot: str | None = None
    as_json: bool = False


BENCHMARKS = {"cells": ("chargen.cli.commands.bench:cells", "Compare all cells at equal parameters and time.")}


@click.group(cls=CommandTable, table=BENCHMARKS, epilog="\b\nExample:\n  chargen bench cells shakespeare --budget 60s")
def bench() -> None:
    """Compare parts of chargen under equal conditions."""


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen bench cells shakespeare\n"
    "  chargen bench cells python-docs --budget 20s --cells rnn,lstm,gru --plot cells.svg\n"
    "  chargen bench cells corpus.txt --parameters 1000000 --budget 5m --json",
)
@click.argument("corpus", nargs=-1, required=True, type=options.CORPUS_NAME)
@options.basic_option(
    "--budget", callback=options.parse_duration, default="60s", show_default=True, metavar="TIME",
    help="Training time of each cell: 20s, 5m.",
)  # fmt: skip
@options.basic_option(
    "--cells", callback=options.split_names, type=options.CELL_NAMES, metavar="NAME,…", show_default="all",
    help=f"The cells to compare, with commas between them: {', '.join(CELLS.names())}.",
)  # fmt: skip
@comparison_option(
    "--parameters", "num_parameters", type=options.whole(1_000, MAX_PARAMETERS), default=DEFAULT_PARAMETERS,
    show_default=True, metavar="N", help="Number of parameters of each network, as exactly as a hidden size allows.",
)  # fmt: skip
@comparison_option(
    "--layers", "num_layers", type=options.whole(1, 16), default=1, show_default=True, metavar="N",
    help="Number of recurrent layers of each network.",
)  # fmt: skip
@comparison_option(
    "--seed", type=options.whole(0), default=0, show_default=True, metavar="N", help="Random seed of each training."
)
@options.encoding
@options.errors
@options.newline
@options.normalize
@options.text_field
@options.json_lines
@options.max_corpus_size("1GB")
@options.device
@options.threads
@options.output_option(
    "--plot", type=options.FILE_NAME, metavar="FILE",
    help="Also write the training loss against the time as a picture: .svg, or .png with the extra 'plot'.",
)  # fmt: skip
@options.as_json
def cells(**values: Any) -> int:
    """Train every cell on CORPUS with as many parameters and for the same time, and compare them.

    CORPUS is a file, a folder, '-' or the name of a corpus; the last tenth of it is held out. The cells are trained one
    after the other, each in a process of its own, so that their memory can be measured.

    \b
    bits/char         loss on the held-out text, with the state carried
    chars/s           training speed
    memory            peak memory of the process, with Python and PyTorch
    gradient horizon  smallest lag, in characters, at which the gradient of a
                      loss by the state is below 1 % of the largest one

    The networks have no n-gram features, which would hide what a cell cannot remember, and no ensemble. All other
    settings are those that `chargen train` chooses for the time. Other programs that use the same cores distort the
    result.
    """
    return bench_cells(BenchArguments(**values))


def bench_cells(args: BenchArguments) -> int:
    """Compare cells, and print the result on stdout.

    Args:
        args: The arguments of the command.

    Returns:
        The exit status: 0; 1 if no cell could be trained; or 128 + the number of the signal that stopped it.

    Raises:
        ChargenError: If the text cannot be read, there is no such cell, the network would be too small, or the picture
            cannot be written.
        UsageError: If the picture would replace a file that is read.
    """
    options.use_threads(args.threads)
    from chargen.config import DataConfig
    from chargen.tasks.cell_benchmark import CellBenchmark, benchmark_cells
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.chart.files import check_chart_file

    if args.plot is not None:
        options.check_output_file("--plot", args.plot, args.corpus)
        check_chart_file(args.plot)
    names = args.cells or tuple(CELLS.names())
    for name in names:
        CELLS.get(name)  # raises if there is none
    options.check_reading(args.corpus)
    config = DataConfig(encoding=args.encoding, errors=args.errors, newline=args.newline, normalize=args.normalize,
                        text_field=args.text_field or "", json_lines=args.json_lines)  # fmt: skip
    corpus = read_corpus(args.corpus, config, max_bytes=args.max_bytes)
    check_text_field(args.text_field, corpus)
    for note in (*corpus.notes, *corpus.repeated_files):
        say(f"note: {note}")
    benchmark = CellBenchmark(
        cells=names, budget_s=args.budget, num_parameters=args.num_parameters, num_layers=args.num_layers,
        seed=args.seed, device=args.device,
    )  # fmt: skip
    results: list[CellResult] = []
    try:
        with stop_on_signals() as stop:
            try:
                for result in _with_progress(benchmark, benchmark_cells(benchmark, corpus)):
                    results.append(result)  # noqa: PERF402 - those before a signal are printed, too
            except EarlyStopError:
                if not results:
                    raise
                say(f"Stopped after {format_count(len(results), 'cell')}.")
    finally:
        if results:
            _output(results, args, corpus.name)
    if stop.is_set():
        return stop.status
    return 0 if any(not result.error for result in results) else 1


def _output(results: Sequence[CellResult], args: BenchArguments, corpus: str) -> None:
    """Print the results on stdout, and write the picture."""
    from chargen.ui.chart.files import write_chart
    from chargen.ui.output import print_json

    chart = _chart(results, corpus)
    if args.as_json:
        print_json({
            "corpus": corpus, "budget_s": args.budget, "num_layers": args.num_layers, "seed": args.seed,
            "cells": [result.to_json() for result in results],
        })  # fmt: skip
    else:
        _print(results, chart)
    if args.plot is not None:
        write_chart(args.plot, chart)


def _with_progress(benchmark: CellBenchmark, results: Iterator[CellResult]) -> Iterator[CellResult]:
    """Yield the results, and show on stderr which cell is trained."""
    from chargen.ui.console import ProgressBar, stderr_console

    total = len(benchmark.cells)
    expected = format_duration_s(total * (benchmark.budget_s + START_UP_S))
    say(f"{format_count(total, 'cell')}, {format_duration_s(benchmark.budget_s)} each: about {expected}")
    with ProgressBar(stderr_console(), total) as bar:
        for number, name in enumerate(benchmark.cells):
            bar.show(name, number)
            result = next(results)
            if result.error:
                say(f"note: {name} has no result: {result.error}")
            yield result
        next(results, None)  # it removes its files


def _chart(results: Sequence[CellResult], corpus: str) -> Chart:
    """Return the chart of the training losses against the time, the lowest loss first.

    Losses above `MAX_SHOWN_LOSS` times the lowest one are left out, because the first steps of a single cell could make
    the differences between all others invisible.
    """
    from chargen.ui.chart.chart import Chart

    highest = MAX_SHOWN_LOSS * min((nats for result in results for _, nats in result.curve), default=0.0)
    series = [
        (
            result.cell,
            [s for s, _ in result.curve],
            [nats / LN2 if nats <= highest else math.nan for _, nats in result.curve],
        )
        for result in _ranked(results)
        if result.curve
    ]
    return Chart(series, "time (s)", "training loss (bits per character)", title=f"Cells on {corpus}")


def _print(results: Sequence[CellResult], chart: Chart) -> None:
    from chargen.ui.chart.terminal import chart_text
    from chargen.ui.console import stdout_console

    console = stdout_console()
    console.print(_table(results))
    if chart.series:
        console.print()
        console.print(chart_text(chart, min(console.width, 100)), soft_wrap=True)


def _ranked(results: Sequence[CellResult]) -> list[CellResult]:
    """Return the results with the lowest held-out loss first, and those without one last."""
    return sorted(results, key=lambda each: (each.loss_nats_per_char is None, each.loss_nats_per_char or 0.0))


def _table(results: Sequence[CellResult]) -> FittedTable:
    """Return the table of the results, the lowest loss first."""
    from chargen.ui.console import format_bits, format_size
    from chargen.ui.tables import plain_table

    numbers = ("hidden", "parameters", "steps", "bits/char", "nats/char", "chars/s", "memory", "gradient horizon")
    rows = []
    for result in _ranked(results):
        rows.append((
            result.cell,
            _count(result.hidden_size),
            _count(result.parameters),
            _count(result.steps),
            format_bits(result.loss_nats_per_char),
            "–" if result.loss_nats_per_char is None else format_number(result.loss_nats_per_char, 3),
            _count(None if result.chars_per_s is None else round(result.chars_per_s)),
            "–" if result.peak_memory_bytes is None else format_size(result.peak_memory_bytes),
            _horizon(result),
        ))  # fmt: skip
    return plain_table(("cell", *numbers), rows, numbers, ("steps", "hidden", "nats/char"))


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _horizon(result: CellResult) -> str:
    """Return the gradient horizon; ">200" if the gradient has not vanished there, "–" without a hidden state."""
    if result.gradient_horizon is None:
        return "–" if result.max_lag is None else f">{result.max_lag}"
    return str(result.gradient_horizon)
