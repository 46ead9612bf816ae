"""The server on a socket, in a thread of this process: clients that are slow, send no HTTP, or are too many."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from chargen.server.app import build_app
from chargen.server.limits import Limits
from chargen.server.models import ServedModel, ServedModels
from chargen.server.run import bind, connection_limits, make_server, url_of
from tests.server.conftest import language_model


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """Return the application of a server that waits for a client only a moment."""
    monkeypatch.setattr("chargen.server.connection.protocol.HEADER_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.connection.body.BODY_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.connection.protocol.SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.completions.endpoint.SLOW_READER_S", 0.2)
    monkeypatch.setattr("chargen.server.run.LAST_EVENTS_S", 29.8)
    limits = Limits(timeout_s=0.5, max_tokens=10**6)
    return build_app(ServedModels([ServedModel(language_model(), limits)]), limits)


@pytest.fixture
def server(app: Starlette) -> uvicorn.Server:
    """Return the server; `address` starts it."""
    return make_server(app)


@pytest.fixture
def address(server: uvicorn.Server) -> Iterator[tuple[str, int]]:
    """Return the address of a server that runs in another thread."""
    with bind("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        yield bound.getsockname()
        server.should_exit = True
        thread.join()


POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def read_response(connection: socket.socket) -> bytes:
    """Return the next response of /health."""
    response = b""
    while not response.endswith(b"]}"):
        response += connection.recv(1 << 16)
    return response


@pytest.mark.parametrize("num_complete", [0, 1, 2])
@pytest.mark.parametrize("data", [b"", GET[:30], POST + b"{"], ids=["nothing", "header", "body"])
def test_a_slow_client_is_disconnected(address: tuple[str, int], data: bytes, num_complete: int) -> None:
    if num_complete and not data:
        pytest.skip("a connection without a request may stay open for longer")
    with socket.create_connection(address, timeout=60) as connection:
        for _ in range(num_complete):
            connection.sendall(GET)
            assert read_response(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(data)
        response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert response.startswith(b"HTTP/1.1 408 ")
    head, _, body = response.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()


def request_of(**body: Any) -> bytes:
    """Return the bytes of a request for completions."""
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait until something is true, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_a_client_that_does_not_read_its_stream_is_disconnected(
    app: Starlette, server: uvicorn.Server, address: tuple[str, int]
) -> None:
    state = app.state.server
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request_of(prompt="a", max_tokens=10**6, n=100, stream=True))
        assert connection.recv(10) == b"HTTP/1.1 2"
        wait_until(lambda: not (state.metrics.num_open or state.models.find(None).worker.num_streams))
        wait_until(lambda: not server.server_state.connections)  # although the client has not closed it


def read_all(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


CHUNKED = b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = request_of(prompt="a", max_tokens=300, stream=True)


@pytest.mark.parametrize(
    ("data", "more", "status", "num_responses"),
    [
        (b"nonsense\r\n\r\n", b"", 400, 1), (b"POST /v1/completions" + CHUNKED, b"zz\r\n", 400, 1),
        (b"POST /nonsense" + CHUNKED, b"zz\r\n", 404, 1), (STREAM, b"\0\r\n\r\n", 200, 2),
    ],
    ids=["header", "body", "body after the response", "after a stream"],
)  # fmt: skip
def test_data_that_is_not_http_is_refused_where_a_response_is_due(
    address: tuple[str, int],
    caplog: pytest.LogCaptureFixture,
    data: bytes,
    more: bytes,
    status: int,
    num_responses: int,
) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(data)
        start = connection.recv(1 << 16) if more and status != 400 else b""
        connection.sendall(more)
        response = start + read_all(connection)
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert response.count(b"HTTP/1.1 ") == num_responses
    assert status != 400 or json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://localhost/health", 200), ("HTTP://localhost:8000/health?a=b", 200), ("https://127.0.0.1", 200),
     ("http://evil.example/health", 400), ("http://localhost//health", 404), ("ftp://localhost/health", 404),
     ("*", 404)],
)  # fmt: skip
def test_a_request_for_a_whole_url_is_one_for_its_path(address: tuple[str, int], target: str, status: int) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert read_all(connection).startswith(f"HTTP/1.1 {status} ".encode())


def test_connections_above_the_limit_are_refused(server: uvicorn.Server, address: tuple[str, int]) -> None:
    server.config.limit_concurrency = 3
    others = [socket.create_connection(address) for _ in range(2)]
    wait_until(lambda: len(server.server_state.connections) == 2)
    with socket.create_connection(address, timeout=60) as connection:
        response = read_all(connection)
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in response
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
    others.pop().close()
    wait_until(lambda: len(server.server_state.connections) == 1)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(GET)
        assert read_response(connection).startswith(b"HTTP/1.1 200 ")
    others.pop().close()


@pytest.mark.parametrize("num_files", [0, 64, 100, 256, 1024, 4096, 10**6])
def test_connections_need_no_more_files_than_a_process_may_open(num_files: int) -> None:
    num_connections, backlog = connection_limits(num_files)
    assert 1 <= backlog <= 256 and 4 <= num_connections <= 900
    assert num_connections + backlog <= max(num_files, 8)
    assert num_files < 4096 or (num_connections, backlog) == (900, 256)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_requests_that_are_not_finished_at_the_end_get_an_error(
    app: Starlette, server: uvicorn.Server, address: tuple[str, int], stream: bool
) -> None:
    state = app.state.server
    state.limits = replace(state.limits, timeout_s=60.0)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(request_of(prompt="a", max_tokens=10**6, n=2, stream=stream))
        start = connection.recv(1 << 16) if stream else b""
        wait_until(lambda: state.metrics.num_open == 1)
        server.should_exit = True
        response = start + read_all(connection)
    assert response.startswith(b"HTTP/1.1 200 " if stream else b"HTTP/1.1 503 ")
    assert b'"code":"server_stopped"' in response[-200:]
    assert response.count(b'"finish_reason":"length"') == (2 if stream else 0)
    assert b"[DONE]" not in response


def test_the_url_of_a_socket() -> None:
    for host, expected in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", None)):
        with bind(host, 0) as bound:
            assert expected is None or url_of(bound) == f"http://{expected}:{bound.getsockname()[1]}"
