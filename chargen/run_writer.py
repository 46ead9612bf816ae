"""Who may write a run: one process at a time, while any number read it.

    checkpoints/.locks/NAME.lock      held by the process that writes the run; NAME.owner says which one that is
    checkpoints/.NAME.new/            a run that replaces another one (`--force`), until it has its first model
    checkpoints/.NAME.old/            the replaced run, while the two folders are exchanged
    checkpoints/.locks/NAME.staged    says that these two folders are chargen's. A folder of such a name that a person
                                      made has no such file, and is never removed

The lock is the operating system's: it ends with its process, so a lock file that is left over locks nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import filelock

from chargen.errors import ConfigError, RunInUseError, StorageError
from chargen.io import make_storage_error, remove_stale_partial_files, write_atomically
from chargen.runs import (
    CHECKPOINTS,
    CLASSIFIER_FILE,
    LOCKS_FOLDER,
    MODEL_FILE,
    RUN_FILES,
    Run,
    check_name,
    find_run,
    get_hidden_folder,
    get_staging_marker,
)
from chargen.schema import Integer, Record, Spec, String, parse_json
from chargen.text.limits import open_regular

OWNER_WAIT_S = 0.5  #: how long to wait for the owner of a lock to say who it is
MAX_RUNS_OF_A_NAME = 10_000
OWNER: Spec = Record({"process_id": Integer(1, 2**32), "since": String(19)})
MAX_OWNER_BYTES = 1_000
_RUN_NAMES = "|".join(map(re.escape, RUN_FILES))  #: names of the files of a run
_NAMES = rf"{_RUN_NAMES}|{re.escape(CLASSIFIER_FILE)}"  #: and of the file of a classifier
_PARTS = r"(?:[0-9a-f]{8}-)?\d+\.part"  #: how the name of a partial file ends


class RunLock:
    """The right to write the run of a name, held by one process at a time.

    Args:
        folder: of the run. It need not exist.
    """

    def __init__(self, folder: Path) -> None:
        real = Path(os.path.realpath(folder))
        self._name = folder.name
        self._owner = real.parent / LOCKS_FOLDER / f"{real.name}.owner"
        self._lock = filelock.FileLock(real.parent / LOCKS_FOLDER / f"{real.name}.lock", timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunInUseError: another process, or another run of this one, holds it.
            StorageError: the lock file cannot be made.
        """
        try:
            self._owner.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise RunInUseError(
                f"the run {self._name!r} is being written by {self._described_owner()}",
                "Wait until it ends, or stop it; or give another --name. Its model can be read at any time.",
            ) from None
        except OSError as error:
            raise make_storage_error(self._owner.with_suffix(".lock"), error) from error
        self._write_owner()

    def release(self) -> None:
        """Give the lock back. The lock file stays: deleting it would let two processes lock two files of one name."""
        with suppress(OSError):  # another's folder of this name stays
            self._owner.unlink()
        self._lock.release()

    def _write_owner(self) -> None:
        """Say who has the lock. It holds without that too: what stands there is neither followed nor an error."""
        about = {"process_id": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):
            self._owner.unlink(missing_ok=True)  # a link is not followed, a pipe not waited for
            write_atomically(self._owner, [json.dumps(about).encode()])

    def _described_owner(self) -> str:
        until = time.monotonic() + OWNER_WAIT_S
        while not os.path.lexists(self._owner) and time.monotonic() < until:
            time.sleep(0.01)  # a process that has just taken the lock is about to write its number
        try:
            with open_regular(str(self._owner)) as file:
                about = parse_json(file.read(MAX_OWNER_BYTES))
            OWNER.check(about, "the owner")
        except (OSError, ConfigError):
            return "another process"  # which cannot write its number, or has just ended
        return f"process {about['process_id']} (since {about['since']})"


class RunWriter:
    """A run that this process writes: its folder, and the lock on it. A context manager.

    A run that replaces another one is written to a hidden folder beside it. With its first model (`commit`) it takes
    the place of the old run; if it ends before that, the old run is what it was.

    Args:
        lock: acquired.
        run: where to write.
        target: the folder to take the place of; None if the run is in its place already.
        is_new: whether the run began here, so that nothing is left of it if it fails before it has learned anything.
    """

    def __init__(self, lock: RunLock, run: Run, target: Path | None = None, is_new: bool = True) -> None:
        self._lock, self._target, self._is_new = lock, target, is_new
        self.run = run

    @property
    def is_replacing(self) -> bool:
        """Whether another run is still in this one's place."""
        return self._target is not None

    def commit(self) -> None:
        """Take the place of the run that this one replaces. Nothing may be writing to the run's folder.

        Raises:
            StorageError: the folders cannot be exchanged; the old run is in its place.
        """
        if self._target is None:
            return
        new, target = self.run.folder, self._target
        old = get_hidden_folder(target, "old")
        try:
            if target.exists():
                _check_run_files(target)
                os.rename(target, old)
            os.rename(new, target)
            _remove_staged(target)
        except OSError as error:
            if not target.exists() and old.exists():
                os.rename(old, target)
            raise error if isinstance(error, StorageError) else make_storage_error(target, error) from error
        self.run, self._target = Run(target, self.run.name), None

    def _is_empty(self) -> bool:
        """Tell whether nothing was learned yet: there is no model, and no report was written."""
        return self.run.folder.is_dir() and not (self.run.model_path.exists() or self.run.metrics_path.exists())

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            failed = kind is not None and issubclass(kind, Exception)
            if self._target is not None:
                _remove_staged(self._target)
            elif failed and self._is_new and self._is_empty():
                _remove_run(self.run.folder)
        finally:
            self._lock.release()


def remove_leftovers(root: Path = CHECKPOINTS) -> None:
    """Remove what killed processes have left: runs in the making whose lock is free, and partial files.

    What cannot be removed stays: it belongs to other runs, and is no reason not to write this one.
    """
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        with suppress(OSError):
            found = re.fullmatch(r"\.(.+)\.(?:new|old)", folder.name, re.DOTALL)
            if found and get_staging_marker(root / found[1]).exists():
                _remove_leftover(root / found[1])
            elif folder.is_dir() and folder.name != LOCKS_FOLDER:
                remove_stale_partial_files(folder, _NAMES)


def _remove_leftover(folder: Path) -> None:
    lock = RunLock(folder)
    try:
        lock.acquire()
    except (RunInUseError, StorageError):
        return  # its process is still at work, or its name cannot be locked: then nobody can write it either
    try:
        _recover(folder)
    finally:
        lock.release()


def create_run(name: str, *, force: bool = False, root: Path = CHECKPOINTS) -> RunWriter:
    """Begin a run named `name`, or `name-2`, `name-3`, … where that is taken.

    Args:
        force: replace a run of that name instead.

    Raises:
        ConfigError: the name is none, or is a path.
        RunInUseError: with `force`: another process writes the run of that name.
        StorageError: the folder cannot be made, or is not a run's.
    """
    check_name(name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        if force:
            return _replace_run(root / name)
        for number in range(1, MAX_RUNS_OF_A_NAME):
            folder = root / (name if number == 1 else f"{name}-{number}")
            writer = _begin_run(folder)
            if writer is not None:
                return writer
    except OSError as error:
        raise error if isinstance(error, StorageError) else make_storage_error(root / name, error) from error
    raise StorageError(f"{root} has {MAX_RUNS_OF_A_NAME:,} runs named {name}", "Give another --name.")


def stage_run(name: str, root: Path = CHECKPOINTS) -> RunWriter:
    """Begin something named `name` (or `name-2`, …) in a hidden folder, which `commit` puts in its place.

    Raises:
        ConfigError: the name is none, or is a path.
        StorageError: the folder cannot be made.
    """
    check_name(name)
    remove_leftovers(root)
    for number in range(1, MAX_RUNS_OF_A_NAME):
        folder = root / (name if number == 1 else f"{name}-{number}")
        lock = RunLock(folder)
        try:
            lock.acquire()
        except RunInUseError:
            continue
        try:
            _recover(folder)
            if not os.path.lexists(folder):
                return _staged(lock, folder, folder)
        except BaseException:
            lock.release()
            raise
        lock.release()
    raise StorageError(f"{root} has {MAX_RUNS_OF_A_NAME:,} runs named {name}", "Give another --name.")


def resume_run(name: str, root: Path = CHECKPOINTS) -> RunWriter:
    """Go on with a run.

    Raises:
        ModelError: there is no such run; the message says which is near.
        RunInUseError: another process writes it.
        StorageError: one of its files is a link, a folder or a pipe.
    """
    find_run(name, root)
    folder = root / name
    lock = RunLock(folder)
    lock.acquire()
    try:
        _recover(folder)
        remove_leftovers(root)
        run = find_run(name, root)
        _check_own_files(run.folder)
        return RunWriter(lock, run, is_new=False)
    except BaseException:
        lock.release()
        raise


# ── folders in the making ─────────────────────────────────────────────────────


def _begin_run(folder: Path) -> RunWriter | None:
    """Make a new run's folder; None if a run has this name, or another process is about to make it."""
    if os.path.lexists(folder):
        return None
    lock = RunLock(folder)
    try:
        lock.acquire()
    except RunInUseError:
        return None
    try:
        _recover(folder)
        folder.mkdir()  # exclusive
    except FileExistsError:
        lock.release()
        return None
    except BaseException:
        lock.release()
        raise
    return RunWriter(lock, Run(folder, folder.name))


def _replace_run(folder: Path) -> RunWriter:
    lock = RunLock(folder)
    lock.acquire()
    try:
        _recover(folder)
        if not os.path.lexists(folder):
            folder.mkdir()
            return RunWriter(lock, Run(folder, folder.name))
        _check_run_files(folder)
        return _staged(lock, Path(os.path.realpath(folder)), folder)
    except BaseException:
        lock.release()
        raise


def _staged(lock: RunLock, target: Path, shown: Path) -> RunWriter:
    new, old = get_hidden_folder(target, "new"), get_hidden_folder(target, "old")
    for folder in (new, old):
        if os.path.lexists(folder):
            raise StorageError(
                f"{folder} is in the way, and no run wrote it", "Move or remove it yourself, or give another --name."
            )
    write_atomically(get_staging_marker(target), [])  # before the folder, so that a kill leaves none without it
    new.mkdir(parents=True)
    return RunWriter(lock, Run(new, shown.name), target)


def _recover(folder: Path) -> None:
    """Finish what a killed process has begun, once its lock is free: an exchange of folders, or a new run without one.

    Raises:
        OSError: the folders cannot be renamed or removed.
    """
    new, old = get_hidden_folder(folder, "new"), get_hidden_folder(folder, "old")
    if get_staging_marker(folder).exists() and not os.path.lexists(folder):
        kept = next((path for path in (new, old) if (path / MODEL_FILE).is_file()), None)
        if kept is not None:
            os.rename(kept, Path(os.path.realpath(folder)))
    _remove_staged(folder)


def _remove_staged(folder: Path) -> None:
    """Remove the hidden folders beside a run's, if chargen made them, and then the file that says so."""
    mark = get_staging_marker(folder)
    if not mark.exists():
        return
    for left in (get_hidden_folder(folder, "new"), get_hidden_folder(folder, "old")):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
    mark.unlink()


def _run_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a run's folder that chargen writes: by their exact names, partial ones included.

    Raises:
        StorageError: the folder holds anything else.
    """
    for path in folder.iterdir():
        is_ours = re.fullmatch(rf"(?:{_RUN_NAMES})|\.(?:{_RUN_NAMES})\.{_PARTS}", path.name)
        if not is_ours or path.is_dir():
            raise StorageError(
                f"{folder} holds {path.name!r}, which no run wrote", "Remove it yourself, or give another --name."
            )
        yield path


def _check_own_files(folder: Path) -> None:
    """Check that what a resumed run writes to are its own files: a link leads elsewhere, a pipe is waited for.

    Raises:
        StorageError: one is anything else.
    """
    for path in (folder / name for name in RUN_FILES):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            what = "is a symbolic link" if path.is_symlink() else "is not a regular file"
            raise StorageError(f"{path} {what}, but the run writes to it", "Put a regular file in its place.")


def _check_run_files(folder: Path) -> None:
    """Check that a folder is a run's and holds nothing else.

    Raises:
        StorageError: it holds something that no run wrote, or is no folder.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is no run's folder", "Remove it yourself, or give another --name.")
    for _ in _run_files(folder):
        pass


def _remove_run(folder: Path) -> None:
    for path in list(_run_files(folder)):
        path.unlink()
    folder.rmdir()
