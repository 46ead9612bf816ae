"""One piece of work at a time on another thread, so that a step need not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """A thread that does what it is given; what goes wrong there is raised at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chargen-writer")
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, once the one before has ended."""
        self.wait()
        self._work = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is left to do; raise what the work raised."""
        work, self._work = self._work, None
        if work is not None:
            work.result()
