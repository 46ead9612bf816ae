"""The upload to a model hub, to a local server that speaks the hub's protocol."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
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
        self.blobs: dict[str, bytes] = {}  #: content of large files by its SHA-256
        self.requests: list[tuple[str, str, str]] = []  #: method, path and the header Authorization
        self.has_large_files = False  #: whether models are uploaded apart from the commit (Git LFS)
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
        body, hub = self.read_body(), self.server
        hub.requests.append(("POST", self.path, self.headers.get("Authorization", "")))
        if hub.status != 200:
            self.answer({"error": hub.message}, hub.status)
        elif self.path == "/api/repos/create":
            hub.created = json.loads(body)
            self.answer({"url": f"{hub.url}/someone/{hub.created['name']}"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {
                name: "lfs" if hub.has_large_files and name.endswith(".safetensors") else "regular" for name in names
            }
            self.answer(
                {"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]}
            )
        elif self.path.endswith("/info/lfs/objects/batch"):  # large files go to the address that this answer names
            objects = json.loads(body)["objects"]
            uploads = [{**each, "actions": {"upload": {"href": f"{hub.url}/blobs/{each['oid']}"}}} for each in objects]
            self.answer({"transfer": "basic", "objects": uploads})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    hub.files[entry["value"]["path"]] = hub.blobs[entry["value"]["oid"]]
            commit = "a" * 40
            self.answer({"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/someone/m/commit/{commit}"})
        else:
            self.answer({})

    def do_PUT(self) -> None:
        self.server.requests.append(("PUT", self.path, self.headers.get("Authorization", "")))
        self.server.blobs[self.path.rpartition("/")[2]] = self.read_body()
        self.answer({})

    def do_GET(self) -> None:
        self.server.requests.append(("GET", self.path, self.headers.get("Authorization", "")))
        self.answer({"id": "someone/m", "sha": "a" * 40, "siblings": []}, self.server.status)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

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
    assert hub.created.get("visibility", "private" if hub.created.get("private") else "public") == "private"
    assert any(header == f"Bearer {TOKEN}" for *_, header in hub.requests)
    assert TOKEN not in result.out + result.err


def test_the_folder_is_written_and_uploaded_by_one_command(chargen: Chargen, hub: Hub) -> None:
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 0, result.err
    assert f"uploaded to {hub.url}/someone/m" in result.out
    assert b'hf_hub_download("someone/m", "model.safetensors")' in hub.files["README.md"]


def test_a_large_model_is_uploaded_apart_from_the_commit(hub: Hub, tmp_path: Path) -> None:
    hub.has_large_files = True
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    words = ["export", "hub", "m", "folder", "--push", "someone/m"]
    done = subprocess.run(
        [sys.executable, "-m", "chargen", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert hub.files["model.safetensors"] == (tmp_path / "folder" / "model.safetensors").read_bytes()
    assert len(hub.blobs) == 1
    assert TOKEN not in done.stdout + done.stderr
    assert done.stderr == "note: fill in the license in folder/README.md\n"  # no progress bars, no warnings


@pytest.mark.parametrize(("status", "hint"), [(401, "hf auth login"), (403, "hf auth login"), (500, "run the command")])
def test_a_refusal_is_two_lines_without_the_token(chargen: Chargen, hub: Hub, status: int, hint: str) -> None:
    hub.status, hub.message = status, f"no entry for {TOKEN}"
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 1
    error = result.err.splitlines()[-2:]
    assert error[0].startswith(f"error: the upload to someone/m at {hub.url} failed: HTTP status {status}: no entry")
    assert hint in error[1]
    assert TOKEN not in result.out + result.err
    assert "Traceback" not in result.err
    assert Path("folder/model.safetensors").exists()


def test_a_hub_that_cannot_be_reached_is_an_error(chargen: Chargen, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = chargen("export", "hub", "m", "folder", "--push", "someone/m")
    assert result.status == 1
    assert "the upload to someone/m at http://127.0.0.1:9 failed: " in result.err
    assert "Check the network connection" in result.err


@pytest.mark.parametrize("name", ["a/b/c", "a b", "--x", "a/..", "a" * 200])
def test_a_name_that_no_repository_can_have_is_wrong_usage(chargen: Chargen, hub: Hub, name: str) -> None:
    result = chargen("export", "hub", "m", "folder", f"--push={name}")
    assert result.status == 2
    assert "cannot name a repository" in result.err
    assert not Path("folder").exists()
    assert not hub.requests
