"""`chargen probe neurons`: show which unit of a model tracks which property of a text.

From Python: `show_neurons(NeuronsArguments(model="shakespeare", corpus="play.txt", output="neurons.html"))`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import no_effect
from chargen.cli.series_options import refuse_text_options
from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.probe.neurons import NeuronReport, Tracking
    from chargen.ui.fitted_table import FittedTable

DEFAULT_CHARS = 5000
DEFAULT_TOP = 10


@dataclass(frozen=True, kw_only=True)
class NeuronsArguments:
    """The arguments of `chargen probe neurons`, named as on the command line; sizes in bytes."""

    model: str
    corpus: str
    output: str | None = None
    max_chars: int = DEFAULT_CHARS
    top: int = DEFAULT_TOP
    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 10**9
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    effects=[no_effect("--top", beside="--json", why="JSON has all units")],
    epilog="\b\nExamples:\n  chargen probe neurons shakespeare play.txt\n"
    "  chargen probe neurons shakespeare play.txt -o neurons.html\n"
    "  chargen probe neurons code main.py --max-chars 2000 --json",
)
@click.argument("model", type=options.MODEL_NAME)
@click.argument("corpus", metavar="TEXT", type=options.CORPUS_NAME)
@options.basic_option(
    "-o", "--output", type=options.FILE_NAME, metavar="FILE",
    help="Write an HTML page that shows the text coloured by the activation of any unit.",
)  # fmt: skip
@options.basic_option(
    "--max-chars", type=options.whole(1), default=DEFAULT_CHARS, show_default=True, metavar="N",
    help="Read only the first N characters of the text.",
)  # fmt: skip
@options.basic_option(
    "--top", type=options.whole(0), default=DEFAULT_TOP, show_default=True, metavar="N",
    help="Number of units in the second table.",
)  # fmt: skip
@options.encoding
@options.errors
@options.text_field
@options.json_lines
@options.max_corpus_size("1GB")
@options.checkpoints
@options.as_json
def neurons(**values: Any) -> None:
    """Show which unit of MODEL tracks which property of TEXT, and colour the text by the activation of any unit.

    TEXT is a file, a folder, '-' or the name of a corpus. A unit is one element of the state of a layer: of h, and of
    an LSTM also of c. Its activation at a character is its value after the model has read it.

    \b
    Properties   inside quotes, inside a word, the position in the line, the
                 indentation, the bracket depth, and in Vietnamese the tone mark
                 on the syllable
    AUC          for a property that a character has or has not: the probability
                 that the activation is larger (↑) or smaller (↓) at a character
                 with the property than at one without it; 0.5 is chance
    r            for a number: the correlation with it, from −1 to 1

    The best of many units also fits a property a little by chance, above all in a short text. A property that fewer
    than 10 characters have, or that fewer than 10 lack, is left out.

    The page of -o is one file that loads nothing. A click on a unit, or the keys ↑ and ↓, show it in the text.
    """
    show_neurons(NeuronsArguments(**values))


def show_neurons(args: NeuronsArguments) -> None:
    """Compare the units of a model with the properties of a text, print the result, and write the page.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model or the text cannot be read, the text is empty or too long, or the page cannot be
            written.
        UsageError: If the page would replace something that is read.
    """
    from chargen.api import load
    from chargen.config import DataConfig
    from chargen.engines.numpy_engine import NumpyEngine
    from chargen.probe.neurons import probe_neurons
    from chargen.runs import find_model
    from chargen.text.corpus import check_text_field, read_corpus
    from chargen.ui.console import stdout_console
    from chargen.ui.output import print_json

    if args.output is not None:
        options.check_output_file("--output", args.output, (args.corpus, find_model(args.model)))
    checkpoint = load(args.model, "cpu").checkpoint
    options.check_reading([args.corpus])
    config = DataConfig.for_unchanged_text(args.encoding, args.errors, args.text_field, args.json_lines)
    quantizer = checkpoint.tokenizer.quantizer
    refuse_text_options(quantizer, [args.corpus])
    corpus = read_corpus([args.corpus], config, max_bytes=args.max_bytes, quantizer=quantizer)
    check_text_field(args.text_field, corpus)
    for note in (*corpus.notes, *corpus.repeated_files):
        say(f"note: {note}")
    text = corpus.text
    if len(text) > args.max_chars:
        say(f"note: the first {args.max_chars:,} of {format_count(len(text), 'character')} are read (--max-chars)")
    text = text[: args.max_chars]
    report = probe_neurons(checkpoint, NumpyEngine(checkpoint.config, checkpoint.weights), text)
    if args.output is not None:
        _write_page(report, args)
    if args.as_json:
        print_json(_to_json(report, args))
        return
    console = stdout_console()
    if report.properties:
        console.print(_table(report, report.best_units()))
    if args.top and report.properties:
        console.print()
        console.print(_table(report, report.ranked()[: args.top]))
    if report.missing:
        say(f"note: too few characters of this text have or lack: {', '.join(report.missing)}")


def _write_page(report: NeuronReport, args: NeuronsArguments) -> None:
    from chargen.io import write_atomically
    from chargen.ui.neuron_page import neuron_page

    path = Path(str(args.output))
    write_atomically(path, (piece.encode() for piece in neuron_page(report, args.model, args.corpus)))
    say(f"note: the page is {path}")


def _table(report: NeuronReport, rows: Iterable[tuple[int, Tracking | None]]) -> FittedTable:
    """Return a table of units, each with a property."""
    from chargen.ui.tables import plain_table

    cells = [
        (each.name, str(report.activations.units[unit]), each.measure, _figure(each)) for unit, each in rows if each
    ]
    return plain_table(("property", "unit", "measure", "value"), cells, ("value",), labels=("property", "measure"))


def _figure(tracking: Tracking) -> str:
    """Return the figure as it is shown: an AUC of at least 0.5 with its direction, or a correlation with its sign."""
    if tracking.measure == "r":
        return format_number(tracking.figure, 3, sign=True)
    direction = "↓" if tracking.figure < 0.5 else "↑"
    return f"{format_number(max(tracking.figure, 1.0 - tracking.figure), 3)} {direction}"


def _to_json(report: NeuronReport, args: NeuronsArguments) -> dict[str, Any]:
    activations = report.activations
    return {
        "model": args.model,
        "text": args.corpus,
        "characters": sum(map(len, activations.pieces)),
        "properties": [each.name for each in report.properties],
        "missing_properties": list(report.missing),
        "best_units": [{"unit": str(activations.units[unit]), **each.to_json()} for unit, each in report.best_units()],
        "units": [
            {
                "unit": str(activations.units[unit]),
                **activations.units[unit]._asdict(),
                "min_activation": float(activations.values[unit].min()),
                "max_activation": float(activations.values[unit].max()),
                "best": best.to_json() if best else None,
            }
            for unit, best in report.ranked()
        ],
    }
