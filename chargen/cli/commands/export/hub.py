"""`chargen export hub`: write a folder for a model hub, and upload it.

From Python: `write_hub_files(HubArguments(model="shakespeare", folder="shakespeare-hub"))`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chargen.cli import options
from chargen.ui.terminal_text import say


@dataclass(frozen=True, kw_only=True)
class HubArguments:
    """The arguments of `chargen export hub`, named as on the command line."""

    model: str
    folder: str
    push: str | None = None
    as_json: bool = False


@click.command(
    name="hub",
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen export hub shakespeare shakespeare-hub\n"
    "  chargen export hub shakespeare shakespeare-hub --push YOUR_NAME/shakespeare",
)
@click.argument("model", type=options.MODEL_NAME)
@click.argument("folder", type=options.FILE_NAME)
@options.basic_option(
    "--push", type=options.NAME, metavar="REPOSITORY",
    help="Also upload the files to this repository (PERSON/MODEL). A repository that does not exist is created as a "
    "private one.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def export_hub(**values: Any) -> None:
    """Write MODEL as a FOLDER for a model hub: the model file, config.json and a model card.

    \b
    model.safetensors   the model; chargen.load opens it
    config.json         architecture, size of the vocabulary and tokenizer
    README.md           the model card, with the figures and the name and hash
                        of the corpus that the model file states

    The license is for you to fill in, in the model card. Files that are in the folder already are kept, so an edited
    card is uploaded as it is. A folder with other content is refused.

    --push needs the package huggingface_hub (pip install "chargen[hub]"), and a token: hf auth login, or HF_TOKEN.
    """
    write_hub_files(HubArguments(**values))


def write_hub_files(args: HubArguments) -> None:
    """Write the files for a model hub, upload them if that is asked for, and print what was written on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model cannot be read, the folder has other content, a package is missing, or the hub
            refuses the upload.
    """
    from chargen.checkpoint import load_checkpoint
    from chargen.export.hub import HUB_FILES, check_hub_folder, write_hub_folder
    from chargen.export.upload import check_repository, push_folder
    from chargen.runs import find_model
    from chargen.ui.console import format_size, stdout_console
    from chargen.ui.output import print_json
    from chargen.ui.tables import plain_table

    path, folder = find_model(args.model), Path(args.folder)
    checkpoint = load_checkpoint(path)
    check_hub_folder(folder, path)
    if args.push is not None:
        check_repository(args.push)
    kept = write_hub_folder(folder, path, checkpoint, args.push or "")
    if kept:
        say(f"note: {', '.join(kept)}: in the folder already, and kept")
    else:
        say(f"note: fill in the license in {folder / 'README.md'}")
    url = None if args.push is None else push_folder(folder, args.push)
    sizes = {name: os.path.getsize(folder / name) for name in HUB_FILES}
    if args.as_json:
        files = [{"name": name, "size_bytes": size} for name, size in sizes.items()]
        print_json({"folder": args.folder, "files": files, "repository": url})
        return
    console = stdout_console()
    rows = [(str(folder / name), format_size(size)) for name, size in sizes.items()]
    console.print(plain_table(("file", "size"), rows, ("size",)))
    if url:
        console.print(f"uploaded to {url}")
