"""Set up numba, the compiler of some inner loops, so that it neither reads nor runs files of the working directory.

Every module that compiles code imports numba from here. numba is optional: pip install 'chargen[fast]'

numba caches compiled code, and the index of the cache is a pickle: a person who can write it can run code. This module
therefore moves the cache from the source folder to the user's own cache folder, and adds checksums to its files. numba
also reads `.numba_config.yaml` from the working directory, at import and before each compilation; this module disables
that file.

Compiled loops can be divided among threads (`prange`). numba knows several threading layers. `start_threads` starts the
one of OpenMP or none, because another one would add a second pool of threads to that of torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from chargen.folders import cache_folder

__all__ = [
    "NumbaError",
    "address_of",
    "call_at",
    "float32",
    "float32_row",
    "float64",
    "get_num_threads",
    "int64",
    "make_cache_folder",
    "narrow",
    "njit",
    "prange",
    "set_num_threads",
    "sigmoid",
    "start_threads",
    "tanh",
    "uint8",
    "uint16",
    "widen",
]


def make_cache_folder() -> Path | None:
    """Return the folder for compiled code, and create it if necessary.

    Returns:
        The folder, or None if it cannot be created or written.
    """
    folder = cache_folder() / "numba"
    try:
        if not folder.is_absolute():
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _set_cache_dir() -> None:
    """Set NUMBA_CACHE_DIR, which numba reads at import, unless it is already an absolute path."""
    if os.path.isabs(os.environ.get("NUMBA_CACHE_DIR", "")):
        return
    os.environ.pop("NUMBA_CACHE_DIR", None)
    if folder := make_cache_folder():
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


_set_cache_dir()

import numba.core.config  # noqa: E402 - NUMBA_CACHE_DIR must be set first

numba.core.config._config_fname = os.devnull  # instead of .numba_config.yaml in the working directory
numba.core.config.reload_config()  # type: ignore[no-untyped-call]

from numba.core import caching  # noqa: E402

_CacheFiles: Any = caching.IndexDataCacheFile  # type: ignore[attr-defined, unused-ignore]


class _CheckedFiles(_CacheFiles):  # type: ignore[misc]
    """numba's cache files with checksums: code in a damaged file is compiled again instead of loaded."""

    def load(self, key: Any) -> Any:
        with suppress(Exception):  # unpickling damaged data can raise any exception
            return super().load(key)
        return None

    def _load_index(self) -> Any:
        with suppress(Exception):
            return super()._load_index()
        return {}

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + zlib.crc32(data).to_bytes(4, "little")  # unpickling ignores trailing bytes

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            return None
        return super()._load_data(name)


caching.IndexDataCacheFile = _CheckedFiles  # type: ignore[attr-defined, misc, unused-ignore]

from numba import (  # noqa: E402
    float32,
    float64,
    get_num_threads,
    int64,
    prange,
    set_num_threads,
    typeof,
    types,
    uint8,
    uint16,
)
from numba.core import cgutils  # noqa: E402
from numba.core.errors import NumbaError  # noqa: E402
from numba.core.runtime import nrt  # noqa: E402
from numba.extending import intrinsic, overload  # noqa: E402

_FunctionCache: Any = caching.FunctionCache  # type: ignore[attr-defined, unused-ignore]


class _Cache(_FunctionCache):  # type: ignore[misc]
    """numba's cache of a function, which loads compiled code without setting up the compiler.

    numba sets up the compiler before it loads code, which takes three times as long as the loading. Loaded code needs
    only numba's runtime, which counts references. A function that is not in the cache sets up the compiler when it is
    compiled.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        nrt.rtsys.initialize(target_context)  # type: ignore[no-untyped-call, unused-ignore]
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
        return None


def njit(signature: Any = None, *, cache: bool = False, **options: Any) -> Any:
    """Compile a function, or return a decorator that compiles one, as numba.njit does.

    Args:
        signature: The types of the arguments: the decorator then compiles the function for them at once. None: it is
            compiled at its first call. As a decorator without options, njit gets the function here.
        cache: Whether compiled code is stored on disk (`_Cache`).
        options: Other options of numba.njit.
    """
    if isinstance(signature, FunctionType):
        return numba.njit(signature)

    def compile_function(function: FunctionType) -> Any:
        compiled: Any = numba.njit(**options)(function)
        if compiled is function:  # NUMBA_DISABLE_JIT is set
            return function
        if cache:
            compiled._cache = _Cache(function)
        if signature is not None:
            compiled.compile(signature)
            compiled.disable_compile()
        return compiled

    return compile_function


OPENMP = "omp"  #: name of numba's threading layer
_config: Any = numba.core.config


def start_threads() -> int:
    """Start numba's threads, if its threading layer can be that of OpenMP, and return their maximum number.

    The first parallel loop of the process, of any library, chooses the layer for good. As a side effect, OpenMP's
    number of threads becomes the returned one in the calling thread.

    Returns:
        The number; 1 if there is no such layer, or if the process uses another one already.
    """
    has_layer = importlib.util.find_spec("numba.np.ufunc.omppool") is not None
    if sys.platform != "linux" or not has_layer:  # elsewhere, torch and numba may bring two different libraries
        return 1
    before = _config.THREADING_LAYER
    _config.THREADING_LAYER = OPENMP
    try:
        get_num_threads()  # starts the threads
        is_openmp = numba.threading_layer() == OPENMP  # type: ignore[attr-defined, unused-ignore]
    except (ImportError, ValueError):  # libgomp is not installed
        return 1
    finally:
        _config.THREADING_LAYER = before
    # numba would refuse to compile anything once NUMBA_NUM_THREADS has changed, as by `cli.options.use_threads`.
    _config.reload_config = lambda: None
    return int(_config.NUMBA_NUM_THREADS) if is_openmp else 1


def address_of(function: Any, arguments: tuple[Any, ...]) -> int:
    """Return the address of a compiled function, in the variant for arguments of these types, for `call_at`."""
    result = function.get_compile_result(types.none(*map(typeof, arguments)))
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


@intrinsic
def _call_at(typing_context: Any, address: Any, arguments: Any) -> Any:
    """Call the compiled function at an address, which returns None and raises nothing, from compiled code.

    The types of the arguments must be those for which `address_of` has returned the address.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention, kinds = context.call_conv, tuple(arguments)
        function = builder.inttoptr(values[0], convention.get_function_type(types.none, kinds).as_pointer())
        parts = cgutils.unpack_tuple(builder, values[1])  # type: ignore[no-untyped-call]
        convention.call_function(builder, function, types.none, kinds, parts)
        return context.get_dummy_value()

    return types.none(address, arguments), generate


call_at: Any = _call_at


# The sigmoid function and tanh are computed as quotients of polynomials, because a compiler can vectorise those but not
# exp. tanh is a continued fraction (Lambert 1761), truncated after NUM_TERMS terms:
#
#   tanh x = x / (1 + x² / (3 + x² / (5 + …)))          σ(x) = (1 + tanh(x/2)) / 2
#
# For |x| ≤ MAX_ABS_X, the error is below 7e-7, a few units in the last place of float32. For larger |x|, tanh x is ±1
# to the same accuracy, so x is clipped.
NUM_TERMS = 12
MAX_ABS_X = np.float32(9.0)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
TWO = np.float32(2.0)
FOUR = np.float32(4.0)


def _tanh_coefficients() -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Return the coefficients of the numerator and the denominator of tanh(x) / x, as polynomials in x².

    The lowest power is first, and the constant of the denominator is 1.
    """
    numerator, denominator = [1], [2 * NUM_TERMS - 1]
    for odd in range(2 * NUM_TERMS - 3, 0, -2):
        next_denominator = [odd * c for c in denominator] + [0] * (len(numerator) + 1 - len(denominator))
        for power, c in enumerate(numerator):
            next_denominator[power + 1] += c
        numerator, denominator = denominator, next_denominator
    scale = denominator[0]
    return tuple(np.float32(c / scale) for c in numerator), tuple(np.float32(c / scale) for c in denominator)


(A0, A1, A2, A3, A4, A5), (B0, B1, B2, B3, B4, B5, B6) = _tanh_coefficients()


@njit(inline="always", fastmath=True, error_model="numpy")
def tanh(x: Any) -> Any:
    """Return tanh x of a float32."""
    x = min(max(x, -MAX_ABS_X), MAX_ABS_X)
    y = x * x
    numerator = A0 + y * (A1 + y * (A2 + y * (A3 + y * (A4 + y * A5))))
    denominator = B0 + y * (B1 + y * (B2 + y * (B3 + y * (B4 + y * (B5 + y * B6)))))
    return x * numerator / denominator


@njit(inline="always", fastmath=True, error_model="numpy")
def sigmoid(x: Any) -> Any:
    """Return σ(x) = 1 / (1 + e⁻ˣ) of a float32."""
    return HALF + HALF * tanh(HALF * x)


# numba has no type for bf16, which is the upper half of a float32: its arrays are passed as uint16.
HALF_BITS, HALF_MASK, LOWEST_BIT = np.uint32(16), np.uint32(0x7FFF), np.uint32(1)


def widen(x: Any) -> Any:
    """Return the float32 whose upper half is x, a uint16; or x itself, if it is a float32."""
    return (np.uint32(x) << HALF_BITS).view(np.float32) if isinstance(x, np.uint16) else x


def narrow(x: Any, like: Any) -> Any:
    """Return the upper half of x, a finite float32 that is rounded to bf16 (to the nearest, ties to even), as a uint16.

    Args:
        x: The number.
        like: A number of the type of the result: a uint16, or a float32, for which the result is x itself.
    """
    if not isinstance(like, np.uint16):
        return x
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + HALF_MASK + ((bits >> HALF_BITS) & LOWEST_BIT)) >> HALF_BITS)


def float32_row(row: Any, buffer: Any) -> Any:
    """Return where to write numbers that are then rounded to a row: the row itself if it is float32, else a buffer."""
    return buffer if row.dtype == np.uint16 else row


@overload(widen, inline="always")
def _compile_widen(x: Any) -> Any:
    def unchanged(x: Any) -> Any:
        return x

    def widened(x: Any) -> Any:
        return np.uint32(np.uint32(x) << HALF_BITS).view(np.float32)

    return widened if x == types.uint16 else unchanged


@overload(narrow, inline="always")
def _compile_narrow(x: Any, like: Any) -> Any:
    def unchanged(x: Any, like: Any) -> Any:
        return x

    def narrowed(x: Any, like: Any) -> Any:
        bits = np.float32(x).view(np.uint32)
        return np.uint16(np.uint32(bits + HALF_MASK + ((bits >> HALF_BITS) & LOWEST_BIT)) >> HALF_BITS)

    return narrowed if like == types.uint16 else unchanged


@overload(float32_row, inline="always")
def _compile_float32_row(row: Any, buffer: Any) -> Any:
    def row_itself(row: Any, buffer: Any) -> Any:
        return row

    def other_row(row: Any, buffer: Any) -> Any:
        return buffer

    return other_row if row.dtype == types.uint16 else row_itself
