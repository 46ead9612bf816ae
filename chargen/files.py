"""Writing a file whole or not at all: temporary name, flush to the disk, rename."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from chargen.errors import StorageError


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write chunks of bytes as one file; its folder is made if it is missing.

    Raises:
        StorageError: the folder or disk does not take it. What stood there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if os.path.lexists(partial) and os.access(path.parent, os.W_OK):
            partial.unlink()
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}",
            "What was there before is untouched. Free some room, or work in another folder.",
        ) from error
