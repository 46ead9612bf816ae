"""Folders and files of this machine and of remote storage: find input files, and write output files atomically.

A file of this machine is written under another name, flushed to the disk and renamed (`io.py`). An object store shows
an object only after all of it has arrived, so there a file is written as it is.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock

from chargen.errors import ChargenError, ConfigError, CorpusError, RunInUseError, StorageError
from chargen.io import (
    PARTIAL_SUFFIX,
    decode_file_name,
    encode_file_name,
    make_storage_error,
    remove_stale_partial_files,
    write_atomically,
)
from chargen.registry import did_you_mean_file
from chargen.text.inputs import describe_failure, fsspec_for, is_remote, local_path

GLOB_CHARACTERS = "*?["
LOCK_NAME = ".job.lock"


@dataclass(frozen=True)
class InputFile:
    """A file to read."""

    path: str  #: an absolute path, or a URL
    size_bytes: int
    version: str  #: changes if the file is written again: the time of the last change, or what the storage states

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON values; its path may have bytes that are not UTF-8, and JSON has none."""
        return {"path": encode_file_name(self.path), "size_bytes": self.size_bytes, "version": self.version}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputFile:
        """Return the file that `to_json` described; other keys are ignored."""
        return cls(decode_file_name(value["path"]), value["size_bytes"], value["version"])


def find_inputs(arguments: Sequence[str]) -> list[InputFile]:
    """Return the files that arguments name, sorted within an argument; a file that is named twice is returned once.

    Args:
        arguments: Files, folders, URLs, and patterns with *, ? and [. Folders are read recursively; files whose names
            start with "." or "_" are left out.

    Raises:
        CorpusError: If an argument names no file.
        ConfigError: If an argument is "-", which can be read only once.
    """
    found: dict[str, InputFile] = {}
    for argument in arguments:
        if argument == "-":
            raise ConfigError("standard input cannot be read by parts", "Write it to a file first.")
        path = local_path(argument) or argument
        files = list(_remote_files(path) if is_remote(path) and not os.path.exists(path) else _local_files(path))
        if not files:
            raise CorpusError(
                f"there is no file in {argument}" if os.path.isdir(path) else f"no file matches {argument}"
            )
        found.update((file.path, file) for file in files)
    return list(found.values())


def _local_files(argument: str) -> Iterator[InputFile]:
    """Yield the files of a path or pattern."""
    is_pattern = not os.path.exists(argument) and any(char in argument for char in GLOB_CHARACTERS)
    if not is_pattern and not os.path.exists(argument):
        raise CorpusError(
            f"{argument} cannot be read: there is no such file or folder",
            did_you_mean_file(argument) or "Check its name.",
        )
    for match in sorted(glob.glob(argument, recursive=True)) if is_pattern else [argument]:
        path = Path(os.path.abspath(match))
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
            if not hidden and (file.is_file() or file == path):
                yield _local_file(file)


def _remote_files(url: str) -> Iterator[InputFile]:
    """Yield the files of a URL, which may name a folder or be a pattern.

    Raises:
        ChargenError: If the storage cannot be read, or a package is missing.
    """
    system = _remote_system(url)
    try:
        if any(char in url for char in GLOB_CHARACTERS) and not system.exists(url):
            paths = [path for path in system.glob(url) if system.isfile(path)]
        else:
            paths = system.find(url) if system.isdir(url) else [url]
        for path in sorted(paths):
            name = system.unstrip_protocol(path)
            relative = name.removeprefix(url.rstrip("/") + "/") if name != url else ""
            if any(part.startswith((".", "_")) for part in relative.split("/") if part) and name.startswith(url):
                continue
            yield _remote_file(system, path, name)
    except Exception as error:  # each back end of fsspec has its own types of errors
        if isinstance(error, ChargenError):
            raise
        raise CorpusError(f"{url} cannot be read: {describe_failure(error, url)}", "Check the address.") from error


def _local_file(path: Path) -> InputFile:
    """Return a file of this machine as it is now."""
    status = path.stat()
    return InputFile(str(path), status.st_size, str(status.st_mtime_ns))


def _remote_file(system: Any, path: str, name: str) -> InputFile:
    """Return a file of a storage as it is now.

    Args:
        system: The file system of fsspec.
        path: The path in it.
        name: The URL.
    """
    info = system.info(path)
    version = info.get("ETag") or info.get("etag") or info.get("LastModified") or info.get("mtime") or ""
    return InputFile(name, int(info.get("size") or 0), str(version))


def check_unchanged(file: InputFile) -> None:
    """Check that a file is still as it was when the job was planned. A slice of other content has parts of its lines.

    Raises:
        CorpusError: If it has changed, or cannot be read.
    """
    try:
        if is_remote(file.path) and not os.path.exists(file.path):
            system = _remote_system(file.path)
            system.invalidate_cache()
            current = _remote_file(system, file.path, file.path)
        else:
            current = _local_file(Path(file.path))
    except Exception as error:  # each back end of fsspec has its own types of errors
        if isinstance(error, ChargenError):
            raise
        raise CorpusError(f"{file.path} cannot be read: {describe_failure(error, file.path)}") from error
    if current != file:
        raise CorpusError(f"{file.path} has changed since the job was started", "Start a job in a new folder.")


def _remote_system(url: str) -> Any:
    """Return the file system of fsspec for a URL."""
    system, _ = fsspec_for(url).core.url_to_fs(url)
    return system


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        CorpusError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


class Folder(Protocol):
    """The folder of the output."""

    path: str  #: an absolute path, or a URL

    def names(self) -> set[str]:
        """Return the names of its files and folders; empty if there is no such folder."""

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            StorageError: If it cannot be read.
        """

    def open(self, name: str) -> Any:
        """Return an open file, for reading parts of it."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: it has its old or its new content, whenever the process ends.

        Raises:
            StorageError: If it cannot be written.
        """

    def remove_partial_files(self) -> None:
        """Remove what killed processes left."""

    def lock(self) -> AbstractContextManager[None]:
        """Return a context in which no other process of this machine runs a job in the folder.

        Raises:
            StorageError: If another process does, or the folder cannot be created.
        """


class LocalFolder:
    """A folder of this machine, or of a file system that several machines share."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def names(self) -> set[str]:
        """Return the names in the folder, without those of files that are being written."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise StorageError(f"{self.path} cannot be used: {error.strerror or error}", "Choose a folder.") from error
        return {name for name in names if not name.endswith(PARTIAL_SUFFIX)}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            return Path(self.path, name).read_bytes()
        except OSError as error:
            raise _unreadable(Path(self.path, name), error) from error

    def open(self, name: str) -> Any:
        """Return an open file."""
        try:
            return open(os.path.join(self.path, name), "rb")
        except OSError as error:
            raise _unreadable(Path(self.path, name), error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        write_atomically(Path(self.path, name), [data])

    def remove_partial_files(self) -> None:
        """Remove the partial files of processes that no longer run."""
        remove_stale_partial_files(Path(self.path), r"(part-\d+\.parquet|_\w+\.json)")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder with a file. The lock belongs to the operating system, and ends with the process."""
        lock = filelock.FileLock(os.path.join(self.path, LOCK_NAME), timeout=0)
        try:
            os.makedirs(self.path, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise RunInUseError(
                f"another process runs a job in {self.path}", "Wait until it ends, or give another folder with --out."
            ) from None
        except OSError as error:
            raise make_storage_error(Path(self.path), error) from error
        try:
            yield
        finally:
            lock.release()


class RemoteFolder:
    """A folder of remote storage, through fsspec."""

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        self._system = _remote_system(url)

    def names(self) -> set[str]:
        """Return the names in the folder."""
        try:
            self._system.invalidate_cache()
            return {str(path).rstrip("/").rpartition("/")[2] for path in self._system.ls(self.path, detail=False)}
        except FileNotFoundError:
            return set()
        except Exception as error:  # each back end of fsspec has its own types of errors
            raise self._error(self.path, "cannot be used", error) from error

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            data: bytes = self._system.cat_file(f"{self.path}/{name}")
        except Exception as error:
            raise self._error(name, "cannot be read", error) from error
        return data

    def open(self, name: str) -> Any:
        """Return an open file."""
        try:
            return self._system.open(f"{self.path}/{name}", "rb")
        except Exception as error:
            raise self._error(name, "cannot be read", error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write an object as a whole."""
        try:
            self._system.makedirs(self.path, exist_ok=True)
            self._system.pipe_file(f"{self.path}/{name}", data)
        except Exception as error:
            raise self._error(name, "cannot be written", error) from error

    def remove_partial_files(self) -> None:
        """Do nothing: an object store shows no partial objects."""

    def lock(self) -> AbstractContextManager[None]:
        """Do nothing: an object store has no locks. Two jobs would write the same parts with the same content."""
        return nullcontext()

    def _error(self, name: str, what: str, error: Exception) -> StorageError:
        where = name if is_remote(name) else f"{self.path}/{name}"
        hint = "Check the address, and whether you may access it."
        return StorageError(f"{where} {what}: {describe_failure(error, where)}", hint)


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be read: {error.strerror or error}", "Check its permissions.")


def open_folder(argument: str) -> LocalFolder | RemoteFolder:
    """Return the folder that a path or a URL names; it need not exist.

    Raises:
        ChargenError: If the scheme of the URL is unknown, or its package is not installed.
    """
    path = local_path(argument) or argument
    return RemoteFolder(path) if is_remote(path) else LocalFolder(path)
