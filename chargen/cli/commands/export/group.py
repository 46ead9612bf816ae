"""`chargen export`: the group of the exports. To add one, write a file beside this one and add a line to `EXPORTS`."""

from __future__ import annotations

import click

from chargen.cli.command_table import CommandTable

EXPORTS = {
    "page": (
        "chargen.cli.commands.export.page:page",
        "Write a web page that runs a model in the browser.",
    ),
}


@click.group(
    cls=CommandTable,
    table=EXPORTS,
    epilog="\b\nExamples:\n  chargen export page shakespeare -o story.html",
)
def export() -> None:
    """Write a model in a form that other programs can run."""
