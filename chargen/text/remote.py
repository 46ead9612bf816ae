"""Open a URL: a local file, or a remote file through fsspec.

fsspec supports about fifty schemes, and chains of them ("zip://a::https://…"). Many of these read files of this
machine, or need parameters that a URL does not contain. So only the schemes below are allowed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import io
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from chargen.errors import ChargenError, CorpusError
from chargen.registry import import_extra

# Scheme → (the module that fsspec needs for it, the packages that provide the module).
SCHEMES = {
    "http": ("aiohttp", "aiohttp requests"),
    "https": ("aiohttp", "aiohttp requests"),
    "ftp": ("ftplib", ""),
    "sftp": ("paramiko", "paramiko"),
    "s3": ("s3fs", "s3fs"),
    "gs": ("gcsfs", "gcsfs"),
    "az": ("adlfs", "adlfs"),
    "abfs": ("adlfs", "adlfs"),
    "hf": ("huggingface_hub", "huggingface_hub"),
    "memory": ("fsspec", ""),  # data that this process wrote
}
TIMED_OUT = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)


def is_remote(argument: str) -> bool:
    """Return whether an argument is a URL, not a path."""
    return "://" in argument


def local_path(url: str) -> str | None:
    """Return the path in a `file:` URL; None for any other URL.

    Raises:
        CorpusError: If the URL names another machine, or its path contains a NUL.
    """
    if not url.lower().startswith("file://") or "::" in url:
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise CorpusError(f"{url} names a file of another machine ({parts.netloc})", "Write file:///PATH, or the path.")
    path = url2pathname(parts.path)
    if "\0" in path:
        raise CorpusError(f"{url!r} has a NUL in its path", "Write file:///PATH, or the path.")
    return path


def open_remote(url: str) -> BinaryIO:
    """Open a remote file.

    Raises:
        ChargenError: If fsspec or the package for this scheme is not installed.
        CorpusError: If the scheme is not in SCHEMES, or the file cannot be opened.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES or "::" in url:
        what = "is a chain of file systems" if "::" in url else f"has the scheme {scheme!r}"
        raise CorpusError(
            f"{url} {what}, which chargen does not read", f"Give a path, or a URL: {_possible_schemes()}."
        )
    fsspec = import_extra("fsspec", "remote", url)
    module, package = SCHEMES[scheme]
    if importlib.util.find_spec(module) is None:
        raise ChargenError(f"{url} needs a package that is not installed", f"pip install {package}")
    try:
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(fsspec.open(url, "rb").open(), url)))
    except Exception as error:  # each back end of fsspec has its own types of errors
        raise _read_error(error, url) from error


def describe_failure(error: BaseException, where: str) -> str:
    """Return the reason of a read error in words."""
    if isinstance(error, TIMED_OUT):
        return "the server did not answer in time"
    if isinstance(error, FileNotFoundError) and is_remote(where):
        return "there is no file at this address (not found)"
    if (status := getattr(error, "status", None)) and (message := getattr(error, "message", "")):
        return f"the server answered {status} {message}"  # aiohttp's ClientResponseError
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _RemoteFile(io.RawIOBase):
    """A remote file whose read errors of any type become `CorpusError`."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data: bytes = self._file.read(len(buffer))
        except Exception as error:
            raise _read_error(error, self._url) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _read_error(error: Exception, url: str) -> CorpusError:
    return CorpusError(
        f"{url} cannot be read: {describe_failure(error, url)}", "Check the address, and whether you may access it."
    )


def _possible_schemes() -> str:
    """Return the schemes that can be read, and what to install for the others."""
    available = [scheme for scheme, (module, _) in SCHEMES.items() if importlib.util.find_spec(module)]
    missing = [
        f"{scheme}:// (pip install {package})" for scheme, (_, package) in SCHEMES.items() if scheme not in available
    ]
    names = ", ".join(f"{scheme}://" for scheme in ["file", *available] if scheme != "memory")
    return f"{names}" + (f"; with another package {', '.join(missing)}" if missing else "")
