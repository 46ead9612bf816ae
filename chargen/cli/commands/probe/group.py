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
    "neurons": (
        "chargen.cli.commands.probe.neurons:neurons",
        "Show which unit tracks which property of a text.",
    ),
}


@click.group(
    cls=CommandTable,
    table=PROBES,
    epilog="\b\nExamples:\n  chargen probe gradients --cells rnn,lstm,gru shakespeare\n"
    "  chargen probe memory --task copy --cells rnn,lstm,gru\n"
    "  chargen probe neurons shakespeare play.txt -o neurons.html",
)
def probe() -> None:
    """Measure and show what recurrent networks learn and remember."""
