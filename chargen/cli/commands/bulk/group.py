"""`chargen bulk`: the group of the commands for many files. To add one, write a file here and add a line to `BULK`."""

from __future__ import annotations

import click

from chargen.cli.command_table import CommandTable

BULK = {
    "score": ("chargen.cli.commands.bulk.score:bulk_score", "Score the texts of many files, and filter them."),
    "sample": ("chargen.cli.commands.bulk.sample:bulk_sample", "Continue the prompts of many files."),
}


@click.group(
    cls=CommandTable,
    table=BULK,
    epilog="\b\nExamples:\n  chargen bulk score -m docs crawl/ --out scored\n"
    "  chargen bulk sample -m docs prompts.csv --out texts --engine local",
)
def bulk() -> None:
    """Score or continue the rows of many files, on all cores or on a Ray cluster, into Parquet files."""
