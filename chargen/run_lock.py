"""Lock a run, so that one process at a time writes it; any number of processes may read it meanwhile.

    checkpoints/.locks/NAME.lock      Locked by the process that writes the run.
    checkpoints/.locks/NAME.owner     Names the process that holds the lock.

The lock belongs to the operating system and ends with its process, so a lock file of a killed process locks nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from chargen.errors import ConfigError, RunInUseError
from chargen.io import make_storage_error, write_atomically
from chargen.runs import LOCKS_FOLDER
from chargen.schema import Integer, Record, Spec, String, parse_json
from chargen.text.limits import open_regular

OWNER_WAIT_S = 0.5  #: how long to wait until the process that holds a lock has written its id
OWNER_SPEC: Spec = Record({"process_id": Integer(1, 2**32), "since": String(19)})
MAX_OWNER_BYTES = 1_000


class RunLock:
    """The lock on a run: only the process that holds it may write the run.

    Args:
        folder: The folder of the run; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        real = Path(os.path.realpath(folder))
        self._name = folder.name
        self._owner = real.parent / LOCKS_FOLDER / f"{real.name}.owner"
        self._lock = filelock.FileLock(real.parent / LOCKS_FOLDER / f"{real.name}.lock", timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunInUseError: If another process holds the lock, or another `RunLock` of this process.
            StorageError: If the lock file cannot be created.
        """
        try:
            self._owner.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise RunInUseError(
                f"the run {self._name!r} is being written by {self._describe_owner()}",
                "Wait until it ends, stop it, or give another --name. Its model can be read at any time.",
            ) from None
        except OSError as error:
            raise make_storage_error(self._owner.with_suffix(".lock"), error) from error
        self._write_owner()

    def release(self) -> None:
        """Release the lock.

        The lock file is not removed: otherwise, two processes could each lock a different file with this name.
        """
        with suppress(OSError):  # for example a folder with this name, which is not chargen's
            self._owner.unlink()
        self._lock.release()

    def _write_owner(self) -> None:
        """Write which process holds the lock. If this fails, the lock is still valid."""
        owner = {"process_id": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):
            self._owner.unlink(missing_ok=True)  # so that a link is not followed and a FIFO does not block
            write_atomically(self._owner, [json.dumps(owner).encode()])

    def _describe_owner(self) -> str:
        """Return which process holds the lock and since when, or "another process" if this is unknown."""
        deadline = time.monotonic() + OWNER_WAIT_S
        while not os.path.lexists(self._owner) and time.monotonic() < deadline:
            time.sleep(0.01)  # a process that has just taken the lock is about to write its id
        try:
            with open_regular(str(self._owner)) as file:
                owner = parse_json(file.read(MAX_OWNER_BYTES))
            OWNER_SPEC.check(owner, "the owner")
        except (OSError, ConfigError):
            return "another process"  # it could not write its id, or has just ended
        return f"process {owner['process_id']} (since {owner['since']})"


@contextmanager
def locked(folder: Path) -> Iterator[RunLock]:
    """Take the lock on a run. It stays held after the `with` block, except if the block raises an exception."""
    lock = RunLock(folder)
    lock.acquire()
    try:
        yield lock
    except BaseException:
        lock.release()
        raise
