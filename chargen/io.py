"""Files are written whole or not at all: into a partial file beside the target, flushed to the disk, then renamed.

    regular file, or none yet      replaced by a rename; symbolic links are followed, the permissions are kept
    device, FIFO, socket           written through, because a rename would put a regular file in its place
    read-only file, directory      refused

The name of a partial file tells which process of which machine writes it, so that what a killed process left behind
can be recognised and removed (`remove_stale_partial_files`).

JSON as chargen writes it: one line, any script as it is, null for what is not a finite number.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from chargen.errors import StorageError

PARTIAL = ".part"  #: suffix of a file that is being written
MAX_PARTIAL_STEM = 100  #: characters of the target's name in the name of its partial file
ABANDONED_S = 24 * 3600  #: age from which a partial file of another machine counts as abandoned
OPEN_FILES = ("/dev/std", "/dev/fd/", "/proc/")  #: paths of files that are open already: these are never replaced

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_PART_NAME = re.compile(r"\.(?P<target>.+)\.(?:(?P<host>[0-9a-f]{8})-)?(?P<process>\d+)\.part", re.DOTALL)

HINTS = {
    errno.ENOSPC: "The disk is full. Free some space, or work in another folder.",
    errno.EDQUOT: "Your disk quota is used up. Free some space, or work in another folder.",
    errno.EACCES: "You may not write there. Choose another folder, or change its permissions.",
    errno.EPERM: "You may not write there. Choose another folder, or change its permissions.",
    errno.EROFS: "The file system is read-only. Choose another folder.",
    errno.ENOENT: "The folder does not exist, or was deleted meanwhile.",
    errno.EISDIR: "Give the name of a file, not of a folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def make_storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error to raise for a path that cannot be written, with a hint that fits the reason."""
    hint = HINTS.get(error.errno or 0, "")
    return StorageError(f"{path} cannot be written: {error.strerror or error}", hint)


def encode_file_name(name: str) -> str:
    """Return a file name as a string that UTF-8 can hold: itself, or where its bytes are not UTF-8, NUL and an escape.

    >>> encode_file_name("caf\\udce9.txt")
    '\\x00caf%E9.txt'
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "\0" + quote_from_bytes(os.fsencode(name))
    return name


def decode_file_name(portable: str) -> str:
    """Return the file name that `encode_file_name` was given.

    >>> decode_file_name(encode_file_name("caf\\udce9.txt")) == "caf\\udce9.txt"
    True
    """
    return os.fsdecode(unquote_to_bytes(portable[1:])) if portable.startswith("\0") else portable


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that replaces `path` once the block has ended without an exception.

    The folder is made if it is missing. What stood at `path` before is untouched until then, and if the block raises.
    What is not a regular file (a device, a FIFO) is opened and written through instead.

    Raises:
        StorageError: the path is read-only or a folder, or the disk does not take the file.
    """
    try:
        if _is_written_through(path):
            with open(path, "wb") as file:
                yield file
        else:
            with _replacing(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise make_storage_error(path, error) from error


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write chunks of bytes as one file, as `open_atomically` does.

    Raises:
        StorageError: the path is read-only or a folder, or the disk does not take the file.
    """
    with open_atomically(path) as file:
        for chunk in chunks:
            file.write(chunk)


def remove_stale_partial_files(folder: Path, targets: str = ".+") -> tuple[int, int]:
    """Remove the partial files that killed processes have left in a folder; return (how many, their bytes).

    Args:
        folder: where they are.
        targets: a regular expression of the names that chargen gives to files there. Others' partial files are kept.

    A partial file is stale if its process was of this machine and no longer runs, or if it has not been written to for
    `ABANDONED_S` seconds. A process of the same number that has started since keeps it until then.
    """
    count = size_bytes = 0
    for path in folder.glob(f".*{PARTIAL}") if folder.is_dir() else ():
        found = _PART_NAME.fullmatch(path.name)
        if found is None or not re.fullmatch(targets, found["target"], re.DOTALL):
            continue
        try:
            status = path.lstat()
            ours = found["host"] == _HOST and not _is_running(int(found["process"]))
            if stat.S_ISREG(status.st_mode) and (ours or time.time() - status.st_mtime > ABANDONED_S):
                path.unlink()
                count, size_bytes = count + 1, size_bytes + status.st_size
        except FileNotFoundError:
            continue  # another process has finished or removed it
        except OSError as error:
            raise make_storage_error(path, error) from error
    return count, size_bytes


def _is_written_through(path: Path) -> bool:
    """Tell whether a path leads to something that must not be replaced by a regular file.

    Raises:
        OSError: it is a folder, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode) or os.path.abspath(path).startswith(OPEN_FILES)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    target.parent.mkdir(parents=True, exist_ok=True)
    existing = _writable_status(target)
    partial = target.with_name(_part_name(target.name))
    try:
        partial.unlink(missing_ok=True)  # its name can be foreseen: a link that was put there must not be followed
        with open(partial, "xb") as file:
            if existing is not None:
                os.chmod(partial, stat.S_IMODE(existing.st_mode))
                if os.name == "posix" and os.geteuid() == 0:
                    os.chown(partial, existing.st_uid, existing.st_gid)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        if os.path.lexists(partial) and os.access(target.parent, os.W_OK):
            partial.unlink()
        raise
    _flush_folder(target.parent)


def _writable_status(target: Path) -> os.stat_result | None:
    """Return the permissions and owner of an existing file, None where there is none.

    Raises:
        PermissionError: the file is read-only. A rename would replace it all the same, and so would the superuser.
    """
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only", str(target))
    return status


def _part_name(name: str) -> str:
    """Return the name of the partial file for a target, never longer than a file system takes."""
    if len(name) > MAX_PARTIAL_STEM or len(os.fsencode(name)) > 2 * MAX_PARTIAL_STEM:
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    return f".{name}.{_HOST}-{os.getpid()}{PARTIAL}"


def _flush_folder(folder: Path) -> None:
    """Make a rename last: on POSIX systems it is on the disk only when its folder is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _is_running(process_id: int) -> bool:
    """Tell whether a process of this machine may be running; where that cannot be asked, it may."""
    if os.name != "posix":
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def to_json_line(value: Any) -> str:
    """Return a value as one line of strict JSON.

    >>> to_json_line({"loss_nats": float("nan"), "text": "là"})
    '{"loss_nats": null, "text": "là"}'
    """
    return json.dumps(replace_non_finite(value), ensure_ascii=False, allow_nan=False)


def replace_non_finite(value: Any) -> Any:
    """Return a value with null in place of every float that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
