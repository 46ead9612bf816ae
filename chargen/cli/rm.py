"""`chargen rm`: remove runs and classifiers.

From Python: `remove_runs(["old", "older"], yes=True)`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from chargen.cli import options
from chargen.ui.terminal_text import say, visible

if TYPE_CHECKING:
    from chargen.tasks.removal import Removable


def _removable_names() -> Sequence[str]:
    from chargen.tasks.removal import list_removable_names

    return list_removable_names()


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen rm shakespeare\n  chargen rm names-2 names-3 --yes",
)
@click.argument("runs", nargs=-1, required=True, type=options.Name(_removable_names), metavar="RUN...")
@options.basic_option("-y", "--yes", is_flag=True, help="Do not ask. Needed where standard input is not a terminal.")
@options.checkpoints
@options.as_json
def rm(runs: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Remove runs and classifiers: their models, training states and reports.

    RUN is a name that `chargen info` lists. The sizes are shown and you are asked first. Only files that chargen wrote
    are removed: if a folder contains anything else, or another process is writing one of the runs, nothing is removed.
    """
    return remove_runs(runs, yes, as_json)


def remove_runs(names: Sequence[str], yes: bool = False, as_json: bool = False) -> int:
    """Remove runs and classifiers, and print what was removed on stdout.

    Args:
        names: Names of runs and classifiers, or paths of their folders.
        yes: Whether to remove them without asking.
        as_json: Whether to print JSON.

    Returns:
        The exit status: 0, or 1 if the user answered no.

    Raises:
        ModelError: If there is no such run.
        StorageError: If another process is writing a run, or a folder contains something that chargen did not write.
        UsageError: If the user cannot be asked, because standard input is not a terminal.
    """
    from chargen.tasks.removal import removable_runs
    from chargen.ui.console import print_json

    with removable_runs(names) as runs:
        if not yes and not _confirm(runs):
            say("nothing was removed")
            return 1
        described = [(_describe(run), _to_json(run)) for run in runs]
        for run in runs:
            run.remove()
    if as_json:
        print_json([facts for _, facts in described])
    else:
        for description, _ in described:
            click.echo(f"removed {visible(description)}")
    return 0


def _confirm(runs: Sequence[Removable]) -> bool:
    """Ask on stderr whether to remove the runs, and return the answer."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "standard input is not a terminal, so you cannot be asked. Give --yes to remove the runs."
        )
    for run in runs:
        say(_describe(run))
    return click.confirm("Remove it?" if len(runs) == 1 else f"Remove all {len(runs):,}?", err=True)


def _describe(run: Removable) -> str:
    from chargen.schema import format_count
    from chargen.ui.console import format_size

    kind = "classifier" if run.is_classifier else "run"
    return f"{kind} {run.name}: {format_count(len(run.files), 'file')}, {format_size(run.size_bytes)}"


def _to_json(run: Removable) -> dict[str, object]:
    return {
        "name": run.name,
        "kind": "classifier" if run.is_classifier else "run",
        "path": os.path.abspath(run.folder),
        "num_files": len(run.files),
        "size_bytes": run.size_bytes,
    }
