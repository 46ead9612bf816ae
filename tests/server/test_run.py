"""The server on a socket, in a thread of this process: clients that are slow."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from chargen.server.app import build_app
from chargen.server.limits import Limits
from chargen.server.models import ServedModel, ServedModels
from chargen.server.run import bind, make_server, url_of
from tests.server.conftest import language_model


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Return the address of a server that waits for a header and for a body only a moment."""
    monkeypatch.setattr("chargen.server.run.HEADER_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chargen.server.connection.body.BODY_TIMEOUT_S", 0.2)
    limits = Limits()
    server = make_server(build_app(ServedModels([ServedModel(language_model(), limits)]), limits))
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


def test_the_url_of_a_socket() -> None:
    for host, expected in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", None)):
        with bind(host, 0) as bound:
            assert expected is None or url_of(bound) == f"http://{expected}:{bound.getsockname()[1]}"
