"""Work that is no single stream: texts that compete for a completion, and scores. One thread does it, job after job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar

from numpy.typing import NDArray

from chargen.cells.cell import NetworkState
from chargen.engines.numpy_engine import Float, NumpyEngine
from chargen.server.batch.worker import QueueFullError

Result = TypeVar("Result")


class JobStoppedError(Exception):
    """A job ends because its result is not wanted any more."""


class StoppableEngine(NumpyEngine):
    """An engine whose next step raises `JobStoppedError` once `stop` is set. The event is replaced before each job."""

    stop = Event()

    def step(self, ids: NDArray[Any], state: NetworkState) -> tuple[Float, NetworkState]:
        """Read one token id per stream, as `NumpyEngine.step` does.

        Raises:
            JobStoppedError: If the job is to end.
        """
        if self.stop.is_set():
            raise JobStoppedError
        return super().step(ids, state)


class JobRunner:
    """Runs jobs in one thread, in the order in which they come.

    Args:
        max_waiting: Number of jobs that may wait.
    """

    def __init__(self, max_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(1, "chargen-job")
        self._max_waiting = max_waiting
        self.num_jobs = 0  #: jobs that run or wait

    async def run(self, job: Callable[[Event], Result]) -> Result:
        """Run a job, and return its result. If the caller is cancelled, the job is told to stop.

        Args:
            job: A function that gets an event, which is set when it should stop.

        Raises:
            QueueFullError: If too many jobs wait.
        """
        if self.num_jobs > self._max_waiting:
            raise QueueFullError
        stop = Event()

        def run_unless_stopped() -> Result:
            if stop.is_set():
                raise JobStoppedError
            return job(stop)

        self.num_jobs += 1
        future = self._executor.submit(run_unless_stopped)
        try:
            return await asyncio.wrap_future(future)
        finally:
            stop.set()
            self.num_jobs -= 1

    def close(self) -> None:
        """Wait for the end of the job that runs, and drop the others."""
        self._executor.shutdown(cancel_futures=True)
