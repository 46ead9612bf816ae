"""Write files atomically, and convert values to JSON.

`open_atomically` writes to a partial file in the same folder, flushes it to the disk and then renames it. A reader sees
either the old file or the complete new one. The path decides what happens:

    regular file, or no file yet   It is replaced by the rename. Symbolic links are followed, permissions are kept.
    device, FIFO, socket           It is opened and written directly, because a rename would replace it by a file.
    read-only file, folder         An error is raised.

The name of a partial file contains the machine, the process and the thread that writes it. So threads that write the
same file at the same time have different partial files, and the one that ends last replaces the others. Partial files
of killed processes can be recognised and removed (`remove_stale_partial_files`).

JSON is written on one line, with characters of all scripts unescaped, and with null for numbers that are not finite.
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
from threading import get_ident
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from chargen.errors import StorageError

PARTIAL_SUFFIX = ".part"  #: suffix of the name of a file that is being written
MAX_PARTIAL_NAME_LENGTH = 100  #: characters of the target's name that the partial file's name may contain
MAX_PARTIAL_AGE_S = 24 * 3600  #: an older partial file is stale, even if its process may still run
MAX_REPLACE_WAIT_S = 2.0  #: how long a rename is repeated on Windows, while a process has the old file open
REPLACE_PAUSE_S = 0.02  #: between two attempts
OPEN_FILE_PREFIXES = ("/dev/std", "/dev/fd/", "/proc/")  #: paths of files that are already open; never replaced

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
#: End of the name of a partial file, as a regular expression. Earlier versions had no thread, and before that no host.
PARTIAL_NAME_END = r"\.(?:(?P<host>[0-9a-f]{8})-(?P<process_id>\d+)(?:-\d+)?|\d+)\.part"
_PARTIAL_NAME = re.compile(rf"\.(?P<target>.+){PARTIAL_NAME_END}", re.DOTALL)

HINTS = {
    errno.ENOSPC: "The disk is full. Free some space, or work in another folder.",
    errno.EDQUOT: "Your disk quota is used up. Free some space, or work in another folder.",
    errno.EACCES: "You may not write there. Choose another folder, or change its permissions.",
    errno.EPERM: "You may not write there. Choose another folder, or change its permissions.",
    errno.EROFS: "The file system is read-only. Choose another folder.",
    errno.ENOENT: "The folder does not exist, or was deleted in the meantime.",
    errno.EISDIR: "Give the name of a file, not of a folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def make_storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error for a path that cannot be written, with a hint for its cause."""
    hint = HINTS.get(error.errno or 0, "")
    return StorageError(f"{path} cannot be written: {error.strerror or error}", hint)


def encode_file_name(name: str) -> str:
    """Return a file name as a string that UTF-8 can encode.

    This is the name itself if its bytes are valid UTF-8; otherwise a NUL character and the name with percent escapes.

    >>> encode_file_name("caf\\udce9.txt")
    '\\x00caf%E9.txt'
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "\0" + quote_from_bytes(os.fsencode(name))
    return name


def decode_file_name(encoded: str) -> str:
    """Return the file name that `encode_file_name` encoded.

    >>> decode_file_name(encode_file_name("caf\\udce9.txt")) == "caf\\udce9.txt"
    True
    """
    return os.fsdecode(unquote_to_bytes(encoded[1:])) if encoded.startswith("\0") else encoded


def escape_surrogates(message: str) -> str:
    r"""Return a message for people as a string that UTF-8 can encode: file names in it may have lone surrogates.

    >>> print(escape_surrogates("caf\udce9.txt cannot be read"))
    caf\udce9.txt cannot be read
    """
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the `with` block ends without an exception.

    Missing folders are created. If the block raises an exception, the existing file is unchanged. A device or FIFO is
    opened and written directly instead.

    Raises:
        StorageError: If the path is read-only or a folder, or if the disk does not accept the file.
    """
    try:
        if _is_written_through(path):
            with open(path, "wb") as file:
                yield file
        else:
            with _replacement_file(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise make_storage_error(path, error) from error


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write chunks of bytes to one file with `open_atomically`.

    Raises:
        StorageError: If the path is read-only or a folder, or if the disk does not accept the file.
    """
    with open_atomically(path) as file:
        for chunk in chunks:
            file.write(chunk)


def remove_stale_partial_files(folder: Path, targets: str = ".+") -> tuple[int, int]:
    """Remove the partial files that killed processes left in a folder.

    A partial file is stale if its process ran on this machine and no longer runs, or if nothing was written to it for
    `MAX_PARTIAL_AGE_S` seconds. If a new process has the same id, the file is removed after that time only.

    Args:
        folder: The folder to clean up; it may be missing.
        targets: Regular expression for the names of chargen's files in this folder. Partial files of other files are
            kept.

    Returns:
        (number of removed files, their total size in bytes).

    Raises:
        StorageError: If a stale file cannot be removed.
    """
    count = 0
    size_bytes = 0
    for path in folder.glob(f".*{PARTIAL_SUFFIX}") if folder.is_dir() else ():
        match = _PARTIAL_NAME.fullmatch(path.name)
        if match is None or not re.fullmatch(targets, match["target"], re.DOTALL):
            continue
        try:
            status = path.lstat()
            is_abandoned = match["host"] == _HOST and not _is_running(int(match["process_id"]))
            is_old = time.time() - status.st_mtime > MAX_PARTIAL_AGE_S
            if stat.S_ISREG(status.st_mode) and (is_abandoned or is_old):
                path.unlink()
                count += 1
                size_bytes += status.st_size
        except FileNotFoundError:
            continue  # its process has renamed it, or another process has removed it
        except OSError as error:
            raise make_storage_error(path, error) from error
    return count, size_bytes


def _is_written_through(path: Path) -> bool:
    """Return whether a path leads to something that a regular file must not replace: a device, FIFO or open file.

    Raises:
        OSError: If the path is a folder, or its status cannot be read.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode) or os.path.abspath(path).startswith(OPEN_FILE_PREFIXES)


@contextmanager
def _replacement_file(target: Path) -> Iterator[BinaryIO]:
    """Open a partial file that replaces the regular file `target` when the `with` block ends without an exception."""
    target.parent.mkdir(parents=True, exist_ok=True)
    existing = _writable_status(target)
    partial = target.with_name(_partial_name(target.name))
    try:
        partial.unlink(missing_ok=True)  # the name is predictable, so a link planted there must not be followed
        with open(partial, "xb") as file:
            if existing is not None:
                os.chmod(partial, stat.S_IMODE(existing.st_mode))
                if os.name == "posix" and os.geteuid() == 0:
                    os.chown(partial, existing.st_uid, existing.st_gid)
            yield file
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, target)
    except BaseException:
        if os.path.lexists(partial) and os.access(target.parent, os.W_OK):
            partial.unlink()
        raise
    _flush_folder(target.parent)


def _replace(partial: Path, target: Path) -> None:
    """Rename a partial file to its target. Windows refuses this while a process has the target open.

    Raises:
        OSError: If it fails; on Windows, if it is refused for `MAX_REPLACE_WAIT_S` seconds.
    """
    deadline = time.monotonic() + MAX_REPLACE_WAIT_S
    while True:
        try:
            os.replace(partial, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() >= deadline:
                raise
        time.sleep(REPLACE_PAUSE_S)


def _writable_status(target: Path) -> os.stat_result | None:
    """Return the status of an existing file, with its permissions and owner; None if there is no file.

    Raises:
        PermissionError: If the file is read-only. A rename would replace it anyway, and so would a write as root.
    """
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only", str(target))
    return status


def _partial_name(name: str) -> str:
    """Return the name of the partial file for a target; a long name is replaced by its checksum."""
    if len(name) > MAX_PARTIAL_NAME_LENGTH or len(os.fsencode(name)) > 2 * MAX_PARTIAL_NAME_LENGTH:
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    return f".{name}.{_HOST}-{os.getpid()}-{get_ident()}{PARTIAL_SUFFIX}"


def _flush_folder(folder: Path) -> None:
    """Make a rename durable: on POSIX systems, it is on the disk only after its folder is flushed."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def _is_running(process_id: int) -> bool:
    """Return whether a process of this machine may be running; true on systems where this is unknown."""
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
    """Return a JSON value in which every float that is not finite is replaced by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
