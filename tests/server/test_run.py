"""The server on a socket, in a thread of this process: clients that are slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from chargen.server.app import build_app
from chargen.server.limits import Limits
from chargen.server.models import ServedModel, ServedModels
from chargen.server.run import bind, make_server, url_of
from tests.server.conftest import language_model


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """Return the application of a server that waits for a client only a moment."""
    monkeypatch.setattr("chargen.server.run.HEADER_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.connection.body.BODY_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.completions.endpoint.SLOW_READER_S", 0.2)
    limits = Limits(timeout_s=0.5, max_tokens=10**6)
    return build_app(ServedModels([ServedModel(language_model(), limits)]), limits)


@pytest.fixture
def address(app: Starlette) -> Iterator[tuple[str, int]]:
    """Return the address of a server that runs in another thread."""
    server = make_server(app)
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


def test_a_client_that_does_not_read_its_stream_is_disconnected(app: Starlette, address: tuple[str, int]) -> None:
    body = b'{"prompt": "a", "max_tokens": 1000000, "n": 100, "stream": true}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    state = app.state.server
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + body)
        assert connection.recv(10) == b"HTTP/1.1 2"
        deadline = time.monotonic() + 20
        while state.metrics.num_open or state.models.find(None).worker.num_streams:
            assert time.monotonic() < deadline


def test_the_url_of_a_socket() -> None:
    for host, expected in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", None)):
        with bind(host, 0) as bound:
            assert expected is None or url_of(bound) == f"http://{expected}:{bound.getsockname()[1]}"
