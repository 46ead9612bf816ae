"""Read the body of a request in bounded time and memory, and parse its JSON."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from chargen.errors import ConfigError
from chargen.schema import parse_json
from chargen.server.errors import ApiError
from chargen.server.limits import BODY_TIMEOUT_S

MAX_QUICK_BYTES = 1 << 16  # a longer body is parsed in a thread of its own
MAX_DRAINED_BYTES = 1 << 31  # a refused body is read up to this size: clients read the response after that


async def read_json(request: Request, max_bytes: int) -> Any:
    """Read and parse the body of a request.

    Args:
        request: The request.
        max_bytes: The maximum size of the body.

    Raises:
        ApiError: If the body is too large, arrives too slowly, or is not strict JSON in UTF-8.
    """
    try:
        body = await asyncio.wait_for(_read_body(request, max_bytes), BODY_TIMEOUT_S)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise ApiError(
            408,
            f"the body of the request did not arrive within {BODY_TIMEOUT_S:g} s",
            code="timeout",
            headers={"Connection": "close"},
        ) from error
    except ClientDisconnect as error:
        raise ApiError(400, "the connection was closed before the body was complete") from error
    if len(body) <= MAX_QUICK_BYTES:
        return parse_body(body)
    return await run_in_threadpool(parse_body, body)


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


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body.

    Raises:
        ApiError: If it has more than `max_bytes` bytes.
        ClientDisconnect: If the client closes the connection before the end.
    """
    length = request.headers.get("content-length", "0")
    size, chunks = 0, list[bytes]()
    is_too_large = length.isdecimal() and int(length[:20]) > max_bytes
    if is_too_large and "expect" in request.headers:
        raise _too_large(max_bytes)  # the client waits for permission to send the body
    async for chunk in request.stream():
        size += len(chunk)
        is_too_large = is_too_large or size > max_bytes
        if is_too_large:
            chunks.clear()
            if size > MAX_DRAINED_BYTES:
                break
        else:
            chunks.append(chunk)
    if is_too_large:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"the body of the request has more than {max_bytes:,} bytes",
        code="request_too_large",
        headers={"Connection": "close"},
    )
