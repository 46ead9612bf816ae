"""Waiting for a worker in the event loop: until there is something new, the client is gone, or time is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.types import Receive

from chargen.server.errors import server_ends, timed_out

T = TypeVar("T")


class DisconnectedError(Exception):
    """The client has closed the connection."""


class Progress:
    """Tells a request handler when its worker has something new.

    Args:
        timeout_s: Time for the whole request.
    """

    def __init__(self, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._deadline, self._error = self._loop.time() + timeout_s, timed_out(timeout_s)
        self.is_disconnected = False

    def wake(self) -> None:
        """Tell the handler that there is something new. Any thread may call this."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait(self) -> None:
        """Wait until there is something new.

        Raises:
            DisconnectedError: If the client is gone.
            ApiError: If time is over.
        """
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._changed.wait(), self.seconds_left)
        self.check_time()
        self._changed.clear()
        if self.is_disconnected:
            raise DisconnectedError

    def check_time(self) -> None:
        """Check that time is left.

        Raises:
            ApiError: If none is.
        """
        if self.seconds_left <= 0:
            raise self._error

    def end_within(self, seconds: float) -> None:
        """Give the request at most this time from now on, because the server is to end."""
        deadline = self._loop.time() + seconds
        if deadline < self._deadline:
            self._deadline, self._error = deadline, server_ends()
            self._changed.set()

    @property
    def seconds_left(self) -> float:
        """The time that is left for the request."""
        return self._deadline - self._loop.time()

    async def finish(self, work: Awaitable[T], receive: Receive) -> T:
        """Return the result of work that is done elsewhere; it is cancelled if the client is gone or time is over.

        Args:
            work: What is waited for. Its exceptions are raised.
            receive: The messages of the connection; the body of the request was read.

        Raises:
            DisconnectedError: If the client is gone.
            ApiError: If time is over.
        """
        async with self.watch(receive):
            job = asyncio.ensure_future(work)
            job.add_done_callback(lambda _: self._changed.set())
            try:
                while not job.done():
                    await self.wait()
            finally:
                job.cancel()  # it has no effect on a job that is done
        return job.result()

    @asynccontextmanager
    async def watch(self, receive: Receive) -> AsyncIterator[None]:
        """Watch the connection inside of the `with` block, once the body of the request was read."""
        task = asyncio.create_task(self._wait_for_disconnect(receive))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True
        self._changed.set()
