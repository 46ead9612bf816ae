"""Run the application: bind the port, answer requests, and finish the running ones when the server is stopped."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import uvicorn
from starlette.applications import Starlette

from chargen.errors import ChargenError, ConfigError
from chargen.server.connection.protocol import TimedProtocol
from chargen.server.limits import LAST_EVENTS_S, MAX_BACKLOG, MAX_CONNECTIONS, RESERVED_FILES, SHUTDOWN_S
from chargen.server.state import ServerState


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


class _Server(uvicorn.Server):
    """A server that ends what is still running some seconds before uvicorn cancels it."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the running requests."""
        self._state.end_requests(SHUTDOWN_S - LAST_EVENTS_S)
        await super().shutdown(sockets)


class _DefectsOnly(logging.Filter):
    """Lets only defects of the server pass: not what a client did wrong, nor that the server was told to end."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record has an exception other than a cancellation."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is not None and not issubclass(kind, asyncio.CancelledError)


def make_server(app: Starlette) -> uvicorn.Server:
    """Return a server for an application; its attribute `should_exit` ends it."""
    logging.getLogger("uvicorn.error").addFilter(_DefectsOnly())
    num_connections, backlog = connection_limits(_max_open_files())
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=num_connections,
        backlog=backlog,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return _Server(config, app.state.server)


def connection_limits(num_files: int) -> tuple[int, int]:
    """Return how many connections may be open, and how many more the system accepts for us at a time.

    Both together never need more files than the process may open, so that no client makes `accept` fail.

    Args:
        num_files: Number of files that the process may open.
    """
    free = max(num_files - RESERVED_FILES, 8)
    backlog = min(MAX_BACKLOG, free // 4)
    return min(MAX_CONNECTIONS, free - backlog), backlog


def _max_open_files() -> int:
    """Return how many files this process may open, after raising this limit as far as connections need it."""
    wanted = MAX_CONNECTIONS + MAX_BACKLOG + RESERVED_FILES
    try:
        import resource
    except ImportError:  # a system without this limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft < 0 else min(soft, wanted)


def run_server(app: Starlette, server: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; then finish the running requests.

    Args:
        app: The application.
        server: A bound socket.
    """
    make_server(app).run([server])
