"""HTTP/1.1 of uvicorn, with limits for clients that send or read slowly, send no HTTP, or open many connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from chargen.server.completions.response_format import JSON_TYPE, dump_json
from chargen.server.errors import ApiError, too_many_connections
from chargen.server.limits import HEADER_TIMEOUT_S, RETRY_AFTER_S, SEND_TIMEOUT_S


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes the connections of slow clients.

    The header of a request must arrive in time, and a response must be read in time.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Expect a request; refuse it if too many connections are open."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            transport.write(raw_response(too_many_connections(RETRY_AFTER_S)))
            transport.close()
            return
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Read data; what follows a complete request is the start of the next one."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_header_timer()
        elif self._header_timer is None:
            self._expect_header()

    def send_400_response(self, msg: str) -> None:
        """Refuse data that is not HTTP. A response that has started, or is complete, is not followed by another one."""
        self._refuse(ApiError(400, "the request is not valid HTTP/1.1", code="invalid_http"))

    def pause_writing(self) -> None:
        """Expect the client to read: more is written than the system holds for it."""
        super().pause_writing()
        self._read_timer = self._read_timer or self.loop.call_later(SEND_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        self._stop_read_timer()

    def on_response_complete(self) -> None:
        """Close the connection later if the client does not read the response."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(SEND_TIMEOUT_S, self._abort_if_unread)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_header_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def _refuse(self, error: ApiError) -> None:
        """Close the connection, with an error if the client expects a response."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(raw_response(error))
        self.transport.close()

    def _abort_if_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _expect_header(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._on_header_timeout)

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        self._refuse(ApiError(408, "the request did not arrive in time", code="timeout", kind="timeout"))

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None


def raw_response(error: ApiError) -> bytes:
    """Return the bytes of a response with an error, after which the connection is closed."""
    body = dump_json(error.to_json())
    headers = {**error.headers, "content-type": JSON_TYPE, "content-length": str(len(body)), "connection": "close"}
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
