"""`chargen probe gradients`: how far back the gradient of a loss reaches, for cells and for trained models.

From Python: `probe_gradients(GradientArguments(text="shakespeare", cells=("rnn", "lstm")))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands.probe import options as probe_options
from chargen.cli.effects import no_effect
from chargen.cli.series_options import refuse_text_options, shared_quantizer
from chargen.schema import Number, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.probe.gradient_comparison import GradientCurve, GradientSettings
    from chargen.ui.chart.chart import Chart

DEFAULT_CELLS = ("rnn", "lstm", "gru")
DEFAULT_STEPS = 300
MAX_LAG, MAX_POSITIONS = 10_000, 10_000
MAX_INIT_SCALE = 1e3
SHOWN_SHARE = 1e-12  # the plot leaves out gradients below this share of the largest one at k = 0

gradient_option = options.option_group("Gradients")


@dataclass(frozen=True, kw_only=True)
class GradientArguments(probe_options.NetworkArguments):
    """The arguments of `chargen probe gradients`, named as on the command line; sizes in bytes."""

    text: str
    models: tuple[str, ...] = ()
    cells: tuple[str, ...] | None = None
    max_lag: int = 64
    num_positions: int = 64
    init_scale: float = 1.0
    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 10**8
    plot: str | None = None
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=[
        probe_options.LENGTHS,
        no_effect(f"--layers --hidden --init-scale {probe_options.TRAINING} --seed", beside="models", unless="--cells",
                  why="a trained model is measured as it is; --cells trains networks beside it"),
    ],
    epilog="\b\nExamples:\n  chargen probe gradients shakespeare\n"
    "  chargen probe gradients --cells rnn --init-scale 5 shakespeare --plot exploding.svg\n"
    "  chargen probe gradients small large held-out.txt --lag 100 --json",
)  # fmt: skip
@click.argument("models", nargs=-1, type=options.MODEL_NAME, metavar="[MODEL]...")
@click.argument("text", type=options.CORPUS_NAME)
@gradient_option(
    "--lag", "max_lag", type=options.whole(2, MAX_LAG), default=64, show_default=True, metavar="N",
    help="The largest lag k, in tokens.",
)  # fmt: skip
@gradient_option(
    "--positions", "num_positions", type=options.whole(1, MAX_POSITIONS), default=64, show_default=True, metavar="N",
    help="Number of positions t in the text, spread evenly; the median over them is shown.",
)  # fmt: skip
@probe_options.cells(None, ",".join(DEFAULT_CELLS) + " if no MODEL is given")
@probe_options.network_shape
@probe_options.compared_option(
    "--init-scale", type=options.number(Number(0.0, MAX_INIT_SCALE)), default=1.0, show_default=True, metavar="FACTOR",
    help="Factor of the initial recurrent weights. With 5, the gradient of a plain RNN explodes.",
)  # fmt: skip
@probe_options.training(DEFAULT_STEPS, "of each cell")
@options.encoding
@options.errors
@options.text_field
@options.json_lines
@options.max_corpus_size("100MB")
@options.checkpoints
@probe_options.plot
@options.as_json
def gradients(**values: Any) -> None:
    """Plot the norm of the gradient ∂loss(t) / ∂h(t − k) against the lag k, on one TEXT.

    h is the state of the network: if its gradient vanishes with growing k, nothing that was read k tokens ago can be
    learned from the loss at t; if it grows, it explodes.

    Each of --cells gets a fresh network of the same size, which is measured before and after a short training on the
    text. Trained MODELs are measured as they are. TEXT is a file, a folder, '-' or the name of a corpus.
    """
    probe_gradients(GradientArguments(**values))


def probe_gradients(args: GradientArguments) -> None:
    """Measure the gradients and print them on stdout, as a plot and a table or as JSON.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If a model or the text cannot be read, the text is too short, a cell is unknown or has no hidden
            state, or the plot cannot be written.
    """
    probe_options.check_plot(args.plot, (args.text,))
    from chargen.api import load
    from chargen.config import DataConfig
    from chargen.probe.gradient_comparison import MAX_CHARS, GradientSettings
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.output import print_json

    settings = GradientSettings(
        max_lag=args.max_lag, num_positions=args.num_positions, num_layers=args.num_layers,
        hidden_size=args.hidden_size, init_scale=args.init_scale, budget_s=args.budget_s,
        steps=args.steps or (None if args.budget_s else DEFAULT_STEPS), learning_rate=args.learning_rate,
        clip_norm=args.clip_norm, seed=args.seed,
    )  # fmt: skip
    config = DataConfig.for_unchanged_text(args.encoding, args.errors, args.text_field, args.json_lines)
    options.check_reading([args.text])
    quantizer = shared_quantizer({name: load(name, "cpu") for name in args.models})
    refuse_text_options(quantizer, [args.text])
    corpus = read_corpus([args.text], config, max_bytes=args.max_bytes, quantizer=quantizer)
    check_text_field(args.text_field, corpus)
    text = corpus.text
    if len(text) > MAX_CHARS:
        say(f"note: only the first {MAX_CHARS:,} of the {len(text):,} characters are used")
        text = text[:MAX_CHARS]
    curves = _measure(args, settings, text)
    chart = _chart(curves, f"Gradient against lag: {corpus.name}", with_stage=True)
    if args.as_json:
        about = {"corpus": corpus.name, "lags": list(range(args.max_lag + 1)), "hidden_size": args.hidden_size}
        more = {"layers": args.num_layers, "init_scale": args.init_scale, "seed": args.seed}
        print_json({**about, **more, "networks": [curve.to_json() for curve in curves]})
    else:
        _print(curves, corpus.name, settings)
    probe_options.write_plot(chart, args.plot)


def _measure(args: GradientArguments, settings: GradientSettings, text: str) -> list[GradientCurve]:
    """Measure the models and then the cells, with the progress of each training on stderr."""
    from chargen.api import load
    from chargen.probe.gradient_comparison import compare_cells, measure_model
    from chargen.tokenizers.tokenizer import build_tokenizer
    from chargen.ui.console import ProgressBar, stderr_console

    cells = args.cells or (() if args.models else DEFAULT_CELLS)
    curves = [measure_model(name, load(name, "cpu").checkpoint, text, settings) for name in args.models]
    if cells:
        tokenizer = build_tokenizer("char", text)
        with ProgressBar(stderr_console(), 1.0) as bar:
            curves += compare_cells(cells, text, tokenizer, settings, lambda cell, share: bar.show(cell, share))
    return curves


def _chart(curves: Sequence[GradientCurve], title: str, with_stage: bool) -> Chart:
    from chargen.ui.chart.chart import Chart

    floor = SHOWN_SHARE * max(curve.gradients.norms[0] for curve in curves)
    lines = []
    for curve in curves:
        name = f"{curve.name}, {curve.stage}" if with_stage and curve.stage != "model" else curve.name
        shown = [(lag, norm) for lag, norm in enumerate(curve.gradients.norms) if norm >= floor]
        lines.append((name, [lag for lag, _ in shown], [norm for _, norm in shown]))
    return Chart(lines, "lag k (tokens)", "norm of ∂loss(t)/∂h(t − k) (nats per unit of h)", title, log_y=True)


def _print(curves: Sequence[GradientCurve], corpus: str, settings: GradientSettings) -> None:
    """Print a plot of each stage, a table of all networks, and what explodes."""
    from chargen.ui.chart.terminal import chart_text
    from chargen.ui.console import Paragraph, stdout_console

    console = stdout_console()
    width = min(console.width, 100)
    before = [curve for curve in curves if curve.stage == "before training"]
    others = [curve for curve in curves if curve.stage != "before training"]
    for stage, shown in (("before training", before), ("after training" if before else "models", others)):
        if shown:
            console.print(chart_text(_chart(shown, f"Gradient against lag, {stage}: {corpus}", False), width))
            console.print()
    _print_table(curves, settings.max_lag)
    for curve in curves:
        for sentence in _remarks(curve, settings):
            console.print(Paragraph(sentence))


def _print_table(curves: Sequence[GradientCurve], max_lag: int) -> None:
    from chargen.ui.console import stdout_console
    from chargen.ui.tables import plain_table
    from chargen.ui.terminal_text import visible

    numbers = ("nats/token", "k = 1", f"k = {max_lag:,}", "factor per token", "below 1 % from k", "clipped steps")
    rows = []
    for curve in curves:
        found, training = curve.gradients, curve.training
        clipped = f"{training.clipped_steps:,} of {training.steps:,}" if training else "–"
        norms = f"{found.norms[1]:.1e}", f"{found.norms[-1]:.1e}"
        horizon = "–" if found.horizon is None else f"{found.horizon:,}"
        name = visible(curve.name) + ("" if curve.stage == "model" else f", {curve.stage}")
        rows.append((name, format_number(found.loss_nats, 3), *norms, format_number(found.growth, 3), horizon, clipped))
    optional, labels = ("clipped steps", "nats/token"), ("network",)
    stdout_console().print(plain_table(("network", *numbers), rows, numbers, optional, labels))


def _remarks(curve: GradientCurve, settings: GradientSettings) -> list[str]:
    """Return sentences about an exploding gradient, what clipping did, and a training that diverged."""
    remarks = []
    found, training = curve.gradients, curve.training
    if found.explodes:
        factor = found.norms[-1] / found.norms[0]
        remarks.append(
            f"{curve.name}, {curve.stage}: the gradient explodes; at k = {settings.max_lag:,} it is {factor:.1e} times "
            "as large as at k = 0."
        )
    if training and training.clipped_steps:
        remarks.append(
            f"{curve.name}: the gradient of the weights reached the norm {training.largest_gradient_norm:.1e}; in "
            f"{training.clipped_steps:,} of {training.steps:,} steps it was clipped to {training.clip_norm:g}."
        )
    if training and training.has_diverged:
        remarks.append(
            f"{curve.name}: the training diverged at step {training.steps + 1:,}. Use a lower --clip, --lr or "
            "--init-scale."
        )
    return remarks
