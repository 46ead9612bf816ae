"""Writing a file whole or not at all: temporary name, flush to the disk, rename."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from chargen.errors import StorageError

PARTIAL = ".part"  #: how the name of a file ends that is being written


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that takes `path`'s name once the block has ended well.

    Its folder is made if it is missing. What stood at `path` before is untouched until then, and if the block raises.

    Raises:
        StorageError: the folder or disk does not take it.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            if os.path.lexists(partial) and os.access(path.parent, os.W_OK):
                partial.unlink()
            raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}",
            "What was there before is untouched. Free some room, or work in another folder.",
        ) from error


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write chunks of bytes as one file; its folder is made if it is missing.

    Raises:
        StorageError: the folder or disk does not take it. What stood there before is untouched.
    """
    with atomic_file(path) as file:
        for chunk in chunks:
            file.write(chunk)
