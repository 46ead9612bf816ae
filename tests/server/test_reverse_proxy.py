"""nginx in front of a server, with the configuration of the guide: an ordinary process in a folder of its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chargen.api import load
from tests.programs import CHROMIUM, NGINX, needs_browser, needs_nginx
from tests.server.guide import GUIDE, MODEL, find_block, serve_guide_model
from tests.server.test_process import Server

pytestmark = [pytest.mark.peers, needs_nginx]

SITE = find_block("nginx", "server_name")
LOCATION = find_block("nginx", "location /docs-model/")
(HOST,) = re.findall(r"server_name ([\w.]+);", SITE)
START_OPTIONS = re.findall(r"^CHARGEN_API_KEY=… chargen serve docs (.*)$", GUIDE, re.MULTILINE)[0].split()
KEY = "secret"
FRAME = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{site}
}}
"""


def free_port() -> int:
    """Return a port that no program uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Proxy:
    """A running nginx with the configuration of the guide, which is changed only in its ports.

    Args:
        folder: The folder of its files.
        port: The port of the server behind it.
        is_prefix: Whether the server has a path of a site, instead of a site of its own.
    """

    def __init__(self, folder: Path, port: int, is_prefix: bool = False) -> None:
        self.port = free_port()
        site = SITE
        if is_prefix:
            (own,) = re.findall(r"^    location / \{\n.*?^    \}\n", site, re.MULTILINE | re.DOTALL)
            site = site.replace(own, LOCATION)
        assert site.count("127.0.0.1:8000") == 1
        site = site.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        site = site.replace("server {", f"server {{\n    listen 127.0.0.1:{self.port};")
        folder.mkdir()
        path = folder / "nginx.conf"
        path.write_text(FRAME.format(folder=folder, site=textwrap.indent(site, "    ")), encoding="utf-8")
        command = [str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.wait()
        self.prefix = "/docs-model" if is_prefix else ""
        self.url = f"http://{HOST}:{self.port}{self.prefix}"

    def wait(self) -> None:
        """Wait until nginx accepts connections; fail if it ends before that."""
        with socket.socket() as connection:
            while connection.connect_ex(("127.0.0.1", self.port)) != 0:
                with pytest.raises(subprocess.TimeoutExpired):
                    self.process.wait(0.01)

    def curl(self, path: str, *arguments: str, key: str = KEY) -> tuple[int, str]:
        """Request a path with curl, by the name of the site; return the status and the body."""
        command = [
            "curl", "-sS", "-m", "60", "--noproxy", "*",
            "--resolve", f"{HOST}:{self.port}:127.0.0.1", "-w", "\n%{http_code}",
            *(["-H", f"Authorization: Bearer {key}"] if key else []), *arguments, f"{self.url}{path}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = serve_guide_model(folder, *START_OPTIONS, "--api-key", KEY)
    yield server
    assert "Traceback" not in server.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["site", "prefix"])
def proxy(request: pytest.FixtureRequest, folder: Path, server: Server) -> Iterator[Proxy]:
    proxy = Proxy(folder / f"nginx-{request.param}", server.address[1], request.param)
    yield proxy
    proxy.stop()


def test_requests_reach_the_server_under_the_name_of_the_site(proxy: Proxy) -> None:
    status, body = proxy.curl("/v1/models")
    assert (status, [model["id"] for model in json.loads(body)["data"]]) == (200, [MODEL])
    status, body = proxy.curl("/health", key="")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    status, body = proxy.curl("/", key="")
    assert status == 200 and f"<title>{MODEL}</title>" in body


def test_the_key_passes(proxy: Proxy) -> None:
    assert proxy.curl("/v1/models", key="")[0] == 401
    assert proxy.curl("/v1/models", key="wrong")[0] == 401


def test_another_name_is_refused_by_the_server(proxy: Proxy) -> None:
    status, body = proxy.curl("/v1/models", "-H", "Host: other.example")
    assert (status, json.loads(body)["error"]["code"]) == (400, "host_not_allowed")


def test_a_page_of_another_site_is_refused(proxy: Proxy) -> None:
    body = ("-d", json.dumps({"prompt": "a"}))
    assert proxy.curl("/v1/completions", *body, "-H", "Origin: http://other.example")[0] == 403
    for scheme in ("http", "https"):  # a browser names the scheme that it uses, and TLS ends at the proxy
        assert proxy.curl("/v1/completions", *body, "-H", f"Origin: {scheme}://{HOST}:{proxy.port}")[0] == 200


def test_a_streamed_text_is_complete(proxy: Proxy, folder: Path) -> None:
    body = {"prompt": "The ", "max_tokens": 300, "seed": 1, "stream": True}
    status, events = proxy.curl("/v1/completions", "-N", "-d", json.dumps(body))
    parts = [event.removeprefix("data: ") for event in events.split("\n\n") if event.strip()]
    assert (status, parts.pop()) == (200, "[DONE]")
    text = "".join(json.loads(part)["choices"][0]["text"] for part in parts)
    assert f"The {text}" == load(folder / "checkpoints" / MODEL).sample("The ", length=300, seed=1)


def test_the_server_itself_refuses_a_body_that_is_too_large(proxy: Proxy, folder: Path) -> None:
    path = folder / "body.json"
    path.write_text(json.dumps({"prompt": "a", "max_tokens": 1, "stop": ["x" * 1_500_000]}), encoding="utf-8")
    status, body = proxy.curl("/v1/completions", "-H", "Expect:", "-d", f"@{path}")
    assert status == 400 and "error" in json.loads(body)  # it is in JSON, and so by the server


def test_a_client_that_disconnects_frees_its_streams(proxy: Proxy, server: Server) -> None:
    import httpx

    headers = {"Host": f"{HOST}:{proxy.port}", "Authorization": f"Bearer {KEY}"}
    body = {"prompt": "a", "max_tokens": 4096, "n": 100, "stream": True}
    url = f"http://127.0.0.1:{proxy.port}{proxy.prefix}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as response:
        assert next(response.iter_lines()).startswith("data: ")
    metrics = ""
    while f'chargen_batch_streams{{model="{MODEL}"}} 0' not in metrics:  # the time limit of the test ends this loop
        metrics = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=60).text


class GatedStream(BaseHTTPRequestHandler):
    """A server that sends the next event only after the client has received the one before."""

    gate = threading.Semaphore(0)

    def do_GET(self) -> None:  # noqa: D102
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(10):
            self.wfile.write(f"data: {number}\n\n".encode())
            if not self.gate.acquire(timeout=30):
                return

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


def test_each_event_is_passed_on_before_the_next_one_is_sent(tmp_path: Path) -> None:
    import httpx

    with ThreadingHTTPServer(("127.0.0.1", 0), GatedStream) as gated:
        threading.Thread(target=gated.serve_forever, daemon=True).start()
        proxy = Proxy(tmp_path / "nginx", gated.server_address[1])
        received = []
        with httpx.stream("GET", f"http://127.0.0.1:{proxy.port}/", timeout=60) as response:
            for line in response.iter_lines():
                if line:
                    received.append(line)
                    GatedStream.gate.release()
        proxy.stop()
        gated.shutdown()
    assert received == [f"data: {number}" for number in range(10)]


@needs_browser
def test_the_page_works_behind_the_proxy(proxy: Proxy, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(locale="en")
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{proxy.url}/#prompt=The+&length=20&seed=7")
        page.locator("#failure", has_text="API key").wait_for()
        page.fill("#api-key", KEY)
        page.press("#api-key", "Tab")
        page.locator("#output span >> nth=23").wait_for()
        page.locator("#stop[disabled]").wait_for()
        text = page.evaluate("document.getElementById('output').textContent")
        browser.close()
    assert text == load(folder / "checkpoints" / MODEL).sample("The ", length=20, seed=7)
    assert all(url.startswith((f"{proxy.url}/", "data:")) for url in requests)
