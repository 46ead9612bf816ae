"""How many clients `chargen serve` answers at once, and whether it stays well under bad requests for a long time.

    python -m benchmarks.serving MODEL                     streams one after another, and at the same time
    python -m benchmarks.serving MODEL --requests 20000    many requests: a tenth cancelled, a tenth malformed

The server is a process of its own. The client speaks HTTP on plain sockets, so that it costs little itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NUM_STREAMS, NUM_CHARS, NUM_ROUNDS = 64, 200, 5
NUM_CONNECTIONS = 50
MALFORMED = (
    b"{", b'{"n": -1}', b'{"prompt": "\xff"}', b"[]", b'{"nonsense": 1}', b'{"prompt": [99999]}', b'{"model": "../x"}',
)  # fmt: skip

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def write_request(writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    """Send a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def read_stream(port: int, seed: int) -> tuple[float, str]:
    """Return (time to the first piece in seconds, the text) of a stream."""
    started, first_s = time.perf_counter(), 0.0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = {"prompt": "The ", "max_tokens": NUM_CHARS, "seed": seed, "temperature": 0.8, "stream": True}
    write_request(writer, "/v1/completions", json.dumps(body).encode())
    data = b""
    while b"[DONE]" not in data[-40:]:
        part = await reader.read(1 << 16)
        if not part:
            raise ConnectionError(f"the stream ended early: {data[-300:]!r}")
        data += part
        first_s = first_s or (time.perf_counter() - started if b"data: {" in data else 0.0)
    writer.close()
    events = [json.loads(part.split(b"\r\n")[0]) for part in data.split(b"data: ")[1:-1]]
    return first_s, "".join(event["choices"][0]["text"] for event in events)


async def compare_streams(port: int) -> None:
    """Print how long streams take one after another, and at the same time."""
    await read_stream(port, NUM_STREAMS)
    started = time.perf_counter()
    single = [await read_stream(port, seed) for seed in range(NUM_STREAMS)]
    single_s = time.perf_counter() - started
    for _ in range(NUM_ROUNDS):
        started = time.perf_counter()
        together = await asyncio.gather(*(read_stream(port, seed) for seed in range(NUM_STREAMS)))
        together_s = time.perf_counter() - started
        first_s = sorted(first for first, _ in together)
        num_same = sum(a == b for (_, a), (_, b) in zip(single, together, strict=True))
        print(
            f"{NUM_STREAMS} streams of {NUM_CHARS} characters: one after another {single_s:.2f} s, together "
            f"{together_s:.2f} s, {single_s / together_s:.1f} times the throughput; first character after "
            f"{first_s[int(0.95 * NUM_STREAMS)]:.3f} s (95 %); {num_same} texts are the same"
        )


def make_request(rng: random.Random, is_long: bool) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a valid request."""
    if rng.random() < 0.1:
        return "/v1/score", {"texts": ["a b c", "The quick"]}
    body: dict[str, Any] = {
        "prompt": rng.choice(["The ", ["a", "b"], None, "x" * rng.randrange(300)]),
        "max_tokens": 3000 if is_long else rng.randrange(60),
        "seed": rng.randrange(1000),
        "stream": rng.random() < 0.4,
        "n": rng.choice([1, 1, 1, 3]),
    }
    if rng.random() < 0.3:
        body |= {"logprobs": rng.randrange(4), "echo": True}
    if rng.random() < 0.1:
        body["stop"] = ["e", "th"]
    return "/v1/completions", body


async def send_request(connection: Connection, number: int, statuses: Counter[str]) -> bool:
    """Send a request and read the response, and return whether the connection is still open."""
    reader, writer = connection
    rng, kind = random.Random(number), number % 10
    path, body = make_request(rng, kind == 1)
    write_request(writer, path, rng.choice(MALFORMED) if kind == 0 else json.dumps(body).encode())
    if kind == 1:
        await asyncio.sleep(0.05 * rng.random())
        statuses["cancelled"] += 1
        return False
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    statuses[head[9:12].decode()] += 1
    if b"chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return b"connection: close" not in head


async def send_requests(port: int, numbers: Iterator[int], statuses: Counter[str]) -> None:
    """Send the requests of an iterator that several connections share."""
    connection: Connection | None = None
    for number in numbers:
        connection = connection or await asyncio.open_connection("127.0.0.1", port)
        if not await send_request(connection, number, statuses):
            connection[1].close()
            connection = None
    if connection:
        connection[1].close()


async def soak(port: int, process_id: int, num_requests: int) -> None:
    """Print the statuses of many requests, and the memory and the open files of the server meanwhile."""
    statuses: Counter[str] = Counter()
    for part in range(10):
        numbers = iter(range(part * num_requests // 10, (part + 1) * num_requests // 10))
        started = time.perf_counter()
        await asyncio.gather(*(send_requests(port, numbers, statuses) for _ in range(NUM_CONNECTIONS)))
        seconds = time.perf_counter() - started
        await asyncio.sleep(0.5)  # the server notices the last cancelled requests
        status = Path(f"/proc/{process_id}/status").read_text()
        memory_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
        num_files = len(os.listdir(f"/proc/{process_id}/fd"))
        print(
            f"{statuses.total():,} requests, the last tenth in {seconds:.1f} s: {dict(sorted(statuses.items()))}; "
            f"memory {memory_mb:.0f} MB, open files {num_files}",
            flush=True,
        )


def main() -> None:
    """Start a server, and run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=0, help="number of requests of the long run")
    arguments = parser.parse_args()
    started = time.perf_counter()
    command = [sys.executable, "-m", "chargen", "serve", arguments.model, "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])
        asyncio.run(read_stream(port, 0))
        print(f"from the start of the process to the end of the first text: {time.perf_counter() - started:.2f} s")
        if arguments.requests:
            asyncio.run(soak(port, server.pid, arguments.requests))
        else:
            asyncio.run(compare_streams(port))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
