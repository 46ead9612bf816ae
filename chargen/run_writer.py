"""Write runs: one process at a time may write a run, while any number of processes read it.

    checkpoints/.NAME.new/            A run that replaces another one (`--force`), until it has its first model.
    checkpoints/.NAME.old/            The replaced run, while the two folders are exchanged.
    checkpoints/.locks/NAME.staged    Marks the two hidden folders as chargen's. A folder with such a name that the user
                                      made has no marker, and is never removed.

Only the process that holds the lock on a run writes it (`run_lock.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from chargen.errors import RunInUseError, StoppedError, StorageError
from chargen.folders import checkpoints_folder
from chargen.io import PARTIAL_NAME_END, make_storage_error, remove_stale_partial_files, write_atomically
from chargen.run_lock import RunLock, locked
from chargen.runs import (
    CLASSIFIER_FILE,
    ENCODER_FILE,
    FORECASTER_FILE,
    LOCKS_FOLDER,
    MODEL_FILE,
    RUN_FILES,
    Run,
    check_new_name,
    find_run,
    get_hidden_folders,
    get_staging_marker,
    split_run_path,
)

MAX_NAME_SUFFIX = 10_000  #: limit of the number in NAME-2, NAME-3, …
_RUN_FILE_PATTERN = "|".join(map(re.escape, RUN_FILES))  #: names of the files of a run, as a regular expression
#: these names, and those of the models of tasks
FILE_PATTERN = "|".join([_RUN_FILE_PATTERN, *map(re.escape, (CLASSIFIER_FILE, ENCODER_FILE, FORECASTER_FILE))])
#: files that file managers write into the folders that they show (macOS, Windows); they are removed with a run
FILE_MANAGER_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")


class RunWriter:
    """A context manager for a run that this process writes: its folder, and the lock on it.

    A run that replaces another one is first written to a hidden folder next to it. When it has its first model,
    `commit` exchanges the two folders. If the run ends earlier, the old run is unchanged.

    Args:
        lock: The acquired lock.
        run: The run to write.
        target: The folder that `commit` replaces; None if the run is already in its final folder.
        is_new: Whether this process created the run. The folder of a new run is removed if an exception ends the run
            before there is anything to keep.
    """

    def __init__(self, lock: RunLock, run: Run, target: Path | None = None, is_new: bool = True) -> None:
        self._lock, self._target, self._is_new = lock, target, is_new
        self.run = run
        self.is_worth_keeping = False  #: whether a stopped run is kept even without a model; set by the training

    @property
    def is_replacing(self) -> bool:
        """Whether the run is still in a hidden folder, from which `commit` moves it to its final folder."""
        return self._target is not None

    def commit(self) -> None:
        """Move the run to its final folder, and remove the run that it replaces.

        No file in the run's folder may be open for writing at this time.

        Raises:
            StorageError: If the folders cannot be exchanged; the old run is then in its folder as before.
        """
        if self._target is None:
            return
        new = self.run.folder
        target = self._target
        _, old = get_hidden_folders(target)
        try:
            if target.exists():
                _check_run_files(target)
                os.rename(target, old)
            os.rename(new, target)
            _remove_hidden_folders(target)
        except OSError as error:
            if not target.exists() and old.exists():
                os.rename(old, target)
            raise error if isinstance(error, StorageError) else make_storage_error(target, error) from error
        self.run = Run(target, self.run.name)
        self._target = None

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._target is not None:
                _remove_hidden_folders(self._target)
            elif kind is not None and self._is_new and self.run.folder.is_dir() and not self._has_result(kind):
                _remove_run(self.run.folder)
        finally:
            self._lock.release()

    def _has_result(self, kind: type[BaseException]) -> bool:
        """Return whether a run that an exception has ended has anything to keep: a model, or steps to continue from.

        The reports of a run that failed are kept, too, because they show how it failed. Those of a run that was stopped
        are not.
        """
        was_stopped = issubclass(kind, StoppedError) or not issubclass(kind, Exception)
        has_reports = not was_stopped and self.run.metrics_path.exists()
        return self.run.model_path.exists() or self.is_worth_keeping or has_reports


def remove_leftovers(root: Path | None = None) -> None:
    """Remove what killed processes left in a folder of runs: hidden folders of unlocked runs, and partial files.

    Errors are ignored: the files belong to other runs, so they must not prevent this process from writing its run.
    """
    root = root or checkpoints_folder()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        with suppress(OSError):  # for example a RunInUseError: a process is writing the run
            match = re.fullmatch(r"\.(.+)\.(?:new|old)", folder.name, re.DOTALL)
            if match and get_staging_marker(root / match[1]).exists():
                with locked(root / match[1]) as lock:
                    finish_interrupted_exchange(root / match[1])
                    lock.release()
            elif folder.is_dir() and folder.name != LOCKS_FOLDER:
                remove_stale_partial_files(folder, FILE_PATTERN)


def create_run(name: str, *, force: bool = False, root: Path | None = None) -> RunWriter:
    """Create a run named `name`, or `name-2`, `name-3`, … if the name is taken, and return its writer.

    Args:
        name: The name of the run.
        force: Whether to replace an existing run with this name instead.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ConfigError: If the name cannot name a run.
        RunInUseError: If `force` is true and another process is writing the run with this name.
        StorageError: If the folder cannot be created, or contains files that no run wrote.
    """
    check_new_name(name)
    root = root or checkpoints_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        if force:
            return _replace_run(root / name)
        for folder in _candidate_folders(name, root):
            writer = _create_folder(folder)
            if writer is not None:
                return writer
    except OSError as error:
        raise error if isinstance(error, StorageError) else make_storage_error(root / name, error) from error
    raise _too_many_runs(name, root)


def stage_run(name: str, root: Path | None = None) -> RunWriter:
    """Create a hidden folder and return its writer, whose `commit` renames it to `name` (or `name-2`, …).

    Args:
        name: The name of the final folder.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ConfigError: If the name cannot name a run.
        StorageError: If the folder cannot be created.
    """
    check_new_name(name)
    root = root or checkpoints_folder()
    remove_leftovers(root)
    for folder in _candidate_folders(name, root):
        with suppress(RunInUseError), locked(folder) as lock:
            finish_interrupted_exchange(folder)
            if not os.path.lexists(folder):
                return _stage_folder(lock, folder, folder)
            lock.release()
    raise _too_many_runs(name, root)


def resume_run(name: str, root: Path | None = None) -> RunWriter:
    """Open an existing run for writing, and return its writer.

    Args:
        name: The name of the run, or the path of its folder.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ModelError: If there is no such run. The hint suggests the most similar name.
        RunInUseError: If another process is writing the run.
        StorageError: If one of its files is a link, a folder or a FIFO.
    """
    root, name = split_run_path(name, root or checkpoints_folder())
    find_run(name, root)
    with locked(root / name) as lock:
        finish_interrupted_exchange(root / name)
        remove_leftovers(root)
        run = find_run(name, root)
        _check_regular_files(run.folder)
        return RunWriter(lock, run, is_new=False)


def _candidate_folders(name: str, root: Path) -> Iterator[Path]:
    """Yield the folders NAME, NAME-2, NAME-3, …."""
    yield root / name
    yield from (root / f"{name}-{number}" for number in range(2, MAX_NAME_SUFFIX))


def _too_many_runs(name: str, root: Path) -> StorageError:
    return StorageError(f"{root} has {MAX_NAME_SUFFIX:,} runs named {name}", "Give another --name.")


def _create_folder(folder: Path) -> RunWriter | None:
    """Create the folder of a new run; return None if it exists already or another process is about to create it."""
    if os.path.lexists(folder):
        return None
    try:
        with locked(folder) as lock:
            finish_interrupted_exchange(folder)
            folder.mkdir()  # fails if another process has just made it
            return RunWriter(lock, Run(folder, folder.name))
    except (RunInUseError, FileExistsError):
        return None


def _replace_run(folder: Path) -> RunWriter:
    """Create the hidden folder of a run that will replace the run in `folder`; without such a run, create `folder`."""
    with locked(folder) as lock:
        finish_interrupted_exchange(folder)
        if not os.path.lexists(folder):
            folder.mkdir()
            return RunWriter(lock, Run(folder, folder.name))
        _check_run_files(folder)
        return _stage_folder(lock, Path(os.path.realpath(folder)), folder)


def _stage_folder(lock: RunLock, target: Path, named: Path) -> RunWriter:
    """Create the hidden folder that will replace `target`, the real path of the folder that the user named."""
    new, old = get_hidden_folders(target)
    for folder in (new, old):
        if os.path.lexists(folder):
            raise StorageError(
                f"{folder} exists already, and no run wrote it", "Move or remove it yourself, or give another --name."
            )
    write_atomically(
        get_staging_marker(target), []
    )  # before the folder, so that a killed process never leaves a folder without its marker
    new.mkdir(parents=True)
    return RunWriter(lock, Run(new, named.name), target)


def finish_interrupted_exchange(folder: Path) -> None:
    """Finish or undo an exchange of folders that a killed process started. The caller holds the lock.

    If the run's folder is missing, a hidden folder with a model takes its place. The other hidden folders are removed.

    Raises:
        OSError: If the folders cannot be renamed or removed.
    """
    if get_staging_marker(folder).exists() and not os.path.lexists(folder):
        kept = next((path for path in get_hidden_folders(folder) if (path / MODEL_FILE).is_file()), None)
        if kept is not None:
            os.rename(kept, Path(os.path.realpath(folder)))
    _remove_hidden_folders(folder)


def _remove_hidden_folders(folder: Path) -> None:
    """Remove the hidden folders of a run if chargen made them, and then their marker."""
    marker = get_staging_marker(folder)
    if not marker.exists():
        return
    for hidden in get_hidden_folders(folder):
        if hidden.is_dir() and not hidden.is_symlink():
            shutil.rmtree(hidden)
    marker.unlink()


def _run_files(folder: Path) -> Iterator[Path]:
    """Yield the files in the folder of a run, including partial files and those of file managers.

    Raises:
        StorageError: If the folder contains anything else than these files, by their exact names.
    """
    for path in folder.iterdir():
        is_ours = re.fullmatch(rf"(?:{_RUN_FILE_PATTERN})|\.(?:{_RUN_FILE_PATTERN}){PARTIAL_NAME_END}", path.name)
        if not (is_ours or path.name in FILE_MANAGER_FILES) or path.is_dir():
            raise StorageError(
                f"{folder} contains {path.name!r}, which no run wrote", "Remove it yourself, or give another --name."
            )
        yield path


def _check_regular_files(folder: Path) -> None:
    """Check that the files of a run to resume are regular files: a link leads to another file, and a FIFO blocks.

    Raises:
        StorageError: If one of them is not a regular file.
    """
    for path in (folder / name for name in RUN_FILES):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            problem = "is a symbolic link" if path.is_symlink() else "is not a regular file"
            raise StorageError(f"{path} {problem}, but the run writes to it", "Put a regular file in its place.")


def _check_run_files(folder: Path) -> None:
    """Check that a path is a folder with the files of a run and nothing else, except files of file managers.

    Raises:
        StorageError: If it is not a folder, or contains something that no run wrote.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is not the folder of a run", "Remove it yourself, or give another --name.")
    list(_run_files(folder))


def _remove_run(folder: Path) -> None:
    for path in list(_run_files(folder)):
        path.unlink()
    folder.rmdir()
