"""Run the application: bind the port, answer requests, and finish the running ones when the server is stopped."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from chargen.errors import ChargenError, ConfigError
from chargen.server.limits import HEADER_TIMEOUT_S, MAX_CONNECTIONS, SEND_TIMEOUT_S, SHUTDOWN_S

TIMEOUT_RESPONSE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 107\r\n"
    b"\r\n"
    b'{"error":{"message":"the request did not arrive in time","type":"timeout","param":null,"code":"timeout"}}  '
)


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes the connections of slow clients.

    The header of a request must arrive in time, and a complete response must be read in time.
    """

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Expect a request."""
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Read data; what follows a complete request is the start of the next one."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._header_timer is None:
            self._expect_header()

    def on_response_complete(self) -> None:
        """Close the connection later if the client does not read the response."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(SEND_TIMEOUT_S, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def _expect_header(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_timeout(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.write(TIMEOUT_RESPONSE)
            self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Args:
        host: Name or address of an interface of this machine.
        port: The port; 0 for a free one.

    Raises:
        ConfigError: If there is no such interface.
        ChargenError: If the port cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host} is no address of this machine", "Use 127.0.0.1, or 0.0.0.0 for all interfaces."
        ) from error
    server = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # a port that a process has just left can be used again
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(socket.SOMAXCONN)
    except OSError as error:
        server.close()
        raise _bind_error(host, port, error) from error
    return server


def _bind_error(host: str, port: int, error: OSError) -> ChargenError:
    if error.errno == errno.EADDRINUSE:
        return ChargenError(
            f"port {port} of {host} is in use by another program", "Choose another one: --port N, or --port 0 for any."
        )
    if error.errno == errno.EACCES:
        return ChargenError(f"port {port} needs the rights of an administrator", "Choose a port above 1023: --port N.")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"--host {host} is no address of this machine", "Use 127.0.0.1, or 0.0.0.0 for all interfaces."
        )
    return ChargenError(f"port {port} of {host} cannot be used: {error.strerror}")


def url_of(server: socket.socket) -> str:
    """Return the URL of a bound socket; that of the loopback interface if it is bound to all."""
    host, port = server.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server for an application; its attribute `should_exit` ends it."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a malformed request is no reason for a message
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


def run_server(app: ASGIApp, server: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; then finish the running requests.

    Args:
        app: The application.
        server: A bound socket.
    """
    make_server(app).run([server])
