"""Texts that a URL names: a local file, or what fsspec reads.

fsspec knows some fifty schemes and chains of them ("zip://a::https://…"). Many of them are ways into this machine's own
files, or need parameters that a URL does not carry. Only the ones below are used.
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

# Scheme → the module that fsspec needs for it beside itself, and the package to install for that.
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
    "memory": ("fsspec", ""),  # what this process wrote itself
}
TIMED_OUT = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)


def is_remote(argument: str) -> bool:
    """Tell whether an argument is a URL rather than a path."""
    return "://" in argument


def local_path(url: str) -> str | None:
    """Return the path that a `file:` URL names; None for any other URL.

    Raises:
        CorpusError: it names another machine.
    """
    if not url.lower().startswith("file://") or "::" in url:
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise CorpusError(f"{url} names a file of another machine ({parts.netloc})", "Say file:///PATH, or the path.")
    path = url2pathname(parts.path)
    if "\0" in path:
        raise CorpusError(f"{url!r} has a NUL in its path", "Say file:///PATH, or the path.")
    return path


def open_remote(url: str) -> BinaryIO:
    """Open what a URL names.

    Raises:
        ChargenError: fsspec, or the package for this scheme, is not installed.
        CorpusError: the scheme is not one of those above, or there is no answer.
        OSError: it cannot be opened.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES or "::" in url:
        what = "is a chain of file systems" if "::" in url else f"has the scheme {scheme!r}"
        raise CorpusError(f"{url} {what}, which chargen does not read", f"Possible are a path, {_possible()}.")
    fsspec = import_extra("fsspec", "remote", url)
    module, package = SCHEMES[scheme]
    if importlib.util.find_spec(module) is None:
        raise ChargenError(f"{url} needs a package that is not here", f"pip install {package}")
    try:
        return cast(BinaryIO, io.BufferedReader(_Remote(fsspec.open(url, "rb").open(), url)))
    except Exception as error:  # each of its back ends has errors of its own
        raise _failed(error, url) from error


def describe_failure(error: BaseException, where: str) -> str:
    """Return in words why something could not be read."""
    if isinstance(error, TIMED_OUT):
        return "no answer came in time"
    if isinstance(error, FileNotFoundError) and is_remote(where):
        return "there is nothing at this address (not found)"
    if (status := getattr(error, "status", None)) and (message := getattr(error, "message", "")):
        return f"the server answered {status} {message}"  # aiohttp's ClientResponseError
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Remote(io.RawIOBase):
    """A remote file whose errors, whatever they are, become `CorpusError`."""

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
            raise _failed(error, self._url) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _failed(error: Exception, url: str) -> CorpusError:
    return CorpusError(
        f"{url} cannot be read: {describe_failure(error, url)}", "Look at the address, and whether it is open to you."
    )


def _possible() -> str:
    """Name the schemes that can be read here, and what to install for others."""
    here = [scheme for scheme, (module, _) in SCHEMES.items() if importlib.util.find_spec(module)]
    missing = [f"{scheme}:// (pip install {package})" for scheme, (_, package) in SCHEMES.items() if scheme not in here]
    names = ", ".join(f"{scheme}://" for scheme in ["file", *here] if scheme != "memory")
    return f"{names}" + (f"; and with a package {', '.join(missing)}" if missing else "")
