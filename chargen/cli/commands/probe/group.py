"""`chargen probe`: the group of the probes. To add one, write a file beside this one and add a line to `PROBES`."""

from __future__ import annotations

import click

from chargen.cli.command_table import CommandTable

PROBES = {
    "gradients": (
        "chargen.cli.commands.probe.gradients:gradients",
        "Measure how far back a gradient reaches.",
    ),
    "memory": (
        "chargen.cli.commands.probe.memory:memory",
        "Measure how far back a cell can carry information.",
    ),
}


@click.group(
    cls=CommandTable,
    table=PROBES,
    epilog="\b\nExamples:\n  chargen probe gradients --cells rnn,lstm,gru shakespeare\n"
    "  chargen probe memory --task copy --cells rnn,lstm,gru",
)
def probe() -> None:
    """Measure what recurrent networks learn and remember, and show it as a plot."""
