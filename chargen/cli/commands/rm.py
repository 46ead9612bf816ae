"""`chargen rm`: remove runs, classifiers and forecasters: only files that chargen wrote, never while they are written.

    checkpoints/NAME/
        model.safetensors, …          the files of a run, with the names of `runs.RUN_FILES`
        classifier.json               a classifier also has these: its description,
        LABEL/                        and a run for each label

Everything is checked before anything is removed: if a folder contains something else, all of it is left as it is. Files
that file managers write into each folder (`FILE_MANAGER_FILES`) are removed with it.

From Python: `remove_runs(["old", "older"], yes=True)`.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from chargen.cli import options
from chargen.cli.value_types import Name
from chargen.errors import ConfigError, ModelError, StorageError
from chargen.folders import checkpoints_folder
from chargen.io import PARTIAL_NAME_END, make_storage_error
from chargen.registry import did_you_mean
from chargen.run_lock import RunLock
from chargen.run_writer import FILE_MANAGER_FILES, FILE_PATTERN, finish_interrupted_exchange
from chargen.runs import CLASSIFIER_FILE, FORECASTER_FILE, LOCKS_FOLDER, RUN_FILES, check_name, get_staging_marker
from chargen.ui.terminal_text import say, visible

_LOCK_SUFFIXES = (".lock", ".owner", ".staged")


def list_removable_names(root: Path | None = None) -> list[str]:
    """Return the names of all runs, classifiers and forecasters, those without a model included, sorted."""
    root = root or checkpoints_folder()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder.name for folder in folders if not folder.name.startswith(".") and _is_run(folder)]


def _is_run(folder: Path) -> bool:
    """Return whether a folder contains a file of a run, a classifier or a forecaster."""
    return any(os.path.lexists(folder / name) for name in (*RUN_FILES, CLASSIFIER_FILE, FORECASTER_FILE))


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen rm shakespeare\n  chargen rm names-2 names-3 --yes",
)
@click.argument("runs", nargs=-1, required=True, type=Name(list_removable_names), metavar="RUN...")
@options.basic_option("-y", "--yes", is_flag=True, help="Do not ask. Needed where standard input is not a terminal.")
@options.checkpoints
@options.as_json
def rm(runs: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Remove runs, classifiers and forecasters: their models, training states and reports.

    RUN is a name that `chargen info` lists. The sizes are shown and you are asked first. Only files that chargen wrote
    are removed, and files of file managers, such as .DS_Store: if a folder contains anything else, or another process
    is writing one of the runs, nothing is removed.
    """
    return remove_runs(runs, yes, as_json)


def remove_runs(names: Sequence[str], yes: bool = False, as_json: bool = False) -> int:
    """Remove runs, classifiers and forecasters, and print what was removed on stdout.

    Args:
        names: Names of runs, classifiers and forecasters, or paths of their folders.
        yes: Whether to remove them without asking.
        as_json: Whether to print JSON.

    Returns:
        The exit status: 0, or 1 if the user answered no.

    Raises:
        ModelError: If there is no such run.
        StorageError: If another process is writing a run, or a folder contains something that chargen did not write.
        UsageError: If the user cannot be asked, because standard input is not a terminal.
    """
    from chargen.ui.output import print_json

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

    return f"{run.kind} {run.name}: {format_count(len(run.files), 'file')}, {format_size(run.size_bytes)}"


def _to_json(run: Removable) -> dict[str, object]:
    return {
        "name": run.name,
        "kind": run.kind,
        "path": os.path.abspath(run.folder),
        "num_files": len(run.files),
        "size_bytes": run.size_bytes,
    }


@dataclass(frozen=True)
class Removable:
    """A run or a classifier whose lock this process holds, and which contains only files that may be removed."""

    folder: Path
    name: str
    files: tuple[Path, ...]
    subfolders: tuple[Path, ...]  #: the folders in `folder`; empty for a run

    @property
    def kind(self) -> str:
        """What it is: "classifier", "forecaster" or "run"."""
        if self.folder / CLASSIFIER_FILE in self.files:
            return "classifier"
        return "forecaster" if self.folder / FORECASTER_FILE in self.files else "run"

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(path.lstat().st_size for path in self.files)

    def remove(self) -> None:
        """Remove the files and the folders.

        Raises:
            StorageError: If that fails. What was removed before stays removed.
        """
        try:
            for path in self.files:
                path.unlink()
            for folder in (*self.subfolders, self.folder):
                folder.rmdir()
        except OSError as error:
            raise make_storage_error(self.folder, error) from error


@contextmanager
def removable_runs(names: Iterable[str], root: Path | None = None) -> Iterator[list[Removable]]:
    """Lock and check runs, classifiers and forecasters to remove; the locks are released at the end of the context.

    Args:
        names: Names of runs, classifiers and forecasters, or paths of their folders. A repeated name counts once.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ModelError: If there is no such run. The hint suggests the most similar name.
        RunInUseError: If another process is writing one of them.
        StorageError: If one of them contains something that chargen did not write, or is a link.
    """
    root = root or checkpoints_folder()
    folders = list(dict.fromkeys(_find_folder(name, root) for name in names))
    with ExitStack() as locks:
        for folder in folders:
            _lock(folder, locks)
        yield [_removable(folder) for folder in folders]


def _lock(folder: Path, locks: ExitStack) -> None:
    """Lock a run; and the runs in a classifier, if a process has ever locked them."""
    _acquire(RunLock(folder), locks)
    try:
        finish_interrupted_exchange(folder)
        has_locks = (folder / LOCKS_FOLDER).is_dir()
        subfolders = [path for path in sorted(folder.iterdir()) if _is_folder(path)] if has_locks else []
    except OSError as error:
        raise make_storage_error(folder, error) from error
    for path in subfolders:
        if path.name != LOCKS_FOLDER:
            _acquire(RunLock(path), locks)


def _acquire(lock: RunLock, locks: ExitStack) -> None:
    lock.acquire()
    locks.callback(lock.release)


def _find_folder(name: str, root: Path) -> Path:
    """Return the folder `root/NAME` of a run or a classifier, from its name or its path.

    Raises:
        ModelError: If there is none.
        StorageError: If it is a link.
    """
    is_path = len(Path(name).parts) > 1 and os.path.realpath(Path(name).parent) == os.path.realpath(root)
    plain = Path(name).name if is_path else name
    try:
        check_name(plain)
    except ConfigError as error:
        raise ModelError(f"{name!r} is not the name of a run under {root}/", "`chargen info` lists them.") from error
    folder = root / plain
    if os.path.islink(folder):
        raise StorageError(f"{folder} is a symbolic link, which no run made", "Remove it yourself.")
    if not _is_run(folder) and not get_staging_marker(folder).exists():
        hint = f"{did_you_mean(plain, list_removable_names(root))} (`chargen info` lists them)".strip()
        raise ModelError(f"no run, classifier or forecaster named {name!r} under {root}/", hint)
    return folder


def _removable(folder: Path) -> Removable:
    """Return what is in a run or a classifier.

    Raises:
        StorageError: If it contains something that chargen did not write.
    """
    try:
        has_runs = os.path.lexists(folder / CLASSIFIER_FILE)
        files, subfolders = [], []
        for path in sorted(folder.iterdir()):
            if has_runs and _is_folder(path):
                files += _lock_files(path) if path.name == LOCKS_FOLDER else [_checked(run) for run in _entries(path)]
                subfolders.append(path)
            else:
                files.append(_checked(path))
    except OSError as error:
        raise error if isinstance(error, StorageError) else make_storage_error(folder, error) from error
    return Removable(folder, folder.name, tuple(files), tuple(subfolders))


def _entries(folder: Path) -> list[Path]:
    """Return what is in the folder of a label, which must be a run."""
    if not _is_run(folder):
        raise _foreign(folder)
    return sorted(folder.iterdir())


def _checked(path: Path) -> Path:
    """Return the path of a file if chargen writes it into runs, classifiers and forecasters, or file managers do."""
    is_ours = re.fullmatch(rf"(?:{FILE_PATTERN})|\.(?:{FILE_PATTERN}){PARTIAL_NAME_END}", path.name)
    is_known = is_ours or path.name in FILE_MANAGER_FILES
    if not is_known or not stat.S_ISREG(path.lstat().st_mode):
        raise _foreign(path)
    return path


def _lock_files(folder: Path) -> list[Path]:
    """Return the lock files of the runs in a classifier."""
    paths = sorted(folder.iterdir())
    for path in paths:
        if path.suffix not in _LOCK_SUFFIXES or not _is_folder(folder.parent / path.stem):
            raise _foreign(path)
    return paths


def _is_folder(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _foreign(path: Path) -> StorageError:
    return StorageError(f"{path} was not written by chargen; nothing was removed", "Remove or move it yourself.")
