"""`chargen export model`: write a model file whose weights have more or fewer bits.

From Python: `write_model_file(ModelArguments(model="shakespeare", output="small.safetensors", weight_storage="int8"))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.config import FLOAT16, WEIGHT_STORAGES
from chargen.schema import format_count
from chargen.ui.terminal_text import say


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """The arguments of `chargen export model`, named as on the command line."""

    model: str
    output: str
    weight_storage: str = FLOAT16
    as_json: bool = False


@click.command(
    name="model",
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen export model shakespeare -o small.safetensors --weights int8\n"
    "  chargen export model shakespeare -o exact.safetensors --weights float32",
)
@click.argument("model", type=options.MODEL_NAME)
@options.basic_option(
    "-o", "--output", type=options.FILE_NAME, metavar="FILE", required=True,
    help="The model file. An existing file is replaced.",
)  # fmt: skip
@options.basic_option(
    "--weights", "weight_storage", type=click.Choice(WEIGHT_STORAGES), default=FLOAT16, show_default=True,
    help="How the weights are stored.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def export_model(**values: Any) -> None:
    """Write MODEL to another file, with weights of more or fewer bits.

    \b
    int8      8 bits, and a scale for each row of a matrix
    float16   16 bits, and the n-gram table as with int8
    float32   32 bits, each array under its own name, for other programs

    Rows of the n-gram table that training never used are stored with float32 only. A file with more bits than MODEL has
    the same values as MODEL: precision that was lost does not come back.
    """
    write_model_file(ModelArguments(**values))


def write_model_file(args: ModelArguments) -> None:
    """Write a model to another file, open it again, and print what it is.

    Args:
        args: The arguments of the command.

    Raises:
        ModelError: If there is no such model, or it cannot be read.
        StorageError: If the file cannot be written.
        UsageError: If the file would replace the model, or its folder is missing.
    """
    from chargen.cells.weights import NGRAM_TABLE
    from chargen.checkpoint import load_checkpoint, save_checkpoint
    from chargen.runs import find_model
    from chargen.storage.stored_weights import count_stored_rows
    from chargen.ui.console import format_size
    from chargen.ui.output import print_json

    path, output = find_model(args.model), Path(args.output)
    options.check_output_file("--output", args.output, [path])
    checkpoint = load_checkpoint(path)
    if WEIGHT_STORAGES.index(args.weight_storage) > WEIGHT_STORAGES.index(checkpoint.weight_storage):
        say(
            f"note: the weights of {args.model} are stored as {checkpoint.weight_storage}, and keep their values as "
            f"{args.weight_storage}"
        )
    save_checkpoint(output, checkpoint, args.weight_storage)
    num_rows = count_stored_rows(load_checkpoint(output).weights, NGRAM_TABLE)
    size_bytes = output.stat().st_size
    if args.as_json:
        print_json(
            {
                "path": args.output,
                "size_bytes": size_bytes,
                "original_size_bytes": path.stat().st_size,
                "weight_storage": args.weight_storage,
                "stored_ngram_rows": num_rows,
            }
        )
        return
    rows = "" if num_rows is None else f", {format_count(num_rows, 'n-gram row')}"
    sizes = f"{format_size(size_bytes)} instead of {format_size(path.stat().st_size)}"
    click.echo(f"{args.output}: {sizes} ({args.weight_storage}{rows})")
