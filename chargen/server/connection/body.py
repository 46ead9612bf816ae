"""Read the body of a request in bounded time and memory, and parse its JSON."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from chargen.errors import ConfigError
from chargen.schema import parse_json
from chargen.server.errors import ApiError
from chargen.server.limits import BODY_TIMEOUT_S, MAX_ALL_BODY_BYTES, RETRY_AFTER_S

MAX_QUICK_BYTES = 1 << 16  # a longer body is parsed in another thread
MAX_DRAINED_BYTES = 1 << 31  # a refused body is read up to this size: clients read the response after that


class BodyReader:
    """Reads the bodies of all requests of a server.

    A parsed body may take 30 times the memory of its text. So long bodies are parsed one after another, and they may
    not take more than MAX_ALL_BODY_BYTES while they are read and wait for that.

    Args:
        max_bytes: The maximum size of a body.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_long_bytes = 0
        self._parsing = asyncio.Semaphore(1)

    async def read_json(self, request: Request) -> Any:
        """Read and parse the body of a request.

        Raises:
            ApiError: If the body is too large, arrives too slowly, or is not strict JSON in UTF-8; or if the bodies of
                other requests take too much memory.
        """
        chunks: list[bytes] = []
        try:
            await asyncio.wait_for(self._read(request, chunks), BODY_TIMEOUT_S)
            size = sum(map(len, chunks))
            if size <= MAX_QUICK_BYTES:
                return parse_body(b"".join(chunks))
            async with self._parsing:
                return await run_in_threadpool(parse_body, b"".join(chunks))
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise ApiError(
                408,
                f"the body of the request did not arrive within {BODY_TIMEOUT_S:g} s",
                code="timeout",
                kind="timeout",
                headers={"Connection": "close"},
            ) from error
        except ClientDisconnect as error:
            raise ApiError(400, "the connection was closed before the body was complete") from error
        finally:
            self._num_long_bytes -= _num_long_bytes(sum(map(len, chunks)))

    async def _read(self, request: Request, chunks: list[bytes]) -> None:
        """Append the parts of the body to `chunks`; the bytes of a long body are counted.

        Raises:
            ApiError: If it has more than `max_bytes` bytes, or there is no memory for it.
            ClientDisconnect: If the client closes the connection before the end.
        """
        length = request.headers.get("content-length", "0")
        size = 0
        error = _too_large(self._max_bytes) if length.isdecimal() and int(length[:20]) > self._max_bytes else None
        if error and "expect" in request.headers:
            raise error  # the client waits for permission to send the body
        async for chunk in request.stream():
            if not error:
                self._num_long_bytes += _num_long_bytes(size + len(chunk)) - _num_long_bytes(size)
                chunks.append(chunk)
            size += len(chunk)
            if not error and size > self._max_bytes:
                error = _too_large(self._max_bytes)
            elif not error and size > MAX_QUICK_BYTES and self._num_long_bytes > MAX_ALL_BODY_BYTES:
                error = _too_much_at_once()
            if error:
                self._num_long_bytes -= _num_long_bytes(sum(map(len, chunks)))
                chunks.clear()
                if size > MAX_DRAINED_BYTES:
                    break
        if error:
            raise error


def parse_body(body: bytes) -> Any:
    """Parse strict JSON in UTF-8.

    Raises:
        ApiError: If it is not.
    """
    try:
        return parse_json(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8: byte {error.start:,} is 0x{body[error.start]:02x}") from error
    except ConfigError as error:
        raise ApiError(400, f"the body of the request is refused: {error.message}") from error


def _num_long_bytes(size: int) -> int:
    """Return the bytes of a body that count: all of a long one, and none of a short one."""
    return size if size > MAX_QUICK_BYTES else 0


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"the body of the request has more than {max_bytes:,} bytes",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def _too_much_at_once() -> ApiError:
    return ApiError(
        429,
        f"the server is reading too many long requests; try again in {RETRY_AFTER_S} s",
        code="queue_full",
        kind="rate_limit_error",
        headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},
    )
