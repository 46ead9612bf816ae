"""`chargen forecast`: train a forecaster of a series, and forecast what follows a series.

From Python: `train_forecaster_on(ForecastArguments(data="weather.csv", column=("temp",), steps=1000))` and
`forecast_file(ForecastArguments(file="weather.csv", model="weather"))`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cells import CELLS
from chargen.cli import options
from chargen.cli.effects import needs, no_effect, only_one
from chargen.cli.main import STARTED, stop_on_signals
from chargen.config import DEFAULT_BUDGET_S, TrainConfig
from chargen.config.series import OUTPUTS, SeriesConfig
from chargen.tasks.forecasting.settings import FILLS, STRATEGIES, ForecastConfig
from chargen.ui.terminal_text import say, visible

if TYPE_CHECKING:
    from chargen.tasks.forecasting.series import Series
    from chargen.tasks.forecasting.train import ForecasterPlan, TrainedForecaster
    from chargen.ui.chart.chart import Chart

DEFAULT_HISTORY, DEFAULT_HORIZON = 24, 1
FORECAST, NETWORK, TRAIN = options.numbers(ForecastConfig), options.numbers(SeriesConfig), options.numbers(TrainConfig)
series_option = options.option_group("Series")
forecast_option = options.option_group("Forecast")
training_option = options.option_group("Training")
network_option = options.option_group("Network")

READING = "--time --group --where --fill --encoding"
SETTINGS = (
    "--column --with --history --horizon --strategy --output --coverage --calendar --no-calendar --cell --layers "
    "--hidden --dropout --seed --name"
)
EFFECTS = [
    only_one("--budget --steps --epochs"),
    no_effect(
        "file --model", beside="--train",
        why="--train makes a forecaster; use it afterwards: chargen forecast -m NAME FILE",
    ),
    no_effect(
        "--with", beside="--strategy=recursive",
        why="its future values are not known; forecast that column, too (--column), or use --strategy direct",
    ),
    needs(f"--resume --stop-after --budget --steps --epochs {SETTINGS}", "--train"),
    no_effect(
        f"{SETTINGS} --time --group --where --fill", beside="--resume",
        why="a resumed run keeps the settings that it started with",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ForecastArguments:
    """The arguments of `chargen forecast`, named as on the command line; durations in seconds."""

    file: str | None = None
    model: str | None = None
    data: str | None = None
    column: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    history: int = DEFAULT_HISTORY
    horizon: int = DEFAULT_HORIZON
    time: str | None = None
    group: str | None = None
    where: tuple[str, ...] = ()
    fill: str | None = None
    encoding: str = "utf-8"
    calendar: bool = True
    strategy: str = "direct"
    output: str = "quantiles"
    coverage: float = 0.9
    budget: float | None = None
    steps: int | None = None
    epochs: float | None = None
    name: str | None = None
    resume: str | None = None
    stop_after: int | None = None
    seed: int = 0
    cell: str | None = None
    num_layers: int | None = None
    hidden_size: int | None = None
    dropout: float | None = None
    plot: str | None = None
    device: str = "auto"
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen forecast --train weather.csv --column temp --history 24 --horizon 6 --budget 60s\n"
    "  chargen forecast -m weather weather.csv --plot next.svg\n"
    "  chargen forecast --train balls.csv --column x --column y --group ball --history 5 --horizon 10",
)
@click.argument("file", required=False, type=options.FILE_NAME, metavar="[FILE]")
@options.basic_option(
    "-m",
    "--model",
    type=options.FORECASTER_NAME,
    metavar="MODEL",
    help="A trained forecaster: its name, folder or file.",
)
@options.basic_option(
    "--train", "data", type=options.FILE_NAME, metavar="FILE",
    help="Train a forecaster on a series in a file: CSV, TSV, JSON lines or Parquet; '-' is standard input.",
)  # fmt: skip
@options.basic_option(
    "--column", multiple=True, type=options.NAME, metavar="NAME", help="Column that is forecast. May be repeated."
)
@options.basic_option(
    "--history", type=FORECAST["history"], default=DEFAULT_HISTORY, show_default=True, metavar="N",
    help="Number of the last rows that a forecast is made from.",
)  # fmt: skip
@options.basic_option(
    "--horizon", type=FORECAST["horizon"], default=DEFAULT_HORIZON, show_default=True, metavar="N",
    help="Number of rows that are forecast.",
)  # fmt: skip
@options.basic_option(
    "--plot", type=options.FILE_NAME, metavar="FILE",
    help="Draw the last values, the forecast and its interval: .svg or .png.",
)  # fmt: skip
@series_option(
    "--with", "inputs", multiple=True, type=options.NAME, metavar="NAME",
    help="Further column that the network reads. Its past is known, its future is not. May be repeated.",
)  # fmt: skip
@series_option(
    "--time", type=options.NAME, metavar="NAME", show_default="found",
    help="Column of the time, or several with commas: year,month,day,hour; 'none' for none.",
)  # fmt: skip
@series_option(
    "--group", type=options.NAME, metavar="NAME", help="Column whose values separate several series in the file."
)
@series_option(
    "--where", multiple=True, type=options.NAME, metavar="NAME=VALUE",
    help="Read only the rows with this value. May be repeated.",
)  # fmt: skip
@series_option(
    "--fill", type=click.Choice(FILLS),
    help="Fill missing rows and values: by a straight line between their neighbours, or by the value before.",
)  # fmt: skip
@series_option("--encoding", type=options.NAME, default="utf-8", show_default=True, help="Text encoding of the file.")
@forecast_option(
    "--strategy", type=click.Choice(STRATEGIES), default=STRATEGIES[0], show_default=True,
    help="Forecast all rows at once, or one after another, where each is read like a known value.",
)  # fmt: skip
@forecast_option(
    "--output", type=click.Choice(OUTPUTS), default=OUTPUTS[0], show_default=True,
    help="What the network states beside the value: quantiles, or the standard deviation of a normal distribution.",
)  # fmt: skip
@forecast_option(
    "--coverage", type=FORECAST["coverage"], default=0.9, show_default=True, metavar="SHARE",
    help="Share of the values that the interval is to contain.",
)  # fmt: skip
@forecast_option(
    "--calendar/--no-calendar", default=True, show_default=True,
    help="Let the network read the hour, the weekday and the day of the year, as far as they suit the series.",
)  # fmt: skip
@training_option(
    "--budget", callback=options.parse_duration, show_default=f"{DEFAULT_BUDGET_S / 60:g}m", metavar="TIME",
    help="Time limit (wall clock): 90s, 5m, 1h30m. A number without a unit is in seconds.",
)  # fmt: skip
@training_option("--steps", type=TRAIN["steps"], metavar="N", help="Train for N optimizer steps instead.")
@training_option("--epochs", type=TRAIN["epochs"], metavar="N", help="Train for N passes over the series instead.")
@training_option("--name", type=options.NAME, help="Name of the forecaster. Defaults to the name of the file.")
@training_option(
    "--resume",
    type=options.FORECASTER_NAME,
    metavar="NAME",
    help="Continue a stopped run, with the file that --train names.",
)
@training_option(
    "--stop-after", type=options.whole(1), metavar="STEP",
    help="Stop after this step, as Ctrl-C does, so that the run can be resumed.",
)  # fmt: skip
@training_option("--seed", type=TRAIN["seed"], default=0, show_default=True, metavar="N", help="Random seed.")
@network_option("--cell", type=options.CELL_NAMES, metavar="CELL", show_default="gru",
                help=f"Recurrent cell: {', '.join(CELLS.names())}.")  # fmt: skip
@network_option("--layers", "num_layers", type=NETWORK["num_layers"], metavar="N", show_default="1",
                help="Number of recurrent layers.")  # fmt: skip
@network_option("--hidden", "hidden_size", type=NETWORK["hidden_size"], metavar="N", show_default="auto",
                help="Hidden size of each layer.")  # fmt: skip
@network_option("--dropout", type=NETWORK["dropout"], metavar="RATE", show_default="auto",
                help="Dropout rate of the output of each layer.")  # fmt: skip
@options.device
@options.checkpoints
@options.as_json
def forecast(**values: Any) -> int:
    """Forecast a series of numbers, and train forecasters.

    --train reads columns of FILE at equal distances in time. The network is trained on the first 80 % of the time, of
    which some periods choose the best weights and calibrate the interval. The last 20 % measure the forecasts: their
    mean absolute error (MAE), root mean squared error (RMSE), and the share of the values within the interval, beside
    three baselines. Persistence repeats the last value, the seasonal naive forecast repeats the last season, and linear
    autoregression is a linear function of the same inputs. A baseline that is better is named.

    With -m, the rows that follow the last row of FILE are forecast, each with its interval.
    """
    args = ForecastArguments(**values)
    if args.data:
        return train_forecaster_on(args, STARTED)
    forecast_file(args)
    return 0


def train_forecaster_on(args: ForecastArguments, started: float | None = None) -> int:
    """Train a forecaster on `args.data`, and print how good it is on stdout.

    Args:
        args: The arguments of the command.
        started: When the budget started to count, as a value of `time.perf_counter`; None for now.

    Returns:
        The exit status: 0, or 128 + the signal's number if a signal stopped the run.

    Raises:
        ChargenError: If the file, the settings or the disk do not allow it.
        UsageError: If no column is named, or the plot cannot be written.
    """
    from chargen.tasks.forecasting.train import TrainedForecaster, train_forecaster
    from chargen.training.supervised.loop import FitEvaluated, FitProgress
    from chargen.ui.console import print_line, stderr_console, stdout_console
    from chargen.ui.forecasts import comparison_table, describe_comparison, trained_json
    from chargen.ui.output import ignore_closed_output, print_json
    from chargen.ui.supervised import FitDisplay
    from chargen.ui.training import command_line, proposal

    _check_plot(args, args.data or "")
    console = stderr_console()
    trained: TrainedForecaster | None = None
    with stop_on_signals() as stop:
        plan = _plan(args, started)
        with FitDisplay(console, "loss") as display:
            for report in train_forecaster(plan, stop.is_set):
                if isinstance(report, TrainedForecaster):
                    trained = report
                    break
                stop.is_deferred = True
                stop.announce()
                assert isinstance(report, (FitProgress, FitEvaluated))
                display.show(report)
    assert trained is not None, "the last report is the forecaster"
    for note in trained.notes:
        print_line(console, f"note: {note}")
    if args.plot:
        _write_plot(args, _example_chart(plan, trained))
    with ignore_closed_output():
        if args.as_json:
            print_json(trained_json(trained))
        else:
            stdout_console().print(describe_comparison(trained.comparison, trained.forecaster.config), crop=False)
            stdout_console().print(comparison_table(trained.comparison))
            use = proposal(command_line("forecast", "-m", trained.folder.name, args.data or ""))
            for line in (f"The forecaster is {trained.folder}", *use):
                stdout_console().print(visible(line), soft_wrap=True)
    if trained.interrupted:
        resume = command_line("forecast", "--train", args.data or "", "--resume", trained.folder.name)
        print_line(console, f"Continue with: {resume}")
    return stop.status if trained.interrupted else 0


def _plan(args: ForecastArguments, started: float | None) -> ForecasterPlan:
    """Check the arguments, read the series, and return the plan of the run."""
    from chargen.tasks.forecasting.train import ForecasterPlan, load_resumed
    from chargen.training.choices import RunLength

    length = RunLength(budget_s=args.budget, steps=args.steps, epochs=args.epochs)
    if args.resume:
        config = load_resumed(args.resume)
    else:
        config = _config(args)
        length = length if length.chosen() else RunLength(budget_s=DEFAULT_BUDGET_S)
    chosen = {name: getattr(args, name) for name in ("cell", "num_layers", "hidden_size", "dropout")}
    return ForecasterPlan(
        series=_read(args.data or "", config, args.encoding),
        config=config,
        name=args.name or _default_name(args.data or ""),
        length=length,
        use_calendar=args.calendar,
        network={name: value for name, value in chosen.items() if value is not None},
        seed=args.seed,
        device=args.device,
        resume=args.resume or "",
        stop_after=args.stop_after,
        started=time.perf_counter() if started is None else started,
    )


def _config(args: ForecastArguments) -> ForecastConfig:
    """Return what is forecast.

    Raises:
        ConfigError: If a setting is out of range, or two of them contradict each other.
        UsageError: If no column is named.
    """
    if not args.column:
        raise click.UsageError("Name the column that is forecast: --column NAME.")
    for name in args.cell.split(",") if args.cell else ():
        CELLS.get(name)
    if args.cell and "," in args.cell:
        raise click.UsageError("--cell: a forecaster has the same cell in all layers. Name one.")
    if args.name is not None:
        from chargen.runs import check_new_name

        check_new_name(args.name)
    return ForecastConfig(
        targets=args.column, inputs=args.inputs, history=args.history, horizon=args.horizon, strategy=args.strategy,
        output=args.output, coverage=args.coverage, time=args.time, group=args.group, where=args.where, fill=args.fill,
    )  # fmt: skip


def _default_name(path: str) -> str:
    """Return the name of a file without its endings: "weather" for "data/weather.csv.gz"."""
    return "series" if path == "-" else Path(path).name.split(".")[0] or "series"


def _read(path: str, config: ForecastConfig, encoding: str) -> Series:
    """Read the series that a forecaster is trained on or applied to, and print the notes about it."""
    from chargen.tasks.forecasting.series import read_series

    series = read_series(
        path, config.targets, inputs=config.inputs, time=config.time, group=config.group, where=config.where,
        fill=config.fill, encoding=encoding,
    )  # fmt: skip
    for note in series.notes:
        say(f"note: {note}")
    return series


def forecast_file(args: ForecastArguments) -> None:
    """Forecast what follows the series in `args.file`, and print it on stdout.

    Raises:
        ChargenError: If the forecaster or the file cannot be read, or the file does not fit the forecaster.
        UsageError: If no forecaster or no file is named, or the plot cannot be written.
    """
    if not args.model:
        raise click.UsageError("Name a forecaster: -m NAME; or train one: --train FILE --column NAME.")
    if not args.file:
        raise click.UsageError(f"Name the file of the series: chargen forecast -m {args.model} FILE.")
    _check_plot(args, args.file)
    from chargen.tasks.forecasting.next_values import forecast_next
    from chargen.tasks.forecasting.saved import load_forecaster
    from chargen.ui.console import stdout_console
    from chargen.ui.forecasts import forecast_chart, forecast_json, forecast_table
    from chargen.ui.output import print_json

    forecaster = load_forecaster(args.model, device=args.device)
    given: dict[str, Any] = {"time": args.time, "group": args.group, "where": args.where, "fill": args.fill}
    config = replace(forecaster.config, **{name: value for name, value in given.items() if value})
    forecasts = forecast_next(forecaster, _read(args.file, config, args.encoding))
    if args.plot:
        _write_plot(args, forecast_chart(forecasts[-1], config))
        if len(forecasts) > 1:
            say(f"note: the plot shows the last of {len(forecasts):,} groups: choose one with --where")
    if args.as_json:
        print_json(forecast_json(forecasts, config))
    else:
        stdout_console().print(forecast_table(forecasts, config))


def _check_plot(args: ForecastArguments, source: str) -> None:
    if args.plot:
        from chargen.ui.chart.files import check_chart_file

        options.check_output_file("--plot", args.plot, [source])
        check_chart_file(args.plot)


def _write_plot(args: ForecastArguments, chart: Chart) -> None:
    from chargen.ui.chart.files import write_chart

    assert args.plot is not None
    write_chart(args.plot, chart)
    say(f"The plot is {os.path.abspath(args.plot)}")


def _example_chart(plan: ForecasterPlan, trained: TrainedForecaster) -> Chart:
    """Return the chart of the last window of held-out time, with the values that were forecast."""
    from chargen.tasks.forecasting.train import calendar_of
    from chargen.ui.forecasts import example_chart

    calendar = calendar_of(plan.series, trained.forecaster.config.calendar)
    return example_chart(trained.forecaster, plan.series, calendar, trained.comparison.example)
