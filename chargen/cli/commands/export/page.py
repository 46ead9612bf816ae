"""`chargen export page`: write one HTML file that runs a model in the browser.

From Python: `export_page(PageArguments(model="shakespeare", output="story.html"))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.config import WEIGHT_STORAGES
from chargen.schema import format_count


@dataclass(frozen=True, kw_only=True)
class PageArguments:
    """The arguments of `chargen export page`, named as on the command line."""

    model: str
    output: str
    weights: str = "int8"
    license_note: str | None = None
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen export page shakespeare -o story.html\n"
    '  chargen export page poems -o poems.html --license "CC BY 4.0"\n'
    "  chargen export page shakespeare -o exact.html --weights float32",
)
@click.argument("model", type=options.MODEL_NAME)
@options.basic_option(
    "-o", "--output", type=options.FILE_NAME, metavar="FILE", required=True,
    help="The HTML file. An existing file is replaced.",
)  # fmt: skip
@options.basic_option(
    "--weights", type=click.Choice(WEIGHT_STORAGES), default="int8", show_default=True,
    help="How the weights are stored. int8 makes the smallest page, and float32 is exact.",
)  # fmt: skip
@options.basic_option(
    "--license", "license_note", type=options.NAME, show_default="the page says that none is stated",
    metavar="TEXT", help="What the page says about the licence of the model and of its corpus.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def page(**values: Any) -> None:
    """Write one HTML file that contains MODEL and runs it in the browser.

    The file opens from the disk, also on a phone. It needs no network, no server and no installation: it generates text
    as you type, shows the alternatives for each character, colours a text by its surprisal, and ranks lines.

    \b
    MODEL       model file, run folder or run name: a model of texts. The page of
                a backward model writes the text before a prompt
    --weights   bits per weight: int8 8, float16 16, float32 32. Rows of the
                n-gram table that training never used are left out

    Everyone who has the page has the model, and can find passages of the training text in it.
    """
    export_page(PageArguments(**values))


def export_page(args: PageArguments) -> None:
    """Write the page of a model, and print what it is.

    Args:
        args: The arguments of the command.

    Raises:
        ModelError: If there is no such model, or a page cannot run it.
        StorageError: If the file cannot be written.
        UsageError: If the file would replace the model.
    """
    from chargen.api import load
    from chargen.export.page import write_page
    from chargen.runs import find_model
    from chargen.ui.output import print_json

    path = find_model(args.model)
    options.check_output_file("--output", args.output, [path])
    written = write_page(load(path, "cpu"), Path(args.output), args.weights, args.license_note or "")
    if args.as_json:
        print_json(
            {
                "path": args.output,
                "model": written.name,
                "size_bytes": written.size_bytes,
                "weights": args.weights,
                "ngram_rows": written.num_ngram_rows,
            }
        )
        return
    rows = f", {format_count(written.num_ngram_rows, 'n-gram row')}" if written.num_ngram_rows else ""
    from chargen.ui.console import format_size

    click.echo(f"{args.output}: {written.name}, {format_size(written.size_bytes)} ({args.weights}{rows})")
