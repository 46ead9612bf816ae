"""Where chargen keeps its files: the folder of the runs, and the user's cache folder.

    runs            --checkpoints DIR, else CHARGEN_CHECKPOINTS, else checkpoints/ in the working directory
    cached files    CHARGEN_CACHE, else the user's cache folder: ~/.cache/chargen on Linux, ~/Library/Caches/chargen on
                    macOS, %LOCALAPPDATA%\\chargen\\Cache on Windows

The cache contains encoded texts and compiled code. All of it can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_chosen: list[Path] = []  # the folders of `use_checkpoints`, the one in use last


def checkpoints_folder() -> Path:
    """Return the folder that contains all runs."""
    return _chosen[-1] if _chosen else Path(os.environ.get("CHARGEN_CHECKPOINTS") or "checkpoints")


def chosen_checkpoints() -> Path | None:
    """Return the folder of the runs that `use_checkpoints` set, or None if it is the default one."""
    return _chosen[-1] if _chosen else None


@contextmanager
def use_checkpoints(folder: Path) -> Iterator[None]:
    """Let `checkpoints_folder` return this folder in a `with` block."""
    _chosen.append(folder)
    try:
        yield
    finally:
        _chosen.pop()


def cache_folder() -> Path:
    """Return the absolute path of the folder for files that can be made again."""
    if chosen := os.environ.get("CHARGEN_CACHE"):
        return Path(chosen).absolute()
    import platformdirs  # here, because most commands do not need it

    return Path(platformdirs.user_cache_dir("chargen", appauthor=False))
