"""`chargen export`: the group of the commands that write a model for other programs.

To add one, write a file beside this one and add a line to `EXPORTS`.
"""

from __future__ import annotations

import click

from chargen.cli.command_table import CommandTable

EXPORTS = {
    "model": (
        "chargen.cli.commands.export.model:export_model",
        "Write a model file whose weights have more or fewer bits.",
    ),
    "page": (
        "chargen.cli.commands.export.page:page",
        "Write a web page that runs a model in the browser.",
    ),
    "onnx": (
        "chargen.cli.commands.export.onnx:export_onnx",
        "Write one step of a network as an ONNX graph.",
    ),
    "hub": (
        "chargen.cli.commands.export.hub:export_hub",
        "Write a folder for a model hub, and upload it.",
    ),
}


@click.group(
    cls=CommandTable,
    table=EXPORTS,
    epilog="\b\nExamples:\n  chargen export model shakespeare -o small.safetensors --weights int8\n"
    "  chargen export page shakespeare -o story.html\n"
    "  chargen export onnx shakespeare -o shakespeare.onnx --check\n"
    "  chargen export hub shakespeare shakespeare-hub",
)
def export() -> None:
    """Write a trained model in a form that other programs can open."""
