"""The threads of OpenBLAS, the library in which NumPy computes products. Nothing else in chargen sets their number.

Threads that share a product wait for each other at its end. Beside a process that uses one of two cores, a product of
100 × 512 × 1,536 took 12 to 97 ms instead of 1.8 ms on one thread. The number of threads does not change the result:
OpenBLAS divides the rows and columns of a product, and never the sum of an element.

The import of NumPy starts one thread for each further core. They wait actively for work, and take time from the process
that started them if there are fewer idle cores than threads. A command that computes small products only calls
`defer_threads` first. The threads then start with the first product that is worth them (`start_threads`).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

# Names of the function in the builds of OpenBLAS that NumPy's wheels have contained, the newest first.
SET_NUM_THREADS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)

NUM_SERIAL_CALLS = 4  # calls on one thread with which those on all threads are compared
MAX_LOST_CALLS = 4  # time that all threads may lose before they are given up, in calls on one thread
PAUSE_RATIO = 40  # pause before all threads are used again, in times that they lost
CALLS_BETWEEN_TIMINGS = 512  # calls on all threads after which one thread is timed again

NUM_THREADS_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")  # OpenBLAS reads these once


class _State:
    """The number of threads belongs to the process, and several threads of Python may change it."""

    lock = Lock()  # held while one of the following values, or the number of threads, is changed
    is_deferred = False  # whether NumPy was imported with one thread, and the others have not been started
    num_serial_calls = 0  # calls of `on_one_thread` that are running
    num_threads = 1  # number of threads that the last of these calls restores


def defer_threads() -> None:
    """Import NumPy with one thread, and let `start_threads` start the others.

    Nothing happens if NumPy is imported already, or if an environment variable sets the number of threads.
    """
    if "numpy" in sys.modules or any(name in os.environ for name in NUM_THREADS_VARIABLES):
        return
    os.environ[NUM_THREADS_VARIABLES[0]] = "1"
    try:
        import numpy  # noqa: F401 - it reads the variable now; child processes must not get it
    finally:
        del os.environ[NUM_THREADS_VARIABLES[0]]
    _State.is_deferred = True


def start_threads() -> None:
    """Start the threads that `defer_threads` has not started: call this before a large product."""
    if not _State.is_deferred:
        return
    functions = _functions()
    with _State.lock:
        _State.is_deferred = False
        _State.num_threads = _num_cores()
        if functions is not None and not _State.num_serial_calls:  # else the last of these calls starts them
            functions[0](_State.num_threads)


def num_threads() -> int:
    """Return how many threads NumPy uses for a large product outside of `on_one_thread`.

    This is 1 if the number cannot be changed.
    """
    functions = _functions()
    if functions is None:
        return 1
    with _State.lock:
        if _State.is_deferred:
            return _num_cores()
        return _State.num_threads if _State.num_serial_calls else int(functions[1]())


def _num_cores() -> int:
    """Return how many cores this process may use, which is OpenBLAS's default number of threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_one_thread(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that calls another one while NumPy computes products on one thread.

    Several threads may call it at the same time: the first one that enters changes the number of threads, and the last
    one that leaves restores it. If each restored what it had found, the last one could leave one thread for ever.
    """
    functions = _functions()
    if functions is None:
        return function
    set_number, get_number = functions

    def call(argument: Any) -> Any:
        with _State.lock:
            if not _State.num_serial_calls:
                _State.num_threads = get_number()
                set_number(1)
            _State.num_serial_calls += 1
        try:
            return function(argument)
        finally:
            with _State.lock:
                _State.num_serial_calls -= 1
                if not _State.num_serial_calls:
                    set_number(_State.num_threads)

    return call


class ThreadChooser:
    """Calls functions with products on all threads or on one thread, whichever number is faster at the time.

    The first calls use one thread. Then all threads are used as long as they lose no time. After they lost some, one
    thread is used for PAUSE_RATIO times as long: so at most 1 / PAUSE_RATIO of the time is lost, however slow one call
    on all threads is. A comparison of a few calls would not do: they can fall between two turns of the other process.
    """

    def __init__(self) -> None:
        self._has_threads = num_threads() > 1
        self._serial_s: deque[float] = deque(maxlen=NUM_SERIAL_CALLS)  # the last calls on one thread
        self._lost_s = 0.0  # by all threads, since they have been used
        self._pause_end = 0.0
        self._num_calls = 0  # on all threads, since one thread was used

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Return function(argument). All calls take a similar time."""
        if not self._has_threads:
            return function(argument)
        start = time.perf_counter()
        if len(self._serial_s) < NUM_SERIAL_CALLS or start < self._pause_end:
            result = on_one_thread(function)(argument)
            self._serial_s.append(time.perf_counter() - start)
            self._lost_s, self._num_calls = 0.0, 0
            return result
        start_threads()
        result = function(argument)
        end = time.perf_counter()
        self._num_calls += 1
        serial_s = min(self._serial_s)
        self._lost_s = max(0.0, self._lost_s + end - start - serial_s)
        if self._lost_s > MAX_LOST_CALLS * serial_s:
            self._pause_end = end + PAUSE_RATIO * self._lost_s
        elif self._num_calls == CALLS_BETWEEN_TIMINGS:
            self._serial_s.clear()  # calls may have become shorter: fewer streams, for example
        return result


@lru_cache(maxsize=1)
def _functions() -> tuple[Callable[[int], Any], Callable[[], Any]] | None:
    """Return OpenBLAS's functions that set and get the number of threads; None if NumPy uses another library."""
    import ctypes

    numpy_core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    library = ctypes.CDLL(numpy_core.__file__)  # it finds the functions of the libraries it is linked to, too
    for name in SET_NUM_THREADS:
        if hasattr(library, name):
            return getattr(library, name), getattr(library, name.replace("set_num", "get_num"))
    return None
