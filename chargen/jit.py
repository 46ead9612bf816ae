"""numba, the compiler of some inner loops, set up so that it takes nothing from the working directory.

Compiled code is cached, and the index of that cache is a pickle: anyone who can write it can run code. It stands in the
user's own cache folder, not beside the sources. numba also reads `.numba_config.yaml` from the working directory, now
and before each compilation; what such a file says is undone here. All who compile import from this module:

    pip install 'chargen[fast]'
"""

from __future__ import annotations

import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["NumbaError", "cache_folder", "float32", "float64", "int64", "njit"]


def cache_folder() -> Path | None:
    """Return the folder for compiled code in the user's cache, made if it is missing; None if it cannot be made."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.join(home, ".cache")  # the XDG rule: a relative one is ignored
    folder = Path(base, "chargen", "numba")
    try:
        if not folder.is_absolute():
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _set_up() -> None:
    """Name the cache's folder in the environment, unless an absolute one is named; numba reads it when imported."""
    named = os.environ.get("NUMBA_CACHE_DIR", "")
    if os.path.isabs(named):
        return
    os.environ.pop("NUMBA_CACHE_DIR", None)
    if folder := cache_folder():
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


_set_up()

import numba.core.config  # noqa: E402 - after the environment is set

numba.core.config._config_fname = os.devnull  # in place of a file in the working directory
numba.core.config.reload_config()  # type: ignore[no-untyped-call]

from numba.core import caching  # noqa: E402

_CacheFiles: Any = caching.IndexDataCacheFile  # type: ignore[attr-defined, unused-ignore]


class _CheckedFiles(_CacheFiles):  # type: ignore[misc]
    """numba's cache files with checksums: what is damaged is compiled again, instead of an exception or wrong code."""

    def load(self, key: Any) -> Any:
        with suppress(Exception):  # unpickling what is damaged raises anything
            return super().load(key)
        return None

    def _load_index(self) -> Any:
        with suppress(Exception):
            return super()._load_index()
        return {}

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + zlib.crc32(data).to_bytes(4, "little")  # unpickling passes over what follows

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            return None
        return super()._load_data(name)


caching.IndexDataCacheFile = _CheckedFiles  # type: ignore[attr-defined, misc, unused-ignore]

from numba import float32, float64, int64, njit  # noqa: E402
from numba.core.errors import NumbaError  # noqa: E402
