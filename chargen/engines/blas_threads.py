"""The threads of OpenBLAS, the library in which NumPy computes products. Nothing else in chargen sets their number.

Threads that share a product wait for each other at its end. Beside a process that uses one of two cores, a product of
100 × 512 × 1,536 took 12 to 97 ms instead of 1.8 ms on one thread. The number of threads does not change the result:
OpenBLAS divides the rows and columns of a product, and never the sum of an element.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# Names of the function in the builds of OpenBLAS that NumPy's wheels have contained, the newest first.
SET_NUM_THREADS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def num_threads() -> int:
    """Return how many threads NumPy uses for a product; 1 if the number cannot be changed."""
    functions = _functions()
    return 1 if functions is None else int(functions[1]())


def on_one_thread(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that calls another one while NumPy computes products on one thread."""
    functions = _functions()
    if functions is None:
        return function
    set_number, get_number = functions

    def call(argument: Any) -> Any:
        before = get_number()
        set_number(1)
        try:
            return function(argument)
        finally:
            set_number(before)

    return call


@lru_cache(maxsize=1)
def _functions() -> tuple[Callable[[int], Any], Callable[[], Any]] | None:
    """Return OpenBLAS's functions that set and get the number of threads; None if NumPy uses another library."""
    numpy_core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    library = ctypes.CDLL(numpy_core.__file__)  # it finds the functions of the libraries it is linked to, too
    for name in SET_NUM_THREADS:
        if hasattr(library, name):
            return getattr(library, name), getattr(library, name.replace("set_num", "get_num"))
    return None
