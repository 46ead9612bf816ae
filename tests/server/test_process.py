"""The server as a process of its own on a free port of the loopback interface, with real clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chargen.api import load
from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, Result, random_model

pytestmark = pytest.mark.slow


class Server:
    """A running `chargen serve`."""

    def __init__(self, folder: Path, *arguments: str, prefix: Sequence[str] = ()) -> None:
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        words = [*prefix, sys.executable, "-m", "chargen", "serve", *arguments, "--port", "0", "--json"]
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        self.url: str = json.loads(line)["url"]
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))

    def stop(self) -> str:
        """End the process, and return what it wrote on stderr."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=60)
        return err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    save_checkpoint(folder / "checkpoints" / "verse" / "model.safetensors", random_model(VERSE))
    save_checkpoint(folder / "checkpoints" / "bytes" / "model.safetensors", random_model(VERSE, "byte"))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder, "verse", "bytes")
    yield server
    assert "Traceback" not in server.stop()


@pytest.fixture
def openai() -> Any:
    return pytest.importorskip("openai")


def test_the_official_client_completes(server: Server, folder: Path, openai: Any) -> None:
    lm = load(folder / "checkpoints" / "verse")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["verse", "bytes"]
        assert client.models.retrieve("bytes").owned_by == "chargen"
        answer = client.completions.create(model="verse", prompt="The ", max_tokens=30, seed=1)
        assert answer.choices[0].text == "".join(lm.stream("The ", length=30, seed=1))
        type(answer).model_validate(answer.model_dump())
        answer = client.completions.create(model="verse", prompt=["The ", "a"], n=2, max_tokens=5, seed=1)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        answer = client.completions.create(model="verse", prompt=[[5, 6, 7], [8]], max_tokens=5, seed=1)
        assert answer.usage is not None and answer.usage.prompt_tokens == 4
        answer = client.completions.create(
            model="bytes",
            prompt="Chữ",
            max_tokens=0,
            echo=True,
            logprobs=3,
            temperature=0,
            stop=["x", "y", "z", "q", "w"],
        )
        assert answer.choices[0].text == "Chữ"
        assert answer.choices[0].logprobs.token_logprobs[0] is None
        extra = {"min_p": 0.1, "top_k": 5}
        assert (
            client.completions.create(model="verse", prompt="a", extra_body=extra).choices[0].finish_reason == "length"
        )


def test_the_official_client_streams(server: Server, openai: Any) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        whole = client.completions.create(model="verse", prompt="The ", max_tokens=300, seed=1, n=2)
        parts = list(
            client.completions.create(
                model="verse", prompt="The ", max_tokens=300, seed=1, n=2, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        assert parts[-1].usage == whole.usage
        for choice in whole.choices:
            text = "".join(each.text for part in parts for each in part.choices if each.index == choice.index)
            assert text == choice.text


def test_the_official_asynchronous_client(server: Server, openai: Any) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            create = client.completions.create
            answers = await asyncio.gather(
                *(create(model="verse", prompt="The ", max_tokens=20, seed=seed) for seed in range(40))
            )
            stream = await create(model="verse", prompt="The ", max_tokens=20, seed=3, stream=True)
            streamed = "".join([part.choices[0].text async for part in stream])
            assert streamed == answers[3].choices[0].text
            return [answer.choices[0].text for answer in answers]

    texts = asyncio.run(run())
    assert len(set(texts)) == 40


@pytest.mark.parametrize(
    ("settings", "error", "code"),
    [
        ({"model": "x"}, "NotFoundError", "model_not_found"), ({"max_tokens": -1}, "BadRequestError", None),
        ({"extra_body": {"nonsense": 1}}, "BadRequestError", "unknown_field"),
        ({"extra_body": {"max_copy": 9}}, "UnprocessableEntityError", None),
    ],
    ids=str,
)  # fmt: skip
def test_the_official_client_raises_its_own_errors(
    server: Server, openai: Any, settings: dict[str, Any], error: str, code: str | None
) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(getattr(openai, error)) as raised,
    ):
        client.completions.create(**{"model": "verse", "prompt": "a", **settings})
    assert raised.value.code == code


def test_the_official_client_does_not_repeat_a_request_that_took_too_long(folder: Path, openai: Any) -> None:
    import httpx

    server = Server(folder, "verse", "--timeout", "1s", "--max-tokens", "1000000")
    try:
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,  # which repeats a request twice
            pytest.raises(openai.APIStatusError) as raised,
        ):
            client.completions.create(model="verse", prompt="a", max_tokens=1_000_000)
        text = httpx.get(f"{server.url}/metrics").text
    finally:
        server.stop()
    assert raised.value.status_code == 408
    assert 'chargen_requests_total{route="/v1/completions",status="408"} 1' in text


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes and return the whole response."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_body_of_a_gigabyte_is_refused_in_bounded_memory(server: Server) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    block = b" " * 10_000_000
    started = time.monotonic()
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(head)
        with suppress(BrokenPipeError, ConnectionResetError):  # the server may stop reading before all is sent
            for _ in range(100):
                connection.sendall(block)
        response = connection.recv(1 << 16)
    assert response.startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - started < 30
    assert memory_bytes(server) < 400_000_000


def memory_bytes(server: Server) -> int:
    """Return the largest resident size of the process of a server so far."""
    path = Path(f"/proc/{server.process.pid}/status")
    if not path.exists():
        pytest.skip("the system does not tell the memory of a process")
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("request_", [b"GET /health HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"])
def test_a_malformed_request_is_refused(server: Server, request_: bytes) -> None:
    assert exchange(server.address, request_).startswith(b"HTTP/1.1 400 ")


def test_a_header_of_a_megabyte_is_refused(server: Server) -> None:
    try:
        response = exchange(server.address, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10**6)
    except (BrokenPipeError, ConnectionResetError):  # the server closes the connection before it has read all of it
        return
    assert response.startswith(b"HTTP/1.1 400 ") or not response


def test_a_client_that_disconnects_frees_its_streams(server: Server) -> None:
    import httpx

    body = {"model": "verse", "prompt": "a", "max_tokens": 4096, "n": 100, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + 20
    while 'chargen_batch_streams{model="verse"} 0' not in httpx.get(f"{server.url}/metrics").text:
        assert time.monotonic() < deadline


def test_running_requests_are_finished_at_the_end(folder: Path) -> None:
    import httpx

    server = Server(folder, "verse")
    body = {"prompt": "a", "max_tokens": 4000, "seed": 1, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert "data: [DONE]" in rest[-2:]
    server.process.communicate(timeout=60)
    assert server.process.returncode in (-signal.SIGTERM, 143)


def test_a_deleted_file_is_reported_and_its_model_still_served(folder: Path) -> None:
    import httpx

    path = folder / "checkpoints" / "deleted" / "model.safetensors"
    save_checkpoint(path, random_model())
    server = Server(folder, "deleted")
    path.unlink()
    assert server.process.stderr is not None
    assert server.process.stderr.readline().startswith(
        "note: the file of the model deleted was deleted; the server keeps"
    )
    assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "a"}).status_code == 200
    server.stop()


def test_a_replaced_file_is_reported_once(folder: Path) -> None:
    import httpx

    path = folder / "checkpoints" / "replaced" / "model.safetensors"
    save_checkpoint(path, random_model())
    server = Server(folder, "replaced")
    body = {"prompt": "a", "seed": 1}
    before = httpx.post(f"{server.url}/v1/completions", json=body).json()["choices"]
    save_checkpoint(path, random_model(seed=1))
    assert server.process.stderr is not None
    line = server.process.stderr.readline()  # it comes by itself
    assert line.startswith("note: the file of the model replaced was replaced; the server keeps the old one")
    assert httpx.get(f"{server.url}/health").json()["models"][0]["is_file_replaced"]
    assert httpx.post(f"{server.url}/v1/completions", json=body).json()["choices"] == before
    assert "was replaced" not in server.stop()


def test_the_first_answer_comes_soon(folder: Path) -> None:
    import httpx

    started = time.monotonic()
    server = Server(folder, "verse")
    assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "a"}, timeout=60).status_code == 200
    elapsed_s = time.monotonic() - started
    server.stop()
    assert elapsed_s < 10  # 1.5 s on an idle machine


def test_many_requests_at_once(server: Server) -> None:
    import httpx

    def ask(seed: int) -> int:
        body = {"prompt": "The ", "max_tokens": seed % 50, "seed": seed, "stream": seed % 2 == 0}
        if seed % 10 == 1:
            body["n"] = -1
        return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).status_code

    with ThreadPoolExecutor(20) as executor:
        statuses = list(executor.map(ask, range(200)))
    assert [status == 400 for status in statuses] == [seed % 10 == 1 for seed in range(200)]
    assert set(statuses) == {200, 400}


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_server_that_is_stopped_writes_no_traceback(folder: Path, signals: tuple[int, ...]) -> None:
    import httpx

    server = Server(folder, "verse")
    with ThreadPoolExecutor(2) as executor, suppress(httpx.TransportError):
        bodies = ({"particles": 512, "max_tokens": 1000}, {"n": 100, "max_tokens": 4000, "stream": True})
        for body in bodies:
            executor.submit(httpx.post, f"{server.url}/v1/completions", json={"prompt": "a", **body}, timeout=60)
        while "chargen_requests_open 3" not in httpx.get(f"{server.url}/metrics").text:
            pass
        for number in signals:
            server.process.send_signal(number)
            wait_until_it_stops_listening(server)
    _, err = server.process.communicate(timeout=60)
    assert "Traceback" not in err and "Error" not in err


def wait_until_it_stops_listening(server: Server) -> None:
    """Wait until a server accepts no more connections."""
    with suppress(ConnectionError):
        while True:
            socket.create_connection(server.address).close()


def test_a_process_with_few_files_refuses_connections_and_answers_later(folder: Path) -> None:
    import httpx

    if os.name != "posix":
        pytest.skip("the system does not limit the files of a process")
    server = Server(folder, "verse", prefix=("sh", "-c", 'ulimit -n 128; exec "$@"', "sh"))
    connections = [socket.create_connection(server.address) for _ in range(200)]
    assert httpx.get(f"{server.url}/health").status_code == 503
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + 20
    while httpx.get(f"{server.url}/health").status_code != 200:
        assert time.monotonic() < deadline
    assert server.stop() in ("", "stopped\n")


def test_a_port_in_use_is_an_error(chargen: Any) -> None:
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result: Result = chargen("serve", "verse", "--port", port)
    assert result.status == 1
    assert result.err.splitlines()[0] == f"error: port {port} of 127.0.0.1 is in use by another program"
