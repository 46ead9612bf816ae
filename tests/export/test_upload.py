"""The upload to a model hub, to a local server that speaks the hub's protocol."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import save_checkpoint
from tests.conftest import Result, random_model

pytest.importorskip("huggingface_hub", reason="the extra chargen[hub] is not installed")

TOKEN = "hf_secretsecretsecretsecretsecret"
Chargen = Callable[..., Result]


class Hub(ThreadingHTTPServer):
    """A model hub that keeps what is uploaded. It can refuse every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []  #: method, path and the header Authorization
        self.created: dict[str, Any] = {}
        self.status = 200
        self.message = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub = self.server
        hub.requests.append(("POST", self.path, self.headers.get("Authorization", "")))
        if hub.status != 200:
            self.answer({"error": hub.message}, hub.status)
        elif self.path == "/api/repos/create":
            hub.created = json.loads(body)
            self.answer({"url": f"{hub.url}/someone/{hub.created['name']}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            commit = "a" * 40
            self.answer({"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/someone/m/commit/{commit}"})
        else:
            self.answer({})

    def do_GET(self) -> None:
        self.server.requests.append(("GET", self.path, self.headers.get("Authorization", "")))
        self.answer({"id": "someone/m", "sha": "a" * 40, "siblings": []}, self.server.status)

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    save_checkpoint(tmp_path / "checkpoints" / "m" / "model.safetensors", random_model())
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()
        thread.join()


def test_the_three_files_are_uploaded_to_a_private_repository(chargen: Chargen, hub: Hub) -> None:
    assert chargen("export", "hub", "m", "folder").status == 0
    Path("folder/README.md").write_text("---\nlicense: mit\n---\nedited\n", encoding="utf-8")
    Path("folder/notes.txt").write_text("not for the hub", encoding="utf-8")
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m", "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["repository"] == f"{hub.url}/someone/m"
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    for name, data in hub.files.items():
        assert data == Path("folder", name).read_bytes(), name
    assert hub.created["private"] is True
    assert any(header == f"Bearer {TOKEN}" for *_, header in hub.requests)
    assert TOKEN not in result.out + result.err


def test_the_folder_is_written_and_uploaded_by_one_command(chargen: Chargen, hub: Hub) -> None:
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 0, result.err
    assert f"uploaded to {hub.url}/someone/m" in result.out
    assert b'hf_hub_download("someone/m", "model.safetensors")' in hub.files["README.md"]


@pytest.mark.parametrize(("status", "hint"), [(401, "hf auth login"), (403, "hf auth login"), (500, "run the command")])
def test_a_refusal_is_two_lines_without_the_token(chargen: Chargen, hub: Hub, status: int, hint: str) -> None:
    hub.status, hub.message = status, f"no entry for {TOKEN}"
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 1
    error = result.err.splitlines()[-2:]
    assert error[0].startswith(f"error: the upload to someone/m failed: {hub.url} refused it with HTTP status {status}")
    assert hint in error[1]
    assert TOKEN not in result.out + result.err
    assert "Traceback" not in result.err
    assert Path("folder/model.safetensors").exists()


def test_a_hub_that_cannot_be_reached_is_an_error(chargen: Chargen, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 1
    assert "the upload to someone/m failed: http://127.0.0.1:9 cannot be reached" in result.err
    assert "Check the network connection" in result.err


@pytest.mark.parametrize("name", ["a/b/c", "a b", "--x", "a/..", "a" * 200])
def test_a_name_that_no_repository_can_have_is_wrong_usage(chargen: Chargen, hub: Hub, name: str) -> None:
    result = chargen("export", "hub", "m", "folder", f"--push={name}")
    assert result.status == 2
    assert "cannot name a repository" in result.err
    assert not Path("folder").exists()
    assert not hub.requests
