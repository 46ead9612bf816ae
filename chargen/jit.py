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

import numpy as np

__all__ = ["NumbaError", "make_cache_folder", "float32", "float64", "int64", "njit", "sigmoid", "tanh"]


def make_cache_folder() -> Path | None:
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
    if folder := make_cache_folder():
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

# σ and tanh as quotients of polynomials, which a compiler turns into vector instructions, as it does not with exp.
#
#   tanh x = x / (1 + x² / (3 + x² / (5 + …)))        (Lambert 1761), cut after TERMS terms;  σ(x) = (1 + tanh(x/2)) / 2
#
# For |x| ≤ 9 the error is below 7e-7, a few units in the last place of float32; beyond, tanh is 1 to all of them.
TERMS = 12
FLAT = np.float32(9.0)
HALF, ONE, TWO, FOUR = (np.float32(number) for number in (0.5, 1.0, 2.0, 4.0))


def _quotient() -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Return the polynomials in x² above and below, lowest power first, without the factor x."""
    above, below = [1], [2 * TERMS - 1]
    for odd in range(2 * TERMS - 3, 0, -2):
        longer = [odd * c for c in below] + [0] * (len(above) + 1 - len(below))
        for power, c in enumerate(above):
            longer[power + 1] += c
        above, below = below, longer
    return tuple(np.float32(c / below[0]) for c in above), tuple(np.float32(c / below[0]) for c in below)


(A0, A1, A2, A3, A4, A5), (B0, B1, B2, B3, B4, B5, B6) = _quotient()


@njit(inline="always", fastmath=True, error_model="numpy")
def tanh(x: Any) -> Any:
    """Return tanh x, of a float32."""
    x = min(max(x, -FLAT), FLAT)
    y = x * x
    above = A0 + y * (A1 + y * (A2 + y * (A3 + y * (A4 + y * A5))))
    below = B0 + y * (B1 + y * (B2 + y * (B3 + y * (B4 + y * (B5 + y * B6)))))
    return x * above / below


@njit(inline="always", fastmath=True, error_model="numpy")
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e⁻ˣ), of a float32."""
    return HALF + HALF * tanh(HALF * x)
